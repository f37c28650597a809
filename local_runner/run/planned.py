"""A request -> what an engine can run: its definition, the plan, and the local S3 it reads. Starts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from local_runner.definition.references import did_you_mean
from local_runner.errors import InvalidPipelineError, SettingsError
from local_runner.execution.functions.settings import configured
from local_runner.jsontext import value_text
from local_runner.models import ParameterValue, PipelineDefinition, Plan, ProcessingJob
from local_runner.planning.parameters import learn_secrets
from local_runner.planning.planner import PlanRequest
from local_runner.planning.planner import plan as make_plan
from local_runner.planning.scope import timestamp
from local_runner.planning.selection import Selected, mixed, select
from local_runner.project import Project
from local_runner.run.definition import Loaded, load_definition
from local_runner.run.local_data import local_storage
from local_runner.run.request import RunRequest
from local_runner.secrets import Secrets, is_kept
from local_runner.settings import Settings
from local_runner.storage import runs
from local_runner.storage.local_s3 import Storage
from local_runner.storage.s3_uri import is_s3_uri


@dataclass(frozen=True)
class PlannedRun:
    """A request with what came of it: the definition, the plan of one execution, and the local S3 that it reads."""

    request: RunRequest
    loaded: Loaded
    plan: Plan
    storage: Storage

    @property
    def jobs(self) -> list[tuple[str, ProcessingJob]]:
        """The Processing jobs that are known before the execution, each with its step's place in the definition."""
        return [(step.step.path, step.job) for step in self.plan.steps if isinstance(step.job, ProcessingJob)]


def plan_run(project: Project, request: RunRequest, loaded: Loaded | None = None) -> PlannedRun:
    """Plan a request. ``loaded`` is the definition, by default that of the request's target.

    Raises InvalidPipelineError with every problem there is, and the errors of compiling.
    """
    settings = project.settings
    loaded = loaded or load_definition(project, request.target, request.python)
    selected = select(loaded.definition, request.selection, project.state) if request.selection else Selected()
    source = selected.source
    secrets = Secrets(settings.pipeline.secret, project.state)
    parameters = _given_parameters(loaded.definition, settings, request, selected, secrets)
    _learn_given(secrets, loaded.definition, settings, parameters)
    if not (request.selection.allow_mixed or request.selection.resume):
        _refuse_mixed(loaded.definition, settings, selected, parameters)
    stand_ins, found = configured(loaded.definition, settings)
    storage = local_storage(project, {uri: path for uri, path in request.data.items() if is_s3_uri(uri)})
    try:
        plan = make_plan(
            PlanRequest(
                definition=loaded.definition,
                target=request.target or settings.pipeline.entry,
                data=storage,
                execution_id=runs.new_execution_id(),
                started=timestamp(),
                region=settings.local.region,
                cache_dir=project.state / "cache",
                parameters=parameters,
                defaults=settings.local.parameters,
                steps=request.steps or selected.steps,
                outputs={name: path.absolute() for name, path in request.data.items() if not is_s3_uri(name)},
                stand_ins=stand_ins,
                faults=request.faults,
                problems=[*loaded.problems, *found],
                source=secrets.restored(source.described, parameters.values()) if source else {},
                source_execution=source.id if source else None,
                secrets=secrets,
            )
        )
    except InvalidPipelineError as error:
        raise InvalidPipelineError(error.target, secrets.masked_problems(error.problems)) from None
    if request.target is None:
        plan = replace(plan, notes=(*plan.notes, *_unknown_settings(loaded.definition, settings)))
    return PlannedRun(request, loaded, plan, storage.with_sources(plan.sources))


def _unknown_settings(definition: PipelineDefinition, settings: Settings) -> list[str]:
    """What ``[local.parameters]`` names and the project's own pipeline has not."""
    names = [parameter.name for parameter in definition.parameters]
    unknown = [name for name in settings.local.parameters if name not in names]
    return [
        f"[local.parameters] names {name}, and the pipeline has no such parameter. {did_you_mean(name, names)}".rstrip()
        for name in unknown
    ]


def _given_parameters(
    definition: PipelineDefinition, settings: Settings, request: RunRequest, selected: Selected, secrets: Secrets
) -> dict[str, str]:
    """The parameters by name, as texts: what is resumed has those that it had, unless others are given."""
    kept = _kept_parameters(selected, definition, settings, request.parameters, secrets)
    parameters = {**{name: value_text(value) for name, value in kept.items()}, **request.parameters}
    if request.date is not None:
        names = [parameter.name for parameter in definition.parameters]
        if settings.local.date_parameter not in names:
            raise SettingsError(
                f"--date sets the parameter '{settings.local.date_parameter}', and the pipeline has none of that name. "
                f"It has {', '.join(names) or 'none'}. Name the right one as 'date_parameter' of [local] in "
                "local_runner.toml, or give it by -p NAME=VALUE."
            )
        parameters.pop(settings.local.date_parameter, None)
        parameters.update({settings.local.date_parameter: request.date, **request.parameters})
    return parameters


def _refuse_mixed(
    definition: PipelineDefinition, settings: Settings, selected: Selected, parameters: Mapping[str, str]
) -> None:
    """Raises SettingsError where outputs of one day would be gone on from as those of another."""
    defaults = {parameter.name: parameter.default for parameter in definition.parameters}
    known = {**defaults, **settings.local.parameters, **parameters}
    values = {name: None if value is None else value_text(value) for name, value in known.items()}
    if selected.source and (other := mixed(definition, selected, values)):
        listed = ", ".join(f"{name} = {there} (now {now})" for name, (there, now) in other.items())
        raise SettingsError(
            f"Steps that are not selected would be taken from execution {selected.source.id}, which had {listed}. Give "
            "the same values, select those steps too, or mix them all the same: --allow-mixed."
        )


def _kept_parameters(
    selected: Selected, definition: PipelineDefinition, settings: Settings, given: Mapping[str, str], secrets: Secrets
) -> dict[str, ParameterValue]:
    """The parameters of the execution that is resumed, without those that are given. Raises SettingsError.

    Of a secret it has a keyed hash: the value is the default, if that is still the one, or has to be given.
    """
    copied = [name for name, value in given.items() if is_kept(value)]
    if copied:
        raise SettingsError(f"-p {copied[0]}: that is what a record has in place of a secret. Give the value itself.")
    defaults = {parameter.name: parameter.default for parameter in definition.parameters}
    defaults.update(settings.local.parameters)
    kept: dict[str, ParameterValue] = {}
    missing: list[str] = []
    for name, value in selected.parameters.items():
        if name in given or value == "":
            continue  # an empty text can only be the default: none is taken at the start
        if not is_kept(value):
            kept[name] = value
        elif (default := defaults.get(name)) is None or secrets.hashed(value_text(default)) != value:
            missing.append(name)
    if missing and selected.source:
        raise SettingsError(
            f"Execution {selected.source.id} was given secrets, of which it keeps only keyed hashes. "
            f"Give them again: {' '.join(f'-p {name}=VALUE' for name in missing)}"
        )
    return kept


def _learn_given(
    secrets: Secrets, definition: PipelineDefinition, settings: Settings, parameters: Mapping[str, str]
) -> None:
    """What is secret of a run before it is planned, so that no problem of it shows a value."""
    learn_secrets(definition, secrets)
    secrets.learn_named(settings.local.parameters)
    secrets.learn_named(parameters)
