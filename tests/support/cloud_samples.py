"""A definition and an environment of the tests of what stands around the pipeline."""

import json
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.desired.binding import set_network_and_keys
from local_runner.cloud.desired.supporting import supporting_resources
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.target import Target
from local_runner.definition.parser import parse_definition
from support.definitions import get, join, parameter, pipeline, processing

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


def flight_step(name, reads, writes, image=IMAGE, **more):
    """A Processing step with one input and one output; ``more`` is of its request."""
    members = {
        "AppSpecification": {"ContainerArguments": ["--date", get("Parameters.Day")]},
        "RoleArn": TARGET.execution_role_arn,
        **more,
    }
    return processing(name, inputs={"in": reads}, outputs={"out": writes}, image=image, members=members)


def sample(*more, parameters=()):
    """One Processing step that reads the parameter Input and writes below s3://results/flights, and ``more``."""
    here = join("s3://results/flights", get("Execution.PipelineExecutionId"), "clean")
    return pipeline(
        flight_step("Clean", get("Parameters.Input"), here),
        *more,
        parameters=[parameter("Input", "s3://raw-data/flights"), parameter("Day"), *parameters],
    )


def parsed(document):
    return parse_definition(json.dumps(document), "Flights", "the sample")


def parts(document=None, previous=None, **settings: Any):
    """The parts of an environment of these settings, with SCHEDULE where they have no schedule."""
    given = {"name": "dev", "schedule": SCHEDULE, "prefix": "Flights", **settings}
    target = Target(Environment.model_validate(given), NAMES, AWS)
    document = document or sample()
    set_network_and_keys(document, target.environment)
    return supporting_resources(target, parsed(document), previous, NOW)
