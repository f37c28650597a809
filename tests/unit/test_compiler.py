"""The compile stage without the SDK: targets, what a cached definition depends on, where uploads go."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runner.compile.compiler import compile_pipeline
from local_runner.compile.dependencies import Dependency, Watch, fingerprint, unchanged
from local_runner.compile.uploads import Uploads
from local_runner.errors import CompileError
from local_runner.project import Project

REPOSITORY = Path(__file__).resolve().parents[2]


def compile_error(root: Path, target: str | None) -> str:
    with pytest.raises(CompileError) as caught:
        compile_pipeline(Project.at(root, root / ".local_runner", lambda _: None), target)
    return caught.value.message


# ----------------------------------------------------------------------------------------------- targets
def test_the_entry_of_the_settings_must_exist(tmp_path: Path) -> None:
    (tmp_path / "local_runner.toml").touch()
    message = compile_error(tmp_path, None)
    assert message == "There is no file pipeline.py. 'entry' in [pipeline] of local_runner.toml names it."


def test_outside_of_a_project_the_way_out_is_said(tmp_path: Path) -> None:
    message = compile_error(tmp_path, None)
    assert message.startswith("There is no file pipeline.py. Run this in a project's directory, or name a TARGET")


@pytest.mark.parametrize("target", ["jobs/daily.py", "jobs/daily.py:make"])
def test_a_target_must_exist(tmp_path: Path, target: str) -> None:
    assert compile_error(tmp_path, target) == f"There is no file jobs/daily.py. The project is {tmp_path}."


@pytest.mark.parametrize("target", ["", "pipeline", "pipeline.py:", "pipeline.py:2x", ":build", "a.py:b:c"])
def test_a_target_is_a_file_and_a_function(tmp_path: Path, target: str) -> None:
    assert "Give FILE.py or FILE.py:FUNCTION" in compile_error(tmp_path, target)


def test_a_directory_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").mkdir()
    assert "There is no file jobs.py" in compile_error(tmp_path, "jobs.py")


def test_a_syntax_error_is_shown_at_its_line_before_the_sdk_is_imported(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("def build(session, settings):\n    return Pipeline(\n\nx = ]\n")
    started = time.monotonic()
    message = compile_error(tmp_path, None)
    assert time.monotonic() - started < 1.5
    assert message.startswith("pipeline.py cannot be compiled: SyntaxError: ")
    assert "\n  pipeline.py, line 4\n    x = ]" in message


def test_a_state_directory_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text("")
    (tmp_path / ".local_runner").write_text("a file")
    assert "cannot be kept in" in compile_error(tmp_path, None)


# ------------------------------------------------------------------------------------------ dependencies
@given(before=st.binary(), after=st.binary())
def test_a_file_is_its_content(tmp_path_factory: pytest.TempPathFactory, before: bytes, after: bytes) -> None:
    root = tmp_path_factory.mktemp("root", numbered=True)
    (root / "a").write_bytes(before)
    dependency = Dependency("file", "a", fingerprint("file", "a", root, {}))
    (root / "a").write_bytes(after)
    assert unchanged([dependency], root, {}) == (before == after)


def test_an_absent_file_is_a_dependency_too(tmp_path: Path) -> None:
    dependency = Dependency("file", "a", fingerprint("file", "a", tmp_path, {}))
    assert unchanged([dependency], tmp_path, {})
    (tmp_path / "a").write_text("")
    assert not unchanged([dependency], tmp_path, {})


@pytest.mark.parametrize(
    ("kind", "name", "seen"),
    [
        ("directory", "a.csv", True),
        ("directory", ".hidden", False),
        ("directory", "__pycache__", False),
        ("modules", "a.py", True),
        ("modules", "a.csv", False),
    ],
)
def test_a_directory_is_its_names(tmp_path: Path, kind: str, name: str, seen: bool) -> None:
    dependency = Dependency(kind, ".", fingerprint(kind, ".", tmp_path, {}))
    (tmp_path / name).write_text("")
    assert unchanged([dependency], tmp_path, {}) == (not seen)


def test_a_variable_that_is_empty_is_not_one_that_is_absent(tmp_path: Path) -> None:
    dependency = Dependency("variable", "STAGE", fingerprint("variable", "STAGE", tmp_path, {}))
    assert unchanged([dependency], tmp_path, {"OTHER": "1"})
    assert not unchanged([dependency], tmp_path, {"STAGE": ""})


WATCHED = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from local_runner.compile.dependencies import Watch
root = Path({root!r})
watch = Watch((root,), (root / "state",))
watch.start()
sys.path.insert(0, str(root))
exec(compile((root / "reads.py").read_text(), str(root / "reads.py"), "exec"))
print(json.dumps([[kind, name] for kind, name, _ in watch.dependencies()]))
"""


def watched(root: Path, code: str) -> set[tuple[str, str]]:
    """What a process that runs ``code`` as a file of the project is seen to read."""
    (root / "reads.py").write_text(code)
    program = WATCHED.format(repository=str(REPOSITORY), root=str(root))
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {(kind, name) for kind, name in json.loads(done.stdout)} - {("file", "reads.py")}


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("open('a.txt').read()", {("file", "a.txt")}),
        ("os.close(os.open('a.txt', os.O_RDONLY))", {("file", "a.txt")}),
        ("Path('new.txt').write_text('')", set()),
        ("try: open('absent')\nexcept OSError: pass", {("file", "absent")}),
        ("list(Path('sub').glob('*.csv'))", {("directory", "sub")}),
        ("import glob; glob.glob('sub/*')", {("directory", "sub")}),
        ("open('state/x').read(), os.listdir('state')", set()),
        ("open('/dev/null').read()", set()),
        ("os.environ.get('A'), os.getenv('B'), 'C' in os.environ", {("variable", name) for name in "ABC"}),
        ("import sub.module", {("modules", "sub"), ("file", "sub/module.py")}),
    ],
)
def test_what_a_process_reads_of_the_project_is_seen(tmp_path: Path, code: str, read: set[tuple[str, str]]) -> None:
    for name in ("a.txt", "sub/b.csv", "state/x", "sub/module.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    seen = watched(tmp_path, code)
    assert {item for item in seen if "__pycache__" not in item[1]} == read


# ----------------------------------------------------------------------------------------------- uploads
@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in ("processing/a.py", ".venv/lib/helper.py"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("")
    (root / "state/scratch").mkdir(parents=True)
    return root


def uploads_of(root: Path) -> Uploads:
    state = root / "state"
    return Uploads(root, state, state / "scratch", Watch((root,), (state, root / ".venv")))


def local(root: Path, uri: str) -> Path:
    return root / "state/s3" / uri.removeprefix("s3://")


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("processing/a.py", "s3://b/code/processing/a.py"),
        ("processing", "s3://b/code/processing"),
        (".", "s3://b/code"),
    ],
)
def test_project_files_are_not_copied(root: Path, path: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    uploads = uploads_of(root)
    assert uploads.path(path, "b", "Flights/code/0123") == uri
    assert uploads.path(str(root / path), "b", "other") == uri
    assert uploads.kept == []


def test_other_files_are_kept_under_their_content(root: Path, tmp_path: Path) -> None:
    (tmp_path / "tool.sh").write_text("exit 0\n")
    uri = uploads_of(root).path(str(tmp_path / "tool.sh"), "b", "job-2024-01-01/input")
    assert uri.startswith("s3://b/uploads/")
    assert local(root, uri).read_text() == "exit 0\n"
    assert uploads_of(root).path(str(tmp_path / "tool.sh"), "b", "job-2024-01-02/input") == uri
    in_venv = uploads_of(root).path(str(root / ".venv/lib/helper.py"), "b", "x")
    assert in_venv.startswith("s3://b/uploads/")
    assert list((root / "state/scratch").iterdir()) == []


def test_a_path_that_is_not_there_is_an_error(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nope does not exist"):
        uploads_of(root).path(str(root / "nope"), "b", "x")


def packed(order: list[str], when: int) -> bytes:
    """An archive as the SDK makes it: in the directory's order, with times and cached bytecode."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as archive:
        for name in order:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(name), when, 0o755
            archive.addfile(member, io.BytesIO(name.encode()))
    return body.getvalue()


def test_the_same_sources_packed_twice_are_the_same_upload(root: Path) -> None:
    settled = []
    for when, order in ((1, ["a.py", "b.sh"]), (2, ["b.sh", "__pycache__/a.pyc", "a.py"])):
        uploads = uploads_of(root)
        asked = uploads.body(packed(order, when), "b", f"job-{when}/source/sourcedir.tar.gz")
        uploads.body("set -e\n", "b", f"job-{when}/source/run.sh")
        inputs = [
            asked,
            f"s3://b/job-{when}/source/",
            f"s3://b/job-{when}/source",
            f"s3://b/job-{when}/other",
        ]
        settled.append(uploads.settle({"Inputs": inputs, "Count": 1}))
    assert settled[0]["Inputs"][:3] == settled[1]["Inputs"][:3]
    archive, directory, bare, other = settled[0]["Inputs"]
    assert archive == f"{directory}sourcedir.tar.gz"
    assert directory == f"{bare}/"
    assert other == "s3://b/job-1/other"
    with tarfile.open(local(root, archive)) as stored:
        assert [(member.name, member.mode) for member in stored] == [("a.py", 0o755), ("b.sh", 0o755)]


def test_an_object_at_the_top_of_a_bucket_moves_alone(root: Path) -> None:
    uploads = uploads_of(root)
    asked = uploads.body(b"{}", "b", "config.json")
    settled = uploads.settle([asked, "s3://b", "s3://b/", "s3://b/data"])
    assert settled[0].startswith("s3://b/uploads/")
    assert settled[1:] == ["s3://b", "s3://b/", "s3://b/data"]


@pytest.mark.parametrize(
    ("bucket", "key"), [("..", "x/a"), ("/tmp", "x/a"), ("a/b", "x/a"), ("b", "x/.."), ("b", "x/")]
)
def test_what_no_directory_can_be_called_is_not_uploaded(root: Path, bucket: str, key: str) -> None:
    uploads = uploads_of(root)
    uploads.body("text", bucket, key)
    with pytest.raises(ValueError, match="cannot be kept in local S3"):
        uploads.settle({})
