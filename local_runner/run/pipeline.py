"""The stages in a row: compile -> PipelineDefinition -> plan -> Plan -> execute -> Execution -> record.

This is what the command line, the pytest plugin, a watch and a notebook call. It holds the order of the stages and no
rule of its own; each stage's I/O rule stands at the top of its module.
"""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from local_runner import fingerprint
from local_runner.compile.compiler import local_values
from local_runner.engines import Engine
from local_runner.engines.host_log import limit_logs
from local_runner.errors import EngineError, InvalidPipelineError, Problem, system_trouble
from local_runner.events import Listener
from local_runner.execution.attempt import Resources
from local_runner.execution.executor import execute
from local_runner.fingerprint import Fingerprint
from local_runner.image.tag import content_of, current_tag
from local_runner.models import Execution, PipelineDefinition, Plan
from local_runner.project import Project
from local_runner.report.record import to_record
from local_runner.run.engine import open_engine, stock_engine, sweep_docker
from local_runner.run.planned import PlannedRun, plan_run
from local_runner.run.request import RunRequest
from local_runner.sagemaker_api.job_types import IN_STOCK_LOCAL_MODE
from local_runner.storage import runs
from local_runner.storage.files import keep_private
from local_runner.storage.local_s3 import CODE_PREFIX, Storage

if TYPE_CHECKING:
    from local_runner.engines.sdk.engine import SdkEngine
    from local_runner.step_cache.steps import StepCache


def run_pipeline(
    project: Project, request: RunRequest, listener: Listener, engine: Engine | None = None
) -> tuple[Plan, Execution]:
    """Run a request from its target to its record. ``engine`` stands in for the one that would be chosen (tests)."""
    planned = plan_run(project, request)
    return planned.plan, run_planned(project, planned, listener, engine)


def run_planned(
    project: Project,
    planned: PlannedRun,
    listener: Listener,
    engine: Engine | None = None,
    stop: threading.Event | None = None,
) -> Execution:
    """Run what was planned, and keep its record. ``stop`` ends the execution in good order, from another thread.

    A successful run of the whole project also keeps what it proves for a promotion.
    """
    state, request, plan = project.state, planned.request, planned.plan
    keep_private(state)
    limit_logs(project.settings.local.log_size)
    killed = runs.killed_one(state)
    if runs.sweep(state):
        planned.storage.discard_replaced()
    if killed and engine is None:
        sweep_docker()  # whichever engine this run uses, if any
    chosen, reuse = _engine_and_cache(project, planned, engine)
    run = runs.open_run(state, plan.execution_id)
    stock: SdkEngine | None = None
    try:
        stock, lacking = _stock_engine(project, planned, chosen)
        problems = [*chosen.problems(planned.jobs), *lacking]
        if problems:
            target = request.target or project.settings.pipeline.entry
            raise InvalidPipelineError(target, plan.secrets.masked_problems(problems))
        chosen.prepare([job for _, job in planned.jobs])
        storage = _with_code_as_it_is_now(planned.storage, plan, run.directory / "code")
        proves = _would_prove(project, planned, chosen, storage)
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
            _prune(project, reuse)
    return execution


def _engine_and_cache(project: Project, planned: PlannedRun, engine: Engine | None) -> tuple[Engine, StepCache | None]:
    """The engine and, where steps are cached, the cache. Where all that begins is cached, no engine is made yet."""
    if not planned.request.cache:
        return engine or open_engine(project, planned.request, planned.storage), None
    from local_runner.run.cache import begins_cached, open_cache
    from local_runner.run.lazy_engine import LazyEngine, lazy_engine

    cache: StepCache | None = None
    if engine is None:
        chosen = lazy_engine(project, planned)
        cache = open_cache(project, planned, chosen)
        if not isinstance(chosen, LazyEngine) or (cache is not None and begins_cached(planned, cache)):
            return chosen, cache
    chosen = engine or open_engine(project, planned.request, planned.storage)
    return chosen, open_cache(project, planned, chosen, given=engine is not None, before=cache)


def _prune(project: Project, cache: StepCache) -> None:
    """Keep the step cache within its limits. Only a run that added to it can have made it too large."""
    if not cache.stored:
        return
    from local_runner.step_cache.prune import prune_steps

    limits = project.settings.cache
    try:
        prune_steps(project.state, max_age=limits.max_age, max_size=limits.max_size)
    except OSError as error:
        project.note(f"The step cache was not pruned. {system_trouble(error, project.state)}")


def _stock_engine(project: Project, planned: PlannedRun, chosen: Engine) -> tuple[SdkEngine | None, list[Problem]]:
    """What runs the plan's Training and Transform steps, whichever engine runs its other jobs; None if it has none.

    It begins to load the SDK. The problems are those of a machine that cannot have it.
    """
    steps = [step.step for step in planned.plan.steps if step.step.type in IN_STOCK_LOCAL_MODE]
    if not steps:
        return None, []
    try:
        stock = cast("SdkEngine", chosen) if chosen.capabilities.stock_jobs else None
        stock = stock or stock_engine(project, planned.request.images)
        stock.begin()
    except EngineError as error:
        what = "runs in the SDK's local mode, which cannot be had here:"
        return None, [
            Problem(step.path, f"step '{step.name}' is of type {step.type} and {what} {error.message}", local=True)
            for step in steps
        ]
    return stock, []


def _keep_record(run: runs.Run, execution: Execution, listener: Listener) -> None:
    """Write the record; the outcome of the execution is in it also where there is no room for it."""
    try:
        run.write_record(to_record(execution))
    except OSError as error:
        listener.note(f"The record of this execution was not kept. {system_trouble(error, run.directory)}")


def _would_prove(project: Project, planned: PlannedRun, chosen: Engine, storage: Storage) -> Fingerprint | None:
    """What the run proves for a promotion if it succeeds; None where it is hot, or not the whole on its own image."""
    request, settings = planned.request, project.settings
    part = request.steps or request.selection or request.images or request.faults
    whole = request.target is None and not part and not request.hot
    if not whole or not chosen.capabilities.runs_image:
        return None
    image = content_of(current_tag(project))
    secret = settings.pipeline.secret
    return fingerprint.fingerprint_of(planned.loaded.document, local_values(settings), storage, image, secret)


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
