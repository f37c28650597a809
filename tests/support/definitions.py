"""Pipeline definitions: the pieces of one, each made in one place, and two whole ones.

Every Processing step of the tests is made by ``processing``. Paths are below ``/opt/ml/processing``: an input lies at
``in/NAME``, an output at ``out/NAME``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

IMAGE = "local/processing"
ROLE = "arn:aws:iam::111122223333:role/theirs"


def get(path: str) -> Json:
    """A reference, resolved at run time."""
    return {"Get": path}


def join(*values: Any, on: str = "/") -> Json:
    """``Std:Join``."""
    return {"Std:Join": {"On": on, "Values": list(values)}}


def json_get(step: str, file: str, path: str) -> Json:
    """``Std:JsonGet`` from a step's property file."""
    return {"Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}}


def output_of(step: str, name: str = "out") -> Json:
    """The URI of a Processing step's output."""
    return get(f"Steps.{step}.ProcessingOutputConfig.Outputs['{name}'].S3Output.S3Uri")


def s3_input(name: str, uri: Any, **s3: Any) -> Json:
    """An entry of ``ProcessingInputs``; ``s3`` are members of its ``S3Input``."""
    local = f"/opt/ml/processing/in/{name}"
    fields = {"S3Uri": uri, "LocalPath": local, "S3DataType": "S3Prefix", "S3InputMode": "File", **s3}
    return {"InputName": name, "S3Input": fields}


def s3_output(name: str, uri: Any, **s3: Any) -> Json:
    """An entry of ``Outputs``; ``s3`` are members of its ``S3Output``."""
    local = f"/opt/ml/processing/out/{name}"
    return {"OutputName": name, "S3Output": {"S3Uri": uri, "LocalPath": local, "S3UploadMode": "EndOfJob", **s3}}


def merged(request: Json, members: Mapping[str, Any]) -> Json:
    """A request with members over it; an object is merged with the one that is there."""
    found = {
        name: {**request[name], **value} if isinstance(value, Mapping) and name in request else value
        for name, value in members.items()
    }
    return {**request, **found}


def processing_request(
    inputs: Sequence[Json] = (), outputs: Sequence[Json] = (), instances: Any = 1, **members: Any
) -> Json:
    """The ``Arguments`` of a Processing step, with ``members`` over them."""
    made: Json = {
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": instances, "VolumeSizeInGB": 30}
        },
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["python3", "run.py"]},
        "RoleArn": ROLE,
        "ProcessingInputs": list(inputs),
        "ProcessingOutputConfig": {"Outputs": list(outputs)},
    }
    return merged(made, members)


def processing(
    name: str,
    script: str = "true",
    *,
    inputs: Mapping[str, Any] | Sequence[Json] = (),
    outputs: Mapping[str, Any] | Sequence[Json] = (),
    instances: Any = 1,
    image: str = IMAGE,
    members: Mapping[str, Any] | None = None,
    **step: Any,
) -> Json:
    """A Processing step that runs a shell script in /opt/ml/processing.

    ``inputs`` and ``outputs`` are URIs by name, or what ``s3_input`` and ``s3_output`` made; ``members`` are more of
    the request (``processing_request``), and ``step`` of the step.
    """
    if isinstance(inputs, Mapping):
        inputs = [s3_input(key, uri) for key, uri in inputs.items()]
    if isinstance(outputs, Mapping):
        outputs = [s3_output(key, uri) for key, uri in outputs.items()]
    application = {"ImageUri": image, "ContainerEntrypoint": ["/bin/sh", "-c", f"cd /opt/ml/processing 2>&-; {script}"]}
    arguments = processing_request(inputs, outputs, instances, AppSpecification=application)
    return {"Name": name, "Type": "Processing", "Arguments": merged(arguments, members or {}), **step}


def fail(name: str, message: Any = "it failed", **step: Any) -> Json:
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}, **step}


def condition(name: str, conditions: list[Json], if_steps: list[Json], else_steps: list[Json], **step: Any) -> Json:
    arguments = {"Conditions": conditions, "IfSteps": if_steps, "ElseSteps": else_steps}
    return {"Name": name, "Type": "Condition", "Arguments": arguments, **step}


def condition_on(name: str, value: Any, if_steps: list[Json], else_steps: list[Json]) -> Json:
    """A Condition step: whether a value is true."""
    return condition(name, [compare("Equals", value, True)], if_steps, else_steps)


def compare(operator: str, left: Any, right: Any) -> Json:
    return {"Type": operator, "LeftValue": left, "RightValue": right}


def parameter(name: str, default: Any = None, type_: str = "String") -> Json:
    """A parameter; without a default it has to be given."""
    made = {"Name": name, "Type": type_}
    return made if default is None else {**made, "DefaultValue": default}


def pipeline(*steps: Json, parameters: Sequence[Json] = ()) -> Json:
    """The definition of a pipeline of these steps."""
    return {"Version": "2020-12-01", "Metadata": {}, "Parameters": list(parameters), "Steps": list(steps)}


def write(path: Path, document: Any) -> Path:
    """The document as a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def daily() -> Json:
    """Validate, a Condition on its report, then Transform or a Fail."""
    report = {"PropertyFileName": "Quality", "OutputName": "quality", "FilePath": "quality.json"}
    ratio = json_get("Validate", "Quality", "bad.ratio")
    validate = processing(
        "Validate",
        inputs=[s3_input("raw", get("Parameters.InputData"), S3DataDistributionType="ShardedByS3Key")],
        outputs=[s3_output("quality", join("s3://b/out", get("Execution.PipelineExecutionId"), "quality"))],
        PropertyFiles=[report],
        CacheConfig={"Enabled": True, "ExpireAfter": "P1D"},
    )
    clean = output_of("Validate", "quality")
    transform = processing(
        "Transform", inputs={"clean": clean}, outputs={"train": "s3://b/train"}, instances=get("Parameters.Count")
    )
    gate = condition(
        "Gate",
        [compare("LessThanOrEqualTo", ratio, get("Parameters.MaxBadRatio"))],
        [transform],
        [fail("TooBad", join("bad ratio is", ratio, on=" "))],
    )
    profile = processing("Profile", inputs=[s3_input("raw", get("Parameters.InputData"))], DependsOn=["Validate"])
    return pipeline(
        validate,
        gate,
        profile,
        parameters=[
            parameter("InputData", "s3://b/raw"),
            parameter("Count", 1, "Integer"),
            parameter("MaxBadRatio", 0.1, "Float"),
            {"Name": "Mode", "Type": "String", "DefaultValue": "fast", "EnumValues": ["fast", "full"]},
        ],
    )


def services() -> Json:
    """A Lambda, a Callback and an EMR step, and a job that is tried again."""
    count = {
        "Name": "Count",
        "Type": "Lambda",
        "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:count",
        "Arguments": {"uri": output_of("Clean")},
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
    clean = processing("Clean", inputs=[], outputs=[s3_output("out", "s3://b/clean")], RetryPolicies=[policy])
    return pipeline(clean, count, approve, spark)


def text(definition: Any) -> str:
    return json.dumps(definition)
