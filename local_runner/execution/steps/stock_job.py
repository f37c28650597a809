"""What Training and Transform steps have in common: their jobs run in the SDK's stock local mode, whichever engine
runs the others.

What a job reads is copied out of local S3, as stock local mode mounts a directory as it is, and a job may write there.
What it leaves is published if it completed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runner.engines import STOPS, OnLine
from local_runner.engines.host_log import step_log
from local_runner.engines.sdk.hosts import host_logs
from local_runner.errors import DataError, EngineError
from local_runner.execution.attempt import Attempt
from local_runner.execution.ended import Ended
from local_runner.execution.steps.request import JOB_STATUS, JobEnd, requested
from local_runner.models import StepExecution, StockJob
from local_runner.planning.scope import timestamp
from local_runner.sagemaker_api.stock import describe_stock

if TYPE_CHECKING:
    from local_runner.engines.sdk.job import SdkEnd

Calls = Callable[[str, Callable[[Path], str]], list[tuple[str, dict[str, Any]]]]
"""The calls to stock local mode, of the local image and of what makes a file:// URI of a directory."""


@dataclass(frozen=True)
class StockEnd:
    """How it ended. ``outputs`` are local directories by what the Describe response calls them."""

    exit_code: int | None
    failure_reason: str | None = None
    stopped: bool = False
    engine_failed: bool = False
    outputs: Mapping[str, Path] = field(default_factory=dict[str, Path])


def log_of(attempt: Attempt, host: str) -> Path:
    """The log file of a host."""
    return attempt.logs / f"{host}.log"


def run_step(attempt: Attempt, run: Callable[[Attempt, StockJob, OnLine], StockEnd]) -> Ended:
    """The end of the step whose job ``run`` runs. Raises ExpressionError, DataError, OSError."""
    step, job = attempt.step, requested(attempt, StockJob)
    attempt.announce()
    started = timestamp()
    with step_log([log_of(attempt, host) for host in job.hosts], attempt.logs, attempt.on_line) as (log, on_line):
        end = run(attempt, job, on_line)
    status: JobEnd = "Stopped" if end.stopped else "Failed" if end.failure_reason else "Succeeded"
    execution = StepExecution(
        name=step.name,
        type=step.type,
        status=status,
        exit_code=end.exit_code,
        failure_reason=end.failure_reason,
        outputs=end.outputs,
        log=log,
    )
    described = describe_stock(
        job,
        status=JOB_STATUS[status],
        created=started,
        started=started,
        ended=timestamp(),
        failure_reason=end.failure_reason,
    )
    return Ended(execution, described, exception="SageMaker.JOB_INTERNAL_ERROR" if end.engine_failed else None)


def make_calls(attempt: Attempt, job: StockJob, image_uri: str, on_line: OnLine, calls: Calls) -> SdkEnd:
    """Let stock local mode make the calls. Raises DataError where the image or the SDK cannot be had."""
    stock = attempt.resources.stock
    assert stock is not None  # the runner sees to it, by the types of the plan's steps
    attempt.logs.mkdir(parents=True, exist_ok=True)
    logs_of = {host: log_of(attempt, host) for host in job.hosts}
    try:
        image = stock.image(image_uri)
        with (
            stock.job(attempt.resources.run.id, attempt.step.name, attempt.work, image) as opened,
            host_logs(logs_of, on_line, attempt.secrets) as logs,
        ):
            made, stop = calls(image, opened.job.uri), attempt.resources.stop
            return opened.job.run(made, opened.labels, logs, stop, STOPS[job.kind])
    except EngineError as error:
        raise DataError(error.message) from None
