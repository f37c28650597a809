"""Plan + engine -> Execution. Starts ready steps side by side; jobs touch the disk through contract and storage.

A step starts when every step it waits for has ended the way it asks for and its branch was taken. A step that can no
longer start (its branch was not taken, something it waits for failed or never ran) is left out of the Execution, as
the service leaves it out of ListPipelineExecutionSteps. After a failure, steps that do not depend on it go on; a
Fail step starts nothing new.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from local_runner.definition.expressions import ExpressionError, Scope, resolve
from local_runner.engines import Engine
from local_runner.engines.host_log import step_log
from local_runner.errors import DataError, LocalRunnerError, Problem, debugging, system_trouble
from local_runner.events import Listener, Masked, masked_step
from local_runner.execution import contract
from local_runner.execution.continuous import uploading
from local_runner.execution.pipes import feeding
from local_runner.execution.retries import with_retries
from local_runner.execution.steps import AT_ONCE, Ended, Places, failed, run_function
from local_runner.jsontext import as_object, shorten
from local_runner.models import (
    Execution,
    ExecutionStatus,
    JobResult,
    Plan,
    PlannedStep,
    ProcessingJob,
    ServiceException,
    StandIn,
    StepExecution,
    StockJob,
)
from local_runner.planning.scope import starting_scope, timestamp
from local_runner.sagemaker_api.job_types import JOB_KINDS
from local_runner.sagemaker_api.limits import request_problems
from local_runner.sagemaker_api.processing import describe, first_deferred, job_name
from local_runner.sagemaker_api.stock import describe_stock
from local_runner.signals import handled
from local_runner.storage import job_tree
from local_runner.storage.local_s3 import Storage
from local_runner.storage.runs import Run

if TYPE_CHECKING:
    from local_runner.engines.sdk.engine import SdkEngine
    from local_runner.step_cache.steps import Looked, StepCache

INTERNAL_ERROR = "internal-error.txt"
"""The file in a step's log directory that has the traceback of a defect of this program."""

_POLL_SECONDS = 0.2


def execute(
    plan: Plan,
    engine: Engine,
    storage: Storage,
    run: Run,
    listener: Listener,
    *,
    max_parallel: int,
    cache: Path,
    stock: SdkEngine | None = None,
    reuse: StepCache | None = None,
    stop: threading.Event | None = None,
) -> Execution:
    """Run the plan to its end. SIGINT, SIGTERM, SIGHUP or ``stop`` stop what runs, and the Execution is then Stopped.

    ``stock`` runs Training and Transform steps; a plan that has none needs none. ``reuse`` is the step cache, None
    where every step runs.
    """
    scope = starting_scope(plan, lambda uri: _text_at(storage, uri))
    listener = Masked(listener, plan.secrets)
    executor = _Executor(plan, scope, engine, stock, storage, run, listener, cache, reuse, stop or threading.Event())
    started = monotonic()
    listener.started(plan, engine.name)
    with (
        _signals_stop(executor.stop),
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
        engine=engine.name,
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
    scope: Scope
    engine: Engine
    stock: SdkEngine | None
    storage: Storage
    run: Run
    listener: Listener
    cache: Path
    reuse: StepCache | None
    stop: threading.Event
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
                tidy.submit(job_tree.remove, self.run.work / name)

    def _start_ready(
        self, waiting: list[PlannedStep], running: dict[Future[Ended], str], threads: ThreadPoolExecutor
    ) -> list[PlannedStep]:
        """Start every step that can start now; those that have to wait longer are returned.

        The plan's order respects dependencies, so one pass settles steps that end on the spot and what they allow.
        """
        still: list[PlannedStep] = []
        for planned in waiting:
            name = planned.step.name
            match "skip" if self.stop.is_set() or self.failed_by else self._readiness(planned):
                case "skip":
                    self.skipped.add(name)
                case "wait":
                    still.append(planned)
                case _ if planned.step.type in AT_ONCE:
                    self.listener.step_started(name)
                    self._end(self._guarded(planned, partial(AT_ONCE[planned.step.type], planned, self._scope_now())))
                case _:
                    running[threads.submit(self._process, planned, self._scope_now())] = name
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

    def _scope_now(self) -> Scope:
        return self.scope.at(timestamp())

    def _end(self, ended: Ended) -> None:
        step = masked_step(ended.step, self.plan.secrets)
        self.ended[step.name] = step
        if ended.describe:
            self.scope = self.scope.with_step(step.name, ended.describe)
        if step.type == "Fail":
            self.failed_by = step
        self.listener.step_ended(step)

    def keep_described(self) -> None:
        """Keep what a later execution may go on from; where there is no room for it, there is none for more either."""
        succeeded = {name for name, step in self.ended.items() if step.status == "Succeeded"}
        described = {name: self.scope.steps[name] for name in succeeded & self.scope.steps.keys()}
        with suppress(OSError):
            self.run.write_described(self.plan.secrets.hidden({**self.plan.source, **described}))

    def outcome(self) -> tuple[ExecutionStatus, str | None]:
        """The execution's status and FailureReason."""
        if self.failed_by:
            return "Failed", f"Step '{self.failed_by.name}': {self.failed_by.failure_reason}"
        failed = [step for step in self.ended.values() if step.status == "Failed"]
        if failed:
            return "Failed", "\n".join(f"Step '{step.name}' failed: {step.failure_reason}" for step in failed)
        return ("Stopped", "Stopped by the user.") if self.stop.is_set() else ("Succeeded", None)

    # ----------------------------------------------------------------------------------------------- one step
    def _process(self, planned: PlannedStep, scope: Scope) -> Ended:
        """One step, in a thread of its own, as often as its retry policies say."""
        return self._guarded(planned, partial(self._tried, planned, scope))

    def _guarded(self, planned: PlannedStep, run: Callable[[], Ended]) -> Ended:
        """What the step comes to; where this program has a defect, its failure, and the others go on.

        The traceback goes to the step's logs, and with ``--debug`` to stderr, too. Errors that are told to the user
        by a command (no engine can be had) end the execution as ever.
        """
        try:
            return run()
        except LocalRunnerError:
            raise
        except Exception as error:
            import traceback  # slow to import

            text = "".join(traceback.format_exception(error))
            file = self.run.logs(planned.step.name) / INTERNAL_ERROR
            kept = f"Its traceback is in {file}; `local-runner --debug …` shows it."
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8", errors="backslashreplace")
            except OSError:
                kept = "`local-runner --debug …` shows where."
            if debugging():
                sys.stderr.write(text)
            said = str(error).encode(errors="backslashreplace").decode()
            reason = f"Internal error: {type(error).__name__}: {shorten(said, 300)} (a defect of this program). {kept}"
            return failed(planned, reason)

    def _tried(self, planned: PlannedStep, scope: Scope) -> Ended:
        started = monotonic()

        def attempt(number: int) -> Ended:
            if number <= len(planned.faults):
                self.listener.step_started(planned.step.name)
                return failed(planned, "Injected by --inject-fault.", planned.faults[number - 1])
            return self._attempt(planned, scope.at(timestamp()), number)

        ended = with_retries(planned, attempt, say=self.listener.note, wait=self.stop.wait)
        return replace(ended, step=replace(ended.step, seconds=monotonic() - started))

    def _attempt(self, planned: PlannedStep, scope: Scope, number: int) -> Ended:
        """One attempt at a step. Whatever goes wrong is the step's failure."""
        try:
            if planned.stand_in is not None:
                self.listener.step_started(planned.step.name)
                return self._run_function(planned, planned.stand_in, scope, number)
            return self._run_job(planned, scope, number)
        except (DataError, ExpressionError) as error:
            return failed(planned, str(error))
        except OSError as error:
            return failed(planned, f"The runner could not go on: {system_trouble(error, self.run.directory)}")

    def _places(self, step: str, number: int) -> tuple[Path, Path]:
        """Scratch space and log directory of one attempt, which has nothing of the attempts before it."""
        again = f"attempt-{number}" if number > 1 else ""
        return self.run.work / step / again, self.run.logs(step) / again

    def _run_function(self, planned: PlannedStep, stand_in: StandIn, scope: Scope, number: int) -> Ended:
        work, logs = self._places(planned.step.name, number)
        places = Places(work=work, log=logs / "function.log", s3=self.storage.root)
        on_line = self._on_line(planned.step.name)
        secrets = self.plan.secrets
        return run_function(planned, stand_in, scope, places, partial(on_line, "function"), self.stop, secrets)

    def _run_job(self, planned: PlannedStep, scope: Scope, number: int) -> Ended:
        step = planned.step
        kind = JOB_KINDS[step.type]
        name = job_name(self.plan.execution_id, step.name, number)
        request = resolve(step.arguments, scope.of_job(name))
        self.plan.secrets.learn_from(request)
        where = f"{step.path}.Arguments"
        job, problems = kind.job(request, name, where, self.plan.region)
        problems += request_problems(request, kind.shape, where, self.cache)
        looked: Looked | None = None
        if isinstance(job, ProcessingJob) and not problems and self.reuse:
            looked = self.reuse.look(planned, job, scope.execution, self.storage)
            hit = self._from_cache(planned, job, looked, number) if looked else None
            if hit is not None:
                return hit
        self.listener.step_started(step.name)
        if job is None or problems:
            return failed(planned, _refusal(problems, request))
        if isinstance(job, StockJob):
            return self._run_stock(planned, job, scope, number)
        return self._run_processing(planned, job, looked, number)

    def _from_cache(self, planned: PlannedStep, job: ProcessingJob, looked: Looked, number: int) -> Ended | None:
        """What the job left when it last ran, as if it had run now; None where it has to."""
        step = planned.step
        now = timestamp()
        assert self.reuse is not None
        kept = self.reuse.restore(planned, looked, job, self.storage, *self._places(step.name, number))
        if kept is None:
            return None
        execution = StepExecution(
            name=step.name,
            type=step.type,
            status="Succeeded",
            cached=True,
            hot=looked.signature.machine.hot,
            exit_code=kept.exit_code,
            exit_message=kept.exit_message,
            outputs=kept.outputs,
            log=kept.log,
        )
        message = kept.exit_message
        return Ended(
            execution,
            describe(job, status="Completed", created=now, started=now, ended=timestamp(), exit_message=message),
        )

    def _run_processing(self, planned: PlannedStep, job: ProcessingJob, looked: Looked | None, number: int) -> Ended:
        step = planned.step
        work, logs = self._places(step.name, number)
        recording = self.reuse.begin(planned, looked, work) if self.reuse else None
        created, began = timestamp(), monotonic()
        staged = contract.stage(job, run_id=self.run.id, step=step.name, storage=self.storage, work=work, logs=logs)
        staged = replace(staged, secrets=self.plan.secrets)
        with step_log([host.log for host in staged.hosts], logs, self._on_line(step.name)) as (log, on_line):
            started = timestamp()
            with feeding(staged) as faults, uploading(staged, self.storage):
                result = self.engine.run(staged, on_line, self.stop)
            ended = timestamp()
        if recording:
            recording.ran(job, self.storage)
        keep = recording.keep if recording else None
        collected = contract.collect(staged, result, self.storage, faults, keep)
        status: _JobEnd = "Failed" if collected.failure_reason else "Succeeded"
        if result.stopped == "interrupted":
            status = "Stopped"
        if self.reuse and recording and status == "Succeeded":
            code, message = collected.exit_code, collected.exit_message
            if message and self.plan.secrets.masked(message) != message:
                recording.refused = f"Step '{step.name}' is not cached: its exit message holds a secret."
            self.reuse.finish(recording, logs, recording.manifest(self.run.id, monotonic() - began, code, message))
        execution = StepExecution(
            name=step.name,
            type=step.type,
            status=status,
            exit_code=collected.exit_code,
            exit_message=collected.exit_message,
            failure_reason=collected.failure_reason,
            outputs=collected.outputs,
            log=log,
            hot=result.hot,
        )
        return Ended(
            execution,
            describe(
                job,
                status=_JOB_STATUS[status],
                created=created,
                started=started,
                ended=ended,
                exit_message=collected.exit_message,
                failure_reason=collected.failure_reason,
            ),
            exception=_exception(result),
        )

    def _run_stock(self, planned: PlannedStep, job: StockJob, scope: Scope, number: int) -> Ended:
        """A Training or Transform step, in the SDK's own local mode, or a Model step, which is only referred to."""
        from local_runner.execution import stock_jobs  # imports the docker package

        step = planned.step
        started = timestamp()
        if job.kind == "Model":
            stock_jobs.check_model(job, self.storage)
            described = describe_stock(job, status="Completed", created=started, started=started, ended=started)
            return Ended(StepExecution(step.name, step.type, "Succeeded"), described)
        assert self.stock is not None  # the runner sees to it, by the types of the plan's steps
        work, logs = self._places(step.name, number)
        paths = [logs / f"{host}.log" for host in job.hosts]
        with step_log(paths, logs, self._on_line(step.name)) as (log, on_line):
            places = stock_jobs.StockPlaces(
                self.run.id, step.name, work, logs, self.storage, self.stock, on_line, self.stop, self.plan.secrets
            )
            if job.kind == "Training":
                end = stock_jobs.run_training(job, places)
            else:
                end = stock_jobs.run_transform(job, _model_of(job, scope), places)
        status: _JobEnd = "Stopped" if end.stopped else "Failed" if end.failure_reason else "Succeeded"
        execution = StepExecution(
            name=step.name,
            type=step.type,
            status=status,
            exit_code=end.exit_code,
            failure_reason=end.failure_reason,
            outputs=end.outputs,
            log=log,
        )
        described = describe_stock(
            job,
            status=_JOB_STATUS[status],
            created=started,
            started=started,
            ended=timestamp(),
            failure_reason=end.failure_reason,
        )
        return Ended(execution, described, exception="SageMaker.JOB_INTERNAL_ERROR" if end.lost else None)

    def _on_line(self, step: str) -> Callable[[str, str], None]:
        return lambda host, text: self.listener.line(step, host, text)


_JobEnd = Literal["Succeeded", "Failed", "Stopped"]
_JOB_STATUS: dict[_JobEnd, Literal["Completed", "Failed", "Stopped"]] = {
    "Succeeded": "Completed",
    "Failed": "Failed",
    "Stopped": "Stopped",
}
_STATUS_FOR = {"Completed": "Succeeded", "Failed": "Failed", "Stopped": "Stopped"}


def _model_of(job: StockJob, scope: Scope) -> Mapping[str, Any]:
    """The request of the Model step whose model a transform job uses. Raises DataError where none made it."""
    name = job.request["ModelName"]
    for described in scope.steps.values():
        known = as_object(described) or {}
        if known.get("ModelName") == name and "PrimaryContainer" in known:
            return known
    raise DataError(f"ValidationException: there is no model {name}; a Model step of the pipeline has to make it.")


def _text_at(storage: Storage, uri: str) -> str:
    """An object's text for Std:JsonGet, which takes OSError for "there is none"."""
    try:
        return storage.read(uri).decode()
    except DataError as error:
        raise FileNotFoundError(errno.ENOENT, str(error), uri) from None


def _exception(result: JobResult) -> ServiceException | None:
    """An engine that breaks down is to this machine what InternalServerError is to the service."""
    lost = any(host.exit_code is None for host in result.hosts)
    return "SageMaker.JOB_INTERNAL_ERROR" if lost and not result.stopped else None


def _refusal(problems: list[Problem], request: Any) -> str:
    unknown = first_deferred(request)
    if not problems and unknown is not None:
        return f"A value of its request is not known: {unknown.reason}."
    return "ValidationException: " + " ".join(str(problem) for problem in problems)


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
