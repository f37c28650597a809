"""Engines run one staged job. The executor cannot tell which; ``local_runner.run.engine`` chooses one.

This module imports no engine, so that a sandbox run does not pay for the docker package. No I/O.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from signal import SIGINT, SIGTERM, Signals
from typing import Protocol, runtime_checkable

from local_runner.errors import Problem
from local_runner.models import JobResult, ProcessingJob, StagedJob, StopReason


@dataclass(frozen=True)
class Stop:
    """How the service stops a job: with ``signal``, and SIGKILL when ``grace`` seconds have passed.

    ``grace`` is None where AWS documents none; ``source`` is the page of the Guide or the API that says so.
    """

    signal: Signals
    grace: int | None
    source: str


STOPS: Mapping[str, Stop] = {
    "Processing": Stop(SIGINT, None, "How Amazon SageMaker Processing Runs Your Processing Container Image"),
    "Training": Stop(SIGTERM, 120, "StopTrainingJob"),
    "Transform": Stop(SIGTERM, None, "our choice: what a model server gets of an endpoint"),
}
"""By the type of the step, for every engine: an image's STOPSIGNAL counts for nothing, as the service names its own."""

Grace = Mapping[StopReason, float]
"""The seconds from a job's signal to SIGKILL, by what stops it."""

GRACE_SECONDS: Grace = {"interrupted": 2.0, "max_runtime": 10.0}
"""Where ``stop_grace_seconds`` of the settings says nothing; our choice. Short where the user stops it: somebody waits,
and a program that is PID 1 ignores signals that it does not handle. 10 s is Docker's."""

OnLine = Callable[[str, str], None]
"""Called with (host, line) for each line a job prints, while it prints it. Lines carry no newline."""


@dataclass(frozen=True)
class Capabilities:
    """What is not the same of every engine, for whoever would otherwise ask for its name.

    ``runs_image`` is whether jobs run in the image that their request names, so that a run proves something for a
    promotion; the others run in the processing environment of this machine. ``hot_workers`` can run its jobs where
    they are wanted. ``caches`` is whether steps may be taken from the step cache, and ``stock_jobs`` whether it runs
    the jobs of Training and Transform steps, too.
    """

    runs_image: bool = False
    hot_workers: bool = False
    caches: bool = True
    stock_jobs: bool = False


class Engine(Protocol):
    """One way to run a processing job on this machine. ``name`` is for people, and for records."""

    name: str
    capabilities: Capabilities

    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        """What of these (step path, job) pairs this engine cannot do; asked before anything runs."""
        ...

    def prepare(self, jobs: Iterable[ProcessingJob]) -> None:
        """Make ready what the jobs need (images, environments). Raises EngineError, all missing things listed."""
        ...

    def run(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        """Run the job to its end. Its outputs and logs, which the caller's user owns, are all that is left of it when
        the engine is closed; an engine may clean up while the next job runs.

        Blocks. When ``stop`` is set the job's hosts get the signal of ``STOPS``, a grace period, then SIGKILL, and the
        result says ``interrupted``. MaxRuntime is the engine's to enforce (``max_runtime``). An engine that breaks down
        is a HostResult with ``exit_code=None`` and an ``error``, not an exception.
        """
        ...

    def close(self) -> None:
        """End what the engine keeps between jobs, and finish cleaning up. Safe to call twice."""
        ...


@runtime_checkable
class KnowsImages(Protocol):
    """An engine that runs images, and whose jobs can be cached: it can tell what is in an image."""

    def image_id(self, uri: str) -> str | None:
        """What identifies the content of the image that the URI means; None where that is not known."""
        ...
