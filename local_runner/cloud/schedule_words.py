"""A schedule's request in words. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def told(request: Mapping[str, Any]) -> str:
    """What starts the pipeline: ``cron(0 6 * * ? *) Europe/Berlin``, and that it is paused, where it is."""
    words = [str(request["ScheduleExpression"])] if request.get("ScheduleExpression") else []
    if request.get("ScheduleExpressionTimezone"):
        words.append(str(request["ScheduleExpressionTimezone"]))
    if request.get("EventPattern"):
        words.append(f"on events {request['EventPattern']}")
    if request.get("State") == "DISABLED":
        words.append("(paused)")
    return " ".join(words)
