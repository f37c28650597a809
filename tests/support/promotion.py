"""Promotions of this project to the emulator's account."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.desired.release import desired_release
from local_runner.cloud.operations.promote import Gate, Options, apply, plan_release
from local_runner.cloud.target.environment import Environment
from local_runner.project import Project
from support.project import PROJECT, link_caches

ACCOUNT, REGION = "123456789012", "eu-west-1"
BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
PREFIX = "FlightsDaily-dev"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/flights@sha256:{'0' * 64}"
SCHEDULE = {"expression": "cron(0 6 * * ? *)", "parameters": {"ProcessingDate": "<aws.scheduler.scheduled-time>"}}
TESTED = Gate("abcdefghijkl")


def options(**more: Any) -> Options:
    return Options(build=lambda: pytest.fail("no image is built"), note=lambda _: None, **more)


def release(aws: Aws, state: Path, root: Path = PROJECT, **settings: Any):
    """The project as a release of an environment with these settings."""
    environment = Environment.model_validate({"name": "dev", "image_uri": IMAGE, "schedule": SCHEDULE, **settings})
    state = state if (state / "compiled").exists() else link_caches(state)
    return desired_release(Project.at(root, state, lambda _: None), environment, aws)


def planned(aws, desired, **more):
    return plan_release(by(aws, desired), TESTED, options(**more))


def promoted(aws, desired, gate=TESTED, **more):
    desired = by(aws, desired)
    return apply(plan_release(desired, gate, options(**more)), desired, options(**more))


def by(aws, desired):
    """The release as a promotion of its own would have it, which speaks to AWS by itself."""
    return replace(desired, target=replace(desired.target, aws=aws))


def account(aws: Aws) -> dict[str, Any]:
    """What there is in the account, without times."""
    objects = {}
    for item in aws.pages("s3", "list_objects_v2", "Contents", Bucket=BUCKET):
        body = aws.call("s3", "get_object", Bucket=BUCKET, Key=item["Key"])["Body"].read()
        if item["Key"].endswith(".json"):
            body = {key: value for key, value in json.loads(body).items() if key != "created"}
        objects[item["Key"]] = body
    roles = {
        role["RoleName"]: [
            role["AssumeRolePolicyDocument"],
            aws.call("iam", "list_role_tags", RoleName=role["RoleName"])["Tags"],
            aws.call("iam", "list_role_policies", RoleName=role["RoleName"])["PolicyNames"],
        ]
        for role in aws.pages("iam", "list_roles", "Roles")
    }
    pipelines = [item["PipelineName"] for item in aws.call("sagemaker", "list_pipelines")["PipelineSummaries"]]
    pipeline = aws.call("sagemaker", "describe_pipeline", PipelineName="FlightsDaily-dev")
    tags = aws.call("sagemaker", "list_tags", ResourceArn=pipeline["PipelineArn"])["Tags"]
    schedules = [item["Name"] for item in aws.pages("scheduler", "list_schedules", "Schedules")]
    schedule = aws.call("scheduler", "get_schedule", Name="FlightsDaily-dev")
    return {
        "buckets": [bucket["Name"] for bucket in aws.call("s3", "list_buckets")["Buckets"]],
        "public": aws.call("s3", "get_public_access_block", Bucket=BUCKET)["PublicAccessBlockConfiguration"],
        "bucket tags": (aws.find("s3", "get_bucket_tagging", Bucket=BUCKET) or {}).get("TagSet"),
        "objects": objects,
        "roles": roles,
        "pipelines": pipelines,
        "pipeline": [pipeline["PipelineDefinition"], pipeline["RoleArn"], sorted(set(map(str, tags)))],
        "schedules": schedules,
        "schedule": {key: schedule[key] for key in ("ScheduleExpression", "State", "Target", "FlexibleTimeWindow")},
    }
