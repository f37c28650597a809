"""The pipelines of a session: created, updated, described and deleted as the SageMaker API does. Kept in memory.

Reads local S3, for definitions that the SDK finds too long to send.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from local_runner.compile.boto import ServiceError
from local_runner.notebook.responses import Parameters, Response, in_order, not_found, page, present
from local_runner.sagemaker_api.arns import arn
from local_runner.storage.local_s3 import DataError, Storage


@dataclass
class Pipeline:
    """A pipeline as it was last created or updated. ``request`` is that call's."""

    name: str
    region: str
    definition: str
    request: Parameters
    created: datetime
    modified: datetime
    last_run: datetime | None = None
    tags: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def arn(self) -> str:
        return arn(self.region, "pipeline", self.name)


class Pipelines:
    """The pipelines by name. Each public method but ``named`` is an operation of the API."""

    def __init__(self, storage: Storage, settle: Callable[[str], str], region: str) -> None:
        """``settle`` puts into a definition where the files that the SDK uploaded are; ``region`` is that of ARNs."""
        self._region = region
        self._storage = storage
        self._settle = settle
        self._pipelines: dict[str, Pipeline] = {}

    def create(self, parameters: Parameters) -> Response:
        """CreatePipeline. Raises ServiceError for a name that is taken."""
        name = parameters["PipelineName"]
        if name in self._pipelines:
            raise ServiceError(
                "ValidationException",
                "Pipeline names must be unique within an AWS account and region. "
                f"Pipeline with name ({name}) already exists.",
            )
        now = datetime.now(UTC)
        pipeline = Pipeline(name, self._region, self._definition(parameters), parameters, now, now)
        pipeline.tags = {tag["Key"]: tag["Value"] for tag in parameters.get("Tags", [])}
        self._pipelines[name] = pipeline
        return {"PipelineArn": pipeline.arn}

    def update(self, parameters: Parameters) -> Response:
        """UpdatePipeline."""
        pipeline = self.named(parameters["PipelineName"])
        definition = self._definition(parameters) if _has_definition(parameters) else pipeline.definition
        request = {**pipeline.request, **parameters}
        self._pipelines[pipeline.name] = replace(
            pipeline, definition=definition, request=request, modified=datetime.now(UTC)
        )
        return {"PipelineArn": pipeline.arn}

    def describe(self, parameters: Parameters) -> Response:
        """DescribePipeline."""
        pipeline = self.named(parameters["PipelineName"])
        return present(
            {
                "PipelineArn": pipeline.arn,
                "PipelineName": pipeline.name,
                "PipelineDisplayName": pipeline.request.get("PipelineDisplayName"),
                "PipelineDefinition": pipeline.definition,
                "PipelineDescription": pipeline.request.get("PipelineDescription"),
                "RoleArn": pipeline.request["RoleArn"],
                "PipelineStatus": "Active",
                "CreationTime": pipeline.created,
                "LastModifiedTime": pipeline.modified,
                "LastRunTime": pipeline.last_run,
                "ParallelismConfiguration": pipeline.request.get("ParallelismConfiguration"),
            }
        )

    def delete(self, parameters: Parameters) -> Response:
        """DeletePipeline. Its executions stay."""
        pipeline = self.named(parameters["PipelineName"])
        del self._pipelines[pipeline.name]
        return {"PipelineArn": pipeline.arn}

    def list_all(self, parameters: Parameters) -> Response:
        """ListPipelines."""
        prefix = parameters.get("PipelineNamePrefix", "")
        found = [pipeline for name, pipeline in self._pipelines.items() if name.startswith(prefix)]
        summaries = [
            present(
                {
                    "PipelineArn": pipeline.arn,
                    "PipelineName": pipeline.name,
                    "PipelineDescription": pipeline.request.get("PipelineDescription"),
                    "RoleArn": pipeline.request["RoleArn"],
                    "CreationTime": pipeline.created,
                    "LastModifiedTime": pipeline.modified,
                    "LastExecutionTime": pipeline.last_run,
                }
            )
            for pipeline in found
        ]
        return page("PipelineSummaries", in_order(summaries, parameters, "Descending"), parameters)

    def list_tags(self, parameters: Parameters) -> Response:
        """ListTags."""
        tags = self._by_arn(parameters["ResourceArn"]).tags
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def add_tags(self, parameters: Parameters) -> Response:
        """AddTags."""
        pipeline = self._by_arn(parameters["ResourceArn"])
        pipeline.tags |= {tag["Key"]: tag["Value"] for tag in parameters["Tags"]}
        return self.list_tags(parameters)

    def named(self, name: str) -> Pipeline:
        """The pipeline of that name or ARN, which the API takes in its place."""
        return self._pipelines[name] if name in self._pipelines else self._by_arn(name)

    def _by_arn(self, named: str) -> Pipeline:
        for pipeline in self._pipelines.values():
            if pipeline.arn == named:
                return pipeline
        raise not_found("Pipeline", named if named.startswith("arn:") else arn(self._region, "pipeline", named))

    def _definition(self, parameters: Parameters) -> str:
        if "PipelineDefinition" in parameters:
            return self._settle(parameters["PipelineDefinition"])
        location = parameters.get("PipelineDefinitionS3Location")
        if not location:
            raise ServiceError("ValidationException", "A pipeline needs its PipelineDefinition.")
        try:
            return self._settle(self._storage.read(f"s3://{location['Bucket']}/{location['ObjectKey']}").decode())
        except DataError as error:
            raise ServiceError("ValidationException", str(error)) from None
        except UnicodeDecodeError:
            raise ServiceError("ValidationException", "The pipeline definition is not UTF-8 text.") from None


def _has_definition(parameters: Parameters) -> bool:
    return "PipelineDefinition" in parameters or "PipelineDefinitionS3Location" in parameters
