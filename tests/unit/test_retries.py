"""RetryPolicies: which exceptions a step is tried again after, how often, how long it waits, and what is told of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from support.definitions import pipeline, write
from support.executions import Project, chained

from local_runner.cli.local import cli
from local_runner.engines.fake import Breakdown, FakeHost
from local_runner.errors import InvalidPipelineError
from local_runner.events import Silent
from local_runner.execution.ended import Ended
from local_runner.execution.retries import with_retries
from local_runner.models import Fault, PlannedStep, RetryPolicy, ServiceException, Step, StepExecution
from local_runner.planning.faults import parse_fault
from local_runner.pytest_plugin import LocalRun

CAPACITY: ServiceException = "SageMaker.CAPACITY_ERROR"
THROTTLING: ServiceException = "Step.THROTTLING"


def times(exception: ServiceException, count: int) -> list[ServiceException]:
    return [exception] * count


class Trial:
    """A step whose attempts end in the given exceptions and then succeed, in a time that only waiting moves."""

    def __init__(self, *exceptions: ServiceException, policies: tuple[RetryPolicy, ...] = ()) -> None:
        self.exceptions = exceptions
        self.planned = PlannedStep(Step("S", "Processing", "Steps[0]", {}, retry_policies=policies), ())
        self.attempts: list[int] = []
        self.waits: list[float] = []
        self.said: list[str] = []
        self.now = 100.0

    def attempt(self, number: int) -> Ended:
        self.attempts.append(number)
        if number > len(self.exceptions):
            return Ended(StepExecution("S", "Processing", "Succeeded"))
        return Ended(StepExecution("S", "Processing", "Failed", failure_reason="why"), {}, self.exceptions[number - 1])

    def run(self, stopped: Callable[[], bool] = lambda: False) -> StepExecution:
        def wait(seconds: float) -> bool:
            self.waits.append(seconds)
            self.now += seconds
            return stopped()

        ended = with_retries(self.planned, self.attempt, say=self.said.append, wait=wait, clock=lambda: self.now)
        return ended.step


def test_the_wait_grows_by_the_backoff_rate() -> None:
    trial = Trial(*times(CAPACITY, 4), policies=(RetryPolicy((CAPACITY,), interval_seconds=10, backoff_rate=1.5),))
    assert trial.run().status == "Succeeded"
    assert trial.waits == [10, 15, 22.5, 33.75]
    assert trial.attempts == [1, 2, 3, 4, 5]
    assert trial.said[0] == "Step 'S': SageMaker.CAPACITY_ERROR in attempt 1; the next one starts in 10 s."


def test_without_a_policy_only_the_exceptions_of_every_step_are_retried() -> None:
    """The guide: Pipelines retries Step.SERVICE_FAULT and Step.THROTTLING automatically."""
    assert Trial(THROTTLING, "Step.SERVICE_FAULT").run().status == "Succeeded"
    trial = Trial(CAPACITY)
    assert trial.run().failure_reason == (
        "SageMaker.CAPACITY_ERROR after 1 attempt: why\nNo retry policy of the step names it."
    )
    assert trial.waits == []


def test_a_policy_of_the_step_goes_before_the_automatic_retry() -> None:
    trial = Trial(THROTTLING, policies=(RetryPolicy((THROTTLING,), max_attempts=0),))
    assert trial.run().status == "Failed"
    assert trial.attempts == [1]


def test_the_first_policy_that_names_the_exception_applies_and_counts_for_itself() -> None:
    policies = (
        RetryPolicy((THROTTLING,), interval_seconds=5, max_attempts=1),
        RetryPolicy((CAPACITY, THROTTLING), interval_seconds=60, max_attempts=1),
    )
    trial = Trial(THROTTLING, CAPACITY, policies=policies)
    assert trial.run().status == "Succeeded"
    assert trial.waits == [5, 60]
    trial = Trial(THROTTLING, CAPACITY, THROTTLING, policies=policies)
    assert "Step.THROTTLING after 3 attempts" in str(trial.run().failure_reason)


def test_expiry_is_counted_from_the_start_of_the_step() -> None:
    policy = RetryPolicy((CAPACITY,), interval_seconds=25, backoff_rate=1, max_attempts=None, expire_after_min=1)
    trial = Trial(*times(CAPACITY, 9), policies=(policy,))
    reason = str(trial.run().failure_reason)
    assert trial.waits == [25, 25, 25]
    assert reason.endswith("ExpireAfterMin of its retry policy is 1.")


def test_waiting_can_be_interrupted() -> None:
    trial = Trial(CAPACITY, policies=(RetryPolicy((CAPACITY,), interval_seconds=43_200),))
    step = trial.run(stopped=lambda: True)
    assert step.status == "Stopped"
    assert "waited for attempt 2" in str(step.failure_reason)


def test_no_interval_is_too_long_to_be_waited_for() -> None:
    policy = RetryPolicy((CAPACITY,), interval_seconds=43_200, backoff_rate=1e300, max_attempts=20)
    trial = Trial(*times(CAPACITY, 20), policies=(policy,))
    assert trial.run().status == "Succeeded"
    assert max(trial.waits) <= threading.TIMEOUT_MAX


@given(faults=st.integers(0, 25), retries=st.integers(0, 20))
def test_a_step_is_retried_at_most_max_attempts_times(faults: int, retries: int) -> None:
    policy = RetryPolicy((CAPACITY,), max_attempts=retries)
    trial = Trial(*times(CAPACITY, faults), policies=(policy,))
    step = trial.run()
    assert len(trial.attempts) == min(faults, retries) + 1
    assert step.status == ("Succeeded" if faults <= retries else "Failed")
    assert len(trial.waits) == len(trial.attempts) - 1


# ------------------------------------------------------------------------------------------------ in an execution
class Told(Silent):
    """The listener that remembers which steps were announced, and what was noted."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.notes: list[str] = []

    def step_started(self, name: str) -> None:
        self.starts.append(name)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def policy(*exceptions: str, **more: Any) -> dict[str, Any]:
    return {"RetryPolicies": [{"ExceptionType": list(exceptions), "IntervalSeconds": 0, **more}]}


def test_injected_faults_are_retried_and_the_job_runs_once(project: Project) -> None:
    told = Told()
    execution = project.run(
        [chained("Fit", **policy(CAPACITY)), chained("After", ("Fit",))],
        {"Fit": lambda host: host.write("out", "m", host.staged.job.name)},
        faults=[Fault("Fit", CAPACITY, 2)],
        listener=told,
    )
    assert execution.status == "Succeeded", execution.failure_reason
    assert project.engine.ran == ["Fit", "After"]
    assert told.starts == ["Fit", "Fit", "Fit", "After"]
    assert len(told.notes) == 2


def test_the_reason_of_a_step_that_was_given_up_names_exception_and_attempts(project: Project) -> None:
    execution = project.run([chained("Fit", **policy(CAPACITY, MaxAttempts=2))], faults=[Fault("Fit", CAPACITY, 9)])
    assert project.engine.ran == []
    assert execution.step("Fit").failure_reason == (
        "SageMaker.CAPACITY_ERROR after 3 attempts: Injected by --inject-fault.\nMaxAttempts of its retry policy is 2."
    )


def test_faults_of_several_kinds_come_one_after_the_other(project: Project) -> None:
    execution = project.run(
        [chained("Fit", **policy(CAPACITY))],
        faults=[Fault("Fit", CAPACITY), Fault("Fit", "SageMaker.RESOURCE_LIMIT")],
    )
    assert "SageMaker.RESOURCE_LIMIT after 2 attempts" in str(execution.failure_reason)


def test_an_engine_that_breaks_down_is_an_internal_error_and_can_be_retried(project: Project) -> None:
    names: list[str] = []

    def work(host: FakeHost) -> None:
        names.append(host.staged.job.name)
        host.print(f"attempt {len(names)}")
        host.write("out", f"{len(names)}", "x")
        if len(names) == 1:
            raise Breakdown("the daemon died")

    execution = project.run([chained("Fit", **policy("SageMaker.JOB_INTERNAL_ERROR"))], {"Fit": work})
    step = execution.step("Fit")
    assert step.status == "Succeeded"
    assert len(set(names)) == 2  # each attempt starts a new job
    assert [file.name for file in step.outputs["out"].iterdir()] == ["2"]
    assert step.log is not None
    assert step.log.read_text() == "attempt 2\n"
    logs = project.state / "runs" / execution.id / "logs" / "Fit"
    assert (logs / "algo-1.log").read_text() == "attempt 1\n"


def test_an_engine_that_breaks_down_without_a_policy_fails_the_step(project: Project) -> None:
    def work(host: FakeHost) -> None:
        raise Breakdown("the daemon died")

    reason = str(project.run([chained("Fit")], {"Fit": work}).step("Fit").failure_reason)
    assert reason.startswith("SageMaker.JOB_INTERNAL_ERROR after 1 attempt: algo-1 did not end by itself: the daemon")


def test_a_script_that_fails_is_not_retried(project: Project) -> None:
    project.run([chained("Fit", **policy("SageMaker.JOB_INTERNAL_ERROR"))], {"Fit": lambda host: 1})
    assert project.engine.ran == ["Fit"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("Fitt", CAPACITY), "Did you mean 'Fit'?"),
        (Fault("Other", CAPACITY), "'Other' is not selected"),
        (Fault("Check", CAPACITY), "a Condition step calls no service"),
    ],
)
def test_faults_that_cannot_happen_are_refused(project: Project, fault: Fault, says: str) -> None:
    check = {"Conditions": [{"Type": "Equals", "LeftValue": 1, "RightValue": 1}], "IfSteps": [], "ElseSteps": []}
    steps = [chained("Fit"), chained("Other"), {"Name": "Check", "Type": "Condition", "Arguments": check}]
    with pytest.raises(InvalidPipelineError) as raised:
        project.run(steps, faults=[fault], steps=["Fit", "Check"])
    (problem,) = raised.value.problems
    assert says in str(problem)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Fit=SageMaker.CAPACITY_ERROR", Fault("Fit", CAPACITY)),
        ("Fit=Step.THROTTLING:12", Fault("Fit", THROTTLING, 12)),
    ],
)
def test_faults_are_read_as_they_are_written(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Fit", "STEP=EXCEPTION[:COUNT]"),
        ("=Step.THROTTLING", "STEP=EXCEPTION[:COUNT]"),
        ("Fit=SageMaker.CAPACITY", "Did you mean 'SageMaker.CAPACITY_ERROR'?"),
        ("Fit=Step.THROTTLING:", "from 1 to 9999"),
        ("Fit=Step.THROTTLING:0", "from 1 to 9999"),
        ("Fit=Step.THROTTLING:two", "from 1 to 9999"),
    ],
)
def test_faults_that_cannot_be_read_say_how_to_write_them(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_fault(text)


def test_the_command_line_says_which_exceptions_there_are() -> None:
    told = CliRunner().invoke(cli, ["run", "--inject-fault", "Fit=Step.SLOW"])
    assert told.exit_code == 2
    assert "there is no exception 'Step.SLOW'" in told.output


def test_the_fixture_local_run_takes_faults(project: Project) -> None:
    write(project.root / "definition.json", pipeline(chained("Fit")))
    local_run = LocalRun(project.root, project.root, "auto")
    with pytest.raises(InvalidPipelineError, match=r"--inject-fault Fitt: .* Did you mean 'Fit'\?"):
        local_run(str(project.root / "definition.json"), faults={"Fitt": "Step.THROTTLING:2"})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@settings(max_examples=25, deadline=None)
@given(faults=st.integers(0, 6), retries=st.integers(0, 4))
def test_an_execution_makes_as_many_attempts_as_the_policy_allows(shared: Project, faults: int, retries: int) -> None:
    told = Told()
    injected = [Fault("Fit", CAPACITY, faults)] if faults else []
    steps = [chained("Fit", **policy(CAPACITY, MaxAttempts=retries))]
    execution = shared.run(steps, faults=injected, listener=told)
    assert len(told.starts) == min(faults, retries) + 1
    assert execution.status == ("Succeeded" if faults <= retries else "Failed")
