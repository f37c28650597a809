"""The step cache for one execution: opened, and whether the execution can begin without an engine. Reads the cache."""

from __future__ import annotations

from collections.abc import Mapping

from local_runner.engines import Engine
from local_runner.errors import LocalRunnerError
from local_runner.models import PlannedStep, ProcessingJob
from local_runner.planning.scope import starting_scope
from local_runner.project import Project
from local_runner.run.lazy_engine import image_of
from local_runner.run.planned import PlannedRun
from local_runner.sagemaker_api.job_types import AT_ONCE_TYPES
from local_runner.step_cache.digests import FileDigests
from local_runner.step_cache.key import HOT, Machine
from local_runner.step_cache.steps import StepCache
from local_runner.step_cache.store import step_store
from local_runner.storage.local_s3 import Storage


def open_cache(
    project: Project, planned: PlannedRun, engine: Engine, *, given: bool = False, before: StepCache | None = None
) -> StepCache | None:
    """The cache of an execution of the plan; None on an engine that is there to compare with.

    What one ``before`` found of the inputs is taken over.
    """
    request, plan = planned.request, planned.plan
    if not engine.capabilities.caches:
        return None
    known: dict[str, Machine | None] = {}
    name = engine.name + HOT if request.hot else engine.name

    def machine_of(uri: str) -> Machine | None:
        if uri not in known:
            try:
                image = image_of(uri, engine, project, request.images, given=given)
            except LocalRunnerError:
                image = None  # the job will run, and fail for that reason
            known[uri] = Machine(name, request.limits, image) if image else None
        return known[uri]

    return StepCache(
        store=step_store(project.state),
        digests=before.digests if before else FileDigests(project.state / "steps" / "digests.sqlite"),
        pipeline=plan.pipeline.name,
        machine_of=machine_of,
        note=project.note,
        refresh=request.refresh,
        sources=(plan.source_execution,) if plan.source_execution else (),
        secrets=plan.secrets,
        begun=before.begun if before else {},
    )


def begins_cached(run: PlannedRun, cache: StepCache) -> bool:
    """Whether each job that can start at once is in the cache. Then the engine may never be needed."""
    plan = run.plan
    execution = starting_scope(plan).execution
    jobs = [(planned, planned.job) for planned in plan.steps if isinstance(planned.job, ProcessingJob)]
    after = {planned.step.name for planned in plan.steps if planned.step.type not in AT_ONCE_TYPES}
    for planned in plan.steps:  # in the plan's order, so that what a step waits for was looked at before it
        if any(each.step in after for each in planned.waits_for):
            after.add(planned.step.name)
    first = [(planned, job) for planned, job in jobs if not any(each.step in after for each in planned.waits_for)]
    return bool(first) and all(_is_cached(planned, job, cache, execution, run.storage) for planned, job in first)


def _is_cached(
    planned: PlannedStep, job: ProcessingJob, cache: StepCache, execution: Mapping[str, str], storage: Storage
) -> bool:
    looked = cache.look(planned, job, execution, storage)
    if looked is not None:
        data = {item.name for item in job.inputs if not storage.is_code(item.s3_uri)}
        cache.begun[planned.step.name] = {name: found for name, found in looked.inputs.items() if name in data}
    return looked is not None and cache.find(planned, looked) is not None
