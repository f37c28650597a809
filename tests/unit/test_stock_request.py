"""Requests of Training, Transform and Model steps to jobs, what is refused of them, and the Describe responses."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runner.definition.paths import Deferred, follow, parse_path
from local_runner.models import StockInput
from local_runner.sagemaker_api import stock as stock_request
from local_runner.sagemaker_api.job_types import JOB_KINDS
from local_runner.sagemaker_api.stock import artifacts, describe_stock, model_elsewhere

S3 = {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in"}
REQUESTS: dict[str, dict[str, Any]] = {
    "Training": {
        "AlgorithmSpecification": {"TrainingImage": "models", "TrainingInputMode": "File"},
        "HyperParameters": {"factor": "3"},
        "InputDataConfig": [{"ChannelName": "numbers", "DataSource": {"S3DataSource": S3}}],
        "OutputDataConfig": {"S3OutputPath": "s3://b/models/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    },
    "Transform": {
        "ModelName": "m",
        "TransformInput": {"DataSource": {"S3DataSource": S3}, "SplitType": "Line"},
        "TransformOutput": {"S3OutputPath": "s3://b/out"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    },
    "Model": {"PrimaryContainer": {"Image": "models", "ModelDataUrl": "s3://b/m/model.tar.gz", "Environment": {}}},
}
KINDS = sorted(REQUESTS)
Spoil = Callable[[dict[str, Any]], Any]


def parse(kind: str, request: dict[str, Any]) -> tuple[Any, list[Any]]:
    return JOB_KINDS[kind].job(request, "name", "R", "us-east-1")


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "hosts"),
    [
        ("Training", (StockInput("numbers", "s3://b/in", "S3Prefix"),), "s3://b/models", ("algo-1", "algo-2")),
        ("Transform", (StockInput("data", "s3://b/in", "S3Prefix"),), "s3://b/out", ("algo-1",)),
        ("Model", (StockInput("model", "s3://b/m/model.tar.gz", "Object"),), "", ("algo-1",)),
    ],
)
def test_a_request_becomes_a_job(kind: str, inputs: Any, output: str, hosts: Any) -> None:
    job, problems = parse(kind, REQUESTS[kind])
    assert problems == []
    assert (job.kind, job.name, job.inputs, job.output_uri, tuple(job.hosts)) == (kind, "name", inputs, output, hosts)
    named = {"Model": "ModelName"}.get(kind, f"{kind}JobName")
    assert job.request == {**REQUESTS[kind], named: "name"}


def within(*path: str | int, **change: Any) -> Spoil:
    def spoil(request: dict[str, Any]) -> None:
        part: Any = request
        for key in path:
            part = part[key]
        part.update(change)

    return spoil


CHANNEL = ("InputDataConfig", 0)
SOURCE = (*CHANNEL, "DataSource", "S3DataSource")


@pytest.mark.parametrize(
    ("kind", "spoil", "where"),
    [
        ("Training", within("ResourceConfig", InstanceGroups=[{}]), "ResourceConfig.InstanceGroups"),
        ("Training", within("ResourceConfig", TrainingPlanArn="a"), "ResourceConfig.TrainingPlanArn"),
        ("Training", within("ResourceConfig", InstanceType=None), "ResourceConfig"),
        ("Training", within("AlgorithmSpecification", AlgorithmName="a"), "AlgorithmSpecification.AlgorithmName"),
        ("Training", within("AlgorithmSpecification", TrainingImage=None), "AlgorithmSpecification"),
        ("Training", within("AlgorithmSpecification", TrainingInputMode="Pipe"), "AlgorithmSpecification.TrainingInp"),
        ("Training", within("AlgorithmSpecification", ContainerArguments=["a"]), "AlgorithmSpecification.ContainerArg"),
        (
            "Training",
            within("AlgorithmSpecification", ContainerEntrypoint=["echo", "$HOME"]),
            "AlgorithmSpecification.ContainerEntrypoint[1]",
        ),
        ("Training", within(Environment={"A": "$B"}), "Environment.A"),
        ("Training", within(*CHANNEL, InputMode="Pipe"), "InputDataConfig[0].InputMode"),
        ("Training", within(*CHANNEL, CompressionType="Gzip"), "InputDataConfig[0].CompressionType"),
        ("Training", within(*CHANNEL, RecordWrapperType="RecordIO"), "InputDataConfig[0].RecordWrapperType"),
        ("Training", within(*CHANNEL, DataSource={"FileSystemDataSource": {}}), "InputDataConfig[0].DataSource.File"),
        ("Training", within(*SOURCE, S3DataDistributionType="ShardedByS3Key"), "InputDataConfig[0].DataSource.S3Data"),
        ("Training", within(*SOURCE, S3DataType="AugmentedManifestFile"), "InputDataConfig[0].DataSource.S3Data"),
        ("Training", within(*SOURCE, S3Uri="s3://b/a//b"), "InputDataConfig[0].DataSource.S3DataSource.S3Uri"),
        ("Training", within("OutputDataConfig", CompressionType="NONE"), "OutputDataConfig.CompressionType"),
        ("Training", within("OutputDataConfig", S3OutputPath="file:///x"), "OutputDataConfig.S3OutputPath"),
        ("Transform", within("TransformInput", CompressionType="Gzip"), "TransformInput.CompressionType"),
        ("Transform", within("TransformInput", SplitType="RecordIO"), "TransformInput.SplitType"),
        ("Transform", within(DataProcessing={"InputFilter": "$[1:]"}), "DataProcessing.InputFilter"),
        ("Transform", within(DataProcessing={"JoinSource": "Input"}), "DataProcessing.JoinSource"),
        ("Transform", within(Environment={"A": "$"}), "Environment.A"),
        ("Model", within(Containers=[{}, {}]), "Containers"),
        ("Model", within(PrimaryContainer=None), ""),
        ("Model", within("PrimaryContainer", Image=None), "PrimaryContainer"),
        ("Model", within("PrimaryContainer", ModelDataSource={}), "PrimaryContainer.ModelDataSource"),
        ("Model", within("PrimaryContainer", Mode="MultiModel"), "PrimaryContainer.Mode"),
        ("Model", within("PrimaryContainer", ModelDataUrl="https://x"), "PrimaryContainer.ModelDataUrl"),
    ],
)
def test_what_stock_local_mode_lacks_is_refused_by_name(kind: str, spoil: Spoil, where: str) -> None:
    request = deepcopy(REQUESTS[kind])
    spoil(request)
    job, problems = parse(kind, request)
    assert job is None
    (problem,) = problems
    assert problem.where.startswith(f"R.{where}" if where else "R")
    assert problem.remedy


def test_what_says_the_same_as_nothing_is_no_fault() -> None:
    training, transform = deepcopy(REQUESTS["Training"]), deepcopy(REQUESTS["Transform"])
    training["InputDataConfig"][0].update(CompressionType="None", RecordWrapperType="None", InputMode="FastFile")
    transform["DataProcessing"] = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    assert [parse("Training", training)[1], parse("Transform", transform)[1]] == [[], []]
    one = deepcopy(REQUESTS["Training"])
    one["ResourceConfig"]["InstanceCount"] = 1
    one["InputDataConfig"][0]["DataSource"]["S3DataSource"] = {**S3, "S3DataDistributionType": "ShardedByS3Key"}
    assert parse("Training", one)[1] == []


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_parts_of_any_shape_are_no_trouble(kind: str, data: st.DataObject) -> None:
    """Whatever stands anywhere in a request: a job or none, and never an exception; limits tells of wrong shapes."""
    anything = st.sampled_from([None, "", "s3://b/k", 1, True, [], {}, [{}], {"a": []}, Deferred("later")])

    def spoiled(value: Any) -> Any:
        if data.draw(st.integers(0, 5)) == 0:
            return data.draw(anything)
        if isinstance(value, dict):
            return {key: spoiled(part) for key, part in value.items()}
        return [spoiled(part) for part in value] if isinstance(value, list) else value

    request = {key: spoiled(part) for key, part in REQUESTS[kind].items()}
    of = JOB_KINDS[kind]
    job, problems = of.parse(request, "name", "R")
    assert job is None or not problems
    assert all(uri.startswith("s3://") for _, uri in of.reads(request))
    assert all(uri.startswith("s3://") for uri in of.writes(request))
    of.ignored(request)
    of.elsewhere(request, "R")


def test_what_each_reads_and_writes() -> None:
    known = {kind: (JOB_KINDS[kind].reads(of), JOB_KINDS[kind].writes(of)) for kind, of in REQUESTS.items()}
    path = "DataSource.S3DataSource.S3Uri"
    assert known == {
        "Training": ([(f"InputDataConfig[0].{path}", "s3://b/in")], ["s3://b/models/"]),
        "Transform": ([(f"TransformInput.{path}", "s3://b/in")], ["s3://b/out"]),
        "Model": ([("PrimaryContainer.ModelDataUrl", "s3://b/m/model.tar.gz")], []),
    }


def test_what_has_no_meaning_here_is_named() -> None:
    asked = {
        "EnableManagedSpotTraining": True,
        "EnableNetworkIsolation": False,
        "CheckpointConfig": {"S3Uri": "s3://b"},
    }
    assert stock_request.stock_ignored(asked) == ["spot training", "checkpoints"]
    assert stock_request.stock_ignored({"TransformResources": {"InstanceCount": 2}}) == [
        "more than one instance of a transform job"
    ]


def test_a_model_that_is_written_out_is_the_clouds() -> None:
    (problem,) = model_elsewhere({"ModelName": "theirs"}, "R")
    assert problem.where == "R.ModelName"
    assert model_elsewhere({"ModelName": Deferred("a Model step's")}, "R") == []


@pytest.mark.parametrize("kind", KINDS)
def test_describe_has_what_is_later_before_the_run_and_known_after_it(kind: str) -> None:
    job, _ = parse(kind, REQUESTS[kind])
    after = describe_stock(job, status="Failed", created="1", started="2", ended="3", failure_reason="no")
    before = JOB_KINDS[kind].describe_unrun(REQUESTS[kind], "it has not run")
    assert not isinstance(before, Deferred)
    assert {key for key, value in before.items() if isinstance(value, Deferred)} >= after.keys() - REQUESTS[kind].keys()
    arn = after["ModelArn" if kind == "Model" else f"{kind}JobArn"]
    assert arn.startswith("arn:aws:sagemaker:us-east-1:000000000000:")


def test_a_training_jobs_artifacts() -> None:
    job, _ = parse("Training", REQUESTS["Training"])
    assert artifacts(job) == "s3://b/models/name/output"
    shown = describe_stock(job, status="Completed", created="1", started="2", ended="3")
    assert follow(shown, parse_path("ModelArtifacts.S3ModelArtifacts")) == "s3://b/models/name/output/model.tar.gz"
    assert "FailureReason" not in shown
