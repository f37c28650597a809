"""``[environments.NAME.schedule]`` -> the request that makes it so in the account. No I/O.

The same request goes to the service, into the record of a release and into an export, so it is JSON: times are texts in
ISO 8601, UTC. Of kind ``scheduler`` it is what CreateSchedule gets; of kind ``rule`` what PutRule gets, with the entry
of PutTargets as ``Target``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from local_runner.cloud.target.environment import ScheduleSettings
from local_runner.secrets import SecretNames

Kind = Literal["scheduler", "rule"]

TARGET_ID = "pipeline"
"""The Id of a rule's target (API shape Target of EventBridge)."""

PARAMETER_LIST = {"PipelineParameterList": "Name"}
WHOLE = frozenset({"FlexibleTimeWindow"})
"""Its two fields only make sense together: a window that is OFF has no length."""

WHOLLY_OURS = frozenset({("ScheduleExpression",), ("EventPattern",)})
"""A rule may have both: what the settings do not say is not wanted, whoever set it."""

OFF_IN_SETTINGS = "Disabled by local_runner.toml (enabled = false)."
"""Ends the description of a schedule that the settings turned off, to distinguish it from one that somebody paused."""


@dataclass(frozen=True)
class DesiredSchedule:
    """What is wanted. ``defaults`` are the paths of what no setting says: there, what others set is kept."""

    kind: Kind
    request: Mapping[str, Any]
    defaults: frozenset[tuple[str, ...]] = frozenset()


def desired_schedule(settings: ScheduleSettings, name: str, pipeline_arn: str, role_arn: str) -> DesiredSchedule:
    """The schedule or rule ``name`` that starts the pipeline. ``role_arn``: where the settings give none.

    Source: API CreateSchedule of EventBridge Scheduler, PutRule and PutTargets of EventBridge.
    """
    target: dict[str, Any] = {
        "Arn": pipeline_arn,
        "RoleArn": settings.role_arn or role_arn,
        "RetryPolicy": {
            "MaximumEventAgeInSeconds": settings.maximum_event_age_in_seconds,
            "MaximumRetryAttempts": settings.maximum_retry_attempts,
        },
    }
    if settings.parameters:
        parameters = [{"Name": key, "Value": value} for key, value in settings.parameters.items()]
        target["SageMakerPipelineParameters"] = {"PipelineParameterList": parameters}
    if settings.dead_letter_queue:
        target["DeadLetterConfig"] = {"Arn": settings.dead_letter_queue}
    request: dict[str, Any] = {"Name": name}
    if settings.expression:
        request["ScheduleExpression"] = settings.expression
    request |= _of_rule(settings) if settings.kind == "rule" else _of_schedule(settings)
    about = f"Starts the pipeline {pipeline_arn.rpartition('/')[2]}."
    request["Description"] = about if settings.enabled else f"{about} {OFF_IN_SETTINGS}"
    request["State"] = "ENABLED" if settings.enabled else "DISABLED"
    if settings.kind == "rule":
        target = {"Id": TARGET_ID, **target}
    request["Target"] = target
    if settings.kind == "scheduler":
        request = with_parameter_list(request)
    return DesiredSchedule(settings.kind, request, _defaults(settings))


def with_parameter_list(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request of a schedule with a list of parameters where its target is a pipeline: an empty one, at least.

    The Scheduler refuses a pipeline without one ("Parameters SageMakerPipelineParameters must be specified", in
    hashicorp/terraform-provider-aws issue 33526).
    """
    target: Mapping[str, Any] = request["Target"]
    if ":pipeline/" not in str(target["Arn"]).lower():
        return dict(request)
    parameters: dict[str, Any] = {"PipelineParameterList": [], **(target.get("SageMakerPipelineParameters") or {})}
    return {**request, "Target": {**target, "SageMakerPipelineParameters": parameters}}


def with_secrets_as(
    request: Mapping[str, Any], secret: SecretNames, instead: Callable[[str], Any]
) -> Mapping[str, Any]:
    """The request with ``instead(name)`` for the value of each parameter whose name is secret."""
    target: Mapping[str, Any] = request["Target"]
    listed = target.get("SageMakerPipelineParameters", {}).get("PipelineParameterList", [])
    if not any(item["Name"] in secret for item in listed):
        return request
    parameters = [{**item, "Value": instead(item["Name"])} if item["Name"] in secret else item for item in listed]
    return {**request, "Target": {**target, "SageMakerPipelineParameters": {"PipelineParameterList": parameters}}}


def settings_of(kind: Kind, request: Mapping[str, Any]) -> ScheduleSettings:
    """The settings that say when a request starts something: one of a record, or what is in the account."""
    return ScheduleSettings.model_validate(
        {
            "kind": kind,
            "expression": request.get("ScheduleExpression"),
            "event_pattern": json.loads(request.get("EventPattern") or "null"),
            "timezone": request.get("ScheduleExpressionTimezone") or "UTC",
            "start_date": request.get("StartDate"),
            "end_date": request.get("EndDate"),
            "enabled": request.get("State") != "DISABLED",
        }
    )


def _of_schedule(settings: ScheduleSettings) -> dict[str, Any]:
    window = settings.flexible_window_in_minutes
    made: dict[str, Any] = {
        "ScheduleExpressionTimezone": settings.timezone,
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": window} if window else {"Mode": "OFF"},
    }
    for key, value in (("StartDate", settings.start_date), ("EndDate", settings.end_date)):
        if value:
            made[key] = in_zone(value, settings.timezone).astimezone(UTC).isoformat().replace("+00:00", "Z")
    return made


def _of_rule(settings: ScheduleSettings) -> dict[str, Any]:
    return {"EventPattern": json.dumps(settings.event_pattern, sort_keys=True)} if settings.event_pattern else {}


def _defaults(settings: ScheduleSettings) -> frozenset[tuple[str, ...]]:
    paths: dict[str, tuple[str, ...]] = {
        "timezone": ("ScheduleExpressionTimezone",),
        "flexible_window_in_minutes": ("FlexibleTimeWindow",),
        "maximum_retry_attempts": ("Target", "RetryPolicy", "MaximumRetryAttempts"),
        "maximum_event_age_in_seconds": ("Target", "RetryPolicy", "MaximumEventAgeInSeconds"),
    }
    return frozenset({path for name, path in paths.items() if name not in settings.model_fields_set})


def in_zone(moment: datetime, timezone: str) -> datetime:
    """A moment of the settings: one that does not say its offset is meant in the schedule's time zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(timezone))
