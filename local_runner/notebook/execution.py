"""An execution that runs in a thread of its own, and what is known of it at any time. Runs the stages it is given.

A program that ends while an execution runs waits for it, as the cloud would go on without the program.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  # pyright: ignore[reportUnusedImport]  (see the end of this module)
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from local_runner.events import Listener
from local_runner.models import Execution, ExecutionStatus, Plan, StepExecution, StepStatus

Run = Callable[[Listener, threading.Event], Execution]
"""Runs a plan to its end, tells the listener about it, and stops when the event is set."""


@dataclass(frozen=True)
class StepProgress:
    """A step that has begun. ``result`` is None as long as it runs."""

    name: str
    started: datetime
    attempts: int = 1
    ended: datetime | None = None
    result: StepExecution | None = None


class LocalExecution:
    """One execution. ``begin`` starts it; everything else may be asked at any time, from any thread."""

    def __init__(self, plan: Plan, shown: Listener, run: Run) -> None:
        self.plan = plan
        self.created = datetime.now(UTC)
        self.modified = self.created
        self.result: Execution | None = None
        self._run = run
        self._stop = threading.Event()
        self._begun = threading.Event()
        self._over = threading.Event()
        self._broken: BaseException | None = None
        self._journal = _Journal(shown, self._begun.set)
        self._thread = threading.Thread(target=self._work, name=f"execution-{plan.execution_id}")

    # ------------------------------------------------------------------------------------------------ running
    def begin(self) -> None:
        """Start it, and return when its first steps may start. Raises what keeps it from running at all."""
        _unfinished.add(self)
        self._thread.start()
        try:
            self._begun.wait()
        except BaseException:  # Ctrl-C while an image is built: nobody would know of this execution
            self._stop.set()
            raise
        if self._broken is not None and not self._journal.begun:
            raise self._broken

    def stop(self) -> None:
        """Ask it to stop. Returns at once; what runs gets a moment to end."""
        self.modified = datetime.now(UTC)
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is over, ``seconds`` at most. Returns whether it is."""
        return self._over.wait(seconds)

    def _work(self) -> None:
        try:
            self.result = self._run(self._journal, self._stop)
        except BaseException as error:
            self._broken = error
        finally:
            self.modified = datetime.now(UTC)
            self._over.set()
            self._begun.set()
            _unfinished.discard(self)

    # ----------------------------------------------------------------------------------------- what is known of it
    @property
    def status(self) -> ExecutionStatus:
        """Its status now."""
        if not self._over.is_set():
            return "Stopping" if self._stop.is_set() else "Executing"
        return self.result.status if self.result else "Failed"

    @property
    def failure_reason(self) -> str | None:
        """Why it failed or was stopped; None while it runs, and where it succeeded."""
        if not self._over.is_set():
            return None
        return self.result.failure_reason if self.result else f"The run broke off: {self._broken}"

    def steps(self) -> list[StepProgress]:
        """The steps that have begun, in the order in which they did."""
        return self._journal.steps()

    def step_status(self, step: StepProgress) -> StepStatus:
        """A step's status now. One that was running when the run broke off has failed with it."""
        if step.result:
            return step.result.status
        if self._over.is_set():
            return "Failed"
        return "Stopping" if self._stop.is_set() else "Executing"


class _Journal:
    """The listener that keeps what it receives, and passes it on to the one who shows it."""

    def __init__(self, shown: Listener, on_begin: Callable[[], None]) -> None:
        self.begun = False
        self._shown = shown
        self._on_begin = on_begin
        self._lock = threading.Lock()
        self._steps: dict[str, StepProgress] = {}

    def steps(self) -> list[StepProgress]:
        with self._lock:
            return list(self._steps.values())

    def started(self, plan: Plan, engine: str) -> None:
        self.begun = True
        self._shown.started(plan, engine)
        self._on_begin()

    def step_started(self, name: str) -> None:
        with self._lock:
            before = self._steps.get(name)
            if before:
                self._steps[name] = replace(before, attempts=before.attempts + 1)
            else:
                self._steps[name] = StepProgress(name, datetime.now(UTC))
        self._shown.step_started(name)

    def line(self, step: str, host: str, text: str) -> None:
        self._shown.line(step, host, text)

    def step_ended(self, step: StepExecution) -> None:
        now = datetime.now(UTC)
        with self._lock:
            before = self._steps.get(step.name, StepProgress(step.name, now))  # one from the cache never started
            self._steps[step.name] = replace(before, ended=now, result=step)
        self._shown.step_ended(step)

    def note(self, text: str) -> None:
        self._shown.note(text)

    def ended(self, execution: Execution) -> None:
        self._shown.ended(execution)


_unfinished: set[LocalExecution] = set()


def _finish() -> None:
    """Wait for every execution; Ctrl-C stops them instead."""
    while _unfinished:
        execution = next(iter(_unfinished), None)
        try:
            if execution and not execution.wait(0):
                print(f"Execution {execution.plan.execution_id} still runs. Waiting for it (Ctrl-C stops it).")
                execution.wait()
        except KeyboardInterrupt:
            for one in list(_unfinished):
                one.stop()


# The standard library's own hook for this, as ``atexit`` comes too late: by then thread pools, which executions use,
# take no more work. Hooks run in reverse order, so that of the pools (``concurrent.futures.thread``) has to be there.
_at_exit: Callable[[Callable[[], None]], None] | None = getattr(threading, "_register_atexit", None)
if _at_exit:
    _at_exit(_finish)
