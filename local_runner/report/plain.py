"""A run as plain lines, for a file, a pipe or a CI log. Writes to the stream it is given; no rich."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from local_runner.models import Execution, Plan, StepExecution
from local_runner.report.summary import summary_lines
from local_runner.report.table import outcome_text, plain_text, symbols_for
from local_runner.report.text import cells, duration, encodable, printable

_WIDTH = 120
_MAX_NAME = 32


class PlainListener:
    """Every line as it comes, with the seconds since the start; then the table of steps.

    ``quiet`` leaves only what went wrong and the status line. ``clock`` counts seconds.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._encoding: str | None = getattr(stream, "encoding", None)
        self._quiet = quiet
        self._clock = clock
        self._begin = clock()
        self._lock = threading.Lock()
        self._plan: Plan | None = None
        self._name_width = 0
        self._types: Mapping[str, str] = {}

    def started(self, plan: Plan, engine: str) -> None:
        """Says what runs where, and what the plan has to note."""
        self._plan = plan
        self._begin = self._clock()
        self._types = {item.step.name: item.step.type for item in plan.steps}
        self._name_width = min(max((cells(name) for name in self._types), default=0), _MAX_NAME)
        self._print(f"{plan.pipeline.name}  execution {plan.execution_id} on {engine}")
        for note in plan.notes:
            self.note(note)

    def step_started(self, name: str) -> None:
        """Says so."""
        self._print(f"{self._name(name)}  Executing")

    def line(self, step: str, host: str, text: str) -> None:
        """Passes the line on, whole, after the step and the host."""
        if not self._quiet:
            self._write(f"{step}/{host} | {printable(text)}")

    def step_ended(self, step: StepExecution) -> None:
        """Says how, how long it took, and what it left to say."""
        took = "cached" if step.cached else duration(step.seconds)
        outcome = outcome_text(step)
        self._print(f"{self._name(step.name)}  {step.status}  {took}{'  ' if outcome else ''}{outcome}")

    def note(self, text: str) -> None:
        """Passes it on."""
        self._print(text)

    def ended(self, execution: Execution) -> None:
        """Prints the last screen."""
        lines = summary_lines(
            self._plan,
            execution,
            width=_WIDTH,
            symbols=symbols_for(self._encoding),
            cwd=Path.cwd(),
            quiet=self._quiet,
        )
        self._write("\n".join(plain_text(line) for line in lines))

    def _name(self, name: str) -> str:
        return name + " " * (self._name_width - cells(name))

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._write(f"[{self._clock() - self._begin:5.1f}s] {text}")

    def _write(self, text: str) -> None:
        text = encodable(printable(text), self._encoding)
        with self._lock:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # The reader is gone or the disk is full. The run goes on, and its logs are kept.
                self._quiet = True
