"""The step cache on the engine without processes: a cached run always comes to what an uncached one comes to."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.definitions import get, join, output_of, parameter, pipeline, processing

from local_runner.engines.fake import FakeEngine, FakeHost
from local_runner.events import Silent
from local_runner.models import Execution
from local_runner.project import Project as OpenProject
from local_runner.run.pipeline import run_pipeline
from local_runner.run.request import RunRequest
from local_runner.step_cache.digests import PART, FileDigests
from local_runner.step_cache.key import Signature
from local_runner.step_cache.store import step_store
from local_runner.step_cache.why import CloudCache, cloud_cache, differences


def of_execution(name: str) -> dict[str, Any]:
    return join("s3://b/executions", get("Execution.PipelineExecutionId"), name)


def job(name: str, inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A step with an output ``out`` of this execution, and one to a URI that all executions share."""
    members: dict[str, Any] = {
        "AppSpecification": {"ContainerArguments": ["--flag", get("Parameters.Flag")]},
        "Environment": {"LEVEL": get("Parameters.Level")},
        **more,
    }
    outputs = {"out": of_execution(name), "shared": f"s3://b/shared/{name}"}
    return processing(name, image="img", inputs=inputs, outputs=outputs, members=members)


STEPS = [job("First", {"data": "s3://in"}), job("Second", {"data": output_of("First"), "more": "s3://in/a"})]
DEFINITION = pipeline(*STEPS, parameters=[parameter("Flag", "0"), parameter("Level", "0")])


def work(images: dict[str, str]) -> Callable[[FakeHost], None]:
    """A job whose outputs, log and exit message are all that it depends on."""

    def run(host: FakeHost) -> None:
        task = host.staged.job
        seen: dict[str, Any] = {"arguments": task.arguments, "environment": dict(task.environment), "image": images}
        for item in task.inputs:
            for layer in reversed(host.input(item.name)):
                for path in sorted(layer.rglob("*")):
                    if path.is_file():
                        seen[f"{item.name}/{path.relative_to(layer)}"] = [path.read_text(), path.stat().st_mode & 0o111]
        text = json.dumps(seen, sort_keys=True)
        host.print(text)
        host.write("out", "deep/all.json", text)
        host.write("out", "a", text[:50])
        host.write("shared", f"{host.staged.step}.json", text)
        host.write_at("/opt/ml/output", "message", f"{len(text)} characters")

    return run


@dataclass
class Project:
    root: Path
    parameters: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    definition: dict[str, Any] = field(default_factory=lambda: DEFINITION)
    states: int = 0
    notes: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            self.file(name).parent.mkdir(parents=True, exist_ok=True)
            self.file(name).write_text(f"content of {name}")
        self.age()

    def file(self, name: str) -> Path:
        return self.root / "data" / name

    @property
    def state(self) -> Path:
        return self.root / "state"

    def age(self) -> None:
        """Until what was just written is old enough to be remembered."""
        time.sleep(0.025)

    def run(self, state: Path | None = None, *, during: Callable[[], object] = lambda: None, **more: Any) -> Execution:
        target = self.root / "definition.json"
        target.write_text(json.dumps(self.definition))
        function = work(dict(self.images))

        def run_and(host: FakeHost) -> None:
            function(host)
            during()

        names = [step["Name"] for step in self.definition["Steps"]]
        engine = FakeEngine(dict.fromkeys(names, run_and), images=self.images)
        request = RunRequest(
            target=str(target),
            parameters=self.parameters,
            data={"s3://in": self.root / "data"},
            **{"cache": True, **more},
        )
        listener = Listening(self.notes)
        _, execution = run_pipeline(
            OpenProject.at(self.root, state or self.state, listener.note), request, listener, engine
        )
        self.ran = engine.ran
        return execution

    def uncached(self) -> Execution:
        self.states += 1
        return self.run(self.root / f"fresh-{self.states}", cache=False)


@dataclass
class Listening(Silent):
    notes: list[str]

    def note(self, text: str) -> None:
        self.notes.append(text)


def result(execution: Execution) -> Any:
    """All that a run comes to, but for where it lies and what belongs to one execution."""
    return {
        step.name: (
            step.status,
            step.exit_code,
            step.exit_message,
            step.failure_reason,
            step.log and step.log.read_text(),
            {
                name: {str(path.relative_to(place)): (path.read_bytes(), path.stat().st_mode)
                       for path in place.rglob("*") if path.is_file()}
                for name, place in step.outputs.items()
            },
        )
        for step in execution.steps
    }  # fmt: skip


def cached(execution: Execution) -> dict[str, bool]:
    return {step.name: step.cached for step in execution.steps}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_nothing_runs_again_when_nothing_changed(project: Project) -> None:
    first = project.run()
    again = project.run()
    assert project.ran == []
    assert cached(first) == {"First": False, "Second": False}
    assert cached(again) == {"First": True, "Second": True}
    assert result(again) == result(first) == result(project.uncached())
    assert again.step("First").outputs["out"] == (project.state / f"s3/b/executions/{again.id}/First").resolve()
    assert again.step("First").log != first.step("First").log
    assert again.id in str(again.step("First").log)


def test_a_hit_reads_no_file_again(project: Project) -> None:
    project.run()
    project.age()
    project.run()
    digests = FileDigests(project.state / "steps/digests.sqlite")
    digests.of(list(project.state.glob("steps/entries/*/[0-9]*")))
    digests.of([project.file("a"), project.file("b")])
    assert digests.hashed == 0


def test_an_edit_runs_what_it_reaches_and_no_more(project: Project) -> None:
    project.run()
    project.file("b").write_text("other")  # which Second reads only through First
    project.run()
    assert project.ran == ["First", "Second"]
    project.file("b").write_text("content of b")
    project.run()
    assert project.ran == []  # as it was before: that is kept, too


def test_refresh_and_no_cache(project: Project) -> None:
    first = project.run()
    assert cached(project.run(refresh=["Second"])) == {"First": True, "Second": False}
    assert cached(project.run(cache=False)) == {"First": False, "Second": False}
    assert result(project.run()) == result(first)


@pytest.mark.parametrize("where", ["argument", "environment", "time"])
def test_what_an_argument_tells_of_the_execution_is_part_of_the_key(project: Project, where: str) -> None:
    value = get("Execution.StartDateTime") if where == "time" else get("Execution.PipelineExecutionId")
    step = json.loads(json.dumps(STEPS[0]))
    if where == "environment":
        step["Arguments"]["Environment"]["ID"] = value
    else:
        step["Arguments"]["AppSpecification"]["ContainerArguments"].append(value)
    project.definition = {**DEFINITION, "Steps": [step]}
    project.run()
    time.sleep(0.002)
    project.run()
    assert project.ran == ["First"]


def test_another_output_uri_is_another_key(project: Project) -> None:
    project.run()
    changed = json.loads(json.dumps(DEFINITION).replace("s3://b/shared/Second", "s3://b/elsewhere"))
    project.definition = changed
    assert cached(project.run()) == {"First": True, "Second": False}


def test_a_failed_job_is_not_cached(project: Project) -> None:
    def fail() -> None:
        raise_ = project.file("b").read_text() == "bad"
        if raise_:
            raise OSError("no")

    project.file("b").write_text("bad")
    assert project.run(during=fail).status == "Failed"
    assert project.run(during=fail).status == "Failed"
    assert project.ran == ["First"]
    assert project.run().status == "Succeeded"
    assert project.ran == ["First", "Second"]


@pytest.mark.slow
def test_what_a_fault_is_injected_into_is_not_cached(project: Project) -> None:
    from local_runner.models import Fault

    project.run()
    again = project.run(faults=[Fault("First", "Step.THROTTLING", 1)])
    assert cached(again) == {"First": False, "Second": True}


def test_an_input_that_changes_while_the_job_runs_is_said_and_not_kept(project: Project) -> None:
    project.run(during=lambda: project.file("b").write_text(str(time.time_ns())))
    assert any("'First' is not cached: an input of it changed while it ran" in note for note in project.notes)
    again = project.run()
    assert not again.step("First").cached
    assert result(again) == result(project.uncached())


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(project: Project) -> None:
    project.state.mkdir()
    (project.state / "steps").write_text("in the way")
    first, again = project.run(), project.run()
    assert result(first) == result(again) == result(project.uncached())
    assert any(note.startswith("The step cache cannot be used, so steps run uncached.") for note in project.notes)
    assert len(project.notes) == 2  # once a run


def test_a_clock_that_jumped_back_is_no_reason_to_trust_a_file(tmp_path: Path) -> None:
    file, index = tmp_path / "file", tmp_path / "digests"
    file.write_text("one")
    ahead = time.time_ns() + 3_600_000_000_000
    os.utime(file, ns=(ahead, ahead))  # written before the clock was set back by an hour
    digests = FileDigests(index)
    digests.of([file])
    digests.of([file])
    assert digests.hashed == 2


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path) -> None:
    file, index = tmp_path / "file", tmp_path / "digests"
    digests = FileDigests(index)
    file.write_text("one")
    first = digests.of([file])
    assert digests.of([file]) == first
    assert digests.hashed == 2
    time.sleep(0.03)
    digests.of([file])
    digests.of([file])
    assert digests.hashed == 3
    digests.save()
    later = FileDigests(index)
    assert later.of([file]) == first
    assert later.hashed == 0


def test_a_link_made_while_links_are_made_is_no_reason_to_read_a_file_again(tmp_path: Path) -> None:
    file, index = tmp_path / "file", tmp_path / "digests"
    file.write_text("one")
    time.sleep(0.05)
    digests = FileDigests(index)
    first = digests.of([file])
    time.sleep(0.05)
    with digests.linking():
        (tmp_path / "link").hardlink_to(file)
    assert digests.of([file]) == first
    assert digests.hashed == 1
    time.sleep(0.05)
    (tmp_path / "another").hardlink_to(file)  # by somebody else: it may have been changed as well
    assert digests.of([file]) == first
    assert digests.hashed == 2


def test_a_folder_of_any_size_is_read_once_and_a_changed_file_of_it_alone(tmp_path: Path) -> None:
    names = [f"{number:05}" for number in range(2 * PART + 1)]
    for name in names:
        (tmp_path / name).write_text(name)
    time.sleep(0.05)
    index = tmp_path / "digests.sqlite"
    digests = FileDigests(index)
    first = digests.folder(str(tmp_path), names)
    digests.save()
    assert (first.objects, digests.hashed) == (len(names), len(names))
    (tmp_path / names[PART]).write_text("00000")
    time.sleep(0.05)
    later = FileDigests(index)
    changed = later.folder(str(tmp_path), names)
    assert (changed.digest != first.digest, later.hashed) == (True, 1)
    later.save()
    flip(index, index.stat().st_size // 2)
    assert FileDigests(index).folder(str(tmp_path), names).digest == changed.digest
    index.write_bytes(b"no database at all")
    after = FileDigests(index)
    assert after.folder(str(tmp_path), names).digest == changed.digest
    after.save()
    assert FileDigests(index).folder(str(tmp_path), names).digest == changed.digest


# ------------------------------------------------------------------------------------------------- any edit at all
def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[at % len(content)] ^= 1 << (at % 8)
        stamp = path.stat()
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # a change that size and mtime do not tell


def of_cache(project: Project, number: int) -> Path | None:
    """A file of the cache: an entry's, the digests, a signature."""
    files = sorted(path for path in (project.state / "steps").rglob("*") if path.is_file())
    return files[number % len(files)] if files else None


def edit(project: Project, kind: str, number: int) -> None:
    name = "ab"[number % 2]
    path = project.file(name)
    match kind:
        case "data":
            path.write_text(f"content {number}")
        case "same size and mtime":
            flip_text(path)
        case "touch":
            os.utime(path, ns=(number, number))
        case "add":
            project.file(f"new{number % 3}").write_text(str(number))
        case "remove":
            project.file(f"new{number % 3}").unlink(missing_ok=True)
        case "mode":
            path.chmod(0o755 if number % 4 < 2 else 0o644)
        case "parameter":
            project.parameters[("Flag", "Level")[number % 2]] = str(number % 3)
        case "image":
            project.images["img"] = str(number % 3)
        case "flip in the cache":
            if file := of_cache(project, number):
                flip(file, number)
        case "remove from the cache":
            if file := of_cache(project, number):
                file.unlink()
        case "output":
            files = sorted(path for path in (project.state / "s3").rglob("*.json"))
            if files:
                flip(files[number % len(files)], number)
        case "killed":
            draft = project.state / "runs" / "killed" / "work" / "First" / "cache-entry"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            (draft / "0").write_text("half")
        case _:
            pass


def flip_text(path: Path) -> None:
    stamp = path.stat()
    path.write_text(path.read_text().swapcase())
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


KINDS = [
    "nothing", "data", "same size and mtime", "touch", "add", "remove", "mode", "parameter", "image",
    "flip in the cache", "remove from the cache", "output", "killed",
]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 1000)), min_size=1, max_size=8))
def test_after_any_edits_a_cached_run_is_what_an_uncached_one_is(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, int]]
) -> None:
    project = Project(tmp_path_factory.mktemp("edits"))
    project.run()
    for kind, number in edits:
        edit(project, kind, number)
        execution = project.run()
        assert execution.status == "Succeeded"
        expected = result(project.uncached())
        assert own(result(execution)) == own(expected), kind
        again = project.run()
        assert own(result(again)) == own(expected), kind
        assert all(cached(again).values()), kind


def own(found: dict[str, Any]) -> dict[str, Any]:
    """Without what lies in the shared output from elsewhere."""
    return {name: (*rest, outputs) for name, (*rest, outputs) in found.items()}


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(number=st.integers(0, 10_000), at=st.integers(0, 100_000))
def test_any_byte_of_an_entry_that_is_flipped_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, number: int, at: int
) -> None:
    project = Project(tmp_path_factory.mktemp("flip"))
    expected = result(project.run())
    files = sorted(path for path in (project.state / "steps/entries").rglob("*") if path.is_file())
    flip(files[number % len(files)], at)
    again = project.run()
    assert result(again) == expected
    assert project.ran, "the entry was taken as it was"
    assert any("is damaged" in note for note in project.notes)
    assert not [note for note in project.notes if project.notes.count(note) > 1]
    assert cached(project.run()) == {"First": True, "Second": True}


# -------------------------------------------------------------------------------------------------------------- why
def signature(project: Project, step: str) -> Signature:
    store = step_store(project.state)
    found = store.signature(store.last("definition")[step])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("kind", "number", "expected"),
    [
        ("data", 1, ["inputs.data/b: changed (12 bytes -> 9 bytes)"]),
        ("same size and mtime", 1, ["inputs.data/b: changed"]),
        ("add", 1, ["inputs.data/new1: added"]),
        ("mode", 1, []),
        ("parameter", 1, ["request.Environment.LEVEL: changed (0 -> 1)"]),
        ("image", 1, ["image: changed (img -> 1)"]),
        ("touch", 1, []),
    ],
)
def test_why_names_what_changed_and_nothing_else(project: Project, kind: str, number: int, expected: list[str]) -> None:
    project.run()
    before = signature(project, "First")
    edit(project, kind, number)
    project.run()
    assert [str(each) for each in differences(before, signature(project, "First"))] == expected
    assert (project.ran == []) == (expected == [])


def test_sagemaker_compares_uris_and_not_contents(project: Project) -> None:
    project.run()
    before = {name: signature(project, name) for name in ("First", "Second")}
    edit(project, "data", 1)
    project.run()
    enabled = {"Enabled": True, "ExpireAfter": "P30D"}

    def cloud(step: str, config: Any = enabled, code: frozenset[str] = frozenset()) -> CloudCache:
        return cloud_cache(config, before[step], signature(project, step), code)

    assert cloud("First").hits
    assert "it would not see that data changed" in " ".join(cloud("First").reasons)
    assert not cloud("First", None).hits
    assert not cloud("First", code=frozenset({"data"})).hits
    assert "belongs to one execution" in cloud("Second").reasons[0]
    project.parameters["Level"] = "7"
    project.run()
    assert cloud("First") == CloudCache(False, ("Environment.LEVEL: changed (0 -> 7).",))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda manifest: [],
        lambda manifest: {**manifest, "outputs": None},
        lambda manifest: {**manifest, "logs": [{"path": "x"}]},
        lambda manifest: {name: value for name, value in manifest.items() if name != "seconds"},
        lambda manifest: {**manifest, "logs": [{**manifest["logs"][0], "path": "../../../outside"}]},
        lambda manifest: {**manifest, "logs": [{**manifest["logs"][0], "path": "/outside"}]},
        lambda manifest: {**manifest, "logs": [{**manifest["logs"][0], "stored": "../../outside"}]},
    ],
)
def test_an_entry_of_another_form_is_dropped_also_where_its_checksum_is_right(
    project: Project, spoil: Callable[[dict[str, Any]], Any]
) -> None:
    before = project.run()
    for path in step_store(project.state).entries.glob("*/manifest.json"):
        body = json.dumps(spoil(json.loads(path.read_text().partition("\n")[2])))
        path.write_text(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")
    execution = project.run()
    assert execution.status == before.status == "Succeeded"
    assert not any(step.cached for step in execution.steps)
    assert any("is damaged" in note for note in project.notes)
