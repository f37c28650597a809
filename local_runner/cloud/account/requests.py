"""What a service would refuse of a call: the API's own model, and what AWS documents beyond it. No I/O.

botocore sends most of what its model forbids: it looks at types, required members and few ranges, not at patterns,
lengths and enumerations. A plan asks here before the first write, for all of its writes at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object
from local_runner.sagemaker_api.limits import Shapes, shape_problems
from local_runner.sagemaker_api.service_rules import Fault, Rule, broken


def call_problems(operation_model: Any, parameters: Mapping[str, Any]) -> list[Problem]:
    """What the service would refuse of these parameters; ``operation_model`` is botocore's ``OperationModel``."""
    shape = operation_model.input_shape
    where = f"{operation_model.service_model.service_name}:{operation_model.name}"
    if shape is None:
        return []
    found = shape_problems(parameters, shape.name, where, _shapes(operation_model))
    return found + broken(RULES.get(where, ()), parameters, where)


@lru_cache(maxsize=64)
def _shapes(operation_model: Any) -> Shapes:
    """The shapes of an operation's input by name, as :func:`local_runner.sagemaker_api.limits.load_shapes` has them."""
    shapes: Shapes = {}
    waiting = [operation_model.input_shape]
    while waiting:
        shape = waiting.pop()
        if shape.name in shapes:
            continue
        kept: dict[str, Any] = {"type": shape.type_name, **shape.metadata}
        parts: dict[str, Any] = {}
        if shape.type_name == "structure":
            parts = dict(shape.members)
            kept["members"] = {key: member.name for key, member in parts.items()}
            # What only tells the client how to send the request is filled in by it.
            tokens = {key for key, member in parts.items() if member.metadata.get("idempotencyToken")}
            kept["required"] = [key for key in shape.required_members if key not in tokens]
        elif shape.type_name == "list":
            parts = {"member": shape.member}
        elif shape.type_name == "map":
            parts = {"key": shape.key, "value": shape.value}
        kept |= {} if shape.type_name == "structure" else {part: inner.name for part, inner in parts.items()}
        shapes[shape.name] = kept
        waiting += parts.values()
    return shapes


# ------------------------------------------------------------------------------------------------------- the rules
def _pipeline_parameters(value: Any) -> Iterator[Fault]:
    target = as_object(cast("Mapping[str, Any]", value).get("Target")) or {}
    arn = target.get("Arn")
    if isinstance(arn, str) and ":pipeline/" in arn and target.get("SageMakerPipelineParameters") is None:
        what = "SageMakerPipelineParameters is missing, and the target is a SageMaker pipeline"
        yield Fault(".Target", what, "Give at least an empty PipelineParameterList.")


def _topic_policy(value: Any) -> Iterator[Fault]:
    request = cast("Mapping[str, Any]", value)
    if request.get("AttributeName") == "Policy":
        yield from _conditions(request.get("AttributeValue"), ".AttributeValue")


def _policy_of_new_topic(value: Any) -> Iterator[Fault]:
    attributes = as_object(cast("Mapping[str, Any]", value).get("Attributes")) or {}
    yield from _conditions(attributes.get("Policy"), ".Attributes.Policy")


def _conditions(policy: Any, below: str) -> Iterator[Fault]:
    """Other statements may have what they like: the fault is that none lets EventBridge publish."""
    document = as_object(json.loads(policy or "{}")) or {}
    tables = [as_object(statement) or {} for statement in as_list(document.get("Statement")) or ()]
    for_events = [one for one in tables if (as_object(one.get("Principal")) or {}).get("Service") == _EVENTS]
    if for_events and all("Condition" in one for one in for_events):
        what = "every statement for EventBridge has a Condition, with which it publishes nothing"
        yield Fault(f"{below}.Statement", what, "Leave the Condition out.")


def _rules(source: str, faults: Callable[[Any], Iterator[Fault]]) -> tuple[Rule, ...]:
    return (Rule(source, faults),)


_EVENTS = "events.amazonaws.com"
_NO_CONDITION = "EventBridge user guide, Using resource-based policies: Amazon SNS permissions"
_SCHEDULE = _rules("the service's own answer, as in hashicorp/terraform-provider-aws issue 33526", _pipeline_parameters)
RULES: Mapping[str, tuple[Rule, ...]] = {
    "scheduler:CreateSchedule": _SCHEDULE,
    "scheduler:UpdateSchedule": _SCHEDULE,
    "sns:SetTopicAttributes": _rules(_NO_CONDITION, _topic_policy),
    "sns:CreateTopic": _rules(_NO_CONDITION, _policy_of_new_topic),
}
"""The rules by the call that each is about. An empty tuple is none."""
