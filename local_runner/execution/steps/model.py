"""Model steps: nothing runs. What the request says is given to stock local mode by the Transform steps that use it."""

from __future__ import annotations

from local_runner.execution.attempt import Attempt
from local_runner.execution.ended import Ended
from local_runner.execution.steps.request import requested
from local_runner.models import StepExecution, StockJob
from local_runner.planning.scope import timestamp
from local_runner.sagemaker_api.stock import describe_stock


def run(attempt: Attempt) -> Ended:
    """Look for the model's data, as CreateModel does. Raises ExpressionError, and DataError where it is not there."""
    step, job = attempt.step, requested(attempt, StockJob)
    attempt.announce()
    now = timestamp()
    for item in job.inputs:
        attempt.resources.storage.read(item.s3_uri)
    described = describe_stock(job, status="Completed", created=now, started=now, ended=now)
    return Ended(StepExecution(step.name, step.type, "Succeeded"), described)
