"""What stock local mode is given, and what it is known to refuse or ignore."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.jobs import processing_job

from local_runner.engines.sdk.request import ignored, refused, stock_request
from local_runner.models import ProcessingInput, ProcessingJob, ProcessingOutput

JOB = processing_job(
    "python3",
    "run.py",
    arguments=("--date", "2013-01-01"),
    environment={"MODE": "daily"},
    inputs=(ProcessingInput("raw", "s3://b/in", "/opt/ml/processing/raw"),),
    outputs=(ProcessingOutput("out", "s3://b/out", "/opt/ml/processing/out"),),
    request={"RoleArn": "arn:aws:iam::000000000000:role/x"},
)


def with_request(**request: Any) -> ProcessingJob:
    return replace(JOB, request={**JOB.request, **request})


def test_the_request_is_whole() -> None:
    request = stock_request(with_request(ProcessingInputs=[{"InputName": "raw", "S3Input": {"S3InputMode": "File"}}]))
    assert request["AppSpecification"] == {
        "ImageUri": "local/processing",
        "ContainerEntrypoint": ["python3", "run.py"],
        "ContainerArguments": ["--date", "2013-01-01"],
    }
    assert request["ProcessingInputs"][0]["S3Input"] == {
        "S3InputMode": "File",
        "S3Uri": "s3://b/in",
        "LocalPath": "/opt/ml/processing/raw",
        "S3DataType": "S3Prefix",
        "S3DataDistributionType": "FullyReplicated",
    }
    assert request["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3UploadMode"] == "EndOfJob"
    assert request["RoleArn"] == JOB.request["RoleArn"]


def test_an_ordinary_job_is_neither_refused_nor_changed() -> None:
    assert refused("Steps[0]", JOB) == []
    assert ignored("Steps[0]", JOB) == []


def test_sharding_is_refused_and_docker_named() -> None:
    sharded = replace(JOB, inputs=(replace(JOB.inputs[0], distribution="ShardedByS3Key"),))
    (problem,) = refused("Steps[2]", sharded)
    assert problem.where == "Steps[2].Arguments.ProcessingInputs[0].S3Input.S3DataDistributionType"
    assert "refuses S3DataDistributionType ShardedByS3Key, on one instance too" in problem.what
    assert "--engine docker" in problem.remedy


@pytest.mark.parametrize(
    ("job", "where"),
    [
        (
            with_request(ProcessingInputs=[{"InputName": "raw", "S3Input": {"S3InputMode": "Pipe"}}]),
            "ProcessingInputs[0].S3Input.S3InputMode",
        ),
        (
            with_request(ProcessingInputs=[{"InputName": "raw", "S3Input": {"S3CompressionType": "Gzip"}}]),
            "ProcessingInputs[0].S3Input.S3CompressionType",
        ),
        (
            with_request(
                ProcessingOutputConfig={"Outputs": [{"OutputName": "out", "S3Output": {"S3UploadMode": "Continuous"}}]}
            ),
            "ProcessingOutputConfig.Outputs[0].S3Output.S3UploadMode",
        ),
        (with_request(ProcessingInputs=[{"InputName": "own", "AppManaged": True}]), "ProcessingInputs[0].AppManaged"),
        (replace(JOB, entrypoint=None), "AppSpecification"),
        (replace(JOB, arguments=("50$",)), "AppSpecification.ContainerArguments[0]"),
        (replace(JOB, environment={"PRICE": "$5"}), "Environment.PRICE"),
    ],
)
def test_refused(job: ProcessingJob, where: str) -> None:
    assert [problem.where for problem in refused("Steps[0]", job)] == [f"Steps[0].Arguments.{where}"]


@pytest.mark.parametrize(
    ("job", "where"),
    [
        (replace(JOB, network_isolation=True), "NetworkConfig"),
        (with_request(StoppingCondition={"MaxRuntimeInSeconds": 60}), "StoppingCondition"),
        (with_request(ExperimentConfig={"TrialName": "t"}), "ExperimentConfig"),
        (
            replace(JOB, inputs=(replace(JOB.inputs[0], s3_data_type="ManifestFile"),)),
            "ProcessingInputs[0].S3Input.S3DataType",
        ),
        (replace(JOB, instance_count=2), "ProcessingResources.ClusterConfig.InstanceCount"),
        (replace(JOB, arguments=("$HOME",)), "AppSpecification.ContainerArguments[0]"),
        (replace(JOB, arguments=("a$$b",)), "AppSpecification.ContainerArguments[0]"),
        (replace(JOB, environment={"WHERE": "${HOME:-none}"}), "Environment.WHERE"),
    ],
)
def test_ignored(job: ProcessingJob, where: str) -> None:
    assert refused("Steps[0]", job) == []
    assert [difference.where for difference in ignored("Steps[0]", job)] == [f"Steps[0].Arguments.{where}"]
