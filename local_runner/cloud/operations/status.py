"""How a release is doing: its release, schedule, executions, and what differs from the release. Reads only.

The account's answers and the records -> Status; :mod:`local_runner.cloud.operations.status_text` shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_runner.cloud.change.fields import field_changes, shown
from local_runner.cloud.change.models import FieldChange, ResourceKind
from local_runner.cloud.executions.api import CloudExecution, latest_executions
from local_runner.cloud.release.record import ReleaseRecord
from local_runner.cloud.release.store import current_release, without_secrets
from local_runner.cloud.resources.schedule import find_schedule_or_rule
from local_runner.cloud.resources.schedule_merge import without_past_start
from local_runner.cloud.schedules.description import describe_schedule
from local_runner.cloud.schedules.ticks import Tick, next_ticks
from local_runner.cloud.target.environment import ScheduleSettings
from local_runner.cloud.target.target import Target
from local_runner.fingerprint import verified_runs
from local_runner.secrets import Secrets

_EXECUTIONS = 5
_TICKS = 3
# What the service adds to a schedule by itself (API reference, GetSchedule: the default of ActionAfterCompletion).
_DEFAULTS = {"ActionAfterCompletion": "NONE"}


@dataclass(frozen=True)
class Drift:
    """What differs in one resource between the release's record (``before``) and the account (``after``).

    ``missing``: the resource is not there at all.
    """

    resource: ResourceKind
    name: str
    fields: tuple[FieldChange, ...] = ()
    missing: bool = False


@dataclass(frozen=True)
class ScheduleStatus:
    """The schedule as the account has it. ``description`` is when it starts the pipeline; a paused one has no ticks."""

    kind: str
    name: str
    description: str
    paused: bool
    ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Status:
    """``release`` is None where nothing was promoted; ``tested_here`` is the newest local run that proves it."""

    environment: str
    account: str
    region: str
    pipeline_name: str
    release: ReleaseRecord | None
    tested_here: str | None
    schedule: ScheduleStatus | None
    executions: tuple[CloudExecution, ...]
    drift: tuple[Drift, ...]


def read_status(target: Target, state: Path, now: datetime | None = None) -> Status:
    """The release as it is doing. Raises AwsError, and CloudError where a record cannot be read."""
    aws, names = target.aws, target.names
    now = now or datetime.now(UTC)
    with aws.reading():
        release = current_release(target)
        pipeline = aws.find("sagemaker", "describe_pipeline", PipelineName=names.pipeline_name)
        found = find_schedule_or_rule(aws, names.schedule)
        executions = latest_executions(aws, names.pipeline_name, _EXECUTIONS) if pipeline else []
        schedule = _schedule(found[0], found[1], target, now) if found else None
    tested = [
        run.execution_id for run in verified_runs(state) if release and run.fingerprint.value == release.fingerprint
    ]
    live = found[1] if found else None
    drift = drift_from(release, pipeline, live, names.schedule, now, target.secrets) if release else ()
    return Status(
        environment=names.environment,
        account=aws.account,
        region=aws.region,
        pipeline_name=names.pipeline_name,
        release=release and without_secrets(release, target.secrets),
        tested_here=tested[0] if tested else None,
        schedule=schedule,
        executions=tuple(executions),
        drift=drift,
    )


def drift_from(
    release: ReleaseRecord,
    pipeline: Mapping[str, Any] | None,
    schedule: Mapping[str, Any] | None,
    schedule_name: str,
    now: datetime,
    secrets: Secrets,
) -> tuple[Drift, ...]:
    """What differs from the release's record. A pause is no drift; a secret of the schedule is not compared."""
    found: list[Drift] = []
    if pipeline is None:
        found.append(Drift(ResourceKind.PIPELINE, release.pipeline_name, missing=True))
    else:
        recorded = {"PipelineDefinition": json.loads(release.definition), "RoleArn": release.role_arn}
        live = {
            "PipelineDefinition": json.loads(pipeline["PipelineDefinition"]),
            "RoleArn": pipeline["RoleArn"],
        }
        found += _changed(ResourceKind.PIPELINE, release.pipeline_name, recorded, live, secrets)
    kind = ResourceKind.RULE if release.schedule_kind == "rule" else ResourceKind.SCHEDULE
    if release.schedule is not None and schedule is None:
        found.append(Drift(kind, schedule_name, missing=True))
    elif schedule is not None:
        recorded = secrets.names.without(_timeless(release.schedule or {}, now))
        live = secrets.names.without(_timeless(schedule, now))
        found += _changed(kind, schedule_name, recorded, live, secrets)
    return tuple(found)


def _changed(
    resource: ResourceKind, name: str, recorded: Mapping[str, Any], live: Mapping[str, Any], secrets: Secrets
) -> list[Drift]:
    fields = shown(field_changes(recorded, live), secrets)
    return [Drift(resource, name, fields)] if fields else []


def _timeless(request: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The request without what says nothing: whether it is paused, a start that is past, the service's defaults."""
    kept = without_past_start(request, now)
    return {key: value for key, value in kept.items() if key != "State" and _DEFAULTS.get(key) != value}


def _schedule(kind: str, live: Mapping[str, Any], target: Target, now: datetime) -> ScheduleStatus:
    paused = live.get("State") == "DISABLED"
    description = describe_schedule({key: value for key, value in live.items() if key != "State"})
    ticks: tuple[Tick, ...] = ()
    if not paused and live.get("ScheduleExpression"):
        settings = ScheduleSettings(
            expression=live["ScheduleExpression"],
            timezone=live.get("ScheduleExpressionTimezone") or "UTC",
            start_date=live.get("StartDate"),
            end_date=live.get("EndDate"),
        )
        try:
            ticks = tuple(next_ticks(settings, now, _TICKS, _created(kind, target, settings)))
        except ValueError:
            ticks = ()  # an expression of somebody else's, which the description shows as it is written
    return ScheduleStatus(kind, str(live["Name"]), description, paused, ticks)


def _created(kind: str, target: Target, settings: ScheduleSettings) -> datetime | None:
    """When a rate began to count; asked only where it matters, and not known of a rule."""
    if kind == "rule" or not str(settings.expression).startswith("rate(") or settings.start_date:
        return None
    return target.aws.call("scheduler", "get_schedule", Name=target.names.schedule)["CreationDate"]
