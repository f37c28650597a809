"""EventBridge rules with one target each: reading, writing and deleting them. Speaks to EventBridge.

A rule travels as what PutRule gets, with the entry of PutTargets under ``Target``: the form in which schedules do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_runner.cloud.account.aws import Aws, AwsError

_FIELDS = ("Name", "ScheduleExpression", "EventPattern", "State", "Description", "RoleArn")


def find_rule(aws: Aws, name: str) -> dict[str, Any] | None:
    """The rule with its target, or None. Where it has several targets, it is the one that this program would write."""
    live = aws.find("events", "describe_rule", Name=name)
    if live is None:
        return None
    rule = {key: live[key] for key in _FIELDS if live.get(key)}
    targets: list[dict[str, Any]] = aws.call("events", "list_targets_by_rule", Rule=name)["Targets"]
    return {**rule, "Target": targets[0]} if targets else rule


def write_rule(aws: Aws, request: Mapping[str, Any], tags: Mapping[str, str]) -> None:
    """Creates or changes the rule and its target. Raises AwsError also where the target alone is refused."""
    rule = {key: value for key, value in request.items() if key != "Target"}
    # PutRule takes tags for a new rule only.
    live = aws.find("events", "describe_rule", Name=rule["Name"])
    if live is None:
        rule["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    # One that was cut off between rule and target has the rule already.
    if live is None or any(live.get(key) != value for key, value in rule.items()):
        aws.call("events", "put_rule", **rule)
    answer = aws.call("events", "put_targets", Rule=rule["Name"], Targets=[request["Target"]])
    for entry in answer.get("FailedEntries", []):
        code, message = entry.get("ErrorCode", ""), entry.get("ErrorMessage", "")
        raise AwsError(
            f"events:PutTargets did not take the target of the rule {rule['Name']}: {message} ({code})", "", code
        )


def delete_rule(aws: Aws, name: str) -> None:
    """Deletes the rule with its targets; one that is not there is none to delete."""
    if aws.find("events", "describe_rule", Name=name) is None:
        return
    targets = aws.call("events", "list_targets_by_rule", Rule=name)["Targets"]
    if targets:
        aws.call("events", "remove_targets", Rule=name, Ids=[target["Id"] for target in targets])
    aws.find("events", "delete_rule", Name=name)
