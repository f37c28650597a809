"""Pause and resume: whether the schedule of a release starts anything. Writes the state of one schedule or rule.

Everything else that the schedule says stays as it is, also what somebody set in the console: UpdateSchedule puts every
field that it is not given back to its default (API reference), so that all of them are read and written again.
"""

from __future__ import annotations

from typing import Any, Literal

from local_runner.cloud.aws import Aws, CloudError

Kind = Literal["scheduler", "rule"]
State = Literal["ENABLED", "DISABLED"]


def schedule_state(aws: Aws, kind: Kind, name: str) -> State | None:
    """Whether the schedule or rule of that name is on; None where there is none."""
    found = _found(aws, kind, name)
    if found is None:
        return None
    return "DISABLED" if found.get("State") == "DISABLED" else "ENABLED"


def set_state(aws: Aws, kind: Kind, name: str, wanted: State) -> bool:
    """Turn the schedule or rule on or off; whether that changed anything. Raises CloudError where there is none."""
    found = _found(aws, kind, name)
    if found is None:
        raise CloudError(
            f"There is no {'rule' if kind == 'rule' else 'schedule'} '{name}' in account {aws.account}, region "
            f"{aws.region}: somebody deleted it. Bring it back with: local-runner promote."
        )
    if (found.get("State") == "DISABLED") == (wanted == "DISABLED"):
        return False
    if kind == "rule":
        aws.call("events", "enable_rule" if wanted == "ENABLED" else "disable_rule", Name=name)
        return True
    fields = {key: found[key] for key in aws.inputs("scheduler", "update_schedule") if found.get(key) is not None}
    aws.call("scheduler", "update_schedule", **{**fields, "State": wanted})
    return True


def _found(aws: Aws, kind: Kind, name: str) -> dict[str, Any] | None:
    if kind == "rule":
        return aws.find("events", "describe_rule", "ResourceNotFoundException", Name=name)
    return aws.find("scheduler", "get_schedule", "ResourceNotFoundException", Name=name)
