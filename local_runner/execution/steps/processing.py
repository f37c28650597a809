"""Processing steps: a job is laid out, run by the engine and read back, or taken from the step cache.

Touches the disk through ``execution/contract.py``, local S3 and the step cache.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from local_runner.engines.host_log import step_log
from local_runner.execution import contract
from local_runner.execution.attempt import Attempt
from local_runner.execution.continuous import uploading
from local_runner.execution.ended import Ended
from local_runner.execution.pipes import feeding
from local_runner.execution.room import leaving_room
from local_runner.execution.steps.request import JOB_STATUS, JobEnd, requested
from local_runner.models import JobResult, ProcessingJob, ServiceException, StepExecution
from local_runner.planning.scope import timestamp
from local_runner.sagemaker_api.processing import describe

if TYPE_CHECKING:
    from local_runner.step_cache.steps import Looked


def run(attempt: Attempt) -> Ended:
    """Run the job, or take what it left when it last ran. Raises ExpressionError, DataError, OSError."""
    job = requested(attempt, ProcessingJob)
    reuse = attempt.resources.reuse
    looked = reuse.look(attempt.planned, job, attempt.scope.execution, attempt.resources.storage) if reuse else None
    hit = _from_cache(attempt, job, looked) if looked else None
    if hit is not None:
        return hit
    attempt.announce()
    return _run(attempt, job, looked)


def _from_cache(attempt: Attempt, job: ProcessingJob, looked: Looked) -> Ended | None:
    """What the job left when it last ran, as if it had run now; None where it has to."""
    step, reuse = attempt.step, attempt.resources.reuse
    now = timestamp()
    assert reuse is not None
    kept = reuse.restore(attempt.planned, looked, job, attempt.resources.storage, attempt.work, attempt.logs)
    if kept is None:
        return None
    execution = StepExecution(
        name=step.name,
        type=step.type,
        status="Succeeded",
        cached=True,
        hot=looked.signature.machine.hot,
        exit_code=kept.exit_code,
        exit_message=kept.exit_message,
        outputs=kept.outputs,
        log=kept.log,
    )
    message = kept.exit_message
    return Ended(
        execution,
        describe(job, status="Completed", created=now, started=now, ended=timestamp(), exit_message=message),
    )


def _run(attempt: Attempt, job: ProcessingJob, looked: Looked | None) -> Ended:
    step, resources, work, logs = attempt.step, attempt.resources, attempt.work, attempt.logs
    storage, reuse = resources.storage, resources.reuse
    recording = reuse.begin(attempt.planned, looked, work) if reuse else None
    created, began = timestamp(), monotonic()
    with reuse.digests.linking() if reuse else nullcontext():
        staged = contract.stage(job, run_id=resources.run.id, step=step.name, storage=storage, work=work, logs=logs)
    staged = replace(staged, secrets=attempt.secrets)
    with step_log([host.log for host in staged.hosts], logs, attempt.on_line) as (log, on_line):
        started = timestamp()
        with feeding(staged) as faults, uploading(staged, storage), leaving_room(work, resources.stop) as room:
            result = resources.engine.run(staged, on_line, room.stop)
        if room.fault and (result.stopped or result.succeeded):  # what failed by itself has a reason of its own
            faults, result = [*faults, room.fault], replace(result, stopped="")
        ended = timestamp()
    if recording:
        recording.ran(job, storage)
    keep = recording.keep if recording else None
    collected = contract.collect(staged, result, storage, faults, keep)
    status: JobEnd = "Failed" if collected.failure_reason else "Succeeded"
    if result.stopped == "interrupted":
        status = "Stopped"
    if reuse and recording and status == "Succeeded":
        code, message = collected.exit_code, collected.exit_message
        if message and attempt.secrets.masked(message) != message:
            recording.refused = f"Step '{step.name}' is not cached: its exit message holds a secret."
        reuse.finish(recording, logs, recording.manifest(resources.run.id, monotonic() - began, code, message))
    execution = StepExecution(
        name=step.name,
        type=step.type,
        status=status,
        exit_code=collected.exit_code,
        exit_message=collected.exit_message,
        failure_reason=collected.failure_reason,
        outputs=collected.outputs,
        log=log,
        hot=result.hot,
    )
    return Ended(
        execution,
        describe(
            job,
            status=JOB_STATUS[status],
            created=created,
            started=started,
            ended=ended,
            exit_message=collected.exit_message,
            failure_reason=collected.failure_reason,
        ),
        exception=_exception(result),
    )


def _exception(result: JobResult) -> ServiceException | None:
    """An engine that breaks down is to this machine what InternalServerError is to the service."""
    unknown_end = any(host.exit_code is None for host in result.hosts)
    return "SageMaker.JOB_INTERNAL_ERROR" if unknown_end and not result.stopped else None
