"""PipelineDefinition + values -> Plan, or every problem at once. Starts nothing; reads only the cache of limits.

What lies on this machine is asked of the request's ``data``. Values that only the execution will know stay Deferred
here, and what is known around them is looked at all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from local_runner.definition.advice import advice
from local_runner.definition.expressions import ExpressionError, Scope, evaluate_expression, json_uri, substitute
from local_runner.definition.paths import Deferred
from local_runner.definition.references import did_you_mean, expressions_of
from local_runner.definition.step_types import STEP_TYPES
from local_runner.definition.syntax import Expression, GetProperty, JsonGet
from local_runner.errors import DataError, InvalidPipelineError, Problem
from local_runner.jsontext import as_object, shorten
from local_runner.models import (
    Dependency,
    Fault,
    ParameterValue,
    PipelineDefinition,
    Plan,
    PlannedStep,
    ProcessingJob,
    ServiceException,
    StandIn,
    Step,
    StockJob,
)
from local_runner.planning.faults import faults_by_step
from local_runner.planning.order import cycles, dependencies, ends_without, ordered, reach
from local_runner.planning.parameters import parameter_values
from local_runner.planning.scope import as_left, execution_scope
from local_runner.planning.writers import Writers
from local_runner.sagemaker_api.job_types import FUNCTION_KINDS, IN_STOCK_LOCAL_MODE, JOB_KINDS, STEP_KINDS
from local_runner.sagemaker_api.limits import request_problems
from local_runner.sagemaker_api.processing import app_managed, job_name, output_uris
from local_runner.secrets import Secrets
from local_runner.storage.s3_uri import uri_problem


class LocalData(Protocol):
    """What stands for objects of S3 on this machine (:class:`local_runner.storage.local_s3.Storage`)."""

    def provides(self, uri: str) -> bool:
        """Whether there is anything for the URI. Raises DataError."""
        ...

    def with_sources(self, sources: Mapping[str, Path]) -> LocalData:
        """The same, with files or directories for these URIs, too."""
        ...


@dataclass(frozen=True)
class PlanRequest:
    """What is to be planned, and with which values.

    ``target`` is what the user called the definition; ``parameters`` are values given by hand and ``defaults`` the
    project's (:mod:`local_runner.planning.parameters`); ``steps`` selects the steps to run, all of them where it is
    empty; ``data`` is asked what is on this machine, and ``outputs`` are files or directories that stand for outputs of
    steps that are not selected, by ``Step.OutputName``; ``started`` is ISO 8601; ``region`` is that of ARNs;
    ``cache_dir`` keeps the limits; ``stand_ins`` are what runs for steps of other services, by step; ``faults`` are
    exceptions of the service that steps end in; ``problems`` are those that :func:`.parser.inspect_definition`
    found, and are raised with the others; ``source`` is what Describe says of steps that are not selected, as an
    earlier ``source_execution`` left them; ``secrets`` learn those of the requests.
    """

    definition: PipelineDefinition
    target: str
    data: LocalData
    execution_id: str
    started: str
    region: str
    cache_dir: Path
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    defaults: Mapping[str, ParameterValue] = field(default_factory=dict[str, ParameterValue])
    steps: Sequence[str] = ()
    outputs: Mapping[str, Path] = field(default_factory=dict[str, Path])
    stand_ins: Mapping[str, StandIn] = field(default_factory=dict[str, StandIn])
    faults: Sequence[Fault] = ()
    problems: Sequence[Problem] = ()
    source: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    source_execution: str | None = None
    secrets: Secrets = field(default_factory=Secrets)


def plan(request: PlanRequest) -> Plan:
    """What an execution of the definition would do. Raises InvalidPipelineError with every problem."""
    definition = request.definition
    if request.problems and not definition.steps:
        # Nothing could be read: what else is found would be noise.
        raise InvalidPipelineError(request.target, request.problems)
    planning = _Planning(request)
    values = parameter_values(definition, request.parameters, request.defaults, planning.problems)
    planning.select()
    scope = execution_scope(definition, values, request.execution_id, request.started, request.region)
    planned = planning.resolve_steps(scope)
    if planning.problems:
        raise InvalidPipelineError(request.target, planning.problems)
    request.secrets.learn_from([step.job.request for step in planned if step.job])
    return Plan(
        execution_id=request.execution_id,
        pipeline=definition,
        parameters=values,
        steps=tuple(planned),
        started=request.started,
        region=request.region,
        notes=planning.notes(),
        sources=planning.sources,
        source=request.source,
        source_execution=request.source_execution,
        secrets=request.secrets,
    )


class _Planning:
    """One plan in the making: the steps' order, and what is found on the way through them."""

    def __init__(self, request: PlanRequest) -> None:
        definition = request.definition
        self.request = request
        self.problems = list(request.problems)
        self.steps = {step.name: step for step in definition.steps}
        self.waits = {step.name: dependencies(step, definition) for step in definition.steps}
        # The names alone; and what they come to for who follows the advice that is in the problems so far.
        self.graph = {name: [dependency.step for dependency in waits] for name, waits in self.waits.items()}
        self.advised = {name: set(needed) for name, needed in self.graph.items()}
        self.selected: set[str] = set(self.steps)
        self.sources: dict[str, Path] = {}
        self.data = request.data
        self.writers, self.unselected = Writers(), Writers()
        self.ignored: dict[str, list[str]] = {}
        self.moving: list[str] = []
        self.faults: Mapping[str, tuple[ServiceException, ...]] = {}

    def select(self) -> None:
        """Keep only the steps that the request names; none named keeps all."""
        names = self.request.steps
        for name in names:
            if name not in self.steps:
                remedy = did_you_mean(name, self.steps) or f"There are {', '.join(self.steps)}."
                self.problems.append(Problem("", f"There is no step '{shorten(name)}' to select.", remedy))
        if names:
            self.selected = set(names) & self.steps.keys()
        self.faults = faults_by_step(self.request.faults, self.steps, self.selected, self.problems)

    # ------------------------------------------------------------------------------------------------- steps
    def resolve_steps(self, scope: Scope) -> list[PlannedStep]:
        """The selected steps in order, with their jobs; what is wrong with them goes to ``problems``."""
        for cycle in cycles(self.graph):
            what = f"steps wait for each other: {' -> '.join([*cycle, cycle[0]])}."
            self.problems.append(Problem(self.steps[cycle[0]].path, what, "Take one of these dependencies out."))
        order = ordered(self.graph)
        in_order = set(order)
        # Steps in or behind a cycle have no order; they are looked at all the same.
        order += [name for name in self.graph if name not in in_order]
        requests: dict[str, dict[str, Any]] = {}
        for name in order:
            step = self.steps[name]
            if name in self.request.source and name not in self.selected:
                scope = scope.with_step(name, as_left(self.request.source[name]))
                requests[name] = {}
                continue
            requests[name] = self.resolve_step(step, scope)
            reason = f"step '{name}' has not run" if name in self.selected else f"step '{name}' is not selected"
            if kind := JOB_KINDS.get(step.type):
                scope = scope.with_step(name, kind.describe_unrun(requests[name], reason))
            elif step.type in FUNCTION_KINDS and FUNCTION_KINDS[step.type].declares_outputs:
                later = dict.fromkeys((output.name for output in step.output_parameters), Deferred(reason))
                scope = scope.with_step(name, {"OutputParameters": later})
        self.map_outputs(scope)
        for name in self.steps.keys() - self.selected:
            if (kind := JOB_KINDS.get(self.steps[name].type)) and requests[name]:
                self.unselected.add(name, kind.writes(requests[name]))
        jobs = {name: self.job(self.steps[name], requests[name], scope) for name in order if name in self.selected}
        ancestors = self.ancestors(order)
        for name, request in requests.items():
            if name in self.selected:
                self.check_reads(self.steps[name], request, scope, ancestors[name])
        return [self.planned(name, jobs[name]) for name in order if name in self.selected]

    def map_outputs(self, scope: Scope) -> None:
        """Let the request's ``outputs`` stand for what the steps that are not selected would write."""
        uris: dict[str, str] = {}
        for name in self.steps.keys() - self.selected if self.request.outputs else ():
            described = scope.steps.get(name)
            if described and not isinstance(described, Deferred):
                uris |= {f"{name}.{output}": uri for output, uri in output_uris(described).items()}
        for name, path in self.request.outputs.items():
            if name in uris:
                self.sources[uris[name]] = path
            else:
                remedy = did_you_mean(name, uris) or f"There are {', '.join(sorted(uris)) or 'none'}."
                what = "is no S3 URI and no output of a step that is not selected."
                self.problems.append(Problem(f"data {shorten(name)}", what, remedy))
        self.data = self.data.with_sources(self.sources)

    def planned(self, name: str, job: ProcessingJob | StockJob | None) -> PlannedStep:
        step = self.steps[name]
        if step.branch is not None and step.branch.condition not in self.selected:
            # Its Condition does not run, so that it is not for the Condition to say whether this step does.
            step = replace(step, branch=None)
        return PlannedStep(step, self.waits_for(name), job, self.request.stand_ins.get(name), self.faults.get(name, ()))

    def waits_for(self, name: str) -> tuple[Dependency, ...]:
        return tuple(dependency for dependency in self.waits[name] if dependency.step in self.selected)

    def resolve_step(self, step: Step, scope: Scope) -> dict[str, Any]:
        """The step's arguments as far as they are known; expressions that cannot be resolved are problems."""

        def known(expression: Expression, where: str) -> Any:
            try:
                return evaluate_expression(expression, scope)
            except ExpressionError as error:
                self.problems.append(Problem(where, str(error)))
                return Deferred("it could not be resolved")

        if step.type in JOB_KINDS:
            where = f"{step.path}.Arguments"
            member = JOB_KINDS[step.type].name_member
            base = substitute(step.arguments.get(member), f"{where}.{member}", known)
            execution_id = scope.execution["PipelineExecutionId"]
            if not isinstance(base, Deferred):
                scope = scope.of_job(job_name(execution_id, step.name, base=base))
            resolved = substitute({**step.arguments, member: base} if base else dict(step.arguments), where, known)
            return as_object(resolved) or {}
        for where, expression in expressions_of(step):
            if isinstance(expression, GetProperty):
                known(expression, where)
        return {}

    def job(self, step: Step, request: dict[str, Any], scope: Scope) -> ProcessingJob | StockJob | None:
        if step.type in FUNCTION_KINDS:
            if self.has_no_stand_in(step):
                self.problems.append(self.no_stand_in(step))
            return None
        if step.type not in STEP_KINDS:
            if step.type in STEP_TYPES:
                what = f"step '{step.name}' is of type {step.type}, which cannot run on this machine yet."
                self.problems.append(Problem(f"{step.path}.Type", what, self.without(), local=True))
            return None
        where = f"{step.path}.Arguments"
        unreadable = not request and any(problem.where == where for problem in self.problems)
        kind = JOB_KINDS.get(step.type)
        if kind is None or unreadable:
            return None
        base = request.get(kind.name_member)
        name = job_name(scope.execution["PipelineExecutionId"], step.name, base=base)
        job, found = kind.job(request, name, where, self.request.region)
        self.problems += [*request_problems(request, kind.shape, where, self.request.cache_dir), *found]
        self.problems += kind.elsewhere(request, where)
        for what in kind.ignored(request):
            self.ignored.setdefault(what, []).append(step.name)
        if app_managed(request):
            self.moving.append(step.name)
        self.writers.add(step.name, kind.writes(request))
        return job

    def without(self) -> str:
        """How to run the pipeline without the steps that cannot run on this machine."""
        left = "leave it out of the pipeline for local runs."
        can = [name for name, step in self.steps.items() if step.type in STEP_KINDS and not self.has_no_stand_in(step)]
        if not can:
            return left.capitalize()
        ends = ends_without(self.steps.keys() - can, self.graph)
        leading = (
            f"all that does without it (--to {' --to '.join(ends)}), " if ends else "what leads to some (--to STEP), "
        )
        return f"Run {leading}or single steps (--only {can[-1]}), or {left}"

    def has_no_stand_in(self, step: Step) -> bool:
        return step.type in FUNCTION_KINDS and step.name not in self.request.stand_ins

    def no_stand_in(self, step: Step) -> Problem:
        table = "lambda" if step.type == "Lambda" else "stand_ins"
        called = f"the Lambda function {step.function_arn}" if step.type == "Lambda" else "another service"
        what = f"step '{step.name}' is of type {step.type} and calls {called}, which is not on this machine."
        remedy = f'Say in local_runner.toml what runs in its place: [local.{table}] {step.name} = "FILE.py:FUNCTION".'
        return Problem(step.path, what, remedy, local=True)

    # ------------------------------------------------------------------------------------- what steps read
    def ancestors(self, order: list[str]) -> dict[str, set[str]]:
        """For each selected step the selected steps that are over before it starts."""
        found: dict[str, set[str]] = {}
        for name in order:
            waits = [dependency.step for dependency in self.waits_for(name)] if name in self.selected else []
            found[name] = set(waits).union(*(found.get(other, set[str]()) for other in waits))
        return found

    def check_reads(self, step: Step, request: dict[str, Any], scope: Scope, before: set[str]) -> None:
        """Every input must come from a step that is over, or from this machine; so must every file JsonGet reads."""
        kind = JOB_KINDS.get(step.type)
        for where, uri in kind.reads(request) if kind else ():
            self.check_read(step, f"{step.path}.Arguments.{where}", uri, before)
        for where, expression in expressions_of(step):
            if isinstance(expression, JsonGet) and expression.step is None:
                self.check_json_uri(where, expression, scope)
        if len(self.selected) == len(self.steps):
            return
        for where, expression in expressions_of(step):
            match expression:
                case JsonGet(step=str(name)) if name in self.steps and name not in self.selected:
                    self.check_property_file(step, where, expression, scope)
                case GetProperty(name) if name in self.steps and name not in self.selected:
                    self.check_property(step, where, expression, scope)
                case _:
                    pass

    def check_read(self, step: Step, where: str, uri: str, before: set[str]) -> None:
        writers = [name for name in self.writers.of(uri) if name != step.name]
        if not before.isdisjoint(writers) or self.is_provided(uri, where):
            return
        if any(self.steps[name].type in FUNCTION_KINDS for name in before):
            return  # a function may write anything to the local S3: the step will find it there, or fail
        writer = next((name for name in writers if self.can_wait(step, name)), None)
        if left_out := [name for name in self.unselected.of(uri) if name != step.name]:
            what = f"step '{step.name}' reads {uri}, which step '{left_out[0]}' writes, and that is not selected."
            remedy = f"Select '{left_out[0]}' too, or run the pipeline once, whose outputs are then gone on from."
            if self.request.execution_id not in uri:
                remedy = f"{remedy[:-1]}, or map it: --map {uri}=DIR."
        elif writer:
            self.advised[step.name].add(writer)
            what = f"step '{step.name}' reads {uri}, which step '{writer}' writes, but does not wait for it."
            remedy = f"Refer to that step's output in place of the URI, or add '{writer}' to its DependsOn."
        else:
            what = f"step '{step.name}' reads {uri}, which no earlier step writes and nothing on this machine provides."
            mapped = "FILE" if PurePosixPath(uri).suffix and not uri.endswith("/") else "DIR"
            remedy = f"Map it: --map {uri}={mapped}, or [local.data] in local_runner.toml."
        self.problems.append(Problem(where, what, remedy, local=writer is None))

    def can_wait(self, step: Step, name: str) -> bool:
        """Whether a step may be told to wait for that one.

        That must be no cycle, also with what other steps were told, and not one of the other branch of its Condition.
        """
        mine, other = step.branch, self.steps[name].branch
        apart = mine and other and mine.condition == other.condition and mine.taken_if != other.taken_if
        return not apart and step.name not in reach([name], self.advised)

    def is_provided(self, uri: str, where: str) -> bool:
        """Whether this machine has something for the URI; what a fault in the data hides is a problem."""
        try:
            return self.data.provides(uri)
        except DataError as error:
            self.problems.append(Problem(where, str(error), local=True))
            return True

    def check_json_uri(self, where: str, expression: JsonGet, scope: Scope) -> None:
        with suppress(ExpressionError):  # a problem since the step was resolved
            uri = json_uri(expression, scope)
            problem = uri_problem(uri, f"{where}.S3Uri") if isinstance(uri, str) else None
            if problem:
                self.problems.append(problem)

    def check_property_file(self, step: Step, where: str, expression: JsonGet, scope: Scope) -> None:
        try:
            uri = json_uri(expression, scope)
        except ExpressionError as error:
            self.problems.append(Problem(where, str(error)))
            return
        if isinstance(uri, str) and not self.is_provided(uri, where):
            what = f"step '{step.name}' reads {uri}, which step '{expression.step}' writes, and that is not selected."
            remedy = f"Select '{expression.step}' too, or --map {uri}=FILE."
            self.problems.append(Problem(where, what, remedy, local=True))

    def check_property(self, step: Step, where: str, expression: GetProperty, scope: Scope) -> None:
        try:
            value = evaluate_expression(expression, scope)
        except ExpressionError:
            return  # a problem since the step was resolved
        if isinstance(value, Deferred):
            why = f" ({value.reason})" if expression.step in self.request.source else ""
            what = (
                f"step '{step.name}' reads {expression.path.text} of '{expression.step}', which is not selected{why}."
            )
            self.problems.append(Problem(where, what, f"Select '{expression.step}' too.", local=True))

    def notes(self) -> tuple[str, ...]:
        """What is taken from an earlier execution, and a sentence for each thing that the requests ask of the cloud and
        that has no meaning here."""
        ignored = [f"Ignored on this machine: {what} ({_steps(names)})." for what, names in self.ignored.items()]
        stock = [name for name in self.steps if name in self.selected and self.steps[name].type in IN_STOCK_LOCAL_MODE]
        if stock:
            ignored.insert(0, f"In the SDK's own local mode, which limits and isolates nothing: {_steps(stock)}.")
        if self.moving:
            what = "What is AppManaged, the job's own program moves; it has no local S3 to move it from or to"
            ignored.append(f"{what} ({_steps(self.moving)}).")
        request = self.request
        left = [name for name in self.steps if name in request.source and name not in self.selected]
        if left and request.source_execution:
            ignored.insert(0, f"As execution {request.source_execution} left it: {_steps(left)}.")
        return (*request.definition.notes, *advice(request.definition), *ignored)


def _steps(names: list[str]) -> str:
    return f"step{'s' if len(names) > 1 else ''} {', '.join(names)}"
