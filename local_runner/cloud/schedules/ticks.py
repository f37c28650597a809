"""When a schedule starts the pipeline: its expression, in its time zone, between its dates. No I/O.

On the day that clocks go forward, a time that does not exist is skipped; on the day that they go back, a time that
comes twice runs once (EventBridge Scheduler user guide, "Daylight savings time"). Which of the two is not documented:
here it is the first. A rate counts hours of 60 minutes and days of 24 hours, whatever clocks do.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from local_runner.cloud.schedules.cron import Cron, parse_cron
from local_runner.cloud.schedules.request import Kind, in_zone
from local_runner.cloud.target.environment import ScheduleSettings

SCHEDULED_TIME = "<aws.scheduler.scheduled-time>"
EVENT_TIME = "$.time"
_RATE = re.compile(r"rate\((?P<value>[1-9]\d{0,8}) (?P<unit>minute|hour|day)(?P<plural>s?)\)")
_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
_CRON = re.compile(r"cron\((.*)\)")


@dataclass(frozen=True)
class Rate:
    """``rate(value unit)``"""

    value: int
    unit: str

    @property
    def period(self) -> timedelta:
        """The time from one tick to the next."""
        return timedelta(**{f"{self.unit}s": self.value})


@dataclass(frozen=True)
class At:
    """``at(local time)``: once."""

    local: datetime


Expression = Cron | Rate | At


@dataclass(frozen=True)
class Tick:
    """A start of the pipeline, in the schedule's time zone. ``note`` says what is odd about the day, or is empty.

    ``skipped``: clocks jump over that local time, so that nothing starts.
    """

    at: datetime
    note: str = ""
    skipped: bool = False

    def __str__(self) -> str:
        text = f"{self.at:%a %Y-%m-%d %H:%M} {self.at.tzname() if not self.skipped else ''}".rstrip()
        return f"{text} ({self.note})" if self.note else text

    @property
    def utc(self) -> datetime:
        """The same moment in UTC."""
        return self.at.astimezone(UTC)

    @property
    def is_another_day_in_utc(self) -> bool:
        """Whether the moment has another date in UTC than in the schedule's time zone."""
        return self.utc.date() != self.at.date()


def uses_time(value: str, kind: Kind) -> bool:
    """Whether the value of a schedule's parameter holds the time of the start, which services give in UTC."""
    return value == EVENT_TIME if kind == "rule" else SCHEDULED_TIME in value


def values_at(settings: ScheduleSettings, tick: Tick) -> dict[str, str]:
    """What the pipeline's parameters get at that tick, as far as it is known before.

    Source: EventBridge Scheduler user guide, "Adding context attributes" (the scheduled time in UTC, to the second); a
    rule on an expression gives the time of its event, the same.
    """
    text = f"{tick.utc:%Y-%m-%dT%H:%M:%SZ}"
    if settings.kind == "rule":
        return {name: text if value == EVENT_TIME else value for name, value in settings.parameters.items()}
    return {name: value.replace(SCHEDULED_TIME, text) for name, value in settings.parameters.items()}


def parse_expression(text: str) -> Expression:
    """The expression. Raises ValueError with a sentence on what is wrong with it."""
    if match := _CRON.fullmatch(text):
        return parse_cron(match[1])
    if match := _RATE.fullmatch(text):
        value = int(match["value"])
        if (value == 1) == bool(match["plural"]):
            right = f"rate({value} {match['unit']}{'' if value == 1 else 's'})"
            raise ValueError(f"'{text}' is refused by AWS: write {right}.")
        return Rate(value, match["unit"])
    if match := _AT.fullmatch(text):
        try:
            return At(datetime.fromisoformat(match[1]))
        except ValueError as error:
            raise ValueError(f"'{text}' is no time: {error}.") from None
    raise ValueError(
        f"'{text}' is no schedule expression. Write cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR), such as "
        "cron(0 6 * * ? *), or rate(1 day), or at(2030-01-31T06:00:00)."
    )


def zone(name: str) -> ZoneInfo:
    """The time zone of that name. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"'{name}' is no time zone. Write a name of the IANA database, such as Europe/Berlin or UTC."
        ) from None


def next_ticks(settings: ScheduleSettings, now: datetime, count: int = 3, since: datetime | None = None) -> list[Tick]:
    """The next ``count`` starts after ``now``, and what is skipped between them. Fewer where the schedule ends.

    ``since`` is when a rate without a start date began to count: the schedule's creation (default: now). An event
    pattern has no ticks. Raises ValueError as ``parse_expression`` does.
    """
    ticks: list[Tick] = []
    for tick in all_ticks(settings, now, since):
        ticks.append(tick)
        if sum(not one.skipped for one in ticks) == count:
            break
    return ticks


def all_ticks(settings: ScheduleSettings, now: datetime, since: datetime | None = None) -> Generator[Tick]:
    """All of them, in order, later than ``now``."""
    if settings.expression is None:
        return
    place = zone(settings.timezone)
    # In UTC: two times of one zone are compared by what clocks show, which goes back once a year.
    start, end = (
        in_zone(moment, settings.timezone).astimezone(UTC) if moment else None
        for moment in (settings.start_date, settings.end_date)
    )
    now = now.astimezone(UTC)
    # A tick at the start date itself is one, so that the search begins right before it.
    after = max(now, start - timedelta(microseconds=1)) if start else now
    match parse_expression(settings.expression):
        case Rate() as rate:
            found = _of_rate(rate, after, start or since or now, place)
        case At(local=local):
            found = (_tick(one, place) for one in [local] if one.replace(tzinfo=place) > after)
        case Cron() as cron:
            found = _of_cron(cron, after, place)
    for tick in found:
        if end and tick.at > end:
            return
        yield tick


def _of_rate(rate: Rate, after: datetime, first: datetime, place: ZoneInfo) -> Generator[Tick]:
    passed = max(0, -((first - after) // rate.period)) if first <= after else 0
    moment = first.astimezone(UTC) + passed * rate.period
    while True:
        if moment > after:
            yield Tick(moment.astimezone(place), _day_note(moment.astimezone(place)))
        try:
            moment += rate.period
            moment.astimezone(place)
        except OverflowError:
            return


def _of_cron(cron: Cron, after: datetime, place: ZoneInfo) -> Generator[Tick]:
    # The local clock may have been put back since: begin earlier, and leave out what is over.
    for local in cron.ticks(after.astimezone(place).replace(tzinfo=None) - timedelta(days=1)):
        tick = _tick(local, place)
        if tick.at > after:
            yield tick


def _tick(local: datetime, place: ZoneInfo) -> Tick:
    at = local.replace(tzinfo=place)
    back = at.astimezone(UTC).astimezone(place).replace(tzinfo=None)
    if back != local:
        return Tick(at, "clocks go forward and jump over this time: nothing starts", skipped=True)
    if at.utcoffset() != at.replace(fold=1).utcoffset():
        return Tick(at, "clocks go back: this time comes twice, and starts it once")
    return Tick(at, _day_note(at))


def _day_note(at: datetime) -> str:
    """What clocks do on that day, as a note; empty where nothing."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    before, after = midnight.utcoffset(), (midnight + timedelta(days=1)).utcoffset()
    if before is None or after is None or before == after:
        return ""
    return "clocks go forward on this day" if after > before else "clocks go back on this day"


def fires(settings: ScheduleSettings, now: datetime) -> bool:
    """Whether the expression will ever start anything."""
    return any(not tick.skipped for tick in islice(all_ticks(settings, now), 1000))
