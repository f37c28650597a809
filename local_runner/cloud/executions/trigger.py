"""Starts an execution of the promoted pipeline: its parameters are checked first. The one write is the start."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_runner.cloud.account.aws import Aws
from local_runner.definition.parser import inspect_definition
from local_runner.errors import InvalidPipelineError, Problem
from local_runner.models import PipelineDefinition
from local_runner.planning.parameters import parameter_values
from local_runner.planning.service import refused_by_values
from local_runner.secrets import Secrets


@dataclass(frozen=True)
class Started:
    """An execution that was started: its ARN, and the definition that it runs."""

    arn: str
    definition: PipelineDefinition

    @property
    def id(self) -> str:
        """The execution's id."""
        return self.arn.rpartition("/")[2]


def start(
    aws: Aws, pipeline: Mapping[str, Any], parameters: Mapping[str, str], secrets: Secrets, cache_dir: Path
) -> Started:
    """Start the pipeline as it is described, with these values over its defaults. ``cache_dir`` keeps the limits.

    The token makes repeating a call that was not answered safe: SageMaker starts one execution for it (API reference,
    StartPipelineExecution, ClientRequestToken). ``secrets`` are not shown. Raises InvalidPipelineError with every
    problem of the parameters, and AwsError.
    """
    name = str(pipeline["PipelineName"])
    definition = definition_of(pipeline)
    problems: list[Problem] = []
    secrets.learn_named(parameters)
    parameter_values(definition, parameters, {}, problems, settable="")
    problems += refused_by_values(definition, parameters, cache_dir)
    if problems:
        raise InvalidPipelineError(f"The start of '{name}'", secrets.masked_problems(problems))
    answer = aws.call(
        "sagemaker",
        "start_pipeline_execution",
        PipelineName=name,
        PipelineParameters=[{"Name": key, "Value": value} for key, value in parameters.items()],
        ClientRequestToken=uuid.uuid4().hex,
    )
    return Started(str(answer["PipelineExecutionArn"]), definition)


def stop(aws: Aws, arn: str) -> None:
    """Ask the account to stop an execution; its jobs are stopped, which takes a while. Raises AwsError."""
    aws.call("sagemaker", "stop_pipeline_execution", PipelineExecutionArn=arn, ClientRequestToken=uuid.uuid4().hex)


def definition_of(pipeline: Mapping[str, Any]) -> PipelineDefinition:
    """The definition of a pipeline as it is described, as far as it can be read: the account holds it, so it runs."""
    definition, _ = inspect_definition(str(pipeline["PipelineDefinition"]), str(pipeline["PipelineName"]))
    return definition
