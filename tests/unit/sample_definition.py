"""Definitions for the tests of this directory: a whole pipeline, and the pieces to build others from."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]


def get(path: str) -> Json:
    return {"Get": path}


def join(*values: Any, on: str = "/") -> Json:
    return {"Std:Join": {"On": on, "Values": list(values)}}


def json_get(step: str, file: str, path: str) -> Json:
    return {"Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}}


def s3_input(name: str, uri: Any, **s3: Any) -> Json:
    local = f"/opt/ml/processing/input/{name}"
    return {"InputName": name, "S3Input": {"S3Uri": uri, "LocalPath": local, "S3DataType": "S3Prefix", **s3}}


def s3_output(name: str, uri: Any, **s3: Any) -> Json:
    local = f"/opt/ml/processing/{name}"
    return {"OutputName": name, "S3Output": {"S3Uri": uri, "LocalPath": local, "S3UploadMode": "EndOfJob", **s3}}


def request(inputs: list[Json] | None = None, outputs: list[Json] | None = None, **more: Any) -> Json:
    cluster = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30}
    return {
        "ProcessingResources": {"ClusterConfig": cluster},
        "AppSpecification": {"ImageUri": "local/processing", "ContainerEntrypoint": ["python3", "run.py"]},
        "ProcessingInputs": inputs or [],
        "ProcessingOutputConfig": {"Outputs": outputs or []},
        **more,
    }


def processing(name: str, inputs: list[Json] | None = None, outputs: list[Json] | None = None, **step: Any) -> Json:
    return {"Name": name, "Type": "Processing", "Arguments": request(inputs, outputs), **step}


def fail(name: str, message: Any = "it failed", **step: Any) -> Json:
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}, **step}


def condition(name: str, conditions: list[Json], if_steps: list[Json], else_steps: list[Json], **step: Any) -> Json:
    arguments = {"Conditions": conditions, "IfSteps": if_steps, "ElseSteps": else_steps}
    return {"Name": name, "Type": "Condition", "Arguments": arguments, **step}


def compare(operator: str, left: Any, right: Any) -> Json:
    return {"Type": operator, "LeftValue": left, "RightValue": right}


def pipeline(*steps: Json, parameters: list[Json] | None = None) -> Json:
    return {"Version": "2020-12-01", "Metadata": {}, "Parameters": parameters or [], "Steps": list(steps)}


def daily() -> Json:
    """Validate, a Condition on its report, then Transform or a Fail."""
    report = {"PropertyFileName": "Quality", "OutputName": "quality", "FilePath": "quality.json"}
    ratio = json_get("Validate", "Quality", "bad.ratio")
    validate = processing(
        "Validate",
        [s3_input("raw", get("Parameters.InputData"), S3DataDistributionType="ShardedByS3Key")],
        [s3_output("quality", join("s3://b/out", get("Execution.PipelineExecutionId"), "quality"))],
        PropertyFiles=[report],
        CacheConfig={"Enabled": True, "ExpireAfter": "P1D"},
    )
    clean = get("Steps.Validate.ProcessingOutputConfig.Outputs['quality'].S3Output.S3Uri")
    transform = processing("Transform", [s3_input("clean", clean)], [s3_output("train", "s3://b/train")])
    transform["Arguments"]["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = get("Parameters.Count")
    gate = condition(
        "Gate",
        [compare("LessThanOrEqualTo", ratio, get("Parameters.MaxBadRatio"))],
        [transform],
        [fail("TooBad", join("bad ratio is", ratio, on=" "))],
    )
    profile = processing("Profile", [s3_input("raw", get("Parameters.InputData"))], DependsOn=["Validate"])
    return pipeline(
        validate,
        gate,
        profile,
        parameters=[
            {"Name": "InputData", "Type": "String", "DefaultValue": "s3://b/raw"},
            {"Name": "Count", "Type": "Integer", "DefaultValue": 1},
            {"Name": "MaxBadRatio", "Type": "Float", "DefaultValue": 0.1},
            {"Name": "Mode", "Type": "String", "DefaultValue": "fast", "EnumValues": ["fast", "full"]},
        ],
    )


def services() -> Json:
    """A Lambda, a Callback and an EMR step, and a job that is tried again."""
    count = {
        "Name": "Count",
        "Type": "Lambda",
        "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:count",
        "Arguments": {"uri": get("Steps.Clean.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri")},
        "OutputParameters": [{"OutputName": "rows", "OutputType": "Integer"}],
    }
    approve = {
        "Name": "Approve",
        "Type": "Callback",
        "SqsQueueUrl": "https://queue",
        "Arguments": {"rows": get("Steps.Count.OutputParameters['rows']")},
        "OutputParameters": [{"OutputName": "ok", "OutputType": "Boolean"}],
    }
    spark = {
        "Name": "Spark",
        "Type": "EMR",
        "Arguments": {"ClusterId": "j-1", "StepConfig": {"HadoopJarStep": {"Jar": "x.jar", "Args": ["s3://b/out"]}}},
        "DependsOn": ["Approve"],
    }
    policy = {"ExceptionType": ["Step.THROTTLING"], "IntervalSeconds": 1, "BackoffRate": 2.0, "MaxAttempts": 5}
    clean = processing("Clean", [], [s3_output("out", "s3://b/clean")], RetryPolicies=[policy])
    return pipeline(clean, count, approve, spark)


def text(definition: Any) -> str:
    return json.dumps(definition)
