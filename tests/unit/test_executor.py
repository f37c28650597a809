"""Plan + engine -> Execution, on the engine without processes: what runs, in which order, and what a run comes to."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.definitions import condition_on, fail, pipeline, processing
from support.executions import Project, chained, statuses

from local_runner.engines.fake import FakeHost


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_outputs_flow_from_step_to_step(project: Project) -> None:
    def second(host: FakeHost) -> None:
        (layer,) = host.input("in-0")
        host.write("out", "b", (layer / "a").read_text() + "!")

    execution = project.run(
        [chained("First"), chained("Second", ("First",))],
        {"First": lambda host: host.write("out", "a", "hello"), "Second": second},
    )
    assert execution.status == "Succeeded"
    assert (execution.step("Second").outputs["out"] / "b").read_text() == "hello!"
    assert execution.step("Second").exit_code == 0


def test_a_step_can_read_what_describe_says_of_an_earlier_job(project: Project) -> None:
    """Its times and name, and its own name where only the execution knows the request."""
    seen: dict[str, Any] = {}

    def second(host: FakeHost) -> None:
        seen.update(host.staged.job.environment, name=host.staged.job.name)

    step = chained("Second_Step", ("First",))
    step["Arguments"]["Environment"] = {
        "CREATED": {"Get": "Steps.First.CreationTime"},
        "STARTED": {"Get": "Steps.First.ProcessingStartTime"},
        "ENDED": {"Get": "Steps.First.ProcessingEndTime"},
        "NAME": {"Get": "Steps.First.ProcessingJobName"},
    }
    execution = project.run(
        [chained("First"), step], {"First": lambda host: host.write("out", "a", "b"), "Second_Step": second}
    )
    assert execution.status == "Succeeded", execution.failure_reason
    assert execution.started <= seen["CREATED"] <= seen["STARTED"] <= seen["ENDED"] <= execution.ended
    assert re.fullmatch(rf"pipelines-{execution.id}-First-[a-z0-9]{{10}}", seen["NAME"])
    assert re.fullmatch(rf"pipelines-{execution.id}-Second-Step-[a-z0-9]{{10}}", seen["name"])


def test_a_failure_stops_what_depends_on_it_and_nothing_else(project: Project) -> None:
    execution = project.run(
        [chained("Bad"), chained("After", ("Bad",)), chained("Beside"), chained("Later", ("Beside",))],
        {
            "Bad": lambda host: host.print("no such column") or 3,
            "Beside": lambda host: host.write("out", "x", "x"),
        },
    )
    assert execution.status == "Failed"
    assert statuses(execution) == {"Bad": "Failed", "Beside": "Succeeded", "Later": "Succeeded"}
    assert execution.step("Bad").exit_code == 3
    assert execution.failure_reason is not None
    for part in ("Step 'Bad' failed", "algo-1 exited with code 3", "no such column"):
        assert part in execution.failure_reason


@pytest.mark.parametrize(("value", "ran"), [("true", "Yes"), ("false", "No")])
def test_the_branch_not_taken_does_not_run_nor_what_depends_on_it(project: Project, value: str, ran: str) -> None:
    flag = {"Name": "Flag", "Type": "Boolean"}
    execution = project.run(
        [
            condition_on("Check", {"Get": "Parameters.Flag"}, [chained("Yes")], [chained("No")]),
            chained("AfterYes", DependsOn=["Yes"]),
            chained("AfterCheck", DependsOn=["Check"]),
        ],
        Parameters=[flag],
        parameters={"Flag": value},
    )
    expected = {"Check", "AfterCheck", ran} | ({"AfterYes"} if ran == "Yes" else set())
    assert set(statuses(execution)) == expected
    assert execution.status == "Succeeded"
    assert execution.step("Check").outcome is (ran == "Yes")


def test_a_condition_on_a_property_file_ends_in_a_fail_step_that_says_the_numbers(project: Project) -> None:
    ratio = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Validate.PropertyFiles.Report"}, "Path": "bad.ratio"}}
    check = {
        "Name": "Check",
        "Type": "Condition",
        "Arguments": {
            "Conditions": [{"Type": "LessThanOrEqualTo", "LeftValue": ratio, "RightValue": 0.1}],
            "IfSteps": [],
            "ElseSteps": [fail("TooBad", {"Std:Join": {"On": " ", "Values": ["ratio", ratio]}})],
        },
    }
    files = [{"PropertyFileName": "Report", "OutputName": "out", "FilePath": "r.json"}]
    steps = [chained("Validate", PropertyFiles=files), check]
    execution = project.run(steps, {"Validate": lambda host: host.write("out", "r.json", '{"bad": {"ratio": 0.25}}')})
    assert execution.status == "Failed"
    assert execution.failure_reason == "Step 'TooBad': ratio 0.25"
    assert execution.step("TooBad").failure_reason == "ratio 0.25"


def test_a_report_that_is_not_there_fails_the_condition_with_its_uri(project: Project) -> None:
    value = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Validate.PropertyFiles.Report"}, "Path": "x"}}
    files = [{"PropertyFileName": "Report", "OutputName": "out", "FilePath": "r.json"}]
    execution = project.run([chained("Validate", PropertyFiles=files), condition_on("Check", value, [], [])])
    assert execution.status == "Failed"
    assert "s3://b/out/Validate/r.json" in str(execution.step("Check").failure_reason)


@pytest.mark.parametrize(
    ("trigger", "code", "runs"),
    [("Completed", 0, True), ("Completed", 1, False), ("Failed", 1, True), ("Failed", 0, False), ("Any", 1, True)],
)
def test_depends_on_triggers(project: Project, trigger: str, code: int, runs: bool) -> None:
    after = chained("After", DependsOn=[{"Step": "First", "Trigger": trigger}])
    execution = project.run([chained("First"), after], {"First": lambda host: code})
    assert ("After" in statuses(execution)) is runs


def test_ready_steps_run_side_by_side_up_to_the_limit(project: Project) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(host: FakeHost) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1

    names = [f"S{number}" for number in range(6)]
    project.run([chained(name) for name in names], dict.fromkeys(names, work), max_parallel=3)
    assert most == 3


def test_shards_log_per_host_and_one_log_of_all(project: Project) -> None:
    data = project.root / "data"
    data.mkdir()
    for name in "abcd":
        (data / name).write_text(name)
    execution = project.run(
        [chained("Step", ("s3://b/in",), count=2)],
        {"Step": lambda host: host.print(" ".join(sorted(file.name for file in host.input("in-0")[0].iterdir())))},
        data={"s3://b/in": data},
    )
    log = execution.step("Step").log
    assert log is not None
    assert sorted(log.read_text().splitlines()) == ["algo-1 | a c", "algo-2 | b d"]
    assert (log.parent / "algo-2.log").read_text() == "b d\n"


def test_stopping_keeps_what_finished_and_starts_nothing(project: Project) -> None:
    def interrupt(host: FakeHost) -> None:
        host.stop.set()

    execution = project.run(
        [chained("First"), chained("Second", ("First",)), chained("Third", ("Second",))],
        {"First": lambda host: host.write("out", "a", "a"), "Second": interrupt},
    )
    assert execution.status == "Stopped"
    assert statuses(execution) == {"First": "Succeeded", "Second": "Stopped"}
    assert (project.state / "s3/b/out/First/a").exists()
    assert not (project.state / "s3/b/out/Second").exists()


def test_an_input_without_objects_fails_the_step_not_the_runner(project: Project) -> None:
    (project.root / "data").mkdir()
    execution = project.run([chained("Step", ("s3://b/in/dt=9/",))], data={"s3://b/in": project.root / "data"})
    assert execution.status == "Failed"
    assert "found no objects under s3://b/in/dt=9/" in str(execution.failure_reason)


def test_a_selection_reads_what_it_is_given_for_the_steps_left_out(project: Project) -> None:
    given_ = project.root / "given"
    given_.mkdir()
    (given_ / "f").write_text("given")
    seen: list[str] = []
    execution = project.run(
        [chained("First"), chained("Second", ("First",))],
        {"Second": lambda host: seen.append((host.input("in-0")[0] / "f").read_text())},
        steps=["Second"],
        data={"First.out": given_},
    )
    assert statuses(execution) == {"Second": "Succeeded"}
    assert seen == ["given"]
    assert project.engine.ran == ["Second"]


def test_a_job_that_only_the_execution_knows_gets_its_code(project: Project) -> None:
    """Its request holds a value of a property file, so planning cannot make a job of it."""
    (project.root / "script.py").write_text("print(1)")
    files = [{"PropertyFileName": "Report", "OutputName": "out", "FilePath": "r.json"}]
    value = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.First.PropertyFiles.Report"}, "Path": "mode"}}
    second = chained("Second", ("s3://sagemaker-local/code/script.py",))
    second["Arguments"]["AppSpecification"]["ContainerArguments"] = [value]
    seen: list[str] = []

    def read_code(host: FakeHost) -> None:
        seen.extend([(host.input("in-0")[0] / "script.py").read_text(), *(host.staged.job.arguments or ())])

    execution = project.run(
        [chained("First", PropertyFiles=files), second],
        {"First": lambda host: host.write("out", "r.json", '{"mode": "full"}'), "Second": read_code},
    )
    assert execution.status == "Succeeded", execution.failure_reason
    assert seen == ["print(1)", "full"]


def test_editing_a_script_during_a_run_changes_nothing_of_it(project: Project) -> None:
    script = project.root / "script.py"
    script.write_text("old")
    uri = "s3://sagemaker-local/code/script.py"
    seen: list[str] = []

    def read_and_edit(host: FakeHost) -> None:
        seen.append((host.input("in-0")[0] / "script.py").read_text())
        script.write_text("new")

    project.run(
        [chained("First", (uri,)), chained("Second", (uri,), DependsOn=["First"])],
        {"First": read_and_edit, "Second": read_and_edit},
    )
    assert seen == ["old", "old"]
    assert script.read_text() == "new"


def test_the_record_is_kept_and_the_scratch_space_is_not(project: Project) -> None:
    execution = project.run([chained("Step")])
    run = project.state / "runs" / execution.id
    record = json.loads((run / "execution.json").read_text())
    assert record["status"] == "Succeeded"
    assert [step["name"] for step in record["steps"]] == ["Step"]
    assert not (run / "work").exists()


def test_a_full_disk_is_the_steps_failure_with_a_reason(project: Project) -> None:
    def full(host: FakeHost) -> None:
        raise OSError(28, "No space left on device", str(project.root))

    execution = project.run([chained("Step"), chained("Beside")], {"Step": full})
    assert statuses(execution) == {"Step": "Failed", "Beside": "Succeeded"}
    assert "No space left on device" in str(execution.step("Step").failure_reason)


def test_execution_variables_have_the_clouds_form(project: Project) -> None:
    names = ("StartDateTime", "CurrentDateTime", "PipelineName", "PipelineArn", "PipelineExecutionId",
             "PipelineExecutionArn", "ProcessingJobName")  # fmt: skip
    seen: dict[str, dict[str, str]] = {}
    steps = [chained("First"), chained("Second", DependsOn=["First"])]
    for step in steps:
        step["Arguments"]["Environment"] = {name: {"Get": f"Execution.{name}"} for name in names}

    def look(host: FakeHost) -> None:
        seen[host.staged.step] = dict(host.staged.job.environment)
        assert seen[host.staged.step]["ProcessingJobName"] == host.staged.job.name
        time.sleep(0.01)

    execution = project.run(steps, {"First": look, "Second": look})
    first, second = seen["First"], seen["Second"]
    arn = "arn:aws:sagemaker:us-east-1:000000000000:pipeline/definition"
    assert first["PipelineName"] == "definition"
    assert first["PipelineArn"] == arn
    assert first["PipelineExecutionId"] == execution.id
    assert re.fullmatch(r"[a-z0-9]{12}", execution.id)
    assert first["PipelineExecutionArn"] == f"{arn}/execution/{execution.id}"
    assert re.fullmatch(rf"pipelines-{execution.id}-First-\w{{10}}", first["ProcessingJobName"])
    for text in (first["StartDateTime"], first["CurrentDateTime"], execution.started, execution.ended):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert first["StartDateTime"] == second["StartDateTime"] == execution.started
    assert first["StartDateTime"] <= first["CurrentDateTime"] < second["CurrentDateTime"]


def test_json_get_reads_an_object_by_its_uri(project: Project) -> None:
    (project.root / "settings.json").write_text('{"modes": [{"name": "full", "share": 0.5}]}')
    given_uri = {"Std:Join": {"On": "/", "Values": ["s3://b", {"Get": "Parameters.Day"}, "settings.json"]}}
    written = {"Std:Join": {"On": "/", "Values": [
        {"Get": "Steps.First.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"}, "r.json"]}}  # fmt: skip
    second = chained("Second")
    second["Arguments"]["Environment"] = {
        "MODE": {"Std:JsonGet": {"S3Uri": given_uri, "Path": "modes[0].name"}},
        "ROWS": {"Std:JsonGet": {"S3Uri": written, "Path": "$.rows['a b']"}},
    }
    check = condition_on("Check", {"Std:JsonGet": {"S3Uri": written, "Path": "ok"}}, [second], [])
    seen: list[str] = []
    execution = project.run(
        [chained("First"), check],
        {
            "First": lambda host: host.write("out", "r.json", '{"ok": true, "rows": {"a b": "12"}}'),
            "Second": lambda host: seen.extend(host.staged.job.environment.values()),
        },
        Parameters=[{"Name": "Day", "Type": "String", "DefaultValue": "monday"}],
        data={"s3://b/monday/settings.json": project.root / "settings.json"},
    )
    assert execution.status == "Succeeded", execution.failure_reason
    assert seen == ["full", "12"]


def test_json_get_of_an_object_that_is_not_there_fails_the_step_with_its_uri(project: Project) -> None:
    step = chained("Step")
    step["Arguments"]["Environment"] = {"X": {"Std:JsonGet": {"S3Uri": "s3://b/none.json", "Path": "x"}}}
    assert "s3://b/none.json" in str(project.run([step]).step("Step").failure_reason)


@pytest.mark.parametrize(("allowed", "asked", "most"), [(2, 4, 2), (4, 2, 2), (1, None, 1)])
def test_a_described_pipeline_runs_no_more_steps_at_once_than_it_allows(
    project: Project, allowed: int, asked: int | None, most: int
) -> None:
    running, seen, lock = 0, 0, threading.Lock()

    def work(host: FakeHost) -> None:
        nonlocal running, seen
        with lock:
            running += 1
            seen = max(seen, running)
        time.sleep(0.05)
        with lock:
            running -= 1

    names = [f"S{number}" for number in range(5)]
    definition = pipeline(*map(chained, names))
    described = {
        "PipelineName": "p",
        "PipelineDefinition": json.dumps(definition),
        "ParallelismConfiguration": {"MaxParallelExecutionSteps": allowed},
    }
    project.run_document(described, dict.fromkeys(names, work), max_parallel=asked)
    assert seen == most


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_graph_runs_each_step_once_after_what_it_reads(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 8))
    names = [f"S{number}" for number in range(count)]
    reads = {
        name: tuple(data.draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=3)) if number else ())
        for number, name in enumerate(names)
    }
    failing = data.draw(st.sets(st.sampled_from(names), max_size=2))
    ended: list[str] = []

    def work(host: FakeHost) -> int:
        assert set(reads[host.staged.step]) <= set(ended)
        host.write("out", "x", "x")
        ended.append(host.staged.step)
        return host.staged.step in failing

    project = Project(tmp_path_factory.mktemp("project"))
    steps = data.draw(st.permutations([chained(name, reads[name]) for name in names]))
    execution = project.run(steps, dict.fromkeys(names, work), max_parallel=3)

    def runs(name: str) -> bool:
        return all(runs(other) and other not in failing for other in reads[name])

    expected = {name for name in names if runs(name)}
    assert sorted(project.engine.ran) == sorted(expected)
    assert statuses(execution) == {name: "Failed" if name in failing else "Succeeded" for name in expected}


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ([("B", "Failed")], "CompletedWithFailures"),
        ([("B", "Any")], "CompletedWithFailures"),
        ([("B", "Completed")], "Failed"),
        ([("B", "Stopped")], "Failed"),
        ([], "Failed"),
    ],
)
def test_an_execution_whose_failures_are_followed_completed_with_failures(
    project: Project, more: list[tuple[str, str]], status: str
) -> None:
    after = [chained(name, DependsOn=[{"Step": "A", "Trigger": trigger}]) for name, trigger in more]
    execution = project.run([chained("A"), *after], {"A": lambda _: 1, "B": lambda _: 0})
    assert execution.status == status
    assert "Step 'A' failed" in (execution.failure_reason or "")


def test_what_had_to_wait_for_a_place_does_not_start_after_a_fail_step(tmp_path: Path) -> None:
    project = Project(tmp_path)
    steps = [*(processing(f"A{number}") for number in range(4)), fail("Over", "enough"), processing("B")]
    execution = project.run(steps, {"A0": lambda _: time.sleep(0.2)}, max_parallel=1)
    assert execution.status == "Failed"
    assert project.engine.ran == ["A0"]
