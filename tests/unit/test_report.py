"""What people and programs see of a run: the record, plain lines, the live table and the last screen."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from local_runner.events import Listener, Silent
from local_runner.models import (
    Branch,
    Dependency,
    Execution,
    PipelineDefinition,
    Plan,
    PlannedStep,
    Step,
    StepExecution,
)
from local_runner.report import listener
from local_runner.report.plain import PlainListener
from local_runner.report.record import from_record, to_record
from local_runner.report.summary import summary_lines
from local_runner.report.table import (
    ASCII,
    UNICODE,
    Running,
    choose,
    columns,
    counts,
    plain_text,
    row_line,
    step_rows,
)
from local_runner.report.terminal import LiveListener, render_svg, summary
from local_runner.report.text import duration, fit, one_line, pad, printable, shown_path
from local_runner.report.watched import WatchListener

ID = "7f3k2m9q0abc"
HOME = Path("/home/somebody/project")
TRACEBACK = """algo-2 ended with exit code 1. Its last lines:
  Traceback (most recent call last):
    File "transform.py", line 61, in main
  ValueError: [bold red]not a number[/]: 'N/A'"""


def planned(
    name: str, type: str = "Processing", needs: tuple[str, ...] = (), branch: Branch | None = None
) -> PlannedStep:
    step = Step(name, type, f"Steps.{name}", {}, branch=branch)
    return PlannedStep(step, tuple(Dependency(need) for need in needs))


def plan_of(*steps: PlannedStep, notes: tuple[str, ...] = ()) -> Plan:
    pipeline = PipelineDefinition("flights-daily", (), tuple(item.step for item in steps))
    return Plan(ID, pipeline, {}, steps, "2013-01-02T03:04:05+00:00", "us-east-1", notes)


EXAMPLE = plan_of(
    planned("Validate"),
    planned("CheckQuality", "Condition", ("Validate",)),
    planned("Profile"),
    planned("QualityTooLow", "Fail", ("CheckQuality",), Branch("CheckQuality", False)),
    planned("Fit", needs=("CheckQuality",), branch=Branch("CheckQuality", True)),
    planned("Transform", needs=("Fit",), branch=Branch("CheckQuality", True)),
)


def execution_of(*steps: StepExecution, status: str = "Succeeded", reason: str | None = None) -> Execution:
    return Execution(
        id=ID,
        pipeline="flights-daily",
        status=status,  # type: ignore[arg-type]
        engine="docker",
        failure_reason=reason,
        parameters={"ProcessingDate": "2013-01-01"},
        started="2013-01-02T03:04:05+00:00",
        ended="2013-01-02T03:04:09+00:00",
        seconds=4.2,
        steps=steps,
    )


VALIDATED = StepExecution(
    "Validate",
    "Processing",
    "Succeeded",
    1.2,
    exit_message="26398 rows,\n12 bad",
    outputs={"report": HOME / "s3/q"},
)
CHECKED = StepExecution("CheckQuality", "Condition", "Succeeded", outcome=True)
FITTED = StepExecution("Fit", "Processing", "Succeeded", 1.4, cached=True, outputs={"model": HOME / "s3/model"})
BROKEN = StepExecution(
    "Transform",
    "Processing",
    "Failed",
    1.6,
    exit_code=1,
    failure_reason=TRACEBACK,
    log=HOME / "logs/Transform",
)


def screen(plan: Plan | None, execution: Execution, *, width: int = 80, quiet: bool = False) -> list[str]:
    lines = summary_lines(plan, execution, width=width, symbols=UNICODE, cwd=HOME, quiet=quiet)
    return [plain_text(line) for line in lines]


# ------------------------------------------------------------------------------------------------ record
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
paths = st.lists(st.text("ab .é", min_size=1, max_size=5), min_size=1, max_size=3).map(lambda p: Path("/", *p))
seconds = st.floats(0, 1e6).map(lambda value: round(value, 3))
step_executions = st.builds(
    StepExecution,
    name=texts,
    type=texts,
    status=st.sampled_from(["Starting", "Executing", "Stopping", "Stopped", "Failed", "Succeeded"]),
    seconds=seconds,
    cached=st.booleans(),
    exit_code=st.none() | st.integers(-128, 255),
    exit_message=st.none() | texts,
    failure_reason=st.none() | texts,
    outputs=st.dictionaries(texts, paths, max_size=3),
    log=st.none() | paths,
    outcome=st.none(),
)
executions = st.builds(
    Execution,
    id=texts,
    pipeline=texts,
    status=st.sampled_from(["Executing", "Stopping", "Stopped", "Failed", "Succeeded"]),
    engine=texts,
    failure_reason=st.none() | texts,
    parameters=st.dictionaries(
        texts,
        texts | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
        max_size=4,
    ),
    started=texts,
    ended=texts,
    seconds=seconds,
    steps=st.lists(step_executions, max_size=4).map(tuple),
)


@settings(deadline=None)
@given(executions)
def test_a_record_survives_json_and_comes_back_as_the_same_execution(execution: Execution) -> None:
    back = from_record(json.loads(json.dumps(to_record(execution))))
    assert back == execution
    types = {name: type(value) for name, value in execution.parameters.items()}
    assert {name: type(value) for name, value in back.parameters.items()} == types


def test_a_record_has_the_documented_keys_absolute_paths_and_milliseconds() -> None:
    step = replace(FITTED, outputs={"model": Path("s3/model")}, log=Path("logs/Fit"), seconds=1.23456)
    record = to_record(replace(execution_of(step), seconds=4.0009))
    assert list(record) == [
        *("id", "pipeline", "status", "engine", "hot", "failure_reason", "parameters"),
        *("started", "ended", "seconds", "steps"),
    ]
    assert record["seconds"] == 4.001
    assert record["steps"] == [
        {
            "name": "Fit",
            "type": "Processing",
            "status": "Succeeded",
            "cached": True,
            "hot": False,
            "seconds": 1.235,
            "exit_code": None,
            "exit_message": None,
            "failure_reason": None,
            "outputs": {"model": str(Path.cwd() / "s3/model")},
            "log": str(Path.cwd() / "logs/Fit"),
        }
    ]


def test_a_broken_record_names_every_place_that_is_wrong() -> None:
    record = to_record(execution_of(VALIDATED))
    record["status"] = "Fine"
    record["steps"][0]["outputs"] = []
    del record["engine"]
    with pytest.raises(ValueError, match="not the record of an execution") as caught:
        from_record(record)
    for place in ("status: ", "engine: ", "steps.0.outputs: "):
        assert place in str(caught.value)


@pytest.mark.parametrize("junk", [None, [], "text", {}])
def test_what_is_no_record_at_all_is_a_value_error(junk: object) -> None:
    with pytest.raises(ValueError, match="not the record of an execution"):
        from_record(junk)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- text
CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""The categories of what moves a cursor, ends a line, reorders or hides text, or is no character."""
SHOWN = "\n\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
ESCAPES = ("\x1b[2J", "\x1b[5m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bc", "\x9b31m", "\x1b", "\r", "\b")
controls = st.characters(categories=CONTROLS)
hostile = st.lists(st.sampled_from(ESCAPES) | controls | st.text(max_size=5), max_size=8).map("".join)


def unprintable(text: str) -> set[str]:
    """What of a text may not reach a terminal."""
    return {char for char in text if category(char) in CONTROLS} - set(SHOWN)


@given(st.text(max_size=200) | hostile)
def test_printable_text_has_line_breaks_and_no_other_control_characters(text: str) -> None:
    left = printable(text)
    assert not unprintable(left)
    assert printable(left) == left


@given(st.text(st.characters(exclude_categories=CONTROLS)))
def test_what_can_be_read_is_printed_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;a title\x07after", "after"),
        ("\x1b]8;;file:///x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r20%\r30%", "30%"),
        ("10%\r20%\r", "20%"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("a\tb", "a   b"),
        ("bell\x07", "bell\N{REPLACEMENT CHARACTER}"),
        ("[bold]日本語[/]", "[bold]日本語[/]"),
        ("👩\u200d🔬 ب\u200cب", "👩\u200d🔬 ب\u200cب"),
        ("a\u202eb\u200fc\u200bd\u061ce", "a\ufffdb\ufffdc\ufffdd\ufffde"),
    ],
)
def test_printable(raw: str, shown: str) -> None:
    assert printable(raw) == shown


@settings(deadline=None)
@given(st.text(max_size=60).map(one_line), st.integers(0, 40))
def test_text_is_cut_to_the_width_and_padded_to_it(text: str, width: int) -> None:
    assert cell_len(fit(text, width)) <= width
    assert cell_len(pad(text, width)) == width
    if cell_len(text) <= width:
        assert fit(text, width) == text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0.0 s"),
        (4.24, "4.2 s"),
        (59.96, "1 m 00 s"),
        (187, "3 m 07 s"),
        (3599.6, "1 h 00 m"),
        (7500, "2 h 05 m"),
    ],
)
def test_duration(value: float, shown: str) -> None:
    assert duration(value) == shown


def test_a_path_is_relative_to_the_current_directory_where_that_is_shorter() -> None:
    assert shown_path(HOME / "s3/x", HOME) == "s3/x"
    assert shown_path(Path("/tmp/x"), HOME) == "/tmp/x"


# ------------------------------------------------------------------------------------------------- table
def test_steps_of_a_branch_stand_below_their_condition() -> None:
    rows = step_rows(EXAMPLE.steps, {})
    assert [(row.name, row.depth) for row in rows] == [
        *(("Validate", 0), ("CheckQuality", 0), ("QualityTooLow", 1), ("Fit", 1), ("Transform", 1)),
        ("Profile", 0),
    ]
    assert rows[2].detail == "if CheckQuality is false"


def test_a_step_whose_condition_is_not_selected_is_shown_all_the_same() -> None:
    rows = step_rows([planned("Fit", branch=Branch("CheckQuality", True))], {})
    assert [(row.name, row.depth) for row in rows] == [("Fit", 0)]


def test_a_deep_nest_of_conditions_is_no_trouble() -> None:
    steps = [planned("C0", "Condition")]
    steps += [planned(f"C{n}", "Condition", branch=Branch(f"C{n - 1}", True)) for n in range(1, 3000)]
    assert step_rows(steps, {})[-1].depth == 2999


def test_a_step_that_did_not_run_says_what_it_needed() -> None:
    steps = [planned("Fit"), planned("Transform", needs=("Fit",))]
    rows = step_rows(steps, {"Fit": replace(BROKEN, name="Fit")}, over=True)
    assert (rows[1].state, rows[1].time, rows[1].detail) == ("not run", "not run", "needs Fit")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(texts.map(one_line), texts.map(one_line), st.integers(0, 4), st.text(max_size=300)),
        max_size=5,
    ),
    st.integers(20, 200),
)
def test_no_line_of_the_table_is_wider_than_the_terminal(steps: list[tuple[str, str, int, str]], width: int) -> None:
    plan = [planned(name, kind) for name, kind, _, _ in steps]
    running = {name: Running(10.0**power, one_line(text)) for name, _, power, text in steps}
    rows = step_rows(plan, {}, running)
    at = columns(rows, width)
    for row in rows:
        for symbols in (UNICODE, ASCII):
            line = plain_text(row_line(row, at, symbols))
            assert cell_len(line) <= width
            assert "\n" not in line


def test_a_table_too_tall_shows_what_failed_and_what_runs_and_counts_the_rest() -> None:
    steps = [planned(f"S{n}") for n in range(60)]
    ended = {f"S{n}": replace(VALIDATED, name=f"S{n}") for n in range(40)}
    ended["S3"] = replace(BROKEN, name="S3")
    shown, left_out = choose(step_rows(steps, ended, {"S50": Running(1.0), "S55": Running(2.0)}), 6)
    assert [row.name for row in shown] == ["S3", "S37", "S38", "S39", "S50", "S55"]
    assert counts(left_out) == "36 succeeded, 18 waiting"


# ------------------------------------------------------------------------------------------- last screen
def test_the_last_screen_of_a_success() -> None:
    profiled = StepExecution("Profile", "Processing", "Succeeded", 2.5)
    transformed = StepExecution(
        "Transform",
        "Processing",
        "Succeeded",
        187.0,
        outputs={"train": HOME / "s3/train", "test": Path("/x/test")},
    )
    assert screen(EXAMPLE, execution_of(VALIDATED, CHECKED, FITTED, transformed, profiled)) == [
        "",
        "  flights-daily",
        "",
        "  ✓ Validate         Processing      1.2 s  26398 rows, 12 bad",
        "  ✓ CheckQuality     Condition       0.0 s  true",
        "  ○   QualityTooLow  Fail          not run  if CheckQuality is false",
        "  ✓   Fit            Processing     cached",
        "  ✓   Transform      Processing   3 m 07 s",
        "  ✓ Profile          Processing      2.5 s",
        "",
        "  Outputs",
        "    Validate   report  s3/q",
        "    Fit        model   s3/model",
        "    Transform  train   s3/train",
        "               test    /x/test",
        "",
        "  ✓ Succeeded in 4.2 s on docker · execution 7f3k2m9q0abc",
    ]


def test_the_last_screen_of_a_failure_ends_with_the_reason_the_log_and_what_to_do() -> None:
    assert screen(EXAMPLE, execution_of(BROKEN, status="Failed", reason=TRACEBACK))[-9:] == [
        "  Transform failed",
        "    algo-2 ended with exit code 1. Its last lines:",
        "      Traceback (most recent call last):",
        '        File "transform.py", line 61, in main',
        "      ValueError: [bold red]not a number[/]: 'N/A'",
        "    Log: logs/Transform",
        "",
        "  ✗ Failed after 4.2 s on docker · execution 7f3k2m9q0abc",
        "    Next: fix what the log of Transform shows, then run again.",
    ]


@pytest.mark.parametrize("reason", [None, TRACEBACK, f"Step Transform: {TRACEBACK}", "1 of 6 steps failed."])
def test_every_reason_is_said_whole_and_once(reason: str | None) -> None:
    shown = "\n".join(
        line.removeprefix("    ") for line in screen(EXAMPLE, execution_of(BROKEN, status="Failed", reason=reason))
    )
    assert shown.count(TRACEBACK) == 1
    assert reason is None or shown.count(reason) == 1


def test_quiet_leaves_the_failure_and_the_status() -> None:
    good = execution_of(VALIDATED)
    assert screen(EXAMPLE, good, quiet=True) == ["  ✓ Succeeded in 4.2 s on docker · execution 7f3k2m9q0abc"]
    bad = screen(EXAMPLE, execution_of(VALIDATED, BROKEN, status="Failed"), quiet=True)
    assert bad[0] == "  Transform failed"
    assert not any("Validate" in line for line in bad)


def test_an_interrupted_run_is_no_failure() -> None:
    stopped = replace(BROKEN, status="Stopped", failure_reason=None)
    lines = screen(EXAMPLE, execution_of(stopped, status="Stopped", reason="Interrupted."))
    assert lines[-3:] == [
        "  ■ Stopped after 4.2 s on docker · execution 7f3k2m9q0abc",
        "    Interrupted.",
        "    Next: run again; the outputs of the steps that succeeded are kept.",
    ]


def test_outputs_that_do_not_fit_beside_their_step_go_below_it_uncut() -> None:
    long = HOME / "s3" / ("deep/" * 12) / "train"
    step = replace(FITTED, outputs={"train": long, "test": long})
    lines = screen(EXAMPLE, execution_of(step))
    start = lines.index("  Outputs")
    shown = shown_path(long, HOME)
    assert lines[start + 1 : start + 4] == ["    Fit", f"      train  {shown}", f"      test   {shown}"]


def test_very_many_outputs_are_counted() -> None:
    step = replace(FITTED, outputs={f"o{n}": HOME / f"s3/out/{n}" for n in range(100)})
    assert "    100 directories below s3/out" in screen(EXAMPLE, execution_of(step))


def test_an_execution_without_its_plan_can_be_shown() -> None:
    assert any("Transform" in line for line in screen(None, from_record(to_record(execution_of(BROKEN)))))


# ------------------------------------------------------------------------------------------------- plain
class Clock:
    """Counts a tenth of a second per question."""

    def __init__(self) -> None:
        self.now = 99.9

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


def play(to: Listener, execution: Execution, plan: Plan = EXAMPLE) -> None:
    to.started(plan, execution.engine)
    for step in execution.steps:
        to.step_started(step.name)
        to.line(step.name, "algo-1", f"\x1b[32m{step.name} [b]works[/b]\x1b[0m")
        to.step_ended(step)
    to.ended(execution)


def test_plain_lines() -> None:
    stream = io.StringIO()
    plan = replace(EXAMPLE, notes=("Profile is selected too.",))
    play(PlainListener(stream, clock=Clock()), execution_of(VALIDATED, BROKEN, status="Failed"), plan)
    assert stream.getvalue().splitlines()[:9] == [
        "[  0.1s] flights-daily  execution 7f3k2m9q0abc on docker",
        "[  0.2s] Profile is selected too.",
        "[  0.3s] Validate       Executing",
        "Validate/algo-1 | Validate [b]works[/b]",
        "[  0.4s] Validate       Succeeded  1.2 s  26398 rows, 12 bad",
        "[  0.5s] Transform      Executing",
        "Transform/algo-1 | Transform [b]works[/b]",
        "[  0.6s] Transform      Failed  1.6 s  algo-2 ended with exit code 1. Its last lines:",
        "",
    ]
    assert "ValueError: [bold red]not a number[/]: 'N/A'" in stream.getvalue()


def test_plain_and_quiet() -> None:
    stream = io.StringIO()
    play(PlainListener(stream, quiet=True), execution_of(VALIDATED))
    assert stream.getvalue() == "  ✓ Succeeded in 4.2 s on docker · execution 7f3k2m9q0abc\n"


def test_a_stream_that_is_not_utf_8_gets_what_it_can_show() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    to = PlainListener(stream)
    play(to, execution_of(VALIDATED, replace(BROKEN, failure_reason="日本")))
    text = raw.getvalue().decode("ascii")
    assert "  + Validate" in text
    assert "  x   Transform" in text
    assert "    ??" in text


class ClosedPipe(io.StringIO):
    """A stream whose reader has gone away."""

    def write(self, s: str, /) -> int:
        raise BrokenPipeError


def test_a_reader_that_went_away_does_not_end_the_run() -> None:
    play(PlainListener(ClosedPipe()), execution_of(VALIDATED))


def test_lines_of_several_threads_do_not_mix() -> None:
    stream = io.StringIO()
    to = PlainListener(stream)
    in_threads(8, lambda n: [to.line(f"S{n}", "algo-1", "x" * 50) for _ in range(200)])
    assert sorted(stream.getvalue().splitlines()) == sorted(
        f"S{n}/algo-1 | {'x' * 50}" for n in range(8) for _ in range(200)
    )


def in_threads(count: int, work: object) -> None:
    errors: list[BaseException] = []

    def guarded(n: int) -> None:
        try:
            work(n)  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_plain_lines_and_the_record_do_without_rich_and_pydantic() -> None:
    code = (
        "import sys, local_runner.report, local_runner.report.record, local_runner.events\n"
        "sys.exit('rich' in sys.modules or 'pydantic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# -------------------------------------------------------------------------------------------------- live
def terminal(width: int = 80, height: int = 24, encoding: str = "utf-8") -> tuple[Console, io.BytesIO]:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    return Console(file=stream, force_terminal=True, width=width, height=height, color_system=None), raw


def live_lines(to: LiveListener, width: int = 79, height: int = 23) -> list[str]:
    return [plain_text(line) for line in to.lines(width, height, UNICODE)]


def test_the_live_table_shows_states_and_last_lines() -> None:
    console, _ = terminal()
    with LiveListener(console, clock=Clock()) as to:
        to.started(EXAMPLE, "docker")
        to.step_started("Validate")
        to.step_started("Transform")
        to.line("Transform", "algo-1", "part 1 of 2")
        to.line("Transform", "algo-2", "10%\r\x1b[1m20%\x1b[0m [b]日本語[/b]\t" + "x" * 5000)
        to.line("Transform", "algo-1", "   ")
        to.step_ended(VALIDATED)
        to.step_ended(CHECKED)
        lines = live_lines(to)
    assert lines[1] == "  flights-daily"
    assert lines[3] == "  ✓ Validate         Processing      1.2 s  26398 rows, 12 bad"
    assert lines[4] == "  ✓ CheckQuality     Condition       0.0 s  true"
    assert lines[5] == "  ○   QualityTooLow  Fail                   if CheckQuality is false"
    assert "  algo-2: 20% [b]日本語[/b] xxx" in lines[7]
    assert lines[7].endswith("x…")
    assert lines[-1].endswith("on docker · 1 running, 2 succeeded, 3 waiting")
    assert all(cell_len(line) <= 79 for line in lines)


@pytest.mark.parametrize("height", [1, 4, 8, 24, 100])
def test_the_live_table_fits_the_height_of_the_terminal(height: int) -> None:
    console, _ = terminal()
    with LiveListener(console) as to:
        to.started(plan_of(*(planned(f"S{n}") for n in range(60))), "docker")
        to.step_started("S59")
        lines = live_lines(to, height=height)
    assert len(lines) <= height
    if height == 24:
        assert "S59" in lines[-4]
        assert lines[-3] == "  … 42 more: 42 waiting"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_live_run_of_many_threads_ends_with_the_last_screen(encoding: str) -> None:
    console, raw = terminal(encoding=encoding)
    steps = [replace(VALIDATED, name=f"S{n}") for n in range(8)]
    with LiveListener(console) as to:
        to.note("no registry answers: [b]the base image is built[/b]")
        to.started(plan_of(*(planned(step.name) for step in steps)), "docker")

        def run(n: int) -> None:
            to.step_started(f"S{n}")
            for number in range(3000):
                to.line(f"S{n}", f"algo-{number % 3}", f"line {number} 日本語")
            to.note(f"note {n}")
            to.step_ended(steps[n])

        in_threads(8, run)
        to.ended(execution_of(*steps))
    text = raw.getvalue().decode(encoding)
    assert "no registry answers: [b]the base image is built[/b]" in text
    assert all(f"  note {n}" in text for n in range(8))
    assert text.rstrip().endswith("execution 7f3k2m9q0abc")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_live_run_that_ends_in_an_exception_gives_the_cursor_back() -> None:
    console, raw = terminal()

    def interrupted() -> None:
        with LiveListener(console) as to:
            to.started(EXAMPLE, "docker")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert raw.getvalue().decode().rindex("\x1b[?25h") > 0


def test_live_and_quiet() -> None:
    console, raw = terminal()
    with LiveListener(console, quiet=True) as to:
        to.note("not shown")
        play(to, execution_of(VALIDATED))
    assert raw.getvalue().decode() == "  ✓ Succeeded in 4.2 s on docker · execution 7f3k2m9q0abc\n"


def test_long_reasons_and_paths_are_left_for_the_terminal_to_wrap() -> None:
    console, raw = terminal(width=40)
    reason = "word " * 30 + "[red]end[/red]"
    with LiveListener(console) as to:
        to.started(EXAMPLE, "docker")
        to.ended(execution_of(replace(BROKEN, failure_reason=reason), status="Failed"))
    assert f"    {reason}\n" in raw.getvalue().decode()


# -------------------------------------------------------------------------------- what may not be shown
RICH = re.compile(r"\x1b\[(?:\?25[lh]|[0-9]*A|2K|1G|[0-9;]*m)|\r")
"""What the live table itself writes: the cursor hidden and shown, a line up, a line cleared, colours."""


@settings(max_examples=30)
@given(hostile, st.sampled_from([PlainListener, WatchListener]))
def test_no_control_character_reaches_the_terminal_whatever_it_comes_from(text: str, made: Callable[..., Any]) -> None:
    """Lines of a log, reasons, messages, notes, parameters in them, names and paths."""
    console, raw = terminal()
    stream = io.StringIO()
    ended = replace(BROKEN, name=text, failure_reason=text, exit_message=text, log=Path(f"/{text}"))
    done = replace(VALIDATED, exit_message=text, outputs={text: Path(f"/{text}")})
    execution = replace(execution_of(ended, done, status="Failed", reason=text), pipeline=text)
    plan = plan_of(planned(text), planned("Validate", needs=(text,), branch=Branch(text, True)), notes=(text,))
    with LiveListener(console) as live:
        for shown in (made(stream), live):
            shown.note(text)
            shown.started(plan, "docker")
            shown.step_started(text)
            shown.line(text, "algo-1", text)
            shown.step_ended(ended)
            shown.step_ended(done)
            shown.ended(execution)
    assert not unprintable(stream.getvalue())
    drawn = raw.getvalue().decode(errors="surrogatepass")
    assert not unprintable(RICH.sub("", drawn))
    assert "\x1b[5m" not in drawn


# --------------------------------------------------------------------------------- picture, choice, silence
def test_the_picture_is_a_whole_svg_that_loads_nothing_and_does_not_change() -> None:
    execution = execution_of(VALIDATED, BROKEN, status="Failed", reason=TRACEBACK)
    svg = render_svg(EXAMPLE, execution, cwd=HOME)
    text = "".join(ET.fromstring(svg).itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert "[bold red]not a number[/]" in text
    assert "url(http" not in svg.replace('"', "")
    assert svg == render_svg(EXAMPLE, execution, cwd=HOME)


def test_the_picture_wraps_long_lines_below_their_beginning() -> None:
    console, raw = terminal(width=40)
    reason = "    " + "word " * 10 + "x" * 50
    console.print(summary(EXAMPLE, execution_of(replace(BROKEN, failure_reason=f"It broke:\n{reason}")), cwd=HOME))
    lines = [line.rstrip() for line in raw.getvalue().decode().splitlines()]
    start = lines.index("    It broke:")
    assert lines[start + 1 : start + 5] == [
        "        word word word word word word",
        "        word word word word",
        "        " + "x" * 32,
        "        " + "x" * 18,
    ]


def test_the_summary_is_a_renderable_of_any_console() -> None:
    console, raw = terminal(width=200)
    console.print(summary(EXAMPLE, execution_of(VALIDATED), cwd=HOME))
    assert raw.getvalue().decode().splitlines() == screen(EXAMPLE, execution_of(VALIDATED), width=200)


def test_a_stream_that_is_no_terminal_gets_plain_lines() -> None:
    stream = io.StringIO()
    with listener(stream) as to:
        play(to, execution_of(VALIDATED))
    assert "Validate/algo-1 | " in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_silent_is_a_listener_that_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    play(Silent(), execution_of(VALIDATED, BROKEN))
    assert capsys.readouterr() == ("", "")
