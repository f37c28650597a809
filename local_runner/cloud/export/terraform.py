"""What a promotion makes, in Terraform's JSON syntax, for the provider hashicorp/aws. No I/O.

Each resource is written from the request that a promotion would send, so that the two cannot say different things.
Source: Terraform language, "JSON Configuration Syntax"; the provider's documentation of each resource.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from local_runner.cloud.account.aws import CloudError
from local_runner.cloud.desired.supporting import SupportingResources
from local_runner.cloud.resources.alerts import Alerts
from local_runner.cloud.resources.role import POLICY_NAME, Role
from local_runner.cloud.schedules.request import with_secrets_as
from local_runner.jsontext import value_text
from local_runner.secrets import DEFAULT_NAMES, SecretNames

Block = dict[str, Any]
_PROVIDER = ">= 5.62"


class _Reference(str):
    """A text that Terraform is to evaluate."""


def release_configuration(
    supporting: SupportingResources, definition: str, secret: SecretNames = DEFAULT_NAMES
) -> Block:
    """Pipeline, roles, schedule and alerts. ``definition`` is the JSON that the service is to get.

    ``secret`` parameters of the schedule are sensitive variables, which its user gives a value.
    """
    variables: dict[str, Block] = {}

    def reference(name: str) -> str:
        key = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        about = f"The pipeline parameter {name} of each start"
        variables[key] = {"type": "string", "sensitive": True, "description": about}
        return _Reference(f"${{var.{key}}}")

    resources: dict[str, Block] = {}
    roles = [("execution", supporting.execution_role), ("start", supporting.start_role)]
    for name, role in roles:
        if role and role.wanted:
            _add(resources, _role(name, role, supporting.target.tags))
    pipeline = {
        "pipeline_name": supporting.target.names.pipeline_name,
        "pipeline_display_name": supporting.target.names.pipeline_name,
        "role_arn": supporting.target.execution_role_arn,
        "pipeline_definition": definition,
        "tags": supporting.target.tags,
    }
    _add(resources, {"aws_sagemaker_pipeline": {"pipeline": _after(pipeline, resources, "execution")}})
    if supporting.schedule.desired:
        request = with_secrets_as(supporting.schedule.desired.request, secret, reference)
        if supporting.schedule.desired.kind == "rule":
            _add(resources, _rule("start", request, supporting.target.tags))
        else:
            schedule = _schedule(request, definition)
            _add(resources, {"aws_scheduler_schedule": {"start": _after(schedule, resources, "start")}})
    _add(resources, _alerts(supporting.alerts))
    required = {"aws": {"source": "hashicorp/aws", "version": _PROVIDER}}
    return {
        "terraform": {"required_providers": required},
        "provider": {
            "aws": {"region": supporting.target.aws.region, "allowed_account_ids": [supporting.target.aws.account]}
        },
        "resource": _escaped(resources),
        **({"variable": variables} if variables else {}),
    }


def _add(resources: dict[str, Block], more: Mapping[str, Block]) -> None:
    for kind, blocks in more.items():
        resources.setdefault(kind, {}).update(blocks)


def _after(block: Block, resources: Mapping[str, Block], role: str) -> Block:
    """The block, made after that role and its policy, where the role is made here."""
    made = role in resources.get("aws_iam_role", {})
    return {**block, "depends_on": [f"aws_iam_role_policy.{role}"]} if made else block


def _role(name: str, role: Role, tags: Mapping[str, str]) -> dict[str, Block]:
    attached = {
        f"{name}_{number}": {"role": role.name, "policy_arn": arn, "depends_on": [f"aws_iam_role.{name}"]}
        for number, arn in enumerate(role.managed_policies, 1)
    }
    return {
        **({"aws_iam_role_policy_attachment": attached} if attached else {}),
        "aws_iam_role": {
            name: {
                "name": role.name,
                "path": role.path,
                **({"permissions_boundary": role.boundary} if role.boundary else {}),
                "description": role.description,
                "assume_role_policy": json.dumps(role.trust),
                "tags": dict(tags),
            }
        },
        "aws_iam_role_policy": {
            name: {
                "name": POLICY_NAME,
                "role": role.name,
                "policy": json.dumps(role.policy),
                "depends_on": [f"aws_iam_role.{name}"],
            }
        },
    }


def _schedule(request: Mapping[str, Any], definition: str) -> Block:
    """CreateSchedule's request: the provider has the same fields, in lower case, with blocks for tables.

    The service wants a list of parameters, and the provider leaves an empty one out (its issue 33526): where no
    parameter is given, the default of one stands for all.
    """
    made = _lower({key: value for key, value in request.items() if key != "Target"})
    target = _lower(_without(request["Target"], "SageMakerPipelineParameters"))
    parameters = _parameters(request["Target"]) or [_one_default(definition)]
    target["sagemaker_pipeline_parameters"] = {"pipeline_parameter": parameters}
    return {**made, "target": target}


def _one_default(definition: str) -> Block:
    for parameter in json.loads(definition).get("Parameters", ()):
        if parameter.get("DefaultValue") not in (None, ""):
            return {"name": parameter["Name"], "value": value_text(parameter["DefaultValue"])}
    raise CloudError(
        "Terraform's provider cannot schedule a pipeline to which no parameter is given: it leaves the empty list out "
        "that the Scheduler wants (hashicorp/terraform-provider-aws issue 33526). Give pipeline.py a parameter with a "
        "default, use kind = 'rule' in the environment's schedule, or export CloudFormation."
    )


def _rule(name: str, request: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Block]:
    rule = {**_lower(_without(request, "Target")), "tags": dict(tags)}
    given = request["Target"]
    target = _lower(_without(given, "SageMakerPipelineParameters", "InputTransformer", "Id"))
    target |= {"rule": request["Name"], "target_id": given["Id"], "depends_on": [f"aws_cloudwatch_event_rule.{name}"]}
    if parameters := _parameters(given):
        target["sagemaker_pipeline_target"] = {"pipeline_parameter_list": parameters}
    if transformer := given.get("InputTransformer"):
        target["input_transformer"] = {
            "input_paths": transformer["InputPathsMap"],
            "input_template": transformer["InputTemplate"],
        }
    return {"aws_cloudwatch_event_rule": {name: rule}, "aws_cloudwatch_event_target": {name: target}}


def _alerts(alerts: Alerts) -> dict[str, Block]:
    if alerts.settings is None:
        return {}
    made = _rule("failed", alerts.rule(), alerts.target.tags)
    topic: Block = {}
    if alerts.makes_topic:
        topic = {"depends_on": ["aws_sns_topic.failed"]}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [alerts.topic_statement()]})
        made["aws_sns_topic"] = {"failed": {"name": alerts.target.names.alert_topic, "tags": alerts.target.tags}}
        made["aws_sns_topic_policy"] = {"failed": {"arn": alerts.topic_arn, "policy": policy, **topic}}
    if alerts.settings.email:
        subscription = {"topic_arn": alerts.topic_arn, "protocol": "email", "endpoint": alerts.settings.email}
        made["aws_sns_topic_subscription"] = {"failed": {**subscription, **topic}}
    return made


def _parameters(target: Mapping[str, Any]) -> list[Block]:
    listed = target.get("SageMakerPipelineParameters", {}).get("PipelineParameterList", [])
    return [{"name": item["Name"], "value": item["Value"]} for item in listed]


def _without(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}


def _lower(value: Any) -> Any:
    """A request with its keys as the provider writes them: MaximumRetryAttempts -> maximum_retry_attempts."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        return {re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower(): _lower(item) for key, item in table.items()}
    return value


def _escaped(value: Any) -> Any:
    """The value with every text as Terraform reads it literally: ``${`` and ``%{`` would begin a template."""
    match value:
        case _Reference():
            return str(value)
        case str():
            return re.sub(r"([$%])\{", r"\1\1{", value)
        case dict():
            return {key: _escaped(item) for key, item in cast("Block", value).items()}
        case list():
            return [_escaped(item) for item in cast("list[Any]", value)]
        case _:
            return value
