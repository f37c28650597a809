"""Executions of a pipeline in the account, and their steps: answers of the SageMaker API -> dataclasses. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, get_args

from local_runner.cloud.account.aws import Aws, AwsError, CloudError
from local_runner.cloud.target.target import Target
from local_runner.models import ExecutionStatus, StepExecution, StepStatus

OVER = ("Stopped", "Failed", "Succeeded", "CompletedWithFailures")
"""The statuses in which an execution starts nothing more (API: PipelineExecutionStatus)."""

_STEP_OVER = ("Stopped", "Failed", "Succeeded")
# The member of a step's Metadata that names its job, the kind of the job, and the log group that the job writes to.
_JOBS = {
    "ProcessingJob": ("Processing", "/aws/sagemaker/ProcessingJobs"),
    "TrainingJob": ("Training", "/aws/sagemaker/TrainingJobs"),
    "TransformJob": ("Transform", "/aws/sagemaker/TransformJobs"),
}


@dataclass(frozen=True)
class CloudExecution:
    """One execution as the account describes it. ``ended`` is None while it is not over."""

    id: str
    arn: str
    status: str
    started: datetime
    ended: datetime | None = None
    failure_reason: str | None = None

    @property
    def over(self) -> bool:
        """Whether it has come to its end, whichever."""
        return self.status in OVER

    @property
    def seconds(self) -> float:
        """How long it took, or has been at it."""
        return max(((self.ended or datetime.now(UTC)) - self.started).total_seconds(), 0.0)

    @property
    def reported_status(self) -> ExecutionStatus:
        """The status among those of a local execution; one that is not known here is Failed."""
        return next((status for status in get_args(ExecutionStatus) if status == self.status), "Failed")


@dataclass(frozen=True)
class CloudJob:
    """The job of a step: its name, and the log group in which each of its hosts has a stream ``<name>/<host>``."""

    name: str
    log_group: str


@dataclass(frozen=True)
class CloudStep:
    """A step of an execution that has begun. ``result`` is what a report shows; ``attempt`` counts from 1."""

    result: StepExecution
    started: datetime
    attempt: int = 1
    job: CloudJob | None = None

    @property
    def name(self) -> str:
        """The step's name; that of an iteration holds its index."""
        return self.result.name

    @property
    def over(self) -> bool:
        """Whether the step has come to its end."""
        return self.result.status in _STEP_OVER


# ------------------------------------------------------------------------------------------------- executions
def describe_pipeline(target: Target) -> dict[str, Any]:
    """What the account has under the pipeline's name. Raises CloudError where there is no such pipeline."""
    aws, name, environment = target.aws, target.names.pipeline_name, target.names.environment
    described = aws.find("sagemaker", "describe_pipeline", PipelineName=name)
    if described is None:
        raise CloudError(
            f"There is no pipeline '{name}' in account {aws.account}, region {aws.region}: nothing was promoted to "
            f"'{environment}' yet, or somebody deleted it. Promote it: local-runner promote --env {environment}."
        )
    return described


def latest_executions(aws: Aws, pipeline_name: str, most: int) -> list[CloudExecution]:
    """The newest executions of a pipeline, the newest first; at most ``most`` (the API's page is 100)."""
    listed = aws.find(
        "sagemaker",
        "list_pipeline_executions",
        PipelineName=pipeline_name,
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=most,
    )
    summaries: list[dict[str, Any]] = (listed or {}).get("PipelineExecutionSummaries", [])
    summaries = sorted(summaries, key=lambda item: item["StartTime"], reverse=True)[:most]
    # The list does not say when they ended.
    arns = [str(summary["PipelineExecutionArn"]) for summary in summaries]
    if not arns:
        return []
    with ThreadPoolExecutor(len(arns)) as pool:
        return list(pool.map(partial(describe_execution, aws), arns))


def executions_now(aws: Aws, pipeline_name: str) -> list[str]:
    """The ids of a pipeline's newest executions (at most 100) that are not over; none where there is no pipeline."""
    asked = {"PipelineName": pipeline_name, "SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": 100}
    listed = aws.find("sagemaker", "list_pipeline_executions", **asked) or {}
    return [
        str(summary["PipelineExecutionArn"]).rpartition("/")[2]
        for summary in listed.get("PipelineExecutionSummaries", ())
        if summary["PipelineExecutionStatus"] not in OVER
    ]


def running_executions(aws: Aws, pipeline_name: str) -> list[str]:
    """The ARNs of all executions of a pipeline that are not over."""
    summaries = aws.pages(
        "sagemaker", "list_pipeline_executions", "PipelineExecutionSummaries", PipelineName=pipeline_name
    )
    return [
        str(summary["PipelineExecutionArn"]) for summary in summaries if summary["PipelineExecutionStatus"] not in OVER
    ]


def find_execution(aws: Aws, pipeline: Mapping[str, Any], wanted: str | None) -> CloudExecution:
    """The execution with that id or ARN, of a pipeline as it is described; None is the newest. Raises CloudError."""
    name = str(pipeline["PipelineName"])
    if wanted is None:
        latest = latest_executions(aws, name, 1)
        if not latest:
            raise CloudError(f"Pipeline '{name}' has not been started yet. Start it: local-runner trigger.")
        return latest[0]
    arn = wanted if wanted.startswith("arn:") else f"{pipeline['PipelineArn']}/execution/{wanted}"
    try:
        return describe_execution(aws, arn)
    except AwsError as error:
        if not error.not_found:
            raise
    known = ", ".join(execution.id for execution in latest_executions(aws, name, 5))
    raise CloudError(
        f"Pipeline '{name}' has no execution '{wanted}'. "
        + (f"Its last ones are {known}." if known else "It has not been started yet.")
    )


def describe_execution(aws: Aws, arn: str) -> CloudExecution:
    """The execution with that ARN, as it is now. Raises AwsError."""
    answer = aws.call("sagemaker", "describe_pipeline_execution", PipelineExecutionArn=arn)
    status = str(answer["PipelineExecutionStatus"])
    return CloudExecution(
        id=arn.rpartition("/")[2],
        arn=arn,
        status=status,
        started=answer["CreationTime"],
        ended=answer.get("LastModifiedTime") if status in OVER else None,
        failure_reason=answer.get("FailureReason") or None,
    )


# ------------------------------------------------------------------------------------------------------ steps
def execution_steps(aws: Aws, arn: str, types: Mapping[str, str]) -> list[CloudStep]:
    """The steps of an execution that have begun, in the order in which they did. Raises AwsError.

    ``types`` are the steps' types in the definition, for steps of which the account does not say.
    """
    listed = aws.pages("sagemaker", "list_pipeline_execution_steps", "PipelineExecutionSteps", PipelineExecutionArn=arn)
    return sorted((_step(item, types) for item in listed), key=lambda step: step.started)


def with_job_message(aws: Aws, step: CloudStep) -> CloudStep:
    """The step with the exit message of its processing job, where the account lets us see it."""
    if step.job is None or not step.job.log_group.endswith("ProcessingJobs"):
        return step
    try:
        job = aws.call("sagemaker", "describe_processing_job", ProcessingJobName=step.job.name)
    except AwsError:
        return step  # not worth an error: the step's own status and reason are known
    result = replace(step.result, exit_message=job.get("ExitMessage") or None)
    return replace(step, result=result)


def _step(item: Mapping[str, Any], types: Mapping[str, str]) -> CloudStep:
    name, metadata = str(item["StepName"]), dict[str, Any](item.get("Metadata") or {})
    # A step that waits for capacity has no StartTime yet.
    started: datetime = item.get("StartTime") or datetime.now(UTC)
    ended: datetime = item.get("EndTime") or datetime.now(UTC)
    kinds = [kind for kind in metadata if isinstance(metadata[kind], dict)]
    kind = kinds[0] if kinds else types.get(name, "")
    job = None
    if kind in _JOBS:
        kind, group = _JOBS[kind]
        job = CloudJob(str(metadata[kinds[0]]["Arn"]).partition("/")[2], group)
    outcome = metadata.get("Condition", {}).get("Outcome")
    iteration = item.get("IterationContext")
    status: StepStatus = item["StepStatus"]
    result = StepExecution(
        name=f"{name}[{iteration['Index']}]" if iteration else name,
        type=types.get(name, kind),
        status=status,
        seconds=max((ended - started).total_seconds(), 0.0),
        cached=bool(item.get("CacheHitResult")),
        failure_reason=item.get("FailureReason") or metadata.get("Fail", {}).get("ErrorMessage"),
        outcome=None if outcome is None else outcome == "True",
    )
    return CloudStep(result, started, int(item.get("AttemptCount") or 1), job)
