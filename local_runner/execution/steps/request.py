"""The job that a step's Arguments ask for, when all that they refer to is known. Reads the cache of limits."""

from __future__ import annotations

from typing import Literal, TypeVar

from local_runner.definition.expressions import resolve
from local_runner.errors import DataError
from local_runner.execution.attempt import Attempt
from local_runner.models import ProcessingJob, StockJob
from local_runner.sagemaker_api.job_types import JOB_KINDS
from local_runner.sagemaker_api.limits import request_problems
from local_runner.sagemaker_api.processing import first_deferred, job_name

Job = TypeVar("Job", ProcessingJob, StockJob)

JobEnd = Literal["Succeeded", "Failed", "Stopped"]
JOB_STATUS: dict[JobEnd, Literal["Completed", "Failed", "Stopped"]] = {
    "Succeeded": "Completed",
    "Failed": "Failed",
    "Stopped": "Stopped",
}
"""What Describe calls the status of a job, by the status of its step."""


def requested(attempt: Attempt, of: type[Job]) -> Job:
    """The job, which is ``of`` that class. Raises ExpressionError, and DataError with what is wrong with the request.

    The rules are those of planning, which only saw what was known before the execution.
    """
    step = attempt.step
    kind = JOB_KINDS[step.type]
    base = resolve(step.arguments.get(kind.name_member), attempt.scope)
    name = job_name(attempt.plan.execution_id, step.name, attempt.number, base)
    request = resolve(step.arguments, attempt.scope.of_job(name))
    attempt.secrets.learn_from(request)
    where = f"{step.path}.Arguments"
    job, problems = kind.job(request, name, where, attempt.plan.region)
    problems += request_problems(request, kind.shape, where, attempt.resources.cache_dir)
    if isinstance(job, of) and not problems:
        return job
    attempt.announce()
    unknown = first_deferred(request)
    if not problems and unknown is not None:
        raise DataError(f"A value of its request is not known: {unknown.reason}.")
    raise DataError("ValidationException: " + " ".join(str(problem) for problem in problems))
