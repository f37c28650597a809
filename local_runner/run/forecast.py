"""What a run would take from the cache, without running anything: the executor, on an engine that runs nothing.

Cached outputs are linked into a scratch local S3 over the real one, so that the steps that read them see what they
would see in a run. Writes below ``<state>/runs/<id>``, which is removed, and the digests of ``<state>/steps``.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from local_runner.engines import Capabilities, OnLine
from local_runner.errors import UNWRITABLE, Problem
from local_runner.events import Silent
from local_runner.execution.attempt import Resources
from local_runner.execution.executor import execute
from local_runner.models import Execution, HostResult, JobResult, Plan, ProcessingJob, StagedJob
from local_runner.sagemaker_api.job_types import IN_STOCK_LOCAL_MODE
from local_runner.step_cache.steps import StepCache
from local_runner.storage import job_tree, runs
from local_runner.storage.local_s3 import Source, Storage
from local_runner.storage.s3_uri import s3_problem


@dataclass
class _NothingRuns:
    """The engine whose jobs all fail at once, so that nothing that follows them starts."""

    name: str
    capabilities: Capabilities = field(default_factory=Capabilities)
    ran: list[str] = field(default_factory=list[str])

    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        return []

    def prepare(self, jobs: Iterable[ProcessingJob]) -> None:
        return

    def run(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        self.ran.append(staged.step)
        return JobResult(tuple(HostResult(host.name, 1) for host in staged.hosts))

    def close(self) -> None:
        return


@dataclass(frozen=True)
class Forecast:
    """``hits`` come from the cache, ``misses`` would run; of the other steps nothing is known before these ran."""

    hits: frozenset[str]
    misses: frozenset[str]
    execution: Execution


def forecast(plan: Plan, cache: StepCache, storage: Storage, state: Path, engine: str) -> Forecast:
    """What a run of the plan would take from the (dry) cache. Raises OSError."""
    run, elsewhere = _scratch_run(state, plan.execution_id)
    nothing = _NothingRuns(engine)
    # Neither functions of the user's nor the SDK's local mode are started; what waits for them stays unknown.
    steps = tuple(s for s in plan.steps if s.stand_in is None and s.step.type not in IN_STOCK_LOCAL_MODE)
    try:
        over = _over(storage, run.work / "s3")
        resources = Resources(nothing, over, run, Silent(), state / "cache", reuse=cache)
        execution = execute(replace(plan, steps=steps), resources, max_parallel=1)
        cache.close()
    finally:
        run.close()
        job_tree.remove(elsewhere or run.directory)
    hits = frozenset(step.name for step in execution.steps if step.cached)
    return Forecast(hits, frozenset(nothing.ran), execution)


def _scratch_run(state: Path, execution_id: str) -> tuple[runs.Run, Path | None]:
    """Scratch space: beside the cache, whose files can be linked there, or elsewhere where that is read-only."""
    try:
        return runs.open_run(state, execution_id), None
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        elsewhere = Path(tempfile.mkdtemp(prefix="local-runner-why-"))
        return runs.open_run(elsewhere, execution_id), elsewhere


def _over(storage: Storage, scratch: Path) -> Storage:
    """A local S3 of its own that shows what is in the real one."""
    scratch.mkdir(parents=True)
    buckets = [path for path in storage.root.glob("*") if path.is_dir() and not s3_problem(f"s3://{path.name}")]
    return Storage(scratch, (*storage.sources, *(Source(f"s3://{path.name}", path) for path in buckets)))
