"""A three-way merge of a schedule: what is there, what the release before set, what is wanted. No I/O.

What others set is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from local_runner.cloud.change.fields import Leaves, leaves, nested, same
from local_runner.cloud.schedules.request import OFF_IN_SETTINGS, PARAMETER_LIST, WHOLE, WHOLLY_OURS, DesiredSchedule


def merged_request(
    live: Mapping[str, Any], desired: DesiredSchedule, previous: Mapping[str, Any] | None, now: datetime
) -> dict[str, Any]:
    """The request that changes ``live`` to what is wanted, and keeps what others set.

    UpdateSchedule and PutRule reset what a call leaves out, so it holds every field. ``previous`` is the request of the
    release before (None: not known): what that set and this does not is taken away.
    """
    old = leaves(live, WHOLE)
    wanted = leaves(without_past_start(desired.request, now), WHOLE)
    before = leaves(previous or {}, WHOLE)
    merged: Leaves = {
        path: leaf for path, leaf in old.items() if path in wanted or (path not in before and path not in WHOLLY_OURS)
    }
    for path, leaf in wanted.items():
        kept = path in old and path in desired.defaults and (path not in before or same(before[path], leaf))
        merged[path] = old[path] if kept else leaf
    _keep_state(merged, old, desired.request)
    return without_past_start(nested(merged, PARAMETER_LIST), now)


def stays_paused(live: Mapping[str, Any], desired: Mapping[str, Any]) -> bool:
    """Whether somebody disabled the schedule by hand: it is not the settings that turned it off."""
    by_settings = str(live.get("Description") or "").endswith(OFF_IN_SETTINGS)
    return live.get("State") == "DISABLED" and desired.get("State") == "ENABLED" and not by_settings


def without_past_start(request: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The request without a StartDate that has passed: the service refuses one of more than five minutes ago."""
    start = request.get("StartDate")
    moment = datetime.fromisoformat(start) if isinstance(start, str) else start
    if isinstance(moment, datetime) and moment <= now:
        return {key: value for key, value in request.items() if key != "StartDate"}
    return dict(request)


def _keep_state(merged: Leaves, old: Leaves, desired: Mapping[str, Any]) -> None:
    """A pause of somebody, and a description of their own, stay."""
    live = nested(old)
    if stays_paused(live, desired):
        merged[("State",)] = "DISABLED"
    about = str(live.get("Description") or "")
    if about and not about.startswith("Starts the pipeline "):
        merged[("Description",)] = about
