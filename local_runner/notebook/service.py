"""SageMaker's pipeline operations on this machine, kept in memory. Executions run through
``local_runner.run.pipeline``.

``answer`` takes an operation and its parameters as boto3 has them and gives the response that the API would give, or
raises ServiceError with the API's error code. What is wrong with a pipeline is raised as ever, as
InvalidPipelineError: the service has no such list to give.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from local_runner.compile.boto import ServiceError
from local_runner.engines import Engine
from local_runner.events import Listener
from local_runner.models import Execution
from local_runner.notebook.execution import LocalExecution
from local_runner.notebook.pipelines import Pipeline, Pipelines
from local_runner.notebook.responses import (
    Parameters,
    Response,
    in_order,
    not_found,
    page,
    parameter_response,
    present,
    processing_job_response,
    step_response,
)
from local_runner.project import Project
from local_runner.run.definition import from_text
from local_runner.run.pipeline import run_planned
from local_runner.run.planned import plan_run
from local_runner.run.request import RunRequest
from local_runner.sagemaker_api.limits import request_problems
from local_runner.storage.local_s3 import Storage

_CHECKED = frozenset({"CreatePipeline", "UpdatePipeline", "StartPipelineExecution"})


@dataclass(frozen=True)
class Where:
    """Where executions run and who shows them. ``request`` is what all of them have in common."""

    project: Project
    storage: Storage
    request: RunRequest
    engine: Engine | None
    listener: Callable[[], Listener]


@dataclass(frozen=True)
class _Started:
    """An execution with the pipeline as it was when it was started, and the call that did that."""

    arn: str
    pipeline: Pipeline
    request: Parameters
    local: LocalExecution


class PipelineService:
    """The pipelines and executions of one session."""

    def __init__(self, where: Where, settle: Callable[[str], str]) -> None:
        """``settle`` puts into a definition where the files that the SDK uploaded are."""
        self._where = where
        self._pipelines = pipelines = Pipelines(where.storage, settle, where.project.settings.local.region)
        self._executions: dict[str, _Started] = {}
        self._operations: dict[str, Callable[[Parameters], Response]] = {
            "CreatePipeline": pipelines.create,
            "UpdatePipeline": pipelines.update,
            "DescribePipeline": pipelines.describe,
            "DeletePipeline": pipelines.delete,
            "ListPipelines": pipelines.list_all,
            "ListTags": pipelines.list_tags,
            "AddTags": pipelines.add_tags,
            "StartPipelineExecution": self._start,
            "StopPipelineExecution": self._stop,
            "DescribePipelineExecution": self._describe_execution,
            "DescribePipelineDefinitionForExecution": self._describe_definition,
            "ListPipelineExecutions": self._list_executions,
            "ListPipelineExecutionSteps": self._list_steps,
            "ListPipelineParametersForExecution": self._list_parameters,
            "DescribeProcessingJob": self._describe_job,
        }

    def answer(self, operation: str, parameters: Parameters) -> Response | None:
        """The response to a call, or None for an operation that there is not on this machine."""
        if operation in _CHECKED:
            cache_dir = self._where.project.state / "cache"
            problems = request_problems(parameters, f"{operation}Request", operation, cache_dir)
            if problems:
                raise ServiceError("ValidationException", " ".join(map(str, problems)))
        handle = self._operations.get(operation)
        return handle(parameters) if handle else None

    def execution(self, arn: str) -> LocalExecution:
        """The execution of that ARN. Raises ServiceError (ResourceNotFound)."""
        return self._execution(arn).local

    def _start(self, parameters: Parameters) -> Response:
        pipeline = self._pipelines.named(parameters["PipelineName"])
        where = self._where
        request = self._request(pipeline, parameters)
        shown = where.listener()
        project = replace(where.project, note=shown.note)
        planned = plan_run(project, request, from_text(pipeline.name, pipeline.definition))

        def run(listener: Listener, stop: threading.Event) -> Execution:
            return run_planned(project, planned, listener, where.engine, stop)

        local = LocalExecution(planned.plan, shown, run)
        arn = f"{pipeline.arn}/execution/{planned.plan.execution_id}"
        local.begin()
        self._executions[arn] = _Started(arn, pipeline, parameters, local)
        pipeline.last_run = local.created
        return {"PipelineExecutionArn": arn}

    def _request(self, pipeline: Pipeline, parameters: Parameters) -> RunRequest:
        """What all executions have in common, with what this one is started with."""
        common = self._where.request
        parallelism = parameters.get("ParallelismConfiguration") or pipeline.request.get("ParallelismConfiguration")
        selective = parameters.get("SelectiveExecutionConfig", {})
        selected = [step["StepName"] for step in selective.get("SelectedSteps", [])]
        data = dict(common.data)
        if source := selective.get("SourcePipelineExecutionArn"):
            data |= self._outputs(self._execution(source).local, selected)
        return replace(
            common,
            target=pipeline.name,
            parameters={item["Name"]: item["Value"] for item in parameters.get("PipelineParameters", [])},
            data=data,
            steps=selected,
            max_parallel=parallelism["MaxParallelExecutionSteps"] if parallelism else common.max_parallel,
        )

    @staticmethod
    def _outputs(source: LocalExecution, selected: Sequence[str]) -> dict[str, Path]:
        """What an earlier execution left of the steps that are not run again, by ``Step.OutputName``."""
        ended = [step.result for step in source.steps() if step.result and step.name not in selected]
        return {f"{step.name}.{name}": path for step in ended for name, path in step.outputs.items()}

    def _stop(self, parameters: Parameters) -> Response:
        started = self._execution(parameters["PipelineExecutionArn"])
        status = started.local.status
        if status not in ("Executing", "Stopping"):
            raise ServiceError(
                "ValidationException",
                f"Pipeline execution with ARN {started.arn} is {status}. Only one that is Executing can be stopped.",
            )
        started.local.stop()
        return {"PipelineExecutionArn": started.arn}

    def _describe_execution(self, parameters: Parameters) -> Response:
        started = self._execution(parameters["PipelineExecutionArn"])
        local, request = started.local, started.request
        return present(
            {
                "PipelineArn": started.pipeline.arn,
                "PipelineExecutionArn": started.arn,
                "PipelineExecutionDisplayName": _display_name(started),
                "PipelineExecutionStatus": local.status,
                "PipelineExecutionDescription": request.get("PipelineExecutionDescription"),
                "FailureReason": local.failure_reason,
                "CreationTime": local.created,
                "LastModifiedTime": local.modified,
                "ParallelismConfiguration": request.get("ParallelismConfiguration"),
                "SelectiveExecutionConfig": request.get("SelectiveExecutionConfig"),
            }
        )

    def _describe_definition(self, parameters: Parameters) -> Response:
        started = self._execution(parameters["PipelineExecutionArn"])
        return {"PipelineDefinition": started.pipeline.definition, "CreationTime": started.pipeline.modified}

    def _list_executions(self, parameters: Parameters) -> Response:
        pipeline = self._pipelines.named(parameters["PipelineName"])
        summaries = [
            present(
                {
                    "PipelineExecutionArn": started.arn,
                    "StartTime": started.local.created,
                    "PipelineExecutionStatus": started.local.status,
                    "PipelineExecutionDescription": started.request.get("PipelineExecutionDescription"),
                    "PipelineExecutionDisplayName": _display_name(started),
                    "PipelineExecutionFailureReason": started.local.failure_reason,
                }
            )
            for started in self._executions.values()
            if started.pipeline.arn == pipeline.arn
        ]
        return page("PipelineExecutionSummaries", in_order(summaries, parameters, "Descending"), parameters)

    def _list_steps(self, parameters: Parameters) -> Response:
        local = self._execution(parameters["PipelineExecutionArn"]).local
        steps = [step_response(local, step) for step in local.steps()]
        return page("PipelineExecutionSteps", in_order(steps, parameters, "Descending"), parameters)

    def _list_parameters(self, parameters: Parameters) -> Response:
        plan = self._execution(parameters["PipelineExecutionArn"]).local.plan
        values = [parameter_response(name, value) for name, value in plan.parameters.items()]
        return page("PipelineParameters", values, parameters)

    def _describe_job(self, parameters: Parameters) -> Response:
        name = parameters["ProcessingJobName"]
        for started in self._executions.values():
            # Names in an ARN are in lower case, and an ARN is where a notebook has the name from.
            for planned in started.local.plan.steps:
                if planned.job and planned.job.name.lower() == name.lower():
                    response = processing_job_response(started.local, planned.job.name)
                    if response:
                        return response
        raise ServiceError("ValidationException", f"Could not find requested job with name: {name}")

    def _execution(self, arn: str) -> _Started:
        if arn not in self._executions:
            raise not_found("Pipeline execution", arn)
        return self._executions[arn]


def _display_name(started: _Started) -> str:
    return started.request.get("PipelineExecutionDisplayName") or f"execution-{started.local.plan.execution_id}"
