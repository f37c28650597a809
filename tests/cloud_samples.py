"""A definition and an environment of the tests of what stands around the pipeline."""

import json
from datetime import UTC, datetime

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.desired.supporting import supporting_resources
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.target import Target
from local_runner.definition.parser import parse_definition

ACCOUNT, REGION, BUCKET = "123456789012", "eu-west-1", "sagemaker-eu-west-1-123456789012"
NOW = datetime(2026, 3, 27, 12, tzinfo=UTC)
NAMES = Names("Flights", "dev")
AWS = Aws(REGION, known_account=ACCOUNT)
TARGET = Target(Environment(name="dev"), NAMES, AWS)
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/local-runner/flights@sha256:{'0' * 64}"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:dead"

SCHEDULE = {
    "expression": "cron(0 6 * * ? *)",
    "timezone": "Europe/Berlin",
    "parameters": {"Day": "<aws.scheduler.scheduled-time>"},
}


def get(path):
    return {"Get": path}


def processing(name, reads, writes, image=IMAGE, **more):
    """A Processing step with one input and one output."""
    source = {"S3Uri": reads, "LocalPath": "/opt/ml/processing/in", "S3DataType": "S3Prefix", "S3InputMode": "File"}
    result = {"S3Uri": writes, "LocalPath": "/opt/ml/processing/out", "S3UploadMode": "EndOfJob"}
    arguments = {
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30}
        },
        "AppSpecification": {"ImageUri": image, "ContainerArguments": ["--date", get("Parameters.Day")]},
        "RoleArn": TARGET.execution_role_arn,
        "ProcessingInputs": [{"InputName": "in", "S3Input": source}],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "out", "S3Output": result}]},
    }
    return {"Name": name, "Type": "Processing", "Arguments": {**arguments, **more}}


def sample(*more, parameters=()):
    """One Processing step that reads the parameter Input and writes below s3://results/flights, and ``more``."""
    here = {"Std:Join": {"On": "/", "Values": ["s3://results/flights", get("Execution.PipelineExecutionId"), "clean"]}}
    return {
        "Version": "2020-12-01",
        "Parameters": [
            {"Name": "Input", "Type": "String", "DefaultValue": "s3://raw-data/flights"},
            {"Name": "Day", "Type": "String"},
            *parameters,
        ],
        "Steps": [processing("Clean", get("Parameters.Input"), here), *more],
    }


def parsed(document):
    return parse_definition(json.dumps(document), "Flights", "the sample")


def parts(document=None, previous=None, **settings):
    """The parts of an environment of these settings, with SCHEDULE where they have no schedule."""
    environment = Environment(name="dev", **({"schedule": SCHEDULE, "prefix": "Flights"} | settings))
    return supporting_resources(Target(environment, NAMES, AWS), parsed(document or sample()), previous, NOW)
