"""Pause and resume: whether the schedule of a release starts anything. Writes the state of one schedule or rule.

Everything else that the schedule says stays as it is, also what somebody set in the console: UpdateSchedule puts every
field that it is not given back to its default (API reference), so that all of them are read and written again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from local_runner.cloud.account.aws import Aws, AwsError, CloudError
from local_runner.cloud.resources.schedule import find_schedule_or_rule, write_schedule
from local_runner.cloud.resources.schedule_merge import without_past_start

State = Literal["ENABLED", "DISABLED"]


def set_state(aws: Aws, name: str, wanted: State) -> dict[str, Any] | None:
    """Turn the schedule or rule of that name on or off. What it is now; None where it was that already.

    Raises CloudError where there is neither, and AwsError.
    """
    found = find_schedule_or_rule(aws, name)
    if found is None:
        raise CloudError(
            f"There is no schedule and no rule '{name}' in account {aws.account}, region {aws.region}. Give the "
            "environment a schedule in local_runner.toml and promote it; if it has one, somebody deleted it, and "
            "promoting again brings it back."
        )
    kind, live = found
    if (live.get("State") == "DISABLED") == (wanted == "DISABLED"):
        return None
    changed = {**live, "State": wanted}
    if kind == "rule":
        aws.call("events", "enable_rule" if wanted == "ENABLED" else "disable_rule", Name=name)
        return changed
    try:
        write_schedule(aws, changed)
    except AwsError as error:
        # The service may refuse a start date that has passed, though it is the one that the schedule has.
        without = without_past_start(changed, datetime.now(UTC))
        if "StartDate" not in str(error.message) or without == changed:
            raise
        write_schedule(aws, without)
        return without
    return changed
