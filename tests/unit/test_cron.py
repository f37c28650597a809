"""Cron expressions and the ticks of schedules: properties over many of them, and the days on which clocks change."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pyawscron import AWSCron

from local_runner.cloud.schedules.cron import parse_cron, weekday
from local_runner.cloud.schedules.description import describe_expression
from local_runner.cloud.schedules.ticks import At, Rate, all_ticks, fires, next_ticks, parse_expression, values_at
from local_runner.cloud.target.environment import ScheduleSettings

BERLIN = "Europe/Berlin"
NOW = datetime(2026, 3, 27, 12, tzinfo=UTC)


def settings(expression, timezone="UTC", **more):
    return ScheduleSettings(expression=expression, timezone=timezone, **more)


def shown(expression, now, timezone=BERLIN, **more: Any):
    return [str(tick) for tick in next_ticks(settings(expression, timezone, **more), now)]


# ------------------------------------------------------------------------------------------------- properties
def numbers(lowest, highest):
    """A field of that range: *, a number, a list, a range, steps."""
    number = st.integers(lowest, highest)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.lists(number, min_size=2, max_size=4, unique=True).map(lambda items: ",".join(map(str, items))),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.tuples(number, st.integers(1, 20)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        st.integers(1, 20).map("*/{}".format),
    )


days = st.one_of(
    st.tuples(st.one_of(numbers(1, 31), st.sampled_from(["L", "LW", "15W", "31W"])), st.just("?")),
    st.tuples(
        st.just("?"), st.one_of(numbers(1, 7).filter(lambda f: "/" not in f), st.sampled_from(["6L", "2#1", "3#5"]))
    ),
)
crons = st.tuples(
    numbers(0, 59), numbers(0, 23), days, numbers(1, 12), st.sampled_from(["*", "2026-2199", "2027", "2028/4"])
).map(lambda f: f"{f[0]} {f[1]} {f[2][0]} {f[3]} {f[2][1]} {f[4]}")
moments = st.datetimes(datetime(2026, 1, 1), datetime(2029, 12, 31))


@given(crons, moments)
def test_ticks_are_in_order_fit_every_field_and_leave_none_out(text, after):
    cron = parse_cron(text)
    ticks = list(islice(cron.ticks(after), 5))
    assert all(one < other for one, other in zip([after, *ticks], ticks, strict=False))
    for tick in ticks:
        assert (tick.minute in cron.minutes, tick.hour in cron.hours) == (True, True)
        assert (tick.month in cron.months, tick.year in cron.years) == (True, True)
    # Between two ticks there is none: looking from any moment between them finds the second.
    for one, other in pairwise(ticks):
        middle = one + (other - one) / 2
        assert next(cron.ticks(middle)) == other


@given(crons, moments)
def test_ticks_are_those_of_another_implementation(text, after):
    """pyawscron is a second opinion where it has one: it breaks on days that a month does not have."""
    cron = parse_cron(text)
    ours = next(cron.ticks(after.replace(second=0, microsecond=0)), None)
    try:
        theirs = AWSCron(text).occurrence(after.replace(second=0, microsecond=0, tzinfo=UTC)).next()
    except Exception:
        assume(False)
    assert ours == (theirs and theirs.replace(tzinfo=None))


@given(st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]), crons, moments)
def test_ticks_in_a_time_zone_are_in_order_and_show_the_time_of_the_expression(timezone, text, now):
    cron = parse_cron(text)
    ticks = list(islice(all_ticks(settings(f"cron({text})", timezone), now.replace(tzinfo=UTC)), 6))
    running = [tick.at.astimezone(UTC) for tick in ticks if not tick.skipped]
    assert running == sorted(set(running))
    for tick in ticks:
        assert tick.at.astimezone(UTC) > now.replace(tzinfo=UTC)
        assert tick.at.minute in cron.minutes
        assert tick.at.hour in cron.hours
        exists = tick.at.astimezone(UTC).astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
        assert (exists == tick.at.replace(tzinfo=None)) != tick.skipped


@given(st.integers(1, 500), st.sampled_from(["minute", "hour", "day"]), st.integers(0, 10**6))
def test_a_rate_counts_from_its_start(value, unit, minutes):
    expression = f"rate({value} {unit}{'' if value == 1 else 's'})"
    start = NOW - timedelta(minutes=minutes)
    period = Rate(value, unit).period
    ticks = next_ticks(settings(expression, start_date=start), NOW)
    assert [(tick.at - start) % period for tick in ticks] == [timedelta()] * 3
    assert NOW < ticks[0].at <= NOW + period
    assert ticks[1].at - ticks[0].at == period


# ---------------------------------------------------------------------------------------------------- details
def test_the_numbers_of_weekdays_are_those_of_aws():
    assert weekday(2026, 11, 22) == 1  # a Sunday
    assert weekday(2026, 11, 28) == 7


@pytest.mark.parametrize(
    ("text", "days_of_month"),
    [
        ("0 0 31 * ? *", {1: [31], 2: [], 3: [31], 4: []}),
        ("0 0 L * ? *", {1: [31], 2: [28], 4: [30]}),
        ("0 0 LW * ? *", {1: [30], 2: [27], 5: [29]}),  # 31 January and 31 May 2026 are at a weekend
        ("0 0 1W * ? *", {2: [2], 8: [3]}),  # Saturday 1 August: not back into July
        ("0 0 ? * 2#5 *", {1: [], 3: [30]}),
        ("0 0 ? * L *", {2: [7, 14, 21, 28]}),
        ("0 0 ? * sun,WED *", {2: [1, 4, 8, 11, 15, 18, 22, 25]}),
    ],
)
def test_days_of_a_month(text, days_of_month):
    cron = parse_cron(text)
    assert {month: cron.days(2026, month) for month in days_of_month} == days_of_month


def test_a_list_may_hold_steps():
    assert parse_cron("1,5/20 * * * ? *").minutes == (1, 5, 25, 45)


@pytest.mark.parametrize(
    ("wraps", "same"),
    [
        ("0 20-2 * * ? *", "0 20-23,0-2 * * ? *"),
        ("0 20-2/2 * * ? *", "0 20,22,0,2 * * ? *"),
        ("50-10/5 3 * * ? *", "50,55,0,5,10 3 * * ? *"),
        ("0 0 28-2 * ? *", "0 0 28-31,1-2 * ? *"),
        ("0 0 1 NOV-FEB ? *", "0 0 1 11,12,1,2 ? *"),
        ("0 0 ? * FRI-MON *", "0 0 ? * 6,7,1,2 *"),
    ],
)
def test_a_range_whose_end_is_before_its_start_goes_on_from_the_lowest(wraps, same):
    after = datetime(2027, 12, 20, 12)
    found, wanted = (list(islice(parse_cron(text).ticks(after), 300)) for text in (wraps, same))
    assert found == wanted
    assert len(found) == 300


@given(st.integers(0, 23), st.integers(0, 23), st.integers(1, 6))
def test_hours_of_a_range_are_counted_on_the_clock(first, last, step):
    walked = [(first + passed) % 24 for passed in range(0, (last - first) % 24 + 1, step)]
    assert set(parse_cron(f"0 {first}-{last}/{step} * * ? *").hours) == set(walked)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("cron(0 6 * * *)", "6 required, 5 provided"),
        ("cron(0 6 * * * *)", "One must be a question mark"),
        ("cron(60 6 * * ? *)", "Invalid minute value '60'"),
        ("cron(0 22 * * ? 2030-2028)", "The years '2030-2028' run backwards. Write 2028-2030."),
        ("rate(1 days)", "write rate(1 day)"),
        ("rate(5 minute)", "write rate(5 minutes)"),
        ("rate(0 days)", "is no schedule expression"),
        ("at(2030-02-30T00:00:00)", "is no time"),
        ("0 6 * * ? *", "is no schedule expression"),
    ],
)
def test_what_is_no_expression_is_told(expression, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_expression(expression)


@pytest.mark.parametrize(
    ("expression", "ever"),
    [
        ("cron(0 0 30 2 ? *)", False),
        ("cron(0 0 29 2 ? *)", True),
        ("cron(0 0 29 2 ? 2027)", False),
        ("cron(0 0 1 1 ? 2020-2025)", False),
        ("cron(0 0 ? 2 2#5 *)", True),  # 2044: five Mondays in February
        ("at(2026-03-27T11:59:00)", False),
        ("at(2026-03-27T12:01:00)", True),
    ],
)
def test_an_expression_that_never_fires_is_known(expression, ever):
    assert fires(settings(expression), NOW) == ever


def test_a_time_that_clocks_jump_over_is_skipped():
    assert shown("cron(30 2 * * ? *)", NOW) == [
        "Sat 2026-03-28 02:30 CET",
        "Sun 2026-03-29 02:30 (clocks go forward and jump over this time: nothing starts)",
        "Mon 2026-03-30 02:30 CEST",
        "Tue 2026-03-31 02:30 CEST",
    ]
    assert not fires(settings("at(2026-03-29T02:30:00)", BERLIN), NOW)


def test_a_time_that_comes_twice_runs_once():
    assert shown("cron(30 2 * * ? *)", datetime(2026, 10, 24, 12, tzinfo=UTC)) == [
        "Sun 2026-10-25 02:30 CEST (clocks go back: this time comes twice, and starts it once)",
        "Mon 2026-10-26 02:30 CET",
        "Tue 2026-10-27 02:30 CET",
    ]
    # Between the two 02:30 the next one is tomorrow's.
    assert shown("cron(30 2 * * ? *)", datetime(2026, 10, 25, 1, tzinfo=UTC))[0] == "Mon 2026-10-26 02:30 CET"


def test_days_with_a_change_are_marked():
    assert shown("cron(0 6 * * ? *)", NOW)[:2] == [
        "Sat 2026-03-28 06:00 CET",
        "Sun 2026-03-29 06:00 CEST (clocks go forward on this day)",
    ]


def test_a_day_of_a_rate_has_24_hours():
    assert [text[:20] for text in shown("rate(1 day)", NOW)] == [
        "Sat 2026-03-28 13:00",
        "Sun 2026-03-29 14:00",
        "Mon 2026-03-30 14:00",
    ]


def test_start_and_end_date_are_kept_and_read_in_the_time_zone():
    more: dict[str, Any] = {"start_date": datetime(2026, 4, 2, 6), "end_date": datetime(2026, 4, 3, 6)}
    assert shown("cron(0 6 * * ? *)", NOW, **more) == ["Thu 2026-04-02 06:00 CEST", "Fri 2026-04-03 06:00 CEST"]
    assert shown("cron(0 6 * * ? *)", datetime(2026, 5, 1, tzinfo=UTC), **more) == []
    assert not fires(settings("cron(0 6 1 * ? *)", BERLIN, **more), NOW)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("cron(0 6 * * ? *)", "every day at 06:00 Europe/Berlin"),
        ("cron(0 6 ? * * *)", "every day at 06:00 Europe/Berlin"),
        ("cron(0/15 * * * ? *)", "every 15 minutes Europe/Berlin"),
        ("cron(* * * * ? *)", "every minute Europe/Berlin"),
        ("cron(0 18 ? * MON-FRI *)", "every Monday to Friday at 18:00 Europe/Berlin"),
        ("cron(0 8 L * ? *)", "on the last day of the month at 08:00 Europe/Berlin"),
        ("cron(0 8 1,15 1 ? *)", "on days 1 and 15 of January at 08:00 Europe/Berlin"),
        ("cron(0 8 ? * 6L *)", "on the last Friday of the month at 08:00 Europe/Berlin"),
        ("cron(0 8 ? * 2#1 2027)", "on the first Monday of the month in 2027 at 08:00 Europe/Berlin"),
        ("cron(5 * ? 6 SAT *)", "every Saturday in June at minute 5 of every hour Europe/Berlin"),
        ("rate(1 hour)", "every hour"),
        ("rate(90 minutes)", "every 90 minutes"),
        ("at(2030-01-31T06:00:00)", "once, on 2030-01-31 at 06:00 Europe/Berlin"),
    ],
)
def test_expressions_in_words(expression, words):
    assert describe_expression(expression, BERLIN) == words


@given(crons)
def test_every_cron_has_words(text):
    assert describe_expression(f"cron({text})", BERLIN).endswith(BERLIN)


def test_what_the_parameters_get_at_a_tick():
    given = {"Day": "<aws.scheduler.scheduled-time>", "Run": "at <aws.scheduler.scheduled-time>", "Fixed": "x"}
    berlin = {"timezone": "Europe/Berlin", "expression": "cron(30 0 * * ? *)", "parameters": given}
    for settings, moment in ((berlin, "2026-11-26T23:30:00Z"), ({**berlin, "timezone": "UTC"}, "2026-11-27T00:30:00Z")):
        made = ScheduleSettings.model_validate(settings)
        (tick,) = next_ticks(made, datetime(2026, 11, 26, 12, tzinfo=UTC), 1)
        assert values_at(made, tick) == {"Day": moment, "Run": f"at {moment}", "Fixed": "x"}
        assert tick.is_another_day_in_utc == (settings is berlin)
    settings = {"kind": "rule", "expression": "rate(1 day)", "parameters": {"Day": "$.time"}}
    rule = ScheduleSettings.model_validate(settings)
    (tick,) = next_ticks(rule, datetime(2026, 11, 26, 12, tzinfo=UTC), 1)
    assert values_at(rule, tick) == {"Day": "2026-11-27T12:00:00Z"}


def test_at_is_a_local_time():
    assert parse_expression("at(2030-01-31T06:00:00)") == At(datetime(2030, 1, 31, 6))


def test_a_machine_without_time_zones_has_them():
    """A slim image has no /usr/share/zoneinfo: they come with the package."""
    program = "from local_runner.cloud.schedules.ticks import zone; print(zone('Europe/Berlin'))"
    nowhere = {**os.environ, "PYTHONTZPATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=nowhere, capture_output=True, text=True)
    assert done.stdout == "Europe/Berlin\n", done.stderr
