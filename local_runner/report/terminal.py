"""A run on a terminal: the table of steps, live, then the last screen. Writes to the Console given.

Importing this module imports rich; :mod:`local_runner.report.plain` does without.
"""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.text import Text

from local_runner.models import Execution, Plan, StepExecution
from local_runner.report.summary import summary_lines
from local_runner.report.table import (
    Line,
    Role,
    Running,
    Symbols,
    choose,
    columns,
    counts,
    row_line,
    step_rows,
    symbols_for,
)
from local_runner.report.text import duration, encodable, fit, one_line, printable

_STYLES: dict[Role, str] = {
    "plain": "",
    "strong": "bold",
    "faint": "dim",
    "good": "green",
    "bad": "red",
    "busy": "cyan",
    "halted": "yellow",
}
_REFRESHES_PER_SECOND = 10
_MAX_LINE = 1000


@dataclass(frozen=True)
class _Summary:
    """The last screen as a rich renderable; it fits the width that rich gives it."""

    plan: Plan | None
    execution: Execution
    cwd: Path
    quiet: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        lines = summary_lines(
            self.plan,
            self.execution,
            width=options.max_width,
            symbols=symbols_for(options.encoding),
            cwd=self.cwd,
            quiet=self.quiet,
        )
        for line in lines:
            text = _text(line, options.encoding)
            if options.no_wrap or text.cell_len <= options.max_width:
                yield text
            else:
                yield from _wrapped(text, console, options.max_width)


def summary(plan: Plan | None, execution: Execution, *, cwd: Path | None = None, quiet: bool = False) -> RenderableType:
    """The last screen of a run: steps, outputs, what went wrong, status.

    Paths are shown relative to ``cwd`` (default: the current directory) where that is shorter. Print it with
    ``soft_wrap=True`` to leave the wrapping of long paths and reasons to the terminal.
    """
    return _Summary(plan, execution, cwd or Path.cwd(), quiet)


def render_svg(
    plan: Plan | None,
    execution: Execution,
    *,
    title: str = "local-runner run",
    width: int = 100,
    cwd: Path | None = None,
) -> str:
    """The last screen as an SVG of a terminal ``width`` cells wide; the same run always gives the same text.

    The picture loads nothing: it names fonts that the viewer may have and falls back to any of fixed width.
    """
    console = Console(
        record=True,
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
    )
    console.print(summary(plan, execution, cwd=cwd))
    svg = console.export_svg(title=title, unique_id="local-runner")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    # Some viewers (librsvg) collapse rich's no-break spaces unasked, and the columns with them.
    return svg.replace("<svg ", '<svg xml:space="preserve" ', 1)


class LiveListener:
    """The table of steps, redrawn at most ten times a second, then the last screen.

    A line that a step prints only replaces the one before; a thread of its own does the drawing, however
    many lines there are. ``quiet`` shows nothing but what went wrong and the status. Use as a context
    manager, so that the terminal is left in order when the run ends in an exception. ``clock`` counts
    seconds.
    """

    def __init__(self, console: Console, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._quiet = quiet
        self._clock = clock
        self._begin = clock()
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._plan: Plan | None = None
        self._engine = ""
        self._began: dict[str, float] = {}
        self._last: dict[str, tuple[str, str]] = {}
        self._hosts: dict[str, set[str]] = {}
        self._ended: dict[str, StepExecution] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops drawing and shows the cursor again. Safe to call twice."""
        live, self._live = self._live, None
        if live:
            live.stop()

    def started(self, plan: Plan, engine: str) -> None:
        """Shows every step of the plan, and what the plan has to note."""
        for note in plan.notes:
            self.note(note)
        with self._lock:
            self._plan, self._engine, self._begin = plan, engine, self._clock()
        if self._quiet:
            return
        self._live = Live(
            _LiveTable(self),
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            # With --json stdout carries the object and nothing else: it must not be led to this console.
            redirect_stdout=not self._console.stderr,
        )
        self._live.start()

    def step_started(self, name: str) -> None:
        """Shows the step as running."""
        with self._lock:
            self._began.setdefault(name, self._clock())

    def line(self, step: str, host: str, text: str) -> None:
        """Keeps the line until the next one."""
        if text and not text.isspace():
            # Without the lock: a step that prints a lot must not wait. One assignment is atomic.
            self._last[step] = (host, text)
            if host not in self._hosts.setdefault(step, set()):
                self._hosts[step] = {*self._hosts[step], host}

    def step_ended(self, step: StepExecution) -> None:
        """Shows how the step ended."""
        with self._lock:
            self._ended[step.name] = step

    def note(self, text: str) -> None:
        """Prints it above the table, where it stays."""
        if not self._quiet:
            self._console.print(_text(((f"  {text}", "faint"),), self._console.encoding), soft_wrap=True)

    def ended(self, execution: Execution) -> None:
        """Replaces the table by the last screen."""
        self.close()
        self._console.print(summary(self._plan, execution, quiet=self._quiet), soft_wrap=True)

    def lines(self, width: int, height: int, symbols: Symbols) -> list[Line]:
        """The table and the status as they are now, at most ``height`` lines of at most ``width`` cells."""
        now = self._clock()
        with self._lock:
            plan, ended = self._plan, dict(self._ended)
            running = {
                name: Running(now - begin, self._last_line(name))
                for name, begin in self._began.items()
                if name not in ended
            }
        rows = step_rows(plan.steps if plan else (), ended, running)
        frame = int((now - self._begin) * _REFRESHES_PER_SECOND)
        at = columns(rows, width)
        shown, left_out = choose(rows, height - 5)
        if left_out:
            shown, left_out = choose(rows, height - 6)
        table = [row_line(row, at, symbols, frame) for row in shown]
        if left_out:
            rest = f"  {symbols.ellipsis} {len(left_out)} more: {counts(left_out)}"
            table.append(((fit(rest, width, symbols.ellipsis), "faint"),))
        name = one_line(plan.pipeline.name) if plan else ""
        title: Line = ((f"  {fit(name, width - 2, symbols.ellipsis)}", "strong"),)
        head = f"  {symbols.of('running', frame)} Executing"
        text = f" {duration(now - self._begin)} on {self._engine} {symbols.dot} {counts(rows)}"
        status: Line = ((head, "busy"), (fit(text, max(width - len(head), 0), symbols.ellipsis), "plain"))
        return [(), title, (), *table, (), status][: max(height, 1)]

    def _last_line(self, step: str) -> str:
        if step not in self._last:
            return ""
        host, text = self._last[step]
        text = one_line(text.rstrip("\r").rpartition("\r")[2][:_MAX_LINE])
        return f"{host}: {text}" if len(self._hosts.get(step, ())) > 1 else text


@dataclass(frozen=True)
class _LiveTable:
    """What the listener has to show when rich asks for it."""

    listener: LiveListener

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        # The last column stays free, for a terminal that takes a character for wider than rich does.
        for line in self.listener.lines(options.max_width - 1, console.size.height - 1, symbols_for(options.encoding)):
            yield _text(line, options.encoding, no_wrap=True)


def _wrapped(text: Text, console: Console, width: int) -> Iterator[Text]:
    """The text in lines that keep its indent, for a picture: there nobody copies, and nothing else wraps."""
    indent = min(len(text.plain) - len(text.plain.lstrip(" ")), width // 2)
    for line in text[indent:].wrap(console, width - indent, overflow="fold"):
        yield Text(" " * indent).append_text(line)


def _text(line: Line, encoding: str, *, no_wrap: bool | None = None) -> Text:
    text = Text(no_wrap=no_wrap, overflow="crop" if no_wrap else None)
    for part, role in line:
        text.append(encodable(printable(part), encoding), _STYLES[role] or None)
    return text
