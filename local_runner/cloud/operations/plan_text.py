"""A plan as lines for people, and as JSON. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.change.definition import CODE
from local_runner.cloud.change.fields import shown
from local_runner.cloud.change.models import Change, FieldChange
from local_runner.cloud.operations.promote import ReleasePlan
from local_runner.cloud.release.model import DesiredRelease
from local_runner.cloud.schedules.description import describe_schedule
from local_runner.cloud.schedules.ticks import Tick, next_ticks, uses_time, values_at
from local_runner.cloud.target.environment import ScheduleSettings
from local_runner.secrets import Secrets

_SIGNS = {"create": "+", "update": "~", "delete": "-"}
_SHOWN_FIELDS = 12
_SHOWN_CHARACTERS = 90
_QUIET = ("Tags.local-runner:", "fingerprint", "definition")


def plan_lines(planned: ReleasePlan, desired: DesiredRelease) -> list[str]:
    """The plan, a line each."""
    target, aws = desired.target, desired.target.aws
    name = target.names.pipeline_name
    lines = [f"{name} in {aws.account}, {aws.region} (environment {target.environment.name})", ""]
    for change in planned.changes:
        lines.append(f"  {_SIGNS[change.action]} {change.resource} {change.name}: {change.summary}")
        lines += [f"      {line}" for line in _fields(change, target.secrets)]
    if not planned.changes:
        number = planned.current.number if planned.current else 0
        lines.append(f"  Nothing to change: release {number} is what is wanted.")
    lines += ["", *_now(planned), *_schedule(planned, desired)]
    lines += [f"  Note: {note}" for note in planned.notes]
    gate = planned.gate
    if gate.verified_by:
        lines.append(f"  Tested by the local execution {gate.verified_by}.")
    else:
        lines += ["  Not tested by a local run:", *(f"    - {line}" for line in gate.untested)]
    return lines


def _now(planned: ReleasePlan) -> list[str]:
    """What the account holds: the release, and what runs of it. An execution goes on with the definition it has."""
    release = planned.current
    lines: list[str] = []
    if release:
        commit = f" from commit {release.git_commit[:12]}" if release.git_commit else ""
        dirty = " with uncommitted changes" if release.git_dirty else ""
        lines.append(
            f"  There now: release {release.number}, of {release.created} by {release.created_by}{commit}{dirty}."
        )
    if running := planned.running:
        them = "1 execution runs" if len(running) == 1 else f"{len(running)} executions run"
        lines.append(
            f"  {them} now, and go on as they were started: {', '.join(running[:3])}{' ...' * (len(running) > 3)}"
        )
    return lines


def _fields(change: Change, secrets: Secrets) -> list[str]:
    if change.action != "update":
        return []
    fields = [item for item in shown(change.fields, secrets) if not item.path.startswith(_QUIET)]
    lines = [_field(item) for item in fields[:_SHOWN_FIELDS]]
    if len(fields) > _SHOWN_FIELDS:
        lines.append(f"and {len(fields) - _SHOWN_FIELDS} more (--json has them all)")
    return lines


def _field(change: FieldChange) -> str:
    if change.path.startswith(CODE):
        return f"{change.path} changed: {change.after}"
    if change.path.startswith("step "):
        return f"{change.path}: {change.after or change.before}"
    if change.before is None:
        return f"{change.path}: {_short(change.after)} (new)"
    if change.after is None:
        return f"{change.path}: {_short(change.before)} is removed"
    return f"{change.path}: {_short(change.before)} -> {_short(change.after)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _schedule(planned: ReleasePlan, desired: DesiredRelease) -> list[str]:
    wanted = planned.supporting.schedule.desired
    settings = desired.target.environment.schedule
    if wanted is None or settings is None:
        return ["  Schedule: none."]
    lines = [f"  Schedule: {describe_schedule(wanted.request)}"]
    if settings.expression:
        ticks = next_ticks(settings, datetime.now(UTC))
        lines += [f"    next: {_start(tick, settings, desired.target.secrets)}" for tick in ticks]
        lines += _other_days(ticks, settings)
    return lines


def _start(tick: Tick, settings: ScheduleSettings, secrets: Secrets) -> str:
    """A start, in both times, and what the parameters get."""
    if tick.skipped:
        return str(tick)
    utc = "" if settings.timezone == "UTC" else f" = {tick.utc:%a %H:%M} UTC"
    values = [f"{name} = {value}" for name, value in secrets.hidden_named(values_at(settings, tick)).items()]
    return f"{tick}{utc}" + (f": {', '.join(values)}" if values else "")


def _other_days(ticks: Sequence[Tick], settings: ScheduleSettings) -> list[str]:
    """A warning where what reads the day from the time of the start reads another one than the clock shows."""
    names = [name for name, value in settings.parameters.items() if uses_time(value, settings.kind)]
    odd = [tick for tick in ticks if tick.is_another_day_in_utc and not tick.skipped]
    if not names or not odd:
        return []
    first, them = odd[0], ", ".join(names)
    return [
        f"    Note: {them} gets the time in UTC. {first.at:%Y-%m-%d %H:%M} in {settings.timezone} is still or already "
        f"{first.utc:%Y-%m-%d} there: what reads the day from it reads another day than the local one."
    ]


def _starts(desired: DesiredRelease) -> list[dict[str, Any]]:
    settings, secrets = desired.target.environment.schedule, desired.target.secrets
    ticks = next_ticks(settings, datetime.now(UTC)) if settings and settings.expression else []
    return [
        {
            "local": tick.at.isoformat(),
            "utc": tick.utc.isoformat(),
            "parameters": secrets.hidden_named(values_at(settings, tick)),
        }
        for tick in ticks
        if settings and not tick.skipped
    ]


def plan_record(planned: ReleasePlan, desired: DesiredRelease) -> dict[str, Any]:
    """The plan as JSON-ready data."""
    target = desired.target
    return {
        "environment": target.environment.name,
        "account": target.aws.account,
        "region": target.aws.region,
        "pipeline": target.names.pipeline_name,
        "fingerprint": desired.fingerprint.value,
        "verified_by": planned.gate.verified_by,
        "untested": list(planned.gate.untested),
        "current_release": planned.current.number if planned.current else None,
        "running": list(planned.running),
        "changes": [
            {
                "resource": change.resource,
                "name": change.name,
                "action": change.action,
                "summary": change.summary,
                "fields": [
                    {"path": item.path, "before": item.before, "after": item.after}
                    for item in shown(change.fields, target.secrets)
                ],
            }
            for change in planned.changes
        ],
        "next_starts": _starts(desired),
        "notes": list(planned.notes),
        "aws_calls": len(target.aws.calls),
    }
