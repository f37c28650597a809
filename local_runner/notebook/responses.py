"""Executions as the SageMaker API describes them: names, shapes and statuses are the API's own. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_runner.compile.boto import ServiceError
from local_runner.jsontext import value_text
from local_runner.models import ParameterValue, PlannedStep, ProcessingJob
from local_runner.notebook.execution import LocalExecution, StepProgress
from local_runner.sagemaker_api.arns import arn
from local_runner.sagemaker_api.job_types import JOB_KINDS
from local_runner.sagemaker_api.processing import describe, job_name

Response = dict[str, Any]
Parameters = Mapping[str, Any]

_JOB_STATUS = {
    "Starting": "InProgress",
    "Executing": "InProgress",
    "Stopping": "Stopping",
    "Stopped": "Stopped",
    "Failed": "Failed",
    "Succeeded": "Completed",
}


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """The members that have a value: the API leaves the others out."""
    return {name: value for name, value in values.items() if value is not None}


def step_response(execution: LocalExecution, step: StepProgress) -> dict[str, Any]:
    """A PipelineExecutionStep."""
    planned = _planned(execution, step.name)
    status = execution.step_status(step)
    reason = step.result.failure_reason if step.result else None
    return present(
        {
            "StepName": step.name,
            "StepDisplayName": planned.step.display_name,
            "StartTime": step.started,
            "EndTime": step.ended,
            "StepStatus": status,
            "FailureReason": reason or (execution.failure_reason if status == "Failed" else None),
            "AttemptCount": step.attempts,
            "Metadata": _metadata(execution, planned, step),
        }
    )


def _planned(execution: LocalExecution, name: str) -> PlannedStep:
    return next(planned for planned in execution.plan.steps if planned.step.name == name)


def _metadata(execution: LocalExecution, planned: PlannedStep, step: StepProgress) -> dict[str, Any] | None:
    match planned.step.type:
        case "Processing" | "Training" | "Transform" as type_:
            return {f"{type_}Job": {"Arn": _job_arn(execution, planned)}}
        case "Model" if step.result:
            return {"Model": {"Arn": _job_arn(execution, planned)}}
        case "Condition" if step.result and step.result.outcome is not None:
            return {"Condition": {"Outcome": str(step.result.outcome)}}
        case "Fail" if step.result:
            return {"Fail": {"ErrorMessage": step.result.failure_reason or ""}}
        case _:
            return None


def _job_arn(execution: LocalExecution, planned: PlannedStep) -> str:
    kind = JOB_KINDS[planned.step.type]
    base = planned.step.arguments.get(kind.name_member)
    name = planned.job.name if planned.job else job_name(execution.plan.execution_id, planned.step.name, base=base)
    return arn(execution.plan.region, kind.resource, name)


def processing_job_response(execution: LocalExecution, name: str) -> dict[str, Any] | None:
    """The DescribeProcessingJob response of one of the execution's jobs, or None if it is none of them.

    None as well for a job whose request only the run knew: no plan has it.
    """
    for step in execution.steps():
        planned = _planned(execution, step.name)
        if isinstance(planned.job, ProcessingJob) and planned.job.name == name:
            result = step.result
            response = describe(
                planned.job,
                status=_JOB_STATUS[execution.step_status(step)],  # type: ignore[arg-type]
                exit_message=result.exit_message if result else None,
                failure_reason=result.failure_reason if result else None,
            )
            response.pop("Tags", None)  # in the request, not in the response
            times = {
                "CreationTime": step.started,
                "ProcessingStartTime": step.started,
                "ProcessingEndTime": step.ended,
                "LastModifiedTime": step.ended or step.started,
            }
            return response | present(times)
    return None


def parameter_response(name: str, value: ParameterValue) -> dict[str, str]:
    """A Parameter of an execution; every value is text there."""
    return {"Name": name, "Value": value_text(value)}


def not_found(kind: str, arn: str) -> ServiceError:
    """The error for something that there is not."""
    return ServiceError("ResourceNotFound", f"{kind} '{arn}' does not exist.")


def in_order(items: list[Response], parameters: Parameters, default: str) -> list[Response]:
    """The items, which are in the order in which they were made, in the order that is asked for."""
    names = {"Name": "PipelineName", "PipelineExecutionArn": "PipelineExecutionArn"}
    member = names.get(parameters.get("SortBy", ""))
    if member:
        items = sorted(items, key=lambda item: str(item[member]))
    return items[::-1] if parameters.get("SortOrder", default) == "Descending" else items


def page(member: str, items: list[Response], parameters: Parameters) -> Response:
    """One page of a list. A NextToken is the index of the next page's first item."""
    begin = int(parameters.get("NextToken", 0))
    end = begin + parameters.get("MaxResults", 100)
    return {member: items[begin:end], **({"NextToken": str(end)} if end < len(items) else {})}
