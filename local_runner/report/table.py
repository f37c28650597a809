"""The table of steps, during a run and after it: a Plan and what is known so far -> lines of styled spans.

Pure: no terminal, no files, no rich. What shows the lines gives the width and the symbols that it can show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from local_runner.models import PlannedStep, StepExecution
from local_runner.report.text import cells, duration, first_line, fit, one_line, pad

Role = Literal["plain", "strong", "faint", "good", "bad", "busy", "halted"]
Span = tuple[str, Role]
Line = tuple[Span, ...]
State = Literal["waiting", "running", "succeeded", "failed", "stopped", "not run"]

ROLES: dict[State, Role] = {
    "waiting": "faint",
    "running": "busy",
    "succeeded": "good",
    "failed": "bad",
    "stopped": "halted",
    "not run": "faint",
}
_MARGIN = 2
_GAP = "  "
_TIME_WIDTH = 9


@dataclass(frozen=True)
class Symbols:
    """What a stream can show: a character for each state, the frames of the spinner, and the ellipsis."""

    succeeded: str
    failed: str
    stopped: str
    waiting: str
    spinner: str
    ellipsis: str
    dot: str

    def of(self, state: State, frame: int = 0) -> str:
        """The character for the state; a running step's is frame number ``frame`` of the spinner."""
        match state:
            case "running":
                return self.spinner[frame % len(self.spinner)]
            case "succeeded":
                return self.succeeded
            case "failed":
                return self.failed
            case "stopped":
                return self.stopped
            case "waiting" | "not run":
                return self.waiting


UNICODE = Symbols("✓", "✗", "■", "○", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "…", "·")
ASCII = Symbols("+", "x", "!", ".", "|/-\\", "...", "-")


def symbols_for(encoding: str | None) -> Symbols:
    """What can be shown in an encoding (None: text that stays in memory)."""
    return UNICODE if encoding is None or encoding.lower().startswith("utf") else ASCII


@dataclass(frozen=True)
class Running:
    """A step that is under way: for how many seconds, and the last line it printed."""

    seconds: float
    last_line: str = ""


@dataclass(frozen=True)
class Row:
    """A step as the table shows it. ``depth``: in how many Conditions it stands. ``time`` may be a word."""

    name: str
    type: str
    depth: int
    state: State
    time: str
    detail: str


@dataclass(frozen=True)
class Columns:
    """How wide the columns are, in cells; 0 where one is left out."""

    name: int
    type: int
    detail: int


def step_rows(
    planned: Sequence[PlannedStep],
    ended: Mapping[str, StepExecution],
    running: Mapping[str, Running] | None = None,
    *,
    over: bool = False,
) -> tuple[Row, ...]:
    """A row for each step, those in a branch below their Condition. ``over``: no more steps will start."""
    running = running or {}
    rows: list[Row] = []
    for plan_step, depth in _nested(planned):
        name = plan_step.step.name
        if name in ended:
            rows.append(_ended_row(ended[name], depth))
        elif name in running and not over:
            seconds, text = running[name].seconds, running[name].last_line
            rows.append(Row(name, plan_step.step.type, depth, "running", duration(seconds), text))
        else:
            rows.append(_idle_row(plan_step, depth, ended, over))
    known = {row.name for row in rows}
    rows += [_ended_row(step, 0) for name, step in ended.items() if name not in known]
    return tuple(rows)


def columns(rows: Sequence[Row], width: int) -> Columns:
    """Column widths for these rows on a terminal of ``width`` cells; a narrow one goes without the type."""
    name = max((2 * row.depth + cells(row.name) for row in rows), default=0)
    type_width = max((cells(row.type) for row in rows), default=0) if width >= 60 else 0
    fixed = _MARGIN + 2 + len(_GAP) + _TIME_WIDTH + len(_GAP) + (type_width + len(_GAP) if type_width else 0)
    room = max(width - fixed, 0)
    name = min(name, max(room // 2, min(room, 12)))
    return Columns(name, type_width, max(room - name, 0))


def row_line(row: Row, at: Columns, symbols: Symbols, frame: int = 0) -> Line:
    """One row as a line no wider than the terminal that the columns were made for."""
    idle = row.state in ("waiting", "not run")
    role = ROLES[row.state]
    name = pad("  " * row.depth + row.name, at.name, symbols.ellipsis)
    kind = _GAP + pad(row.type, at.type, symbols.ellipsis) if at.type else ""
    detail = fit(row.detail, at.detail, symbols.ellipsis)
    return (
        (" " * _MARGIN, "plain"),
        (symbols.of(row.state, frame), role),
        (f" {name}", "faint" if idle else "plain"),
        (kind, "faint"),
        (_GAP + row.time.rjust(_TIME_WIDTH), "busy" if row.state == "running" else "faint"),
        (_GAP + detail if detail else "", _detail_role(row)),
    )


def choose(rows: Sequence[Row], height: int) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """(shown, left out) for a table of at most ``height`` lines, both in the table's order.

    Failed and running steps come first, then those that ended, the last ones first, then those that wait.
    """
    if len(rows) <= height:
        return tuple(rows), ()
    rank: dict[State, int] = {
        "failed": 0,
        "running": 1,
        "stopped": 2,
        "succeeded": 3,
        "not run": 4,
        "waiting": 4,
    }
    order = sorted(
        range(len(rows)),
        key=lambda i: (rank[rows[i].state], -i if rows[i].state == "succeeded" else i),
    )
    kept = set(order[: max(height, 0)])
    shown = tuple(row for i, row in enumerate(rows) if i in kept)
    return shown, tuple(row for i, row in enumerate(rows) if i not in kept)


def counts(rows: Sequence[Row]) -> str:
    """How many rows are in each state, as a text: ``1 failed, 3 running, 12 waiting``."""
    order: tuple[State, ...] = ("failed", "running", "stopped", "succeeded", "not run", "waiting")
    number = Counter(row.state for row in rows)
    return ", ".join(f"{number[state]} {state}" for state in order if number[state])


def plain_text(line: Line) -> str:
    """The line without its styles."""
    return "".join(text for text, _ in line).rstrip()


def _nested(planned: Sequence[PlannedStep]) -> list[tuple[PlannedStep, int]]:
    """The steps in the plan's order, each followed by the steps of its branches, with their depth."""
    names = {item.step.name for item in planned}
    inside: dict[str | None, list[PlannedStep]] = {}
    for item in planned:
        branch = item.step.branch
        parent = branch.condition if branch and branch.condition in names else None
        inside.setdefault(parent, []).append(item)
    ordered: list[tuple[PlannedStep, int]] = []
    left = [(item, 0) for item in reversed(inside.get(None, []))]
    while left:
        item, depth = left.pop()
        ordered.append((item, depth))
        left += [(child, depth + 1) for child in reversed(inside.get(item.step.name, []))]
    return ordered


def _ended_row(step: StepExecution, depth: int) -> Row:
    match step.status:
        case "Succeeded":
            state = "succeeded"
        case "Failed":
            state = "failed"
        case _:
            state = "stopped"
    time = "cached" if step.cached else duration(step.seconds)
    return Row(step.name, step.type, depth, state, time, outcome_text(step))


def outcome_text(step: StepExecution) -> str:
    """How a step ended, in a line: why it failed, else its exit message, else what a Condition found."""
    if step.status != "Succeeded" and step.failure_reason:
        return first_line(step.failure_reason)
    if step.exit_message:
        return one_line(step.exit_message)
    return "" if step.outcome is None else str(step.outcome).lower()


def _idle_row(item: PlannedStep, depth: int, ended: Mapping[str, StepExecution], over: bool) -> Row:
    branch = item.step.branch
    condition = ended.get(branch.condition) if branch else None
    detail = f"if {branch.condition} is {str(branch.taken_if).lower()}" if branch else ""
    branch_taken = branch is None or (condition is not None and condition.outcome == branch.taken_if)
    if over and branch_taken:
        detail = _unmet(item, ended)
    return Row(
        item.step.name,
        item.step.type,
        depth,
        "not run" if over else "waiting",
        "not run" if over else "",
        detail,
    )


def _unmet(item: PlannedStep, ended: Mapping[str, StepExecution]) -> str:
    """What the step needed and did not get: ``needs Fit``, ``needs Fit to fail``."""
    wanted = {
        "Completed": ("Succeeded", ""),
        "Failed": ("Failed", " to fail"),
        "Stopped": ("Stopped", " to stop"),
    }
    unmet: list[str] = []
    for it in item.waits_for:
        status, state = wanted.get(it.trigger, (None, ""))
        if it.step not in ended or (status and ended[it.step].status != status):
            unmet.append(it.step + state)
    return f"needs {', '.join(unmet)}" if unmet else ""


def _detail_role(row: Row) -> Role:
    if row.state == "failed":
        return "bad"
    return "plain" if row.state == "succeeded" else "faint"
