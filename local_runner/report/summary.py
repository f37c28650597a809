"""The last screen of a run: Plan and Execution -> lines of styled spans. No terminal, no files, no rich."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from local_runner.errors import says_no_room
from local_runner.models import FAILURES, Execution, Plan, StepExecution
from local_runner.report.table import Line, Role, Symbols, columns, row_line, step_rows
from local_runner.report.text import cells, duration, pad, printable, shown_path

_MAX_OUTPUTS = 24


def summary_lines(
    plan: Plan | None, execution: Execution, *, width: int, symbols: Symbols, cwd: Path, quiet: bool = False
) -> list[Line]:
    """The steps, where the outputs lie, why it failed, and the status last, where a terminal's reader looks.

    The table fits ``width``. Paths and reasons are neither cut nor broken, so that they can be copied: the
    terminal wraps them. ``quiet`` leaves the reasons and the status. Without a plan, steps that never started
    are unknown.
    """
    failures = _failures(execution, cwd)
    if quiet:
        return [*failures, *_status(execution, symbols)]
    blocks: list[list[Line]] = [
        [((f"  {printable(execution.pipeline)}", "strong"),)],
        _table(plan, execution, width, symbols),
        _outputs(execution, width, cwd),
        failures,
        _status(execution, symbols),
    ]
    return [line for block in blocks if block for line in [(), *block]]


def _table(plan: Plan | None, execution: Execution, width: int, symbols: Symbols) -> list[Line]:
    ended = {step.name: step for step in execution.steps}
    rows = step_rows(plan.steps if plan else (), ended, over=True)
    at = columns(rows, width)
    return [row_line(row, at, symbols) for row in rows]


def _outputs(execution: Execution, width: int, cwd: Path) -> list[Line]:
    found = [(step.name, name, path) for step in execution.steps for name, path in step.outputs.items()]
    if not found:
        return []
    title: Line = (("  Outputs", "strong"),)
    if len(found) > _MAX_OUTPUTS:
        parent = Path(os.path.commonpath([cwd / path for _, _, path in found]))
        return [
            title,
            ((f"    {len(found)} directories below ", "faint"), (shown_path(parent, cwd), "plain")),
        ]
    shown = [(printable(step), printable(name), shown_path(path, cwd)) for step, name, path in found]
    step_width, name_width, path_width = (max(cells(row[column]) for row in shown) for column in range(3))
    beside = 4 + step_width + 2 + name_width + 2 + path_width <= width
    lines: list[Line] = [title]
    previous = ""
    for step, name, path in shown:
        label = step if step != previous else ""
        previous = step
        if not beside and label:
            lines.append(((f"    {label}", "plain"),))
        head = f"    {pad(label, step_width)}  " if beside else "      "
        lines.append(((head, "plain"), (f"{pad(name, name_width)}  ", "faint"), (path, "plain")))
    return lines


def _failures(execution: Execution, cwd: Path) -> list[Line]:
    """The steps that did not succeed, each with its reason and its log."""
    whole = _reason(execution)
    lines: list[Line] = []
    for step in execution.steps:
        reason = (step.failure_reason or "").strip()
        # What the execution's reason quotes stands there.
        reason_lines = _indented(reason) if reason and (reason == whole or reason not in whole) else []
        log: list[Line] = [(("    Log: ", "faint"), (shown_path(step.log, cwd), "plain"))] if step.log else []
        if step.status != "Succeeded" and (reason_lines or log):
            title: Line = ((f"  {printable(step.name)} {step.status.lower()}", _role(step)),)
            lines += [*([()] if lines else []), title, *reason_lines, *log]
    return lines


def _reason(execution: Execution) -> str:
    return (execution.failure_reason or "").strip()


def _indented(text: str) -> list[Line]:
    return [((f"    {line}", "plain"),) if line.strip() else () for line in printable(text).split("\n")]


def _role(step: StepExecution) -> Role:
    return "bad" if step.status == "Failed" else "halted"


def _status(execution: Execution, symbols: Symbols) -> list[Line]:
    took = duration(execution.seconds)
    tail: Line = ((f" on {execution.engine}", "plain"), (f" {symbols.dot} execution {execution.id}", "faint"))
    if execution.status == "Succeeded":
        return [((f"  {symbols.succeeded} Succeeded", "good"), (f" in {took}", "plain"), *tail)]
    failed = execution.status in FAILURES
    symbol = symbols.failed if failed else symbols.stopped
    role: Role = "bad" if failed else "halted"
    head: Line = ((f"  {symbol} {execution.status}", role), (f" after {took}", "plain"), *tail)
    whole = _reason(execution)
    shown = whole and not any(whole in (step.failure_reason or "") for step in execution.steps)
    advice: Line = (("    Next: ", "faint"), (_advice(execution), "plain"))
    return [head, *(_indented(whole) if shown else []), advice]


def _advice(execution: Execution) -> str:
    failed = [step for step in execution.steps if step.status == "Failed"]
    if says_no_room(_reason(execution)) or any(says_no_room(step.failure_reason or "") for step in failed):
        return "free space on the disk that is full, or keep the state elsewhere (--state DIR), then run again."
    logged = _names([step.name for step in failed if step.log])
    if logged:
        return f"fix what the log of {logged} shows, then run again."
    if failed:
        return "fix what the reason names, then run again."
    return "run again; the outputs of the steps that succeeded are kept."


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
