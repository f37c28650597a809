"""--only, --from, --to and --resume, and what is cleaned: on the engine without processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.definitions import compare, condition, fail, get, join, output_of, parameter, pipeline, processing, write
from support.executions import Project as OfFakeEngine

from local_runner.engines.fake import FakeEngine, FakeHost
from local_runner.errors import SettingsError
from local_runner.events import Silent
from local_runner.models import Execution
from local_runner.planning.selection import Selection
from local_runner.project import Project as OpenProject
from local_runner.run.pipeline import run_pipeline
from local_runner.run.request import RunRequest
from local_runner.settings import load_settings
from local_runner.step_cache.prune import prune_runs, prune_steps


def job(name: str, *reads: str) -> dict[str, Any]:
    """A step with an output ``out`` of this execution, which reads the ``out`` of others."""
    return processing(
        name,
        inputs={other: output_of(other) for other in reads},
        outputs={"out": join("s3://b", get("Execution.PipelineExecutionId"), name)},
        members={"AppSpecification": {"ContainerArguments": [get("Parameters.Flag")]}},
    )


def choice(*inside: dict[str, Any]) -> dict[str, Any]:
    equal = compare("Equals", get("Parameters.Flag"), "yes")
    return condition("Choice", [equal], list(inside), [fail("No", "no")], DependsOn=["A"])


STEPS = [job("A"), choice(job("B", "A"), job("C", "B")), job("Other")]


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.ran: list[str] = []

    def run(self, broken: tuple[str, ...] = (), **more: Any) -> Execution:
        target = write(self.root / "p.json", pipeline(*STEPS, parameters=[parameter("Flag", "yes")]))

        def function(name: str) -> Callable[[FakeHost], int]:
            def run(host: FakeHost) -> int:
                read = {
                    item.name: host.input(item.name)[0].joinpath("f").read_text() for item in host.staged.job.inputs
                }
                host.write("out", "f", f"{name}({','.join(read.values())})")
                return 1 if name in broken else 0

            return run

        engine = FakeEngine({name: function(name) for name in ("A", "B", "C", "Other")})
        try:
            settings = load_settings(self.root)
            request = RunRequest(target=str(target), **{"cache": False, **more})
            return run_pipeline(OpenProject(settings, self.state, Silent().note), request, Silent(), engine)[1]
        finally:
            self.ran = engine.ran


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(only=["B"]), ["B"]),
        (Selection(start=["B"]), ["B", "C"]),
        (Selection(start=["Choice"]), ["B", "C"]),
        (Selection(end=["B"]), ["A", "B"]),
        (Selection(start=["A"], end=["B"]), ["A", "B"]),
        (Selection(only=["Other"]), ["Other"]),
    ],
)
def test_a_selection_goes_on_from_the_last_execution(
    project: Project, selection: Selection, expected: list[str]
) -> None:
    first = project.run()
    again = project.run(selection=selection)
    assert again.status == "Succeeded", again.failure_reason
    assert project.ran == expected
    last = expected[-1]
    text = (again.step(last).outputs["out"] / "f").read_text()
    assert text == (first.step(last).outputs["out"] / "f").read_text()
    assert again.id in str(again.step(last).outputs["out"])


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        (Selection(only=["A", "C"]), "between two selected ones cannot be left out: Choice, B"),
        (Selection(start=["C"], end=["A"]), "No step is selected"),
        (Selection(only=["Bee"]), "There is no step 'Bee'"),
        (Selection(only=["A"], resume=True), "--resume says itself"),
        (Selection(resume=True), "succeeded, so there is nothing to resume"),
    ],
)
def test_a_selection_that_cannot_be_says_why(project: Project, selection: Selection, says: str) -> None:
    project.run()
    with pytest.raises(SettingsError, match=says):
        project.run(selection=selection)


def test_without_an_earlier_execution_there_is_nothing_to_resume(project: Project) -> None:
    with pytest.raises(SettingsError, match="no execution of p to resume"):
        project.run(selection=Selection(resume=True))


@pytest.mark.parametrize("cache", [False, True])
def test_resume_keeps_what_succeeded_however_often_it_takes(project: Project, cache: bool) -> None:
    failed = project.run(("C",), cache=cache)
    assert failed.status == "Failed"
    again = project.run(("C",), cache=cache, selection=Selection(resume=True))
    assert (again.status, project.ran) == ("Failed", ["C"])
    at_last = project.run(cache=cache, selection=Selection(resume=True))
    assert (at_last.status, project.ran) == ("Succeeded", ["C"])
    assert (at_last.step("C").outputs["out"] / "f").read_text() == "C(B(A()))"


def test_resume_keeps_the_parameters_and_takes_others(project: Project) -> None:
    assert project.run(parameters={"Flag": "no"}).status == "Failed"
    assert project.run(selection=Selection(resume=True)).parameters == {"Flag": "no"}
    execution = project.run(selection=Selection(resume=True), parameters={"Flag": "yes"})
    assert execution.status == "Succeeded"
    assert project.ran == ["B", "C"]


def test_a_step_that_goes_on_from_an_earlier_execution_is_found_in_the_cache(project: Project) -> None:
    project.run(cache=True)
    assert project.run(cache=True, selection=Selection(start=["B"])).status == "Succeeded"
    assert project.ran == []


# ------------------------------------------------------------------------------------------------------- cleaning
def grow_old(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_pruning_goes_by_age_and_then_by_size(project: Project) -> None:
    project.run(cache=True)
    entries = sorted((project.state / "steps/entries").iterdir())
    assert len(entries) == 4
    old, *others = entries
    grow_old(old, 1000)
    assert prune_steps(project.state, max_age=500, max_size=None, dry_run=True).removed == 1
    assert old.exists()
    gone = prune_steps(project.state, max_age=500, max_size=None)
    assert (gone.removed, gone.of) == (1, 4)
    assert not old.exists()
    grow_old(others[0], 100)
    room = sum(path.stat().st_size for entry in others[1:] for path in entry.iterdir())
    assert prune_steps(project.state, max_age=500, max_size=room).removed == 1
    assert not others[0].exists()
    assert prune_steps(project.state, max_age=None, max_size=0).removed == 2
    assert project.run(cache=True).status == "Succeeded"
    assert sorted(project.ran) == ["A", "B", "C", "Other"]


def test_records_of_executions_that_are_over_are_removed(project: Project) -> None:
    execution = project.run()
    assert prune_runs(project.state, max_age=1000).removed == 0
    assert prune_runs(project.state, max_age=None).removed == 1
    assert not (project.state / "runs" / execution.id).exists()
    assert (execution.step("A").outputs["out"] / "f").exists()


DAY = {"Std:Join": {"On": "=", "Values": ["day", get("Parameters.Day")]}}


def test_what_depends_on_another_value_is_not_gone_on_from_unasked(tmp_path: Path) -> None:
    """A parameter that only what runs again depends on may be another one."""
    project = OfFakeEngine(tmp_path)
    steps = [
        processing("Read", outputs={"o": "s3://b/read"}, members={"Environment": {"DAY": DAY}}),
        processing("Fit", inputs={"i": output_of("Read", "o")}, members={"Environment": {"M": get("Parameters.Max")}}),
    ]
    document = pipeline(*steps, parameters=[parameter("Day", "1"), parameter("Max", "5")])
    read: dict[str, Any] = {"Read": lambda host: host.write("o", "f", "x")}
    first = project.run_document(document, read)
    assert first.status == "Succeeded", first.failure_reason
    only = Selection(only=["Fit"])
    last = project.run_document(document, parameters={"Max": "6"}, selection=only)
    assert last.status == "Succeeded"
    with pytest.raises(SettingsError, match=rf"from execution {last.id}, which had Day = 1 \(now 2\)"):
        project.run_document(document, parameters={"Day": "2"}, selection=only)
    mixed = Selection(only=["Fit"], allow_mixed=True)
    assert project.run_document(document, parameters={"Day": "2"}, selection=mixed).status == "Succeeded"
