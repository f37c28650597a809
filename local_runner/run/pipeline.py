"""The stages in a row: compile -> PipelineDefinition -> plan -> Plan -> execute -> Execution -> record.

This is what the command line, the pytest plugin and a notebook call. It holds the order of the stages and no rule of
its own; each stage's I/O rule stands at the top of its module.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from local_runner import fingerprint
from local_runner.compile.compiler import compile_pipeline, local_values
from local_runner.definition.parser import inspect_definition
from local_runner.definition.paths import Deferred
from local_runner.engines import Engine
from local_runner.engines.host_log import keep_of_logs
from local_runner.errors import EngineError, InvalidPipelineError, Problem, SettingsError, system_trouble
from local_runner.events import Listener
from local_runner.execution.attempt import Resources
from local_runner.execution.executor import execute
from local_runner.execution.functions.settings import configured
from local_runner.fingerprint import Fingerprint
from local_runner.jsontext import as_list, as_object
from local_runner.models import Execution, Fault, ParameterValue, PipelineDefinition, Plan, ProcessingJob
from local_runner.planning import planner
from local_runner.planning.scope import starting_scope, timestamp
from local_runner.planning.selection import Selected, Selection, select
from local_runner.report.record import to_record
from local_runner.run.engine import select_engine, stock_engine
from local_runner.sagemaker_api.job_types import IN_STOCK_LOCAL_MODE
from local_runner.secrets import Secrets, is_kept
from local_runner.settings import Settings
from local_runner.storage import runs
from local_runner.storage.files import keep_private
from local_runner.storage.local_s3 import CODE_PREFIX, Source, Storage
from local_runner.storage.s3_uri import s3_problem

if TYPE_CHECKING:
    from local_runner.engines.sdk.engine import SdkEngine
    from local_runner.step_cache.steps import StepCache

STATE_DIRECTORY = Path(".local_runner")


@dataclass(frozen=True)
class RunRequest:
    """What is to be run, as the command line or a test asks for it.

    ``target`` is ``pipeline.py``, ``pipeline.py:function`` or a definition JSON; None is the project's own pipeline.
    ``parameters`` are text, as StartPipelineExecution takes them. ``data`` maps S3 URIs to files or directories,
    over the mappings of local_runner.toml. ``images`` maps image URIs to local tags, the key ``""`` every URI.
    ``steps`` selects (empty: all), and so does ``selection``, which also looks for an execution to go on from.
    ``max_parallel`` defaults to the machine's cores; a pipeline's own
    MaxParallelExecutionSteps goes before a larger one. ``limits`` is whether jobs get no more memory and processors
    than their instance type has, where the engine can limit them. ``faults`` are exceptions of the service to play.
    ``python`` is the Python that compiles, or its environment (None: this one). ``cache`` is whether steps may be taken
    from the step cache, and are kept in it; those of ``refresh`` run anyway. ``hot`` lets hot workers run
    jobs.
    """

    target: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    date: str | None = None
    engine: str = "auto"
    data: Mapping[str, Path] = field(default_factory=dict[str, Path])
    images: Mapping[str, str] = field(default_factory=dict[str, str])
    steps: Sequence[str] = ()
    max_parallel: int | None = None
    limits: bool = True
    faults: Sequence[Fault] = ()
    python: Path | None = None
    hot: bool = False
    selection: Selection = field(default_factory=Selection)
    cache: bool = False
    refresh: Sequence[str] = ()


@dataclass(frozen=True)
class Loaded:
    """A target's definition: parsed as far as it could be, with its problems, and as JSON text."""

    definition: PipelineDefinition
    problems: list[Problem]
    text: str


def load_definition(
    settings: Settings, target: str | None, state: Path, note: Callable[[str], None], python: Path | None = None
) -> Loaded:
    """The definition of a target: compiled where it is a ``.py`` (by ``python``), read from a file anywhere else."""
    keep_private(state)
    if target is None or re.search(r"\.py(:\w+)?$", target):
        compiled = compile_pipeline(settings, target, state, python=python, progress=note)
        name, text = compiled.name, compiled.definition
    else:
        name, text = Path(target).stem, _read_definition(target)
    return Loaded(*inspect_definition(text, name), text)


def _read_definition(target: str) -> str:
    try:
        return Path(target).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{target} is no pipeline definition: it is not UTF-8 text.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"{target} cannot be read: {why}. TARGET is a pipeline.py or a definition JSON file."
        ) from None


def local_storage(settings: Settings, state: Path, data: Mapping[str, Path]) -> Storage:
    """Local S3 with the project's mappings, those of ``data`` in place of the same URI's, and the project's code."""
    mapped = {
        uri.rstrip("/"): (settings.root / path, f"[local.data] {uri}") for uri, path in settings.local.data.items()
    }
    mapped |= {uri.rstrip("/"): (path.absolute(), f"--map {uri}") for uri, path in data.items()}
    wrong = [f"  {uri}: {problem}" for uri in (*settings.local.data, *data) if (problem := s3_problem(uri))]
    if wrong:
        raise SettingsError("Data is mapped to what is no S3 URI:\n" + "\n".join(wrong))
    missing = [f"  {label}: {path}" for path, label in mapped.values() if not _is_there(path)]
    if missing:
        raise SettingsError("Mapped data is not there:\n" + "\n".join(missing))
    sources = [Source(uri, path) for uri, (path, _) in mapped.items()]
    code = Source(f"s3://{settings.local.bucket}/{CODE_PREFIX}", settings.root, code=True)
    return Storage(state / "s3", (*sources, code))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def make_plan(settings: Settings, loaded: Loaded, request: RunRequest, state: Path) -> tuple[Plan, Storage]:
    """The plan for a request, and the local S3 it reads. Raises InvalidPipelineError with every problem there is."""
    selected = select(loaded.definition, request.selection, state) if request.selection else Selected(())
    source = selected.source
    # What is resumed has the parameters that it had, unless others are given.
    secrets = Secrets(settings.pipeline.secret, state)
    kept = _kept_parameters(selected, loaded.definition, settings, request, secrets)
    parameters = {**{name: _as_text(value) for name, value in kept.items()}, **request.parameters}
    if request.date is not None:
        parameters.pop(settings.local.date_parameter, None)
        parameters.update({settings.local.date_parameter: request.date, **request.parameters})
    storage = local_storage(settings, state, {uri: path for uri, path in request.data.items() if _is_s3(uri)})

    _learn_given(secrets, loaded.definition, settings, parameters)
    left = secrets.restored(source.described, parameters.values()) if source else None

    def plan(provided: Callable[[str], bool], problems: Sequence[Problem]) -> Plan:
        return planner.plan(
            loaded.definition,
            target=request.target or settings.pipeline.entry,
            parameters=parameters,
            defaults=settings.local.parameters,
            steps=request.steps or selected.steps,
            provided=provided,
            execution_id=execution_id,
            started=started,
            cache_dir=state / "cache",
            stand_ins=stand_ins,
            faults=request.faults,
            problems=problems,
            source=left,
            source_execution=source.id if source else None,
            secrets=secrets,
        )

    execution_id = runs.new_execution_id()
    started = timestamp()
    stand_ins, found = configured(loaded.definition, settings)
    problems = [*loaded.problems, *found]
    of_steps = {name: path for name, path in request.data.items() if not _is_s3(name)}
    if of_steps:
        # Only a plan knows the URI of a step's output, and a plan wants to know whether the URI is provided.
        outputs = _output_uris(plan(lambda _: True, problems))
        unknown = ", ".join(name for name in of_steps if name not in outputs)
        if unknown:
            raise SettingsError(f"data names no S3 URI and no output of a step that is left out: {unknown}.")
        given = (Source(outputs[name], path.absolute()) for name, path in of_steps.items())
        storage = replace(storage, sources=(*storage.sources, *given))
    try:
        return plan(storage.provides, problems), storage
    except InvalidPipelineError as error:
        raise InvalidPipelineError(error.target, secrets.masked_problems(error.problems)) from None


def _kept_parameters(
    selected: Selected, definition: PipelineDefinition, settings: Settings, request: RunRequest, secrets: Secrets
) -> dict[str, ParameterValue]:
    """The parameters of the execution that is resumed, without those that are given. Raises SettingsError.

    Of a secret it has a keyed hash: the value is the default, if that is still the one, or has to be given.
    """
    copied = [name for name, value in request.parameters.items() if is_kept(value)]
    if copied:
        raise SettingsError(f"-p {copied[0]}: that is what a record has in place of a secret. Give the value itself.")
    defaults = {parameter.name: parameter.default for parameter in definition.parameters}
    defaults.update(settings.local.parameters)
    kept: dict[str, ParameterValue] = {}
    missing: list[str] = []
    for name, value in selected.parameters.items():
        if name in request.parameters:
            continue
        if not is_kept(value):
            kept[name] = value
        elif (default := defaults.get(name)) is None or secrets.hashed(_as_text(default)) != value:
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
    secrets.learn_named({parameter.name: parameter.default for parameter in definition.parameters})
    secrets.learn_named(settings.local.parameters)
    secrets.learn_named(parameters)
    secrets.learn_from([dict(step.arguments) for step in definition.steps])


def _as_text(value: ParameterValue) -> str:
    """A value as StartPipelineExecution takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_s3(name: str) -> bool:
    return name.startswith("s3://")


def _output_uris(plan: Plan) -> dict[str, str]:
    """The S3 URI of each output of the steps that the plan leaves out, as ``Step.OutputName``."""
    found: dict[str, str] = {}
    for name, described in starting_scope(plan).steps.items():
        if not isinstance(described, Deferred):
            config = as_object(described.get("ProcessingOutputConfig")) or {}
            for item in as_list(config.get("Outputs")) or ():
                output = as_object(item) or {}
                uri = (as_object(output.get("S3Output")) or {}).get("S3Uri")
                if isinstance(uri, str) and s3_problem(uri) is None:
                    found[f"{name}.{output.get('OutputName')}"] = uri
    return found


def run_pipeline(
    settings: Settings, request: RunRequest, state: Path, listener: Listener, engine: Engine | None = None
) -> tuple[Plan, Execution]:
    """Run a request from its target to its record. ``engine`` stands in for the one that would be chosen (tests)."""
    state = state.absolute()
    loaded = load_definition(settings, request.target, state, listener.note, request.python)
    plan, storage = make_plan(settings, loaded, request, state)
    return plan, run_plan(settings, request, state, plan, storage, listener, engine, compiled=loaded.text)


def run_plan(
    settings: Settings,
    request: RunRequest,
    state: Path,
    plan: Plan,
    storage: Storage,
    listener: Listener,
    engine: Engine | None = None,
    stop: threading.Event | None = None,
    compiled: str | None = None,
) -> Execution:
    """Run what ``make_plan`` made for a request. ``stop`` ends the execution in good order, from another thread.

    ``compiled`` is the definition's JSON: with it, a run of the whole project keeps what it proves for a promotion.
    """
    keep_private(state)
    keep_of_logs(settings.local.log_size)
    killed = runs.killed_one(state)
    if runs.sweep(state):
        storage.discard_replaced()
    jobs = [(step.step.path, step.job) for step in plan.steps if isinstance(step.job, ProcessingJob)]
    chosen, reuse = _engine_and_cache(
        settings, request, state, plan, storage, jobs, listener.note, engine, needed=killed
    )
    run = runs.open_run(state, plan.execution_id)
    stock: SdkEngine | None = None
    try:
        stock, lacking = _stock_engine(settings, request, state, plan, chosen, listener.note)
        problems = [*chosen.problems(jobs), *lacking]
        if problems:
            raise InvalidPipelineError(
                request.target or settings.pipeline.entry, plan.secrets.masked_problems(problems)
            )
        chosen.prepare([job for _, job in jobs])
        storage = _with_code_as_it_is_now(storage, plan, run.directory / "code")
        proves = _proven(settings, request, state, chosen, compiled, storage)
        resources = Resources(
            chosen, storage, run, listener, state / "cache", stock=stock, reuse=reuse, stop=stop or threading.Event()
        )
        execution = execute(plan, resources, max_parallel=_side_by_side(request, plan.pipeline))
        _keep_record(run, execution, listener)
        if proves and execution.status == "Succeeded":
            with suppress(OSError):  # then it proves nothing, which a promotion says
                fingerprint.keep(run.directory, proves, execution.ended)
    finally:
        if stock is not None and stock is not chosen:
            stock.close()
        if engine is None:
            chosen.close()  # first: what it still cleans up may lie in the run's directory
        run.close()
        if reuse is not None:
            reuse.close()
            _prune(settings, state, reuse, listener)
    return execution


def with_hot_workers(
    engine: Engine, storage: Storage, note: Callable[[str], None], *, watching: bool = False
) -> Engine:
    """The engine with workers that see what the storage maps in; those of a watch end with it."""
    if engine.capabilities.hot_workers:
        from local_runner.engines.hot.engine import hot_engine

        return hot_engine(
            engine, [source.path for source in storage.sources if not source.code], note, watching=watching
        )
    note(f"Engine {engine.name} has no hot workers: every job runs cold.")
    return engine


def _prune(settings: Settings, state: Path, cache: StepCache, listener: Listener) -> None:
    """Keep the step cache within its limits. Only a run that added to it can have made it too large."""
    if not cache.stored:
        return
    from local_runner.step_cache.prune import prune_steps

    try:
        prune_steps(state, max_age=settings.cache.max_age, max_size=settings.cache.max_size)
    except OSError as error:
        listener.note(f"The step cache was not pruned. {system_trouble(error, state)}")


def _engine_and_cache(
    settings: Settings,
    request: RunRequest,
    state: Path,
    plan: Plan,
    storage: Storage,
    jobs: Sequence[tuple[str, ProcessingJob]],
    note: Callable[[str], None],
    engine: Engine | None,
    *,
    needed: bool,
) -> tuple[Engine, StepCache | None]:
    """The engine and, where steps are cached, the cache. Where all that begins is cached, no engine is made yet,
    unless it is ``needed`` to remove what a killed execution left in it.
    """

    def make() -> Engine:
        made = select_engine(request.engine, settings, state, request.images, note, limits=request.limits)
        return with_hot_workers(made, storage, note) if request.hot else made

    if not request.cache:
        return engine or make(), None
    from local_runner.run.cache import begins_cached, open_cache
    from local_runner.run.lazy_engine import late_engine

    late = late_engine(request.engine, make, jobs) if engine is None and not needed else None
    if late is not None:
        chosen: Engine = late
        cache = open_cache(settings, request, state, plan, chosen, note)
        if cache is not None and begins_cached(plan, cache, storage):
            return chosen, cache
    chosen = engine or make()
    return chosen, open_cache(settings, request, state, plan, chosen, note, given=engine is not None)


def _stock_engine(
    settings: Settings, request: RunRequest, state: Path, plan: Plan, chosen: Engine, note: Callable[[str], None]
) -> tuple[SdkEngine | None, list[Problem]]:
    """What runs the plan's Training and Transform steps, whichever engine runs its other jobs; None if it has none.

    It begins to load the SDK. The problems are those of a machine that cannot have it.
    """
    steps = [step.step for step in plan.steps if step.step.type in IN_STOCK_LOCAL_MODE]
    if not steps:
        return None, []
    try:
        stock = cast("SdkEngine", chosen) if chosen.capabilities.stock_jobs else None
        stock = stock or stock_engine(settings, state, request.images, note)
        stock.begin()
    except EngineError as error:
        what = "runs in the SDK's local mode, which cannot be had here:"
        return None, [
            Problem(step.path, f"step '{step.name}' is of type {step.type} and {what} {error.message}")
            for step in steps
        ]
    return stock, []


def _keep_record(run: runs.Run, execution: Execution, listener: Listener) -> None:
    """Write the record; what the execution came to stands also where there is no room for it."""
    try:
        run.write_record(to_record(execution))
    except OSError as error:
        listener.note(f"The record of this execution was not kept. {system_trouble(error, run.directory)}")


def _proven(
    settings: Settings, request: RunRequest, state: Path, chosen: Engine, compiled: str | None, storage: Storage
) -> Fingerprint | None:
    """What the run proves for a promotion if it succeeds; None where it is hot, or not the whole on its own image."""
    part = request.steps or request.selection or request.images or request.faults
    whole = request.target is None and not part and not request.hot
    if compiled is None or not whole or not chosen.capabilities.runs_image:
        return None
    from local_runner.run.lazy_engine import project_image  # remembers the tag, so that no engine has to be loaded

    image = project_image(settings, state).rpartition(":")[2]
    return fingerprint.fingerprint_of(compiled, local_values(settings), storage, image, settings.pipeline.secret)


def _side_by_side(request: RunRequest, definition: PipelineDefinition) -> int:
    """How many steps may run at once: as asked for, else the cores, and no more than the pipeline allows."""
    wanted = request.max_parallel or os.cpu_count() or 1
    return min(wanted, definition.max_parallel_steps or wanted)


def _with_code_as_it_is_now(storage: Storage, plan: Plan, snapshot: Path) -> Storage:
    """The storage with the plan's code copied aside, so that all steps of a run see one state of the scripts."""
    # A step's code is named in its arguments, also where its job is not known yet.
    texts = (text for planned in plan.steps for text in fingerprint.texts_of(planned.step.arguments))
    uris = {text for text in texts if storage.is_code(text)}
    for uri in uris:
        for entry in storage.list_objects(uri).objects:
            place = snapshot / entry.key.removeprefix(f"{CODE_PREFIX}/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(entry.path, place)
    sources = (replace(source, path=snapshot) if source.code else source for source in storage.sources)
    return replace(storage, sources=tuple(sources))
