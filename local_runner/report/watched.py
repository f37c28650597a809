"""The runs of a watch, on a terminal or a pipe: a few lines each. Writes to the stream it is given; no rich."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TextIO

from local_runner.models import Execution, Plan, StepExecution
from local_runner.report.table import outcome_text, symbols_for
from local_runner.report.text import encodable, printable

_LAST_LINES = 5
_SHOWN_FILES = 3


class WatchListener:
    """What changed; each step that ran, with its time and its last lines; how it ended, and how long after the save."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding: str | None = getattr(stream, "encoding", None)
        self._symbols = symbols_for(self._encoding)
        self._lock = threading.Lock()
        self._lines: dict[str, deque[str]] = {}
        self._ran = 0
        self._saved = time.time()

    def begin(self, changed: Sequence[str], saved: float) -> None:
        """A run begins, since these files changed; ``saved`` is when (seconds since 1970)."""
        self._lines, self._ran, self._saved = {}, 0, saved
        more = f" and {len(changed) - _SHOWN_FILES} more" if len(changed) > _SHOWN_FILES else ""
        what = ", ".join(changed[:_SHOWN_FILES]) + more if changed else "first run"
        self._write(f"\n{time.strftime('%H:%M:%S')}  {what}")

    def error(self, text: str) -> None:
        """The run could not begin."""
        self._write(f"  {self._symbols.failed} " + text.replace("\n", "\n    "))
        self._waiting()

    def started(self, plan: Plan, engine: str) -> None:
        """Shows what the plan has to note."""
        for note in plan.notes:
            self.note(note)

    def step_started(self, name: str) -> None:
        """Nothing: a step is shown when it has ended. One that is tried again starts from nothing."""
        self._lines[name] = deque(maxlen=_LAST_LINES)

    def line(self, step: str, host: str, text: str) -> None:
        """Keeps the last lines."""
        self._lines.setdefault(step, deque(maxlen=_LAST_LINES)).append(printable(text))

    def step_ended(self, step: StepExecution) -> None:
        """Shows the step unless it came from the cache."""
        if step.cached or (step.type == "Condition" and step.status == "Succeeded"):
            return
        self._ran += step.type != "Condition"
        symbol = self._symbols.succeeded if step.status == "Succeeded" else self._symbols.failed
        how = " hot" if step.hot else ""
        lines = [f"  {symbol} {step.name}  {step.seconds:.2f} s{how}  {outcome_text(step)}".rstrip()]
        if step.failure_reason and step.status != "Stopped":
            lines += [f"      {line}" for line in printable(step.failure_reason).split("\n")]
        else:
            lines += [f"      {line}" for line in self._lines.get(step.name, ())]
        self._write("\n".join(lines))

    def note(self, text: str) -> None:
        """Passes it on."""
        self._write(f"  {text}")

    def ended(self, execution: Execution) -> None:
        """Shows the status, and how long it took from the save."""
        if execution.status == "Stopped":
            self._write("  Stopped: something newer was saved, or the watch ends.")
            return
        symbol = self._symbols.succeeded if execution.status == "Succeeded" else self._symbols.failed
        counted = f"{self._ran} {'step' if self._ran == 1 else 'steps'} ran" if self._ran else "nothing to run"
        self._write(f"  {symbol} {execution.status}, {counted}  {time.time() - self._saved:.2f} s from the save")
        self._waiting()

    def _waiting(self) -> None:
        self._write("  Waiting for a save (Ctrl-C ends).")

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                self._stream.write(encodable(printable(text), self._encoding) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                return  # nobody reads it any more
