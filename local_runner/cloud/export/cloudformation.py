"""What a promotion makes, as a CloudFormation template. No I/O.

Each resource is written from the request that a promotion would send, so that the two cannot say different things.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from local_runner.cloud.desired.supporting import SupportingResources
from local_runner.cloud.resources.alerts import Alerts
from local_runner.cloud.resources.role import POLICY_NAME, Role
from local_runner.cloud.schedules.request import DesiredSchedule, with_secrets_as
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.target import Target
from local_runner.secrets import DEFAULT_NAMES, SecretNames

Template = dict[str, Any]


def release_template(supporting: SupportingResources, definition: str, secret: SecretNames = DEFAULT_NAMES) -> Template:
    """Pipeline, roles, schedule and alerts. ``definition`` is the JSON that the service is to get.

    ``secret`` parameters of the schedule are parameters of the template, which its user gives a value.
    """
    resources: dict[str, Any] = {}
    if supporting.execution_role:
        resources["ExecutionRole"] = _role(supporting.execution_role)
    resources["Pipeline"] = {
        "Type": "AWS::SageMaker::Pipeline",
        **({"DependsOn": "ExecutionRole"} if supporting.execution_role else {}),
        "Properties": {
            "PipelineName": supporting.target.names.pipeline_name,
            "PipelineDefinition": {"PipelineDefinitionBody": definition},
            "RoleArn": supporting.target.execution_role_arn,
            "Tags": _tags(supporting.target.tags),
        },
    }
    if supporting.start_role and supporting.start_role.wanted:
        resources["StartRole"] = _role(supporting.start_role)
    if supporting.schedule.desired:
        before = [name for name in ("Pipeline", "StartRole") if name in resources]
        schedule, asked = _with_references(supporting.schedule.desired, secret)
        resources["Schedule"] = _schedule(schedule, supporting.target.tags) | {"DependsOn": before}
    else:
        asked = {}
    resources |= _alerts(supporting.alerts)
    name = supporting.target.names.pipeline_name
    about = f"The SageMaker pipeline {name}, what starts it and who is notified of failures"
    template = _template(about, resources)
    return {**template, "Parameters": asked} if asked else template


def _with_references(desired: DesiredSchedule, secret: SecretNames) -> tuple[DesiredSchedule, dict[str, Any]]:
    """The schedule with references in place of secret values, and the template's parameters that they refer to."""
    asked: dict[str, Any] = {}

    def reference(name: str) -> dict[str, str]:
        key = re.sub(r"[^A-Za-z0-9]", "", name)
        asked[key] = {"Type": "String", "NoEcho": True, "Description": f"The pipeline parameter {name} of each start"}
        return {"Ref": key}

    return replace(desired, request=with_secrets_as(desired.request, secret, reference)), asked


def bootstrap_template(
    supporting: SupportingResources,
    *,
    bucket: str | None,
    repository: str | None,
    policies: Mapping[str, Mapping[str, Any]],
) -> Template:
    """What an administrator makes once: the roles, ``bucket`` and ``repository`` (None: none to make), and the policies
    of those who plan, promote and operate.
    """
    resources, outputs = _policies(policies, supporting.target.names)
    for name, role, setting in (
        ("ExecutionRole", supporting.execution_role, "role_arn of the environment"),
        ("StartRole", supporting.start_role, "role_arn of the environment's schedule"),
    ):
        if role and role.wanted:
            resources[name] = _role(role)
            arn = {"Fn::GetAtt": [name, "Arn"]}
            outputs[f"{name}Arn"] = {"Description": f"{setting} in local_runner.toml", "Value": arn}
    template = _template(
        f"What local-runner needs to promote the pipeline {supporting.target.names.pipeline_name}", resources
    )
    if bucket:
        resources["Bucket"] = {"Condition": "MakesBucket", **_bucket(bucket, supporting.target.tags)}
    if repository:
        resources["Repository"] = {"Condition": "MakesRepository", **_repository(repository, supporting.target.tags)}
    for name, made in (("Bucket", bucket), ("Repository", repository)):
        if made:
            template.setdefault("Parameters", {})[f"Make{name}"] = {
                "Type": "String",
                "AllowedValues": ["yes", "no"],
                "Default": "yes",
                "Description": f"no, where {made} is there already",
            }
            template.setdefault("Conditions", {})[f"Makes{name}"] = {"Fn::Equals": [{"Ref": f"Make{name}"}, "yes"]}
    return {**template, "Outputs": outputs} if outputs else template


def policies_template(target: Target, policies: Mapping[str, Mapping[str, Any]]) -> Template:
    """The policies of those who plan, promote and operate, for whom a promotion makes all else."""
    resources, outputs = _policies(policies, target.names)
    about = f"What plans, promotes and operates the pipeline {target.names.pipeline_name} may do"
    return {**_template(about, resources), "Outputs": outputs}


def _policies(policies: Mapping[str, Mapping[str, Any]], names: Names) -> tuple[dict[str, Any], dict[str, Any]]:
    """The policies as resources of a template, and their ARNs as its outputs."""
    resources = {
        f"{purpose.title()}Policy": {
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {"ManagedPolicyName": names.policy(purpose), "PolicyDocument": policy},
        }
        for purpose, policy in policies.items()
    }
    outputs = {
        f"{name}Arn": {"Description": f"for whoever may {name.removesuffix('Policy').lower()}", "Value": {"Ref": name}}
        for name in resources
    }
    return resources, outputs


def _template(description: str, resources: dict[str, Any]) -> Template:
    return {"AWSTemplateFormatVersion": "2010-09-09", "Description": f"{description}.", "Resources": resources}


def _role(role: Role) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": role.name,
            "Description": role.description,
            "Path": role.path,
            "AssumeRolePolicyDocument": role.trust,
            **({"PermissionsBoundary": role.boundary} if role.boundary else {}),
            **({"ManagedPolicyArns": list(role.managed_policies)} if role.managed_policies else {}),
            "Policies": [{"PolicyName": POLICY_NAME, "PolicyDocument": role.policy}],
            "Tags": _tags(role.tags),
        },
    }


def _schedule(desired: DesiredSchedule, tags: Mapping[str, str]) -> dict[str, Any]:
    if desired.kind == "rule":
        return _rule(desired.request, tags)
    return {"Type": "AWS::Scheduler::Schedule", "Properties": dict(desired.request)}


def _rule(request: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    properties = {key: value for key, value in request.items() if key not in ("Target", "EventPattern")}
    if request.get("EventPattern"):
        properties["EventPattern"] = json.loads(request["EventPattern"])
    properties |= {"Targets": [request["Target"]], "Tags": _tags(tags)}
    return {"Type": "AWS::Events::Rule", "Properties": properties}


def _alerts(alerts: Alerts) -> dict[str, Any]:
    if alerts.settings is None:
        return {}
    made: dict[str, Any] = {}
    if alerts.makes_topic:
        made["AlertTopic"] = {
            "Type": "AWS::SNS::Topic",
            "Properties": {"TopicName": alerts.target.names.alert_topic, "Tags": _tags(alerts.target.tags)},
        }
        policy = {"Version": "2012-10-17", "Statement": [alerts.topic_statement()]}
        made["AlertTopicPolicy"] = {
            "Type": "AWS::SNS::TopicPolicy",
            "DependsOn": "AlertTopic",
            "Properties": {"Topics": [alerts.topic_arn], "PolicyDocument": policy},
        }
    after = {"DependsOn": "AlertTopic"} if made else {}
    if alerts.settings.email:
        made["AlertSubscription"] = {
            "Type": "AWS::SNS::Subscription",
            **after,
            "Properties": {"TopicArn": alerts.topic_arn, "Protocol": "email", "Endpoint": alerts.settings.email},
        }
    made["AlertRule"] = _rule(alerts.rule(), alerts.target.tags) | after
    return made


def _bucket(name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    blocked = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    encryption = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": True}
    return {
        "Type": "AWS::S3::Bucket",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "BucketName": name,
            "BucketEncryption": {"ServerSideEncryptionConfiguration": [encryption]},
            "PublicAccessBlockConfiguration": dict.fromkeys(blocked, True),
            "Tags": _tags(tags),
        },
    }


def _repository(name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "Type": "AWS::ECR::Repository",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "RepositoryName": name,
            "ImageScanningConfiguration": {"ScanOnPush": True},
            "ImageTagMutability": "IMMUTABLE",
            "Tags": _tags(tags),
        },
    }


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
