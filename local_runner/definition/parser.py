"""Pipeline definition JSON -> PipelineDefinition, with every problem found. No I/O.

This module reads the shape of the document; whether its names agree is :mod:`local_runner.definition.references`. A
document with problems still gives a definition of what could be read, so that the planner can add what it finds.
"""

from __future__ import annotations

import re
from typing import Any, get_args

from local_runner.definition import references
from local_runner.definition.grammar import parse_conditions, parse_value
from local_runner.definition.reading import Reading
from local_runner.definition.references import did_you_mean
from local_runner.definition.step_fields import parse_outputs, parse_property_files, parse_retry_policies
from local_runner.definition.step_types import STEP_TYPES
from local_runner.definition.syntax import GetProperty, JsonGet, walk
from local_runner.errors import InvalidPipelineError, Problem
from local_runner.jsontext import as_list, as_object, kind, parse_json
from local_runner.models import (
    Branch,
    Dependency,
    Parameter,
    ParameterType,
    ParameterValue,
    PipelineDefinition,
    Step,
    Trigger,
)

_VERSION = "2020-12-01"
_PIPELINE_KEYS = ("Version", "Metadata", "Parameters", "PipelineExperimentConfig", "MlflowConfig", "Steps")
_PARAMETER_KEYS = ("Name", "Type", "DefaultValue", "EnumValues", "Description")
_STEP_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)
# Guide, "Turn on step caching": years, months, weeks, days, hours, minutes, as "30d", "T16m", "30dT5h"; the SDK's own
# documentation has "p30d" and "P4DT12H". Seconds are of ISO 8601 alone, which the Guide names as the format.
_DURATION = re.compile(r"P?(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+S)?)?", re.ASCII | re.IGNORECASE)
# API shapes StepDisplayName and StepDescription.
_LONGEST = {"DisplayName": 256, "Description": 3072}


def parse_definition(text: str, name: str, target: str) -> PipelineDefinition:
    """The pipeline that the JSON defines. Raises InvalidPipelineError with every problem.

    ``text`` is a definition, or what ``aws sagemaker describe-pipeline`` prints (its PipelineName then goes before
    ``name``). ``target`` is what the user called it, for the message.
    """
    definition, problems = inspect_definition(text, name)
    if problems:
        raise InvalidPipelineError(target, problems)
    return definition


def inspect_definition(text: str, name: str) -> tuple[PipelineDefinition, list[Problem]]:
    """What could be read of the definition, and every problem; give both to the planner to have its problems too."""
    reader = _Reader()
    return reader.inspected(reader.document(text, ""), name)


def inspect_document(document: dict[str, Any], name: str) -> tuple[PipelineDefinition, list[Problem]]:
    """The same of a definition that is parsed as JSON already."""
    return _Reader().inspected(document, name)


class _Reader(Reading):
    """One reading of one document: the problems so far, and the steps and names seen."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.places: dict[str, str] = {}
        self.untyped: list[str] = []

    def inspected(self, document: dict[str, Any] | None, name: str) -> tuple[PipelineDefinition, list[Problem]]:
        definition = self.pipeline(document, name)
        if definition.steps:
            self.problems += references.check(definition)
        return definition, self.problems

    def pipeline(self, document: dict[str, Any] | None, name: str) -> PipelineDefinition:
        most = None
        if document is not None and isinstance(document.get("PipelineDefinition"), str):
            given = document.get("PipelineName")
            name = given if isinstance(given, str) and given else name
            most = self.most_parallel(document.get("ParallelismConfiguration"))
            document = self.document(document["PipelineDefinition"], "PipelineDefinition")
        if document is None:
            return PipelineDefinition(name, (), ())
        self.known_keys(document, _PIPELINE_KEYS, "")
        if document.get("Version") != _VERSION:
            given = kind(document["Version"]) if "Version" in document else "missing"
            self.problem("Version", f"the version is {given}.", f'Only "{_VERSION}" is known.')
        parameters = self.parameters(document.get("Parameters"))
        if not as_list(document.get("Steps")):
            self.problem("Steps", "the pipeline has no steps.", "Add at least one.")
        try:
            self.step_list(document.get("Steps"), "Steps", None)
        except RecursionError:
            self.problem("Steps", "the steps are nested too deeply to be read.")
        notes = tuple(f"Parameter '{name}' has no Type, and is a String." for name in self.untyped)
        return PipelineDefinition(
            name,
            parameters,
            tuple(self.steps),
            max_parallel_steps=most,
            keeps_trials=document.get("PipelineExperimentConfig") is not None,
            notes=notes,
        )

    def most_parallel(self, value: Any) -> int | None:
        """MaxParallelExecutionSteps, which stands beside the definition in the Describe response."""
        if value is None:
            return None
        mapping = as_object(value)
        if mapping is None:
            self.problem("ParallelismConfiguration", f"an object is wanted, and this is {kind(value)}.")
            return None
        most = self.number(mapping, "MaxParallelExecutionSteps", "ParallelismConfiguration", 1, None)
        return None if most is None else int(most)

    def document(self, text: str, where: str) -> dict[str, Any] | None:
        try:
            value = parse_json(text)
        except ValueError as error:
            self.problem(where, f"the definition {error}")
            return None
        document = as_object(value)
        if document is None:
            self.problem(where, f"a pipeline definition is a JSON object, and this is {kind(value)}.")
        return document

    # -------------------------------------------------------------------------------------------- parameters
    def parameters(self, value: Any) -> tuple[Parameter, ...]:
        parameters: dict[str, Parameter] = {}
        for where, mapping in self.objects(value, "Parameters"):
            self.known_keys(mapping, _PARAMETER_KEYS, where)
            name = self.name(mapping, _PARAMETER_NAME, 256, where)
            kind_of = self.parameter_type(mapping, where)
            if name is None:
                continue
            if name in parameters:
                self.problem(f"{where}.Name", f"there are two parameters '{name}'.", "Rename one.")
                continue
            parameters[name] = self.parameter(name, kind_of, mapping, where)
        return tuple(parameters.values())

    def parameter_type(self, mapping: dict[str, Any], where: str) -> ParameterType | None:
        given = mapping.get("Type")
        if given is None:  # only a String may leave it out: published schema, and the Guide's own example
            self.untyped.append(str(mapping.get("Name")))
            return "String"
        for known in get_args(ParameterType):
            if given == known:
                return known
        self.problem(
            f"{where}.Type",
            f"there is no parameter type {given!r}.",
            f"Types are {', '.join(get_args(ParameterType))}.",
        )
        return None

    def parameter(self, name: str, type_: ParameterType | None, mapping: dict[str, Any], where: str) -> Parameter:
        if type_ is None:
            return Parameter(name, "String")  # kept, so that references to it are not reported as well
        enum = mapping.get("EnumValues")
        options = as_list(enum)
        if enum is not None and not options:
            self.problem(f"{where}.EnumValues", "a list of at least one value is wanted.")
        values: list[ParameterValue] = []
        for index, option in enumerate(options or ()):
            value = self.typed(option, type_, f"{where}.EnumValues[{index}]")
            values += [] if value is None else [value]
        default = mapping.get("DefaultValue")
        if default is not None:
            default = self.typed(default, type_, f"{where}.DefaultValue")
            if default is not None and values and default not in values:
                what = f"{kind(default)} is not in EnumValues."
                self.problem(f"{where}.DefaultValue", what, f"It has {', '.join(map(repr, values))}.")
        return Parameter(name, type_, default, tuple(values))

    def typed(self, value: Any, type_: ParameterType, where: str) -> ParameterValue | None:
        """The value, where it is of that type (a Float may be written as an integer)."""
        match type_, value:
            case ("Boolean", bool()) | ("String", str()):
                return value
            case ("Integer", int()) if not isinstance(value, bool):
                return value
            case ("Float", int() | float()) if not isinstance(value, bool) and abs(value) < 1e308:
                return float(value)
            case _:
                self.problem(where, f"the parameter is of type {type_}, and this is {kind(value)}.")
                return None

    # ------------------------------------------------------------------------------------------------- steps
    def step_list(self, value: Any, where: str, branch: Branch | None) -> None:
        for path, mapping in self.objects(value, where):
            self.step(mapping, path, branch)

    def step(self, mapping: dict[str, Any], where: str, branch: Branch | None) -> None:
        name = self.name(mapping, _STEP_NAME, 64, where)
        type_ = self.text(mapping, "Type", where)
        if type_ is not None and type_ not in STEP_TYPES:
            remedy = did_you_mean(type_, STEP_TYPES) or f"Types are {', '.join(STEP_TYPES)}."
            self.problem(f"{where}.Type", f"there is no step type {type_!r}.", remedy)
        elif type_ is not None and STEP_TYPES[type_].keys:
            self.known_keys(mapping, STEP_TYPES[type_].keys, where)
        self.ignored(mapping, where)
        position = len(self.steps)
        arguments = self.arguments(mapping, type_ or "", where, name)
        depends_on = self.depends_on(mapping.get("DependsOn"), f"{where}.DependsOn")
        files = parse_property_files(self, mapping.get("PropertyFiles"), f"{where}.PropertyFiles")
        if name is None:
            return
        if name in self.places:
            what = f"there are two steps '{name}'; the other is {self.places[name]}."
            remedy = "Rename one: names are unique in the whole pipeline, also in the two branches of a Condition step."
            self.problem(f"{where}.Name", what, remedy)
            return
        self.places[name] = where
        display_name = mapping.get("DisplayName")
        step = Step(
            name=name,
            type=type_ or "",
            path=where,
            arguments=arguments,
            depends_on=depends_on,
            references=_references(arguments),
            property_files=files,
            branch=branch,
            display_name=display_name if isinstance(display_name, str) else None,
            retry_policies=parse_retry_policies(self, mapping.get("RetryPolicies"), f"{where}.RetryPolicies"),
            output_parameters=parse_outputs(self, mapping.get("OutputParameters"), f"{where}.OutputParameters"),
            function_arn=self.text(mapping, "FunctionArn", where) if type_ == "Lambda" else None,
            queue_url=queue_url if isinstance(queue_url := mapping.get("SqsQueueUrl"), str) else None,
        )
        # A Condition stands before the steps of its branches, which were read while its arguments were.
        self.steps.insert(position, step)

    def arguments(self, mapping: dict[str, Any], type_: str, where: str, name: str | None) -> dict[str, Any]:
        arguments = as_object(mapping.get("Arguments"))
        where = f"{where}.Arguments"
        if arguments is None:
            if (type_ in STEP_TYPES and STEP_TYPES[type_].needs_arguments) or "Arguments" in mapping:
                given = kind(mapping["Arguments"]) if "Arguments" in mapping else "missing"
                self.problem(where, f"an object is wanted, and this is {given}.")
            return {}
        if type_ == "Condition":
            return self.condition(arguments, where, name or "")
        parsed = as_object(parse_value(arguments, where, self.problems)) or {}
        if type_ == "Fail":
            self.known_keys(arguments, ("ErrorMessage",), where)
            message = parsed.get("ErrorMessage")
            if message is None or isinstance(message, dict | list | int | float):
                self.problem(f"{where}.ErrorMessage", "a text or an expression is wanted.", "Say why it fails.")
        return parsed

    def condition(self, arguments: dict[str, Any], where: str, name: str) -> dict[str, Any]:
        self.known_keys(arguments, ("Conditions", "IfSteps", "ElseSteps"), where)
        conditions = parse_conditions(arguments.get("Conditions"), f"{where}.Conditions", self.problems)
        self.step_list(arguments.get("IfSteps"), f"{where}.IfSteps", Branch(name, taken_if=True))
        self.step_list(arguments.get("ElseSteps"), f"{where}.ElseSteps", Branch(name, taken_if=False))
        return {"Conditions": conditions}

    def depends_on(self, value: Any, where: str) -> tuple[Dependency, ...]:
        items = as_list(value)
        if value is not None and items is None:
            self.problem(where, f"a list of step names is wanted, and this is {kind(value)}.")
        found: dict[str, Dependency] = {}
        for index, item in enumerate(items or ()):
            dependency = self.dependency(item, f"{where}[{index}]")
            if dependency is not None:
                found.setdefault(dependency.step, dependency)
        return tuple(found.values())

    def dependency(self, item: Any, where: str) -> Dependency | None:
        if isinstance(item, str):
            return Dependency(item)
        mapping = as_object(item)
        if mapping is None:
            self.problem(where, f'a step\'s name or {{"Step", "Trigger"}} is wanted, and this is {kind(item)}.')
            return None
        self.known_keys(mapping, ("Step", "Trigger"), where)
        step = self.text(mapping, "Step", where)
        trigger = mapping.get("Trigger", "Completed")
        if trigger not in get_args(Trigger):
            self.problem(
                f"{where}.Trigger",
                f"there is no trigger {trigger!r}.",
                f"Triggers are {', '.join(get_args(Trigger))}.",
            )
            trigger = "Completed"
        return Dependency(step, trigger) if step else None

    def ignored(self, mapping: dict[str, Any], where: str) -> None:
        """What a local run does not use is still looked at, since the service would refuse it."""
        for key in _LONGEST:
            value = mapping.get(key)
            if value is not None and not isinstance(value, str):
                self.problem(f"{where}.{key}", f"a text is wanted, and this is {kind(value)}.")
            elif value is not None and len(value) > (most := _LONGEST[key]):
                self.problem(f"{where}.{key}", f"it has {len(value)} characters, and the service takes at most {most}.")
        cache = mapping.get("CacheConfig")
        config = as_object(cache)
        if cache is None:
            return
        if config is None or not isinstance(config.get("Enabled", False), bool):
            self.problem(f"{where}.CacheConfig", 'an object with "Enabled": true or false is wanted.')
            return
        expiry = config.get("ExpireAfter")
        if expiry is not None and not (isinstance(expiry, str) and _DURATION.fullmatch(expiry)):
            what = f"an ISO 8601 duration is wanted, and this is {kind(expiry)}."
            self.problem(f"{where}.CacheConfig.ExpireAfter", what, "Write it as P30D, PT12H or 30dT5h.")


def _references(arguments: dict[str, Any]) -> tuple[str, ...]:
    found = (expression for _, expression in walk(arguments, "") if isinstance(expression, GetProperty | JsonGet))
    return tuple(dict.fromkeys(expression.step for expression in found if expression.step))
