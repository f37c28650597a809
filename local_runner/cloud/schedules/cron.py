"""Cron expressions of EventBridge: read, checked, and when they tick. No I/O; times here are local and have no zone.

Six fields: minutes, hours, day of month, month, day of week (1 is Sunday), year. One of the two day fields is ``?``.
Source: EventBridge Scheduler user guide, "Cron-based schedules"; EventBridge user guide, "Cron expressions".
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Generator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from aws_cron_expression_validator.validator import AWSCronExpressionError, AWSCronExpressionValidator

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SATURDAY = 7
_DAYS_OF_WEEK = 7
_FIRST_YEAR = 1970


@dataclass(frozen=True)
class Cron:
    """A cron expression. ``day_of_month`` and ``day_of_week`` are as written, in digits; one of them is ``?``."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    day_of_month: str
    months: tuple[int, ...]
    day_of_week: str
    years: tuple[int, ...]

    def ticks(self, after: datetime) -> Generator[datetime]:
        """The local times that fit, in order, later than ``after`` (to the minute)."""
        for year in self.years:
            if year < after.year:
                continue
            for month in self.months:
                if (year, month) >= (after.year, after.month):
                    yield from self._of_month(year, month, after)

    def _of_month(self, year: int, month: int, after: datetime) -> Generator[datetime]:
        for day in self.days(year, month):
            if date(year, month, day) < after.date():
                continue
            for hour in self.hours:
                for minute in self.minutes:
                    tick = datetime(year, month, day, hour, minute)
                    if tick > after:
                        yield tick

    def days(self, year: int, month: int) -> list[int]:
        """The days of a month that fit the two day fields."""
        last = calendar.monthrange(year, month)[1]
        if self.day_of_month != "?":
            return _days_of_month(self.day_of_month, year, month, last)
        by_weekday: dict[int, list[int]] = {number: [] for number in range(1, _DAYS_OF_WEEK + 1)}
        for day in range(1, last + 1):
            by_weekday[weekday(year, month, day)].append(day)
        field = self.day_of_week
        if field == "L":  # the last day of the week
            return by_weekday[_SATURDAY]
        if field.endswith("L"):
            return by_weekday[int(field[:-1])][-1:]
        if "#" in field:
            number, _, which = field.partition("#")
            return by_weekday[int(number)][int(which) - 1 : int(which)]
        return sorted(day for number in values(field, 1, _DAYS_OF_WEEK) for day in by_weekday[number])


def parse_cron(text: str) -> Cron:
    """The expression of ``cron(<text>)``. Raises ValueError with a sentence on what is wrong."""
    try:
        AWSCronExpressionValidator.validate(text)
    except AWSCronExpressionError as error:
        raise ValueError(str(error).replace(".One", ". One")) from None
    minute, hour, day_of_month, month, day_of_week, year = text.upper().split(" ")
    day_of_week = _digits(day_of_week, WEEKDAYS)
    if day_of_week.startswith("L-"):
        raise ValueError(
            f"The day of week '{day_of_week}' can be read in two ways. Write {day_of_week[2:]}L, or a day."
        )
    if day_of_month not in ("?", "L", "LW") and not day_of_month.endswith("W"):
        values(day_of_month, 1, 31)
    if day_of_week != "?" and "L" not in day_of_week and "#" not in day_of_week:
        values(day_of_week, 1, _DAYS_OF_WEEK)
    return Cron(
        text,
        values(minute, 0, 59),
        values(hour, 0, 23),
        day_of_month,
        values(_digits(month, MONTHS), 1, 12),
        day_of_week,
        values(year, _FIRST_YEAR, 2199),
    )


def values(field: str, lowest: int, highest: int) -> tuple[int, ...]:
    """The numbers that a field of lists, ranges and steps stands for.

    A range whose end is before its start goes on from the field's lowest number: hours ``20-2`` are 20 to 23 and 0 to
    2. AWS documents no such range: to read it so is our choice. Raises ValueError for one of years.
    """
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        start = lowest if first == "*" else int(first)
        # A number with a step goes on to the end of the field, as * does.
        end = start if not dash and first != "*" and not step else highest
        end = int(last) if dash and last != "*" else end
        size = highest - lowest + 1
        if start > end:
            if lowest == _FIRST_YEAR:
                raise ValueError(f"The years '{span}' run backwards. Write {last}-{first}.")
            end += size
        found.update((number - lowest) % size + lowest for number in range(start, end + 1, int(step or 1)))
    return tuple(sorted(found))


def weekday(year: int, month: int, day: int) -> int:
    """The number that AWS gives to the day of week: 1 is Sunday."""
    return date(year, month, day).isoweekday() % _DAYS_OF_WEEK + 1


def _digits(field: str, names: tuple[str, ...]) -> str:
    return re.sub("|".join(names), lambda match: str(names.index(match[0]) + 1), field)


def _days_of_month(field: str, year: int, month: int, last: int) -> list[int]:
    if field == "L":
        return [last]
    if field == "LW":
        return [_working_day(year, month, last, last)]
    if field.endswith("W"):
        day = int(field[:-1])
        return [_working_day(year, month, day, last)] if day <= last else []
    return [day for day in values(field, 1, 31) if day <= last]


def _working_day(year: int, month: int, day: int, last: int) -> int:
    """The day from Monday to Friday that is nearest to that day and in its month."""
    for offset in (0, -1, 1, -2, 2):
        near = day + offset
        if 1 <= near <= last and (date(year, month, day) + timedelta(offset)).weekday() < 5:
            return near
    raise AssertionError("two of five days in a row are working days")
