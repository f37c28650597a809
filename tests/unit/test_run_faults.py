"""What a job left, or a record says, may be anything: it fails a step or is refused, and never ends the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.definitions import pipeline, write
from support.executions import Project, chained, statuses

from local_runner.engines.fake import FakeEngine, FakeHost
from local_runner.errors import InvalidPipelineError, SettingsError
from local_runner.events import Silent
from local_runner.execution.executor import INTERNAL_ERROR
from local_runner.fingerprint import FILE, verified_runs
from local_runner.models import Execution, JobResult, StagedJob
from local_runner.planning.selection import Selection
from local_runner.project import Project as OpenProject
from local_runner.run.local_data import local_storage
from local_runner.run.pipeline import run_pipeline
from local_runner.run.request import RunRequest
from local_runner.storage.runs import DESCRIBED, RECORD


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def problems_of(project: Project, *steps: Any, **request: Any) -> str:
    with pytest.raises(InvalidPipelineError) as raised:
        project.run(list(steps), **request)
    return raised.value.message


def reads_json(name: str, written_by: str = "Writes", path: str = "uri") -> dict[str, Any]:
    """A step whose input's URI is in a file that another step writes."""
    step = chained(name, ("s3://b/x",))
    step["Arguments"]["ProcessingInputs"][0]["S3Input"]["S3Uri"] = {
        "Std:JsonGet": {"PropertyFile": {"Get": f"Steps.{written_by}.PropertyFiles.file"}, "Path": path}
    }
    return step


def writes_json(name: str = "Writes") -> dict[str, Any]:
    return chained(name, PropertyFiles=[{"PropertyFileName": "file", "OutputName": "out", "FilePath": "file.json"}])


def writing(text: str) -> Callable[[FakeHost], None]:
    return lambda host: host.write("out", "file.json", text)


BAD_URIS = ["s3://b/../../../etc", "s3://../x", "s3:///x", "s3://", "s3:////x", "s3://b/a//b", "s3://b/a\0", "/etc"]


# ---------------------------------------------------------------------------------------------------- planning
@pytest.mark.parametrize("uri", [uri for uri in BAD_URIS if uri != "/etc"])
def test_a_uri_that_is_none_is_a_problem_of_the_plan(project: Project, uri: str) -> None:
    bad = chained("Reads", (uri,))
    bad["Arguments"]["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] = uri
    said = problems_of(project, bad)
    assert "Steps[0].Arguments.ProcessingInputs[0].S3Input.S3Uri" in said
    assert "Steps[0].Arguments.ProcessingOutputConfig.Outputs[0].S3Output.S3Uri" in said
    assert said.count("Write it as s3://BUCKET/KEY.") == 2


def test_so_is_that_of_a_file_which_std_jsonget_reads(project: Project) -> None:
    step = chained("Reads")
    step["Arguments"]["Environment"] = {"A": {"Std:JsonGet": {"S3Uri": "s3://b/../../etc/x.json", "Path": "a"}}}
    assert "Steps[0].Arguments.Environment.A" in (said := problems_of(project, step))
    assert "dotted part '..'" in said


@pytest.mark.parametrize("path", ["/etc/x.json", "../x.json", "a//x.json", "a/./x.json", "x\0.json", "x" * 300])
def test_a_property_file_lies_in_its_output(project: Project, path: str) -> None:
    step = writes_json()
    step["PropertyFiles"][0]["FilePath"] = path
    assert "PropertyFiles[0].FilePath" in problems_of(project, step)


def piped(name: Any) -> dict[str, Any]:
    step = chained("Reads", ("s3://b/in",))
    item = step["Arguments"]["ProcessingInputs"][0]
    item["InputName"] = name
    item["S3Input"]["S3InputMode"] = "Pipe"
    return step


@pytest.mark.parametrize("name", ["/tmp/outside", "../outside", "a/b", "..", ".", "a\0b", "n" * 250])
def test_the_name_of_a_pipe_is_a_name(project: Project, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").write_text("x")
    said = problems_of(project, piped(name), data={"s3://b/in": tmp_path / "in"})
    assert "Steps[0].Arguments.ProcessingInputs[0].InputName" in said
    assert "cannot be the name of a pipe" in said


def test_also_where_only_the_run_knows_it(project: Project, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x")
    outside = tmp_path / "outside"
    step = piped({"Std:JsonGet": {"PropertyFile": {"Get": "Steps.Writes.PropertyFiles.file"}, "Path": "name"}})
    execution = project.run(
        [writes_json(), step],
        {"Writes": writing(json.dumps({"name": str(outside)}))},
        data={"s3://b/in": tmp_path / "in"},
    )
    assert "cannot be the name of a pipe" in str(execution.step("Reads").failure_reason)
    assert not outside.with_name("outside_0").exists()


def test_no_program_is_started_with_a_nul(project: Project) -> None:
    step = chained("Reads")
    step["Arguments"]["AppSpecification"]["ContainerArguments"] = ["a\0b"]
    step["Arguments"]["Environment"] = {"A": "a\0b"}
    assert problems_of(project, step).count("holds a NUL") == 2


# --------------------------------------------------------------------------------------------------- the border
@pytest.mark.parametrize("uri", ["s3:///x", "s3://", "s3:////x", "s3://b/../x", "x", ""])
def test_data_is_mapped_to_uris(project: Project, tmp_path: Path, uri: str) -> None:
    with pytest.raises(SettingsError, match="no S3 URI"):
        local_storage(OpenProject.at(tmp_path, project.state, print), {uri: tmp_path})
    if uri.startswith("s3:"):
        with pytest.raises(SettingsError, match="no S3 URI"):
            project.run([chained("A")], data={uri: tmp_path})


# --------------------------------------------------------------------------------------------- what jobs leave
@pytest.mark.parametrize("uri", BAD_URIS)
def test_a_uri_out_of_a_job_leads_nowhere_else(project: Project, uri: str) -> None:
    execution = project.run(
        [writes_json(), reads_json("Reads"), chained("Beside", ("Writes",))],
        {"Writes": writing(json.dumps({"uri": uri}))},
    )
    assert statuses(execution) == {"Writes": "Succeeded", "Reads": "Failed", "Beside": "Succeeded"}
    assert "Write it as s3://BUCKET/KEY" in str(execution.step("Reads").failure_reason)


LEFT = [
    "null",
    "1",
    "[" * 100_000,
    "[" * 900 + "]" * 900,
    "9" * 5000,
    '{"uri": ' + "9" * 5000 + "}",
    '{"uri": NaN}',
    '{"uri": 1e999}',
    '{"uri": "\\ud800"}',
    '{"uri": null}',
    '{"uri": [1]}',
    "",
    '[{"prefix": null}, "x"]',
    '[{"prefix": 3}, "x"]',
    '[{"prefix": "s3:///x"}, "x"]',
    '[{"prefix": "/etc/"}, "passwd"]',
    '[{"prefix": "s3://b/out/Writes/"}, "../../../../../../etc/passwd"]',
    '[{"prefix": "s3://b/"}, 3]',
    "{}",
    "[]",
    '"s3://b/"',
]


@pytest.mark.parametrize("text", LEFT, ids=[text[:30] for text in LEFT])
def test_a_manifest_or_property_file_of_any_form_fails_its_step(project: Project, text: str) -> None:
    manifest = chained("Manifest", ("s3://b/out/Writes/file.json",), DependsOn=["Writes"])
    manifest["Arguments"]["ProcessingInputs"][0]["S3Input"]["S3DataType"] = "ManifestFile"
    execution = project.run(
        [writes_json(), manifest, reads_json("Reads"), chained("Beside", ("Writes",))], {"Writes": writing(text)}
    )
    assert statuses(execution) == {
        "Writes": "Succeeded",
        "Manifest": "Failed",
        "Reads": "Failed",
        "Beside": "Succeeded",
    }
    for name in ("Manifest", "Reads"):
        reason = str(execution.step(name).failure_reason)
        reason.encode()
        assert "Internal error" not in reason


# ------------------------------------------------------------------------------------------------------ defects
class Broken(FakeEngine):
    """An engine with a defect, as soon as it runs the step ``Breaks``."""

    def run(self, staged: StagedJob, on_line: Any, stop: Any) -> JobResult:
        if staged.step == "Breaks":
            raise ZeroDivisionError("half of \ud800")
        return super().run(staged, on_line, stop)


def test_a_defect_in_one_step_fails_that_step_and_keeps_its_traceback(project: Project) -> None:
    steps = [chained("Breaks"), chained("After", ("Breaks",)), chained("Beside")]
    file = write(project.root / "definition.json", pipeline(*steps))
    _, execution = run_pipeline(
        OpenProject.at(project.root, project.state, Silent().note), RunRequest(target=str(file)), Silent(), Broken({})
    )
    assert statuses(execution) == {"Breaks": "Failed", "Beside": "Succeeded"}
    kept = project.state / "runs" / execution.id / "logs" / "Breaks" / INTERNAL_ERROR
    reason = str(execution.step("Breaks").failure_reason)
    assert reason.startswith("Internal error: ZeroDivisionError: half of \\ud800")
    assert str(kept) in reason
    assert "--debug" in reason
    assert "in run\n" in kept.read_text()
    assert json.loads((project.state / "runs" / execution.id / RECORD).read_text())["status"] == "Failed"


# ------------------------------------------------------------------------------------------------------ records
def ran_once(project: Project) -> tuple[Execution, Path]:
    """An execution in which ``Second`` failed, and its directory."""
    execution = project.run(two(), {"First": lambda host: host.write("out", "a", "b"), "Second": lambda host: 1})
    return execution, project.state / "runs" / execution.id


def two() -> list[Any]:
    return [chained("First"), chained("Second", ("First",))]


def resumed(project: Project, selection: Selection) -> Execution:
    return project.run(two(), {}, selection=selection)


SELECTIONS = [Selection(resume=True), Selection(only=["Second"]), Selection(start=["Second"])]
DAMAGED = [
    (RECORD, b"[]", "it is a list, and not an object"),
    (RECORD, b"null", "it is null, and not an object"),
    (RECORD, b'{"pipeline": "definition"}', "it was changed since it was written"),
    (RECORD, b"{", "it is not valid JSON"),
    (RECORD, b"\xff", "it is not UTF-8"),
    (RECORD, b"[" * 100_000, "it is no JSON that was written here"),
    (RECORD, b"", "it is not valid JSON"),
    (DESCRIBED, b"[]", "it is a list, and not an object"),
    (DESCRIBED, b'{"First": null}', "First is null"),
    (DESCRIBED, b"null", "it is null"),
    (DESCRIBED, b"{", "it is not valid JSON"),
    (DESCRIBED, b"9" * 5000, "it is no JSON that was written here"),
]


@pytest.mark.parametrize("selection", SELECTIONS, ids=["resume", "only", "from"])
@pytest.mark.parametrize(("file", "content", "says"), DAMAGED, ids=[f"{case[0]}-{case[1][:12]!r}" for case in DAMAGED])
def test_a_record_of_another_shape_is_refused(
    project: Project, selection: Selection, file: str, content: bytes, says: str
) -> None:
    execution, directory = ran_once(project)
    (directory / file).write_bytes(content)
    with pytest.raises(SettingsError) as raised:
        resumed(project, selection)
    said = raised.value.message
    assert f"The record of execution {execution.id} is not readable: {says}" in said
    assert str(directory / file) in said
    assert raised.value.exit_code == 2
    # What the message says to do helps.
    later, _ = ran_once(project)
    assert statuses(resumed(project, selection)) == {"Second": "Succeeded"}
    assert later.id != execution.id


def test_the_record_of_another_pipeline_is_nobodys_trouble(project: Project) -> None:
    ran_once(project)
    other = project.state / "runs" / "other"
    other.mkdir()
    (other / RECORD).write_text('{"pipeline": "another", "id": 7}')
    assert statuses(resumed(project, Selection(resume=True))) == {"Second": "Succeeded"}


def test_a_record_that_was_put_elsewhere_is_refused(project: Project) -> None:
    _, directory = ran_once(project)
    record = json.loads((directory / RECORD).read_text())
    (directory / RECORD).write_text(json.dumps({**record, "id": "../../x"}))
    (directory / "lock").write_text("")  # as of before records had digests
    with pytest.raises(SettingsError, match="another execution"):
        resumed(project, Selection(resume=True))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["s3://b/../x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Path, dict[str, Any]]:
    """A project, the directory of its one execution, and what its records hold."""
    project = Project(tmp_path_factory.mktemp("recorded"))
    _, directory = ran_once(project)
    return project, directory, {file: json.loads((directory / file).read_text()) for file in (RECORD, DESCRIBED)}


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The value with something else at that place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = put(value[place[0]], place[1:], new)
    return copy


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_mutation_of_a_record_does_more_than_be_refused(
    recorded: tuple[Project, Path, dict[str, Any]], data: st.DataObject
) -> None:
    project, directory, records = recorded
    spoilt = data.draw(st.sampled_from([RECORD, DESCRIBED]))
    place = data.draw(st.sampled_from(places(records[spoilt])))
    text = json.dumps(put(records[spoilt], place, data.draw(ANY)))
    cut = data.draw(st.sampled_from([len(text), len(text), len(text) // 2]))
    (directory / "lock").write_text("")  # as of before records had digests: nothing but its form shows a change
    for file in (RECORD, DESCRIBED):
        (directory / file).write_text(text[:cut] if file == spoilt else json.dumps(records[file]))
    for selection in SELECTIONS[:2]:
        try:
            execution = resumed(project, selection)
        except (SettingsError, InvalidPipelineError):
            continue  # exit code 2
        assert "Internal error" not in str(execution.failure_reason)
        # It is no later execution to go on from.
        shutil.rmtree(project.state / "runs" / execution.id)


@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b"[" * 100_000, b"\xff", b'{"definition": [], "code": {}}'])
def test_a_fingerprint_of_another_shape_proves_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / FILE).write_bytes(content)
    assert verified_runs(tmp_path) == []
