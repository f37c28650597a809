"""What the service refuses beyond botocore's model: the table, and where it is applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from hypothesis import example, given
from hypothesis import strategies as st
from support.definitions import get, join, pipeline, processing, processing_request, s3_input, s3_output

from local_runner.definition.advice import advice
from local_runner.definition.parser import inspect_document
from local_runner.definition.paths import Deferred
from local_runner.execution.functions.outputs import declared_outputs
from local_runner.models import OutputParameter
from local_runner.planning.service import refused, refused_by_values
from local_runner.sagemaker_api.limits import request_problems
from local_runner.sagemaker_api.service_rules import PIPELINE_NAME, RULES, local_storage, pipeline_name_problems

SHAPES = Loader().load_service_model("sagemaker", "service-2")["shapes"]
CLUSTER = "R.ProcessingResources.ClusterConfig"


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def request(**members: Any) -> dict[str, Any]:
    return processing_request([s3_input("raw", "s3://b/raw")], [s3_output("out", "s3://b/out")], **members)


def cluster(**members: Any) -> dict[str, Any]:
    return {"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 30, **members}}


def test_each_rule_is_about_a_shape_of_the_api_and_has_a_source() -> None:
    assert RULES.keys() <= SHAPES.keys()
    assert all(rule.source for rules in RULES.values() for rule in rules)


@pytest.mark.parametrize(
    ("spoiled", "where", "says"),
    [
        (request(AppSpecification={"ImageUri": "i", "ContainerArguments": ["a", ""]}),
         "R.AppSpecification.ContainerArguments[1]", "empty text"),
        (request(AppSpecification={"ImageUri": "i", "ContainerEntrypoint": [""]}),
         "R.AppSpecification.ContainerEntrypoint[0]", "empty text"),
        (processing_request([s3_input("raw", "s3://b/raw", S3InputMode=None)]),
         "R.ProcessingInputs[0].S3Input.S3InputMode", "missing"),
        (processing_request([s3_input("raw", "s3://b/raw", LocalPath=None)]),
         "R.ProcessingInputs[0].S3Input.LocalPath", "missing"),
        (request(ProcessingResources=cluster(InstanceType="ml.g4dn.xlarge", VolumeKmsKeyId="k")),
         f"{CLUSTER}.VolumeKmsKeyId", "local storage"),
        (request(ProcessingResources=cluster(InstanceType="ml.r5d.large", VolumeSizeInGB=76)),
         f"{CLUSTER}.VolumeSizeInGB", "75"),
        (request(Tags=[{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]), "R.Tags[1].Key", "two 'a'"),
    ],
)  # fmt: skip
def test_what_the_service_refuses_is_found(spoiled: dict[str, Any], where: str, says: str, cache_dir: Path) -> None:
    (problem,) = request_problems(spoiled, "CreateProcessingJobRequest", "R", cache_dir)
    assert problem.where == where
    assert says in problem.what


@pytest.mark.parametrize(
    "taken",
    [
        request(ProcessingResources=cluster(InstanceType="ml.r5d.large", VolumeSizeInGB=75)),
        request(ProcessingResources=cluster(InstanceType=Deferred("later"), VolumeKmsKeyId="k")),
        request(AppSpecification={"ImageUri": "i", "ContainerArguments": [" ", Deferred("later")]}),
        processing_request([{**s3_input("raw", "s3://b/raw", S3InputMode=None, LocalPath=None), "AppManaged": True}]),
    ],
)
def test_what_is_not_known_or_not_moved_breaks_no_rule(taken: dict[str, Any], cache_dir: Path) -> None:
    assert request_problems(taken, "CreateProcessingJobRequest", "R", cache_dir) == []


@pytest.mark.parametrize(
    ("shape", "value", "says"),
    [
        ("StoppingCondition", {"MaxRuntimeInSeconds": 10, "MaxWaitTimeInSeconds": 9}, "at least"),
        ("ResourceConfig", {"InstanceType": "ml.p4d.24xlarge", "VolumeKmsKeyId": "k"}, "local storage"),
        ("Parameter", {"Name": "P", "Value": ""}, "empty value"),
    ],
)
def test_rules_hold_for_the_requests_of_other_calls(shape: str, value: Any, says: str, cache_dir: Path) -> None:
    (problem,) = request_problems(value, shape, "R", cache_dir)
    assert says in str(problem)


def test_types_have_the_local_storage_of_ec2() -> None:
    assert (local_storage("ml.g4dn.xlarge"), local_storage("ml.m5.large"), local_storage(Deferred(""))) == (
        125,
        None,
        None,
    )


# ------------------------------------------------------------------------------------------- values, as they are given
ARGUMENTS = [join(get("Parameters.P"), on="")]
DEFINITION = pipeline(
    processing("A", members={"AppSpecification": {"ContainerArguments": ARGUMENTS}}),
    parameters=[{"Name": "P", "Type": "String", "DefaultValue": "x"}],
)


def test_an_argument_that_values_make_empty_or_too_long_is_found_before_a_start(cache_dir: Path) -> None:
    definition, problems = inspect_document(DEFINITION, "flights")
    assert problems == []
    assert refused(definition, {"P": "x"}, cache_dir) == []
    (problem,) = refused(definition, {"P": ""}, cache_dir)
    assert problem.where == "Steps[0].Arguments.AppSpecification.ContainerArguments[0]"
    (problem,) = refused_by_values(definition, {"P": "x" * 257}, cache_dir)
    assert "at most 256" in problem.what


def test_what_values_do_not_change_is_no_problem_of_a_start(cache_dir: Path) -> None:
    spoiled = json.loads(json.dumps(DEFINITION))
    spoiled["Steps"][0]["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = [""]
    definition, _ = inspect_document(spoiled, "flights")
    assert refused_by_values(definition, {"P": "y"}, cache_dir) == []


# ------------------------------------------------------------------------------------------------------- names, texts
@given(st.text(st.sampled_from("aZ0-_ é"), max_size=300))
@example("a" * 256)
@example("a" * 257)
@example("a\n")
def test_names_of_pipelines_are_those_of_the_api(name: str) -> None:
    shape = SHAPES["PipelineName"]
    assert shape["pattern"] in PIPELINE_NAME.pattern
    well = name.isascii() and name.replace("-", "").isalnum() and name[0] != "-" and name[-1] != "-"
    assert (pipeline_name_problems(name, "N") == []) == (well and shape["min"] <= len(name) <= shape["max"])


@pytest.mark.parametrize(("key", "shape"), [("DisplayName", "StepDisplayName"), ("Description", "StepDescription")])
def test_texts_about_a_step_have_the_length_of_the_api(key: str, shape: str) -> None:
    most = SHAPES[shape]["max"]
    for length, count in ((most, 0), (most + 1, 1)):
        step = {**DEFINITION["Steps"][0], key: "x" * length}
        assert len(inspect_document({**DEFINITION, "Steps": [step]}, "flights")[1]) == count


def test_what_is_documented_as_not_supported_is_noted_with_its_source() -> None:
    def condition(name: str, *steps: Any) -> dict[str, Any]:
        arguments = {"Conditions": [{"Type": "Equals", "LeftValue": 1, "RightValue": 1}], "IfSteps": list(steps)}
        return {"Name": name, "Type": "Condition", "Arguments": {**arguments, "ElseSteps": []}}

    fail = {"Name": "F", "Type": "Fail", "Arguments": {"ErrorMessage": "no"}}
    after = {"Name": "G", "Type": "Fail", "Arguments": {"ErrorMessage": "no"}, "DependsOn": ["F"]}
    parameters = [{"Name": "p" * 65, "Type": "String", "DefaultValue": "x"}]
    definition, problems = inspect_document(
        {"Version": "2020-12-01", "Parameters": parameters, "Steps": [condition("A", condition("B")), fail, after]}, "x"
    )
    assert problems == []
    nested, waits, long = advice(definition)
    assert "'B' stands in a branch of 'A'" in nested
    assert "'G' waits for the Fail step 'F'" in waits
    assert "p" * 65 in long


def test_a_nested_output_of_a_function_is_one_json_text() -> None:
    values, faults = declared_outputs((OutputParameter("n", "String"),), {"n": {"a": [1, "é"]}})
    assert (values, faults) == ({"n": '{"a": [1, "é"]}'}, [])


@pytest.mark.parametrize(("path", "count"), [("OutputParameters['n']", 0), ("OutputParameters['n'].mean", 1)])
def test_a_reference_cannot_lead_into_an_output_of_a_function(path: str, count: int) -> None:
    step = {
        "Name": "L",
        "Type": "Lambda",
        "FunctionArn": "arn:aws:lambda:eu-west-1:000000000000:function:f",
        "Arguments": {},
        "OutputParameters": [{"OutputName": "n", "OutputType": "String"}],
    }
    fail = {"Name": "F", "Type": "Fail", "Arguments": {"ErrorMessage": {"Get": f"Steps.L.{path}"}}}
    _, problems = inspect_document({"Version": "2020-12-01", "Steps": [step, fail]}, "x")
    assert len(problems) == count
