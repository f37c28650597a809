"""``local-runner why STEP``: a forecast, and what of the step's key changed since the last run. Reads the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from local_runner.errors import SettingsError
from local_runner.jsontext import as_list, as_object
from local_runner.models import Plan, ProcessingJob
from local_runner.project import Project
from local_runner.run.cache import open_cache
from local_runner.run.definition import Loaded
from local_runner.run.forecast import Forecast, forecast
from local_runner.run.lazy_engine import lazy_engine
from local_runner.run.planned import plan_run
from local_runner.run.request import RunRequest
from local_runner.step_cache.key import why_not_cached
from local_runner.step_cache.steps import StepCache
from local_runner.step_cache.why import CloudCache, Difference, cloud_cache, differences
from local_runner.storage.local_s3 import Storage


@dataclass(frozen=True)
class Explanation:
    """``verdict`` is ``hit``, ``miss``, ``unknown`` (other steps run first) or ``never`` (not cached at all)."""

    step: str
    verdict: str
    reason: str
    changes: tuple[Difference, ...]
    cloud: CloudCache

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def lines(self) -> list[str]:
        """As lines for people."""
        heads = {"hit": "would be taken from the cache", "miss": "would run", "never": "always runs"}
        head = f"{self.step} {heads.get(self.verdict, 'waits for others')}: {self.reason}"
        would = "would hit" if self.cloud.hits else "would not hit"
        cloud = [f"After promotion SageMaker's own cache {would}:", *(f"  {text}" for text in self.cloud.reasons)]
        return [head, *(f"  {change}" for change in self.changes), *cloud]


def explain(project: Project, request: RunRequest, step: str) -> Explanation:
    """Why a run of the request would take ``step`` from the cache or not. Raises the errors of a run."""
    run = plan_run(project, request)
    plan, loaded, storage = run.plan, run.loaded, run.storage
    if step not in {planned.step.name for planned in plan.steps}:
        raise SettingsError(f"There is no step '{step}'. Steps: {', '.join(p.step.name for p in plan.steps)}.")
    engine = lazy_engine(project, run)
    try:
        cache = open_cache(project, run, engine)
        if cache is None:
            reason = f"The engine {engine.name} is there to compare with."
            return Explanation(step, "never", reason, (), _cloud(step, loaded))
        cache.dry = True
        found = forecast(plan, cache, storage, project.state, engine.name)
    finally:
        engine.close()
    return _explained(step, plan, loaded, cache, found, storage)


def _explained(
    step: str, plan: Plan, loaded: Loaded, cache: StepCache, found: Forecast, storage: Storage
) -> Explanation:
    planned = next(each for each in plan.steps if each.step.name == step)
    if planned.step.type != "Processing":
        reason = f"Only Processing steps are cached, and this is a {planned.step.type} step."
        return Explanation(step, "never", reason, (), _cloud(step, loaded))
    looked = cache.looked.get(step)
    last = cache.store.last(plan.pipeline.name).get(step)
    before = cache.store.signature(last) if last else None
    if before:  # one that was kept before its secrets were known as such
        before = replace(before, request=plan.secrets.hidden(before.request))
    now = looked.signature if looked else None
    code = _code_inputs(now.request, storage) if now else frozenset[str]()
    cloud = cloud_cache(_config(step, loaded), before, now, code)
    if looked is None:
        first = [name for name in sorted(found.misses) if name != step]
        if step not in found.misses and first:
            return Explanation(step, "unknown", f"{', '.join(first)} would run first.", (), cloud)
        if step not in found.misses:
            return Explanation(step, "unknown", _not_reached(step, found), (), cloud)
        never = why_not_cached(planned.job) if isinstance(planned.job, ProcessingJob) else None
        return Explanation(step, "never", never or "It is not known what is in its image.", (), cloud)
    changes = tuple(differences(before, looked.signature)) if before else ()
    if step in found.hits:
        manifest = cache.store.manifest(looked.key)
        when = f"execution {manifest.execution} ran it with all of this" if manifest else "it is there"
        return Explanation(step, "hit", f"{when}.", changes, cloud)
    if last is None:
        reason = "it has not run here before."
    elif before is None:
        reason = "what it depended on in the last run is no longer known."
    elif changes:
        reason = f"{len(changes)} thing(s) changed since the last run."
    else:
        reason = "nothing changed since the last run, but its result is not in the cache (it failed, or was removed)."
    return Explanation(step, "miss", reason, changes, cloud)


def _not_reached(step: str, found: Forecast) -> str:
    started = {each.name: each.status for each in found.execution.steps}
    if started.get(step) == "Failed":
        return f"it fails before it runs: {found.execution.step(step).failure_reason}"
    return "it would not start: its branch is not taken, or it waits for a step that is no cached job."


def _cloud(step: str, loaded: Loaded) -> CloudCache:
    return cloud_cache(_config(step, loaded), None, None, frozenset())


def _code_inputs(request: Mapping[str, Any], storage: Storage) -> frozenset[str]:
    """The inputs whose objects are files of the project."""
    return frozenset(
        str(item["InputName"])
        for item in request.get("ProcessingInputs") or ()
        if storage.is_code(str((as_object(item.get("S3Input")) or {}).get("S3Uri")))
    )


def _config(step: str, loaded: Loaded) -> Mapping[str, Any] | None:
    """The CacheConfig of a step, wherever it stands in the definition."""
    waiting: list[Any] = [loaded.document]
    while waiting:
        value = waiting.pop()
        mapping = as_object(value)
        if mapping is not None:
            if mapping.get("Name") == step and "Type" in mapping:
                return as_object(mapping.get("CacheConfig"))
            waiting += mapping.values()
        waiting += as_list(value) or []
    return None
