"""Requests to jobs, what a local run does not take, and the Describe responses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.definitions import processing_request, s3_input, s3_output

from local_runner.definition.paths import Deferred, follow, parse_path
from local_runner.models import ProcessingInput, ProcessingJob, ProcessingOutput
from local_runner.sagemaker_api.job_types import JOB_KINDS
from local_runner.sagemaker_api.processing import describe, ignored_kinds, job_name, processing_job
from local_runner.storage.s3_uri import s3_problem


def sample() -> dict[str, Any]:
    return processing_request(
        [s3_input("raw", "s3://b/raw", S3DataDistributionType="ShardedByS3Key")],
        [s3_output("out", "s3://b/out")],
    )


def test_a_request_becomes_a_job() -> None:
    job, problems = processing_job(sample(), "name", "R")
    assert problems == []
    assert job is not None
    assert job.image_uri == "local/processing"
    assert job.entrypoint == ("python3", "run.py")
    assert job.arguments is None
    assert job.inputs == (
        ProcessingInput("raw", "s3://b/raw", "/opt/ml/processing/in/raw", distribution="ShardedByS3Key"),
    )
    assert job.outputs == (ProcessingOutput("out", "s3://b/out", "/opt/ml/processing/out/out"),)
    assert (job.instance_count, job.max_runtime, job.network_isolation) == (1, 86_400, False)
    assert job.request == {**sample(), "ProcessingJobName": "name"}


def test_what_a_request_may_say_is_kept() -> None:
    said = sample()
    said["AppSpecification"]["ContainerArguments"] = ["--x", "1"]
    said["ProcessingInputs"][0]["S3Input"].update(S3DataType="ManifestFile", LocalPath="/opt/ml/processing/in/")
    more = {"Environment": {"A": "b"}, "StoppingCondition": {"MaxRuntimeInSeconds": 60}}
    job, _ = processing_job({**said, **more, "NetworkConfig": {"EnableNetworkIsolation": True}}, "name", "R")
    assert job is not None
    assert (job.arguments, job.environment) == (("--x", "1"), {"A": "b"})
    assert (job.max_runtime, job.network_isolation) == (60, True)
    assert (job.inputs[0].s3_data_type, job.inputs[0].local_path) == ("ManifestFile", "/opt/ml/processing/in")


def the_input(**change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda r: r["ProcessingInputs"][0].update(change)


def s3_of_input(**change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda r: r["ProcessingInputs"][0]["S3Input"].update(change)


def the_output(**change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda r: r["ProcessingOutputConfig"]["Outputs"][0].update(change)


def s3_of_output(**change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda r: r["ProcessingOutputConfig"]["Outputs"][0]["S3Output"].update(change)


CLUSTER = "R.ProcessingResources.ClusterConfig"


@pytest.mark.parametrize(
    ("spoil", "where", "says"),
    [
        (the_input(DatasetDefinition={}), "R.ProcessingInputs[0].DatasetDefinition", "Athena"),
        (lambda r: r["ProcessingInputs"][0].pop("S3Input"), "R.ProcessingInputs[0]", "S3Input is missing"),
        (s3_of_input(S3CompressionType="Gzip"), "R.ProcessingInputs[0].S3Input.S3CompressionType", "Use Pipe"),
        (s3_of_input(S3Uri="https://b/raw"), "R.ProcessingInputs[0].S3Input.S3Uri", "no s3:// URI"),
        (s3_of_input(S3Uri="s3://b/../etc"), "R.ProcessingInputs[0].S3Input.S3Uri", "'..'"),
        (s3_of_input(LocalPath="/opt/ml/processing"), "R.ProcessingInputs[0].S3Input.LocalPath", "no directory"),
        (s3_of_input(LocalPath="/opt/ml/input"), "R.ProcessingInputs[0].S3Input.LocalPath", "no directory"),
        (s3_of_input(LocalPath="/opt/ml/processing/../x"), "R.ProcessingInputs[0].S3Input.LocalPath", "no directory"),
        (s3_of_output(LocalPath="/opt/ml/processing/in/raw/"), "R.ProcessingOutputConfig.Outputs[0]", "already"),
        (the_output(FeatureStoreOutput={}), "R.ProcessingOutputConfig.Outputs[0].FeatureStoreOutput", "yet"),
        (s3_of_output(S3Uri="s3://b//x"), "R.ProcessingOutputConfig.Outputs[0].S3Output.S3Uri", "empty or dotted"),
        (
            lambda r: r["ProcessingInputs"].append(s3_input("raw", "s3://b/x", LocalPath="/opt/ml/processing/x")),
            "R.ProcessingInputs[1].InputName",
            "'raw' is already at R.ProcessingInputs[0]",
        ),
        (lambda r: r["ProcessingResources"]["ClusterConfig"].pop("InstanceType"), CLUSTER, "InstanceType is missing"),
        (
            lambda r: r["ProcessingResources"]["ClusterConfig"].update(InstancePreferences=[]),
            f"{CLUSTER}.InstancePreferences",
            "yet",
        ),
    ],
)
def test_what_a_local_run_does_not_take_is_found(spoil: Callable[[dict[str, Any]], Any], where: str, says: str) -> None:
    spoiled = sample()
    spoil(spoiled)
    job, problems = processing_job(spoiled, "name", "R")
    assert job is None
    (problem,) = problems
    assert problem.where.startswith(where)
    assert says in str(problem)


def test_a_request_with_deferred_parts_is_no_job_yet_and_no_problem() -> None:
    later = sample()
    later["AppSpecification"]["ContainerArguments"] = [Deferred("later")]
    assert processing_job(later, "name", "R") == (None, [])


@pytest.mark.parametrize("uri", ["s3://b", "s3://b/", "s3://b/k", "s3://b/k/", "s3://b.c/dt=2013-01-01/x y.csv"])
def test_uris_that_a_directory_tree_holds(uri: str) -> None:
    assert s3_problem(uri) is None


@pytest.mark.parametrize(
    "uri", ["", "s3:/b", "s3://", "s3:///k", "s3://../k", "s3://b/.", "s3://b/k//", "s3://b/" + "k" * 256]
)
def test_uris_that_it_does_not_hold(uri: str) -> None:
    assert s3_problem(uri) is not None


KEYS = st.sampled_from(
    ["ProcessingInputs", "ProcessingOutputConfig", "Outputs", "S3Input", "S3Uri", "LocalPath", "ProcessingResources",
     "ClusterConfig", "InstanceCount", "AppSpecification", "ImageUri", "ContainerArguments", "Environment"]
)  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, ANYTHING))
def test_requests_of_any_shape_do_not_break_it(shape: dict[str, Any]) -> None:
    job, problems = processing_job({**sample(), **shape}, "name", "R")
    assert job is None or not problems


# --------------------------------------------------------------------------------------------------------- names
def test_job_names_are_as_the_service_forms_them() -> None:
    name = job_name("abcdefghijkl", "Validate")
    assert re.fullmatch(r"pipelines-abcdefghijkl-Validate-[0-9a-f]{10}", name)
    assert name == job_name("abcdefghijkl", "Validate") != job_name("abcdefghijkl", "Validat")


@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_every_step_name_gives_a_job_name_that_the_service_takes(step: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", job_name("abcdefghijkl", step))


def test_describe_shows_the_request_and_how_it_went() -> None:
    job, _ = JOB_KINDS["Processing"].job(sample(), "Name", "R", "eu-west-1")
    assert isinstance(job, ProcessingJob)
    shown = describe(job, status="Completed", exit_message="fine", ended="2026-01-01T00:00:00Z")
    assert shown["ProcessingJobArn"] == "arn:aws:sagemaker:eu-west-1:000000000000:processing-job/name"
    assert (shown["ProcessingJobStatus"], shown["ExitMessage"]) == ("Completed", "fine")
    assert "FailureReason" not in shown
    uri = parse_path("ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri")
    assert follow(shown, uri) == "s3://b/out"
    unrun = JOB_KINDS["Processing"].describe_unrun(sample(), "it has not run")
    assert follow(unrun, uri) == "s3://b/out"
    assert isinstance(follow(unrun, parse_path("ExitMessage")), Deferred)


def test_what_has_meaning_in_the_cloud_only_is_named() -> None:
    vpc = {"VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}
    assert ignored_kinds({**sample(), "NetworkConfig": vpc}) == ["VpcConfig"]
    assert ignored_kinds(sample()) == []
