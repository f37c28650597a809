"""The step cache for one execution: opened, and whether the execution can begin without an engine. Reads the cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from local_runner.engines import Engine
from local_runner.errors import LocalRunnerError
from local_runner.models import Plan, PlannedStep, ProcessingJob
from local_runner.planning.scope import starting_scope
from local_runner.run.lazy_engine import image_of
from local_runner.sagemaker_api.job_types import AT_ONCE_TYPES
from local_runner.settings import Settings
from local_runner.step_cache.digests import FileDigests
from local_runner.step_cache.key import HOT, Machine
from local_runner.step_cache.steps import StepCache
from local_runner.step_cache.store import step_store
from local_runner.storage.local_s3 import Storage


class Wanted(Protocol):
    """What of a request the cache goes by."""

    @property
    def images(self) -> Mapping[str, str]: ...

    @property
    def limits(self) -> bool: ...

    @property
    def hot(self) -> bool: ...

    @property
    def refresh(self) -> Collection[str]: ...


def open_cache(
    settings: Settings,
    request: Wanted,
    state: Path,
    plan: Plan,
    engine: Engine,
    note: Callable[[str], None],
    *,
    given: bool = False,
) -> StepCache | None:
    """The cache of an execution of the plan; None on an engine that is there to compare with."""
    if not engine.capabilities.caches:
        return None
    known: dict[str, Machine | None] = {}
    name = engine.name + HOT if request.hot else engine.name

    def machine_of(uri: str) -> Machine | None:
        if uri not in known:
            try:
                image = image_of(uri, engine, settings, state, request.images, given=given)
            except LocalRunnerError:
                image = None  # the job will run, and fail for that reason
            known[uri] = Machine(name, request.limits, image) if image else None
        return known[uri]

    return StepCache(
        store=step_store(state),
        digests=FileDigests(state / "steps" / "digests"),
        pipeline=plan.pipeline.name,
        machine_of=machine_of,
        note=note,
        refresh=request.refresh,
        sources=(plan.source_execution,) if plan.source_execution else (),
        secrets=plan.secrets,
    )


def begins_cached(plan: Plan, cache: StepCache, storage: Storage) -> bool:
    """Whether each job that can start at once is in the cache. Then the engine may never be needed."""
    execution = starting_scope(plan).execution
    jobs = [(planned, planned.job) for planned in plan.steps if isinstance(planned.job, ProcessingJob)]
    after = {planned.step.name for planned in plan.steps if planned.step.type not in AT_ONCE_TYPES}
    for planned in plan.steps:  # in the plan's order, so that what a step waits for was looked at before it
        if any(each.step in after for each in planned.waits_for):
            after.add(planned.step.name)
    first = [(planned, job) for planned, job in jobs if not any(each.step in after for each in planned.waits_for)]
    return bool(first) and all(_is_cached(planned, job, cache, execution, storage) for planned, job in first)


def _is_cached(
    planned: PlannedStep, job: ProcessingJob, cache: StepCache, execution: Mapping[str, str], storage: Storage
) -> bool:
    looked = cache.look(planned, job, execution, storage)
    return looked is not None and cache.find(planned, looked) is not None
