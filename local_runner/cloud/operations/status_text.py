"""Status and release records -> lines for people and JSON for programs. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.change.models import FieldChange
from local_runner.cloud.operations.status import Drift, Status
from local_runner.cloud.release.record import ReleaseRecord
from local_runner.report.text import duration, first_line, fit, printable

_LONGEST_VALUE = 60


def status_lines(status: Status) -> list[str]:
    """The status as a reader of the terminal gets it."""
    lines = [f"{status.pipeline_name} in account {status.account}, {status.region}", ""]
    lines += [*_block("Release", _release(status)), *_block("Schedule", _schedule(status))]
    lines += _block("Last executions", [_execution(item) for item in status.executions] or ["none"])
    if status.release:
        drift = [line for item in status.drift for line in _drift(item)]
        lines += _block("Drift", drift or ["none: pipeline and schedule are as the release left them"])
    return lines[:-1]


def status_record(status: Status) -> dict[str, Any]:
    """The status as ``--json`` prints it; times are ISO 8601, durations seconds."""
    schedule = status.schedule
    return {
        "environment": status.environment,
        "account": status.account,
        "region": status.region,
        "pipeline_name": status.pipeline_name,
        "release": status.release and release_record(status.release, current=True),
        "tested_here": status.tested_here,
        "schedule": schedule
        and {
            "kind": schedule.kind,
            "name": schedule.name,
            "words": schedule.description,
            "paused": schedule.paused,
            "next": [tick.at.isoformat() for tick in schedule.ticks if not tick.skipped],
        },
        "executions": [
            {
                "id": item.id,
                "arn": item.arn,
                "status": item.status,
                "started": item.started.astimezone(UTC).isoformat(),
                "seconds": round(item.seconds, 1),
                "failure_reason": item.failure_reason,
            }
            for item in status.executions
        ],
        "drift": [
            {
                "resource": item.resource,
                "name": item.name,
                "gone": item.missing,
                "fields": [
                    {"path": field.path, "release": field.before, "account": field.after} for field in item.fields
                ],
            }
            for item in status.drift
        ],
    }


def release_record(release: ReleaseRecord, *, current: bool) -> dict[str, Any]:
    """A release without its definition, which is long, for ``--json``."""
    return {**release.model_dump(mode="json", exclude={"definition"}), "current": current}


def release_lines(releases: Sequence[ReleaseRecord]) -> list[str]:
    """One line for each release, the newest first; the newest is the current one."""
    rows = [
        (
            f"{'*' if release is releases[-1] else ' '} {release.number}",
            _moment(release.created),
            _who(release),
            _commit(release),
            _verified(release) + (f"; brings back release {release.restores}" if release.restores else ""),
        )
        for release in releases[::-1]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]) for row in rows
    ]


def _block(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {printable(line)}" for line in lines), ""]


def _release(status: Status) -> list[str]:
    release = status.release
    if release is None:
        return [f"none yet: local-runner promote --env {status.environment}"]
    lines = [f"{release.number}, of {_moment(release.created)}, by {_who(release)}, {_commit(release)}"]
    if release.restores:
        lines.append(f"brings back release {release.restores}")
    if status.tested_here:
        return [*lines, f"tested here: local run {status.tested_here} is of the same definition, code and image"]
    return [*lines, f"{_verified(release)}; no run in this project is of the same definition, code and image"]


def _schedule(status: Status) -> list[str]:
    schedule = status.schedule
    if schedule is None:
        return ["none: the pipeline starts only with local-runner trigger"]
    if schedule.paused:
        resume = f"local-runner resume --env {status.environment}"
        return [f"{schedule.description}, PAUSED: nothing is started. To go on: {resume}"]
    return [schedule.description, *(f"next: {tick}{' (skipped)' if tick.skipped else ''}" for tick in schedule.ticks)]


def _execution(item: Any) -> str:
    started = item.started.astimezone(UTC)
    text = f"{item.id}  {started:%Y-%m-%d %H:%M} UTC  {item.status}  {duration(item.seconds)}"
    return f"{text}  {first_line(item.failure_reason)}" if item.failure_reason else text


def _drift(item: Drift) -> list[str]:
    if item.missing:
        return [f"{item.resource} {item.name}: is not there any more"]
    return [f"{item.resource} {item.name}:", *(f"  {_field(field)}" for field in item.fields)]


def _field(field: FieldChange) -> str:
    return f"{field.path}: {_shown(field.before)} in the release, {_shown(field.after)} in the account"


def _shown(value: Any) -> str:
    return "nothing" if value is None else fit(json.dumps(value, default=str), _LONGEST_VALUE)


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _who(release: ReleaseRecord) -> str:
    """The last part of an ARN says who: the user's name, or that of the session of a role."""
    return release.created_by.rpartition("/")[2]


def _commit(release: ReleaseRecord) -> str:
    if release.git_commit is None:
        return "no commit"
    return f"commit {release.git_commit[:8]}{' with changes' if release.git_dirty else ''}"


def _verified(release: ReleaseRecord) -> str:
    if release.verified_by:
        return f"tested by local run {release.verified_by}"
    return f"not tested: {release.unverified_reason or 'no reason given'}"
