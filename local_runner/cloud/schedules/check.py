"""What is wrong with a schedule's settings, before any call. No I/O.

The services check little of this when a schedule is made: a cron expression that never fires, or a parameter that the
pipeline does not have, would show on the day that nothing starts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from datetime import datetime
from typing import Any, cast

from local_runner.cloud.account.aws import CloudError
from local_runner.cloud.schedules.request import in_zone
from local_runner.cloud.schedules.ticks import At, fires, parse_expression, zone
from local_runner.cloud.target.environment import ScheduleSettings
from local_runner.definition.references import did_you_mean
from local_runner.models import PipelineDefinition

_CONTEXT = ("schedule-arn", "scheduled-time", "execution-id", "attempt-number")
"""Context attributes: ``<aws.scheduler.NAME>`` (EventBridge Scheduler user guide, "Adding context attributes")."""

_JSON_PATH = re.compile(r"\$(\.[\w-]+(\[\d+\])?)+")
_MOST_PATTERN = 4096
_MOST_VALUE = 1024


def check_schedule(settings: ScheduleSettings, definition: PipelineDefinition, now: datetime) -> None:
    """Raises CloudError with every problem of the settings."""
    found = list(problems(settings, definition, now))
    if found:
        lines = "\n".join(f"  {problem}" for problem in found)
        raise CloudError(f"The schedule of the environment (local_runner.toml) has {len(found)} problem(s):\n{lines}")


def problems(settings: ScheduleSettings, definition: PipelineDefinition, now: datetime) -> Generator[str]:
    """The problems, each as ``setting: what is wrong, and what to do``."""
    yield from _of_rule(settings) if settings.kind == "rule" else _of_scheduler(settings)
    yield from _of_time(settings, now)
    yield from _of_parameters(settings, definition)
    queue = settings.dead_letter_queue
    if queue and not re.fullmatch(r"arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:[\w-]+", queue):
        yield f"dead_letter_queue: '{queue}' is not the ARN of a standard SQS queue."


def _of_scheduler(settings: ScheduleSettings) -> Generator[str]:
    if settings.event_pattern is not None:
        yield 'event_pattern: a schedule of EventBridge Scheduler has none. Set kind = "rule", or leave it out.'
    if settings.expression is None:
        yield "expression: it is missing. Write one, such as cron(0 6 * * ? *)."


def _of_rule(settings: ScheduleSettings) -> Generator[str]:
    if (settings.expression is None) == (settings.event_pattern is None):
        yield "expression: a rule has either an expression or an event_pattern. Leave one of them."
    if settings.timezone != "UTC":
        yield f'timezone: rules know only UTC. Leave {settings.timezone} out, or set kind = "scheduler".'
    for name in ("start_date", "end_date", "flexible_window_in_minutes"):
        if getattr(settings, name) is not None:
            yield f'{name}: rules have none. Leave it out, or set kind = "scheduler".'
    if settings.expression and settings.expression.startswith("at("):
        yield 'expression: rules know cron(...) and rate(...) only. Set kind = "scheduler".'
    if settings.event_pattern is not None:
        yield from _of_pattern(settings.event_pattern)


def _of_pattern(pattern: Mapping[str, Any], where: str = "event_pattern") -> Generator[str]:
    if not pattern:
        yield f'{where}: it is empty. An empty pattern is refused; name a source, such as source = ["aws.s3"].'
    if where == "event_pattern" and len(json.dumps(pattern)) > _MOST_PATTERN:
        yield f"{where}: it is longer than {_MOST_PATTERN} characters."
    for key, value in pattern.items():
        if isinstance(value, Mapping):
            yield from _of_pattern(cast("Mapping[str, Any]", value), f"{where}.{key}")
        elif not isinstance(value, list):
            yield f"{where}.{key}: values stand in a list. Write [{json.dumps(value, default=str)}]."


def _of_time(settings: ScheduleSettings, now: datetime) -> Generator[str]:
    try:
        zone(settings.timezone)
    except ValueError as error:
        yield f"timezone: {error}"
        return
    start, end = settings.start_date, settings.end_date
    if start and end and in_zone(start, settings.timezone) >= in_zone(end, settings.timezone):
        yield f"end_date: {end} is not after the start_date {start}."
        return
    if settings.expression is None:
        return
    try:
        expression = parse_expression(settings.expression)
    except ValueError as error:
        yield f"expression: {error}"
        return
    if not fires(settings, now):
        if isinstance(expression, At):
            why = "that time has passed, or does not exist in the time zone, or lies outside of start and end date"
        else:
            why = "no day from now on fits its fields" + (" between start_date and end_date" if start or end else "")
        yield f"expression: '{settings.expression}' never starts anything: {why}."


def _of_parameters(settings: ScheduleSettings, definition: PipelineDefinition) -> Generator[str]:
    known = {parameter.name: parameter for parameter in definition.parameters}
    for name, value in settings.parameters.items():
        where = f"parameters.{name}"
        if name not in known:
            yield f"{where}: the pipeline has no such parameter. {did_you_mean(name, known)}".rstrip()
        if not value or len(value) > _MOST_VALUE:
            yield f"{where}: a value has 1 to {_MOST_VALUE} characters."
        if settings.kind == "rule" and not re.fullmatch(r"[A-Za-z0-9](-*[A-Za-z0-9])*", name):
            yield f"{where}: in a rule, names of parameters have letters, digits and hyphens only (EventBridge API)."
        yield from _of_value(where, value, settings.kind)
    for parameter in definition.parameters:
        if parameter.default is None and parameter.name not in settings.parameters:
            example = "$.time" if settings.kind == "rule" else "<aws.scheduler.scheduled-time>"
            yield (
                f"parameters: the pipeline's {parameter.name} has no default, and an execution without it fails. "
                f'Give it a value, such as {parameter.name} = "{example}".'
            )


def _of_value(where: str, value: str, kind: str) -> Generator[str]:
    attribute = re.search(r"<aws\.scheduler\.([^>]*)>", value)
    if attribute and kind == "rule":
        yield f"{where}: {attribute[0]} is known to EventBridge Scheduler only. In a rule, write $.time."
    elif attribute and attribute[1] not in _CONTEXT:
        names = ", ".join(f"<aws.scheduler.{name}>" for name in _CONTEXT)
        yield f"{where}: there is no {attribute[0]}. Context attributes: {names}."
    if value.startswith("$."):
        if kind == "scheduler":
            yield f'{where}: a path into an event ({value}) has a value in rules only: kind = "rule".'
        elif not _JSON_PATH.fullmatch(value):
            yield f"{where}: EventBridge does not read '{value}'. Write names and indexes: $.detail.object.key."
