"""When a schedule starts the pipeline, as a text for people: ``every day at 06:00 Europe/Berlin``. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from local_runner.cloud.schedules.cron import Cron, values
from local_runner.cloud.schedules.ticks import At, Rate, parse_expression

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_MOST_TIMES = 4


def describe_schedule(request: Mapping[str, Any]) -> str:
    """What a request of a schedule or rule means; one that cannot be read is shown as it is written."""
    if request.get("ScheduleExpression"):
        timezone = str(request.get("ScheduleExpressionTimezone") or "UTC")
        try:
            text = describe_expression(str(request["ScheduleExpression"]), timezone)
        except ValueError:
            text = f"{request['ScheduleExpression']} {timezone}"
    else:
        text = f"on events {request['EventPattern']}" if request.get("EventPattern") else "never"
    return f"{text} (paused)" if request.get("State") == "DISABLED" else text


def describe_expression(expression: str, timezone: str = "UTC") -> str:
    """When the expression starts something. Raises ValueError where it is none."""
    match parse_expression(expression):
        case Rate(value=value, unit=unit):
            return f"every {unit}" if value == 1 else f"every {value} {unit}s"
        case At(local=local):
            return f"once, on {local:%Y-%m-%d} at {local:%H:%M} {timezone}"
        case Cron() as cron:
            return f"{_days(cron)} {_times(cron)} {timezone}".strip().replace("every day every", "every")


def _days(cron: Cron) -> str:
    text = _day_of_month(cron.day_of_month) if cron.day_of_month != "?" else _day_of_week(cron.day_of_week)
    if len(cron.months) < len(_MONTHS):
        text = text.removesuffix(" of the month")
        text += (
            f" {'of' if cron.day_of_month not in ('?', '*') else 'in'} {_listed([_MONTHS[m - 1] for m in cron.months])}"
        )
    first, last = cron.years[0], cron.years[-1]
    if len(cron.years) < len(range(1970, 2200)):
        text += (
            f" in {first} to {last}"
            if cron.years == tuple(range(first, last + 1)) and first < last
            else (f" in {_listed([str(year) for year in cron.years])}")
        )
    return text


def _day_of_month(field: str) -> str:
    if field == "*":
        return "every day"
    if field in ("L", "LW"):
        return f"on the last {'working day' if field == 'LW' else 'day'} of the month"
    if field.endswith("W"):
        return f"on the working day nearest to day {field[:-1]} of the month"
    days = values(field, 1, 31)
    return f"on day{'s' if len(days) > 1 else ''} {_listed([str(day) for day in days])} of the month"


def _day_of_week(field: str) -> str:
    if field == "L":
        return "every Saturday"
    if field.endswith("L"):
        return f"on the last {_WEEKDAYS[int(field[:-1]) - 1]} of the month"
    if "#" in field:
        number, _, which = field.partition("#")
        return f"on the {_ORDINALS[int(which) - 1]} {_WEEKDAYS[int(number) - 1]} of the month"
    days = values(field, 1, 7)
    if len(days) == len(_WEEKDAYS):
        return "every day"
    names = [_WEEKDAYS[day - 1] for day in days]
    in_a_row = len(days) > 2 and days == tuple(range(days[0], days[-1] + 1))
    return f"every {names[0]} to {names[-1]}" if in_a_row else f"every {_listed(names)}"


def _times(cron: Cron) -> str:
    minutes, hours = cron.minutes, cron.hours
    if len(minutes) * len(hours) <= _MOST_TIMES:
        return f"at {_listed([f'{hour:02}:{minute:02}' for hour in hours for minute in minutes])}"
    every_hour = len(hours) == len(range(24))
    if len(minutes) == len(range(60)):
        return "every minute" if every_hour else f"every minute of the hours {_spans(hours)}"
    step = minutes[1] - minutes[0] if len(minutes) > 1 else 0
    if step and 60 % step == 0 and minutes == tuple(range(0, 60, step)):
        return f"every {step} minutes" + ("" if every_hour else f" of the hours {_spans(hours)}")
    named = f"minute{'s' if len(minutes) > 1 else ''} {_spans(minutes)}"
    return f"at {named} of every hour" if every_hour else f"at {named} of the hours {_spans(hours)}"


def _spans(numbers: Sequence[int]) -> str:
    """``0, 15 and 30``, or ``6 to 9`` for numbers in a row."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return _listed([str(number) for number in numbers])


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
