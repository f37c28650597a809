"""Plan + resources -> Execution. Starts ready steps side by side, in threads; ``execution/steps/`` runs each one.

A step starts when every step it waits for has ended the way it asks for and its branch was taken. A step that can no
longer start (its branch was not taken, something it waits for failed or never ran) is left out of the Execution, as
the service leaves it out of ListPipelineExecutionSteps. After a failure, steps that do not depend on it go on; a step
that ends the execution (Fail) starts nothing new.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from types import FrameType

from local_runner.definition.expressions import ExpressionError, Scope
from local_runner.errors import DataError, LocalRunnerError, debugging, system_trouble
from local_runner.events import Masked, masked_step
from local_runner.execution.attempt import Attempt, Resources
from local_runner.execution.ended import Ended, failed
from local_runner.execution.retries import with_retries
from local_runner.execution.steps import runner_of
from local_runner.jsontext import shorten
from local_runner.models import Execution, ExecutionStatus, Plan, PlannedStep, StepExecution
from local_runner.planning.scope import starting_scope, timestamp
from local_runner.sagemaker_api.job_types import AT_ONCE_TYPES
from local_runner.signals import handled
from local_runner.storage import job_tree
from local_runner.storage.local_s3 import Storage

INTERNAL_ERROR = "internal-error.txt"
"""The file in a step's log directory that has the traceback of a defect of this program."""

_POLL_SECONDS = 0.2
_STATUS_FOR = {"Completed": "Succeeded", "Failed": "Failed", "Stopped": "Stopped"}


def execute(plan: Plan, resources: Resources, *, max_parallel: int) -> Execution:
    """Run the plan to its end. SIGINT, SIGTERM, SIGHUP or ``resources.stop`` stop what runs, and the Execution is then
    Stopped. ``max_parallel`` is how many steps may run at once."""
    resources = replace(resources, listener=Masked(resources.listener, plan.secrets))
    scope = starting_scope(plan, lambda uri: _text_at(resources.storage, uri))
    executor = _Executor(plan, resources, scope, max_parallel)
    listener, engine = resources.listener, resources.engine.name
    started = monotonic()
    listener.started(plan, engine)
    with (
        _signals_stop(resources.stop),
        ThreadPoolExecutor(max_parallel, "step") as threads,
        ThreadPoolExecutor(1, "tidy") as tidy,
    ):
        executor.loop(threads, tidy)
    status, reason = executor.outcome()
    executor.keep_described()
    execution = Execution(
        id=plan.execution_id,
        pipeline=plan.pipeline.name,
        status=status,
        engine=engine,
        failure_reason=reason,
        parameters=plan.secrets.hidden_named(plan.parameters),
        started=plan.started,
        ended=timestamp(),
        seconds=monotonic() - started,
        steps=tuple(executor.ended.values()),
    )
    listener.ended(execution)
    return execution


@dataclass
class _Executor:
    plan: Plan
    resources: Resources
    scope: Scope
    max_parallel: int
    ended: dict[str, StepExecution] = field(default_factory=dict[str, StepExecution])
    skipped: set[str] = field(default_factory=set[str])
    failed_by: StepExecution | None = None

    # ------------------------------------------------------------------------------------------------ scheduling
    def loop(self, threads: ThreadPoolExecutor, tidy: ThreadPoolExecutor) -> None:
        """Start what is ready, wait for what runs, until nothing is left that could start.

        What a step leaves in its scratch space is removed at its end, and not all of it at the end of the run: the
        disk needs to hold that of the running steps only.
        """
        waiting = list(self.plan.steps)
        running: dict[Future[Ended], str] = {}
        while True:
            waiting = self._start_ready(waiting, running, threads)
            if not running:
                return
            done, _ = wait(running, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                name = running.pop(future)
                self._end(future.result())
                tidy.submit(job_tree.remove, self.resources.run.work / name)

    def _start_ready(
        self, waiting: list[PlannedStep], running: dict[Future[Ended], str], threads: ThreadPoolExecutor
    ) -> list[PlannedStep]:
        """Start every step that can start now; those that have to wait longer are returned.

        The plan's order respects dependencies, so one pass settles steps that end on the spot and what they allow.
        """
        still: list[PlannedStep] = []
        for planned in waiting:
            name = planned.step.name
            match "skip" if self.resources.stop.is_set() or self.failed_by else self._readiness(planned):
                case "skip":
                    self.skipped.add(name)
                case "wait":
                    still.append(planned)
                case _ if planned.step.type in AT_ONCE_TYPES:
                    self._end(self._guarded(planned, partial(self._attempt, planned, self.scope, 1)))
                case _ if len(running) == self.max_parallel:
                    still.append(planned)  # a thread would start it later, also when nothing may start any more
                case _:
                    run = partial(self._tried, planned, self.scope)
                    running[threads.submit(self._guarded, planned, run)] = name
        return still

    def _readiness(self, planned: PlannedStep) -> str:
        """``run``, ``wait``, or ``skip``: never any more."""
        answer = "run"
        for dependency in planned.waits_for:
            if dependency.step in self.skipped:
                return "skip"
            ended = self.ended.get(dependency.step)
            if ended is None:
                answer = "wait"
            elif dependency.trigger != "Any" and ended.status != _STATUS_FOR[dependency.trigger]:
                return "skip"
        branch = planned.step.branch
        if answer == "run" and branch is not None and branch.condition in self.ended:
            return "run" if self.ended[branch.condition].outcome is branch.taken_if else "skip"
        return answer

    def _end(self, ended: Ended) -> None:
        step = masked_step(ended.step, self.plan.secrets)
        self.ended[step.name] = step
        if ended.describe:
            self.scope = self.scope.with_step(step.name, ended.describe)
        if ended.fails_execution:
            self.failed_by = step
        self.resources.listener.step_ended(step)

    def keep_described(self) -> None:
        """Keep what a later execution may continue; where there is no room for it, there is none for more either."""
        succeeded = {name for name, step in self.ended.items() if step.status == "Succeeded"}
        described = {name: self.scope.steps[name] for name in succeeded & self.scope.steps.keys()}
        with suppress(OSError):
            self.resources.run.write_described(self.plan.secrets.hidden({**self.plan.source, **described}))

    def outcome(self) -> tuple[ExecutionStatus, str | None]:
        """The execution's status and FailureReason."""
        if self.failed_by:
            return "Failed", f"Step '{self.failed_by.name}': {self.failed_by.failure_reason}"
        failed = [step for step in self.ended.values() if step.status == "Failed"]
        if failed:
            over = not self.resources.stop.is_set()
            followed = over and all(self._followed(step.name) for step in failed)
            return "CompletedWithFailures" if followed else "Failed", "\n".join(
                f"Step '{step.name}' failed: {step.failure_reason}" for step in failed
            )
        return ("Stopped", "Stopped by the user.") if self.resources.stop.is_set() else ("Succeeded", None)

    def _followed(self, failed: str) -> bool:
        """Whether a step ran that waited for the failed one with the trigger Failed or Any."""
        return any(
            it.step == failed and it.trigger in ("Failed", "Any")
            for planned in self.plan.steps
            if planned.step.name in self.ended
            for it in planned.waits_for
        )

    # ----------------------------------------------------------------------------------------------- one step
    def _guarded(self, planned: PlannedStep, run: Callable[[], Ended]) -> Ended:
        """The outcome of the step; where this program has a defect, its failure, and the others go on.

        The traceback goes to the step's logs, and with ``--debug`` to stderr, too. Errors that a command reports
        to the user (no engine can be had) end the execution as ever.
        """
        try:
            return run()
        except LocalRunnerError:
            raise
        except Exception as error:
            import traceback  # slow to import

            text = "".join(traceback.format_exception(error))
            file = self.resources.run.logs(planned.step.name) / INTERNAL_ERROR
            kept = f"Its traceback is in {file}; `local-runner --debug …` shows it."
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8", errors="backslashreplace")
            except OSError:
                kept = "`local-runner --debug …` shows where."
            if debugging():
                sys.stderr.write(text)
            message = str(error).encode(errors="backslashreplace").decode()
            reason = (
                f"Internal error: {type(error).__name__}: {shorten(message, 300)} (a defect of this program). {kept}"
            )
            return failed(planned, reason)

    def _tried(self, planned: PlannedStep, scope: Scope) -> Ended:
        """One step, as often as its retry policies say, in a thread of its own."""
        started = monotonic()

        def attempt(number: int) -> Ended:
            if number <= len(planned.faults):
                self.resources.listener.step_started(planned.step.name)
                return failed(planned, "Injected by --inject-fault.", planned.faults[number - 1])
            return self._attempt(planned, scope, number)

        ended = with_retries(planned, attempt, say=self.resources.listener.note, wait=self.resources.stop.wait)
        return replace(ended, step=replace(ended.step, seconds=monotonic() - started))

    def _attempt(self, planned: PlannedStep, scope: Scope, number: int) -> Ended:
        """One attempt at a step. Whatever goes wrong is the step's failure."""
        attempt = Attempt(self.plan, planned, scope.at(timestamp()), number, self.resources)
        try:
            return runner_of(planned.step.type)(attempt)
        except (DataError, ExpressionError) as error:
            return failed(planned, str(error))
        except OSError as error:
            trouble = system_trouble(error, self.resources.run.directory)
            return failed(planned, f"The runner could not go on: {trouble}")


def _text_at(storage: Storage, uri: str) -> str:
    """An object's text for Std:JsonGet, which takes OSError for "there is none"."""
    try:
        return storage.read(uri).decode()
    except DataError as error:
        raise FileNotFoundError(errno.ENOENT, str(error), uri) from None


@contextmanager
def _signals_stop(stop: threading.Event) -> Generator[None]:
    """SIGINT, SIGTERM and SIGHUP stop the execution in good order; the second one interrupts at once.

    In other threads than the main one ``stop`` is all there is.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with handled(ask):
        yield
