"""pipeline.py through the real SDK. A compile takes seconds, so the tests share a few of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.machine import needs_program

from local_runner.compile.compiler import Compiled, compile_pipeline
from local_runner.errors import CompileError
from local_runner.project import Project

REPOSITORY = Path(__file__).resolve().parents[2]

PIPELINE = """
import json
import os
from pathlib import Path

from sagemaker.core.processing import FrameworkProcessor, ScriptProcessor
from sagemaker.core.shapes import ProcessingInput, ProcessingS3Input
from sagemaker.core.workflow.parameters import ParameterString
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep

from team.names import PIPELINE_NAME

CONFIG = json.loads(Path("config.json").read_text())


def build(session, settings):
    common = dict(
        role="data-team",
        image_uri=settings.image_uri,
        instance_count=1,
        instance_type="ml.m5.xlarge",
        sagemaker_session=session,
    )
    script = ScriptProcessor(command=["python3"], **common)
    framework = FrameworkProcessor(command=["python3"], **common)
    table = ProcessingInput(
        input_name="table",
        s3_input=ProcessingS3Input(
            s3_uri="tables",
            local_path="/opt/ml/processing/table",
            s3_data_type="S3Prefix",
            s3_input_mode="File",
        ),
    )
    steps = [
        ProcessingStep("Script", step_args=script.run(code="processing/script.py", inputs=[table])),
        ProcessingStep("Framework", step_args=framework.run(code="train.py", source_dir="training")),
    ]
    stage = ParameterString("Stage", default_value=os.environ.get("STAGE", "none"))
    profile = ParameterString("Profile", default_value=os.environ.get("AWS_PROFILE", "none"))
    bucket = ParameterString("Bucket", default_value=session.default_bucket())
    caller = ParameterString("Caller", default_value=session.get_caller_identity_arn())
    parameters = [stage, profile, bucket, caller]
    return Pipeline(name=PIPELINE_NAME, parameters=parameters, steps=steps, sagemaker_session=session)
"""

COMPILE = """
import sys
from pathlib import Path
from local_runner.compile.compiler import compile_pipeline
from local_runner.project import Project
root, state = Path(sys.argv[1]), Path(sys.argv[2])
done = compile_pipeline(Project.at(root, state, lambda line: print(line, file=sys.stderr)), None)
print(done.definition)
print("cached", done.cached, "SDK imported", "sagemaker" in sys.modules, file=sys.stderr)
"""


class NotCachedError(Exception):
    """Raised by ``stop`` where a lookup in the cache found nothing, to save the compile."""


def stop(line: str) -> None:
    raise NotCachedError(line)


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def run_python(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "AWS_PROFILE": "production",
        "AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL",
    }
    command = [*prefix, sys.executable, "-c", *arguments]
    return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    write(
        root,
        {
            "pipeline.py": PIPELINE,
            "config.json": "{}",
            "team/__init__.py": "",
            "team/names.py": "PIPELINE_NAME = 'Flights'\n",
            "processing/script.py": "print(1)\n",
            "training/train.py": "print(2)\n",
            "training/requirements.txt": "",
            "tables/airports.csv": "code\nEWR\n",
        },
    )
    return root


@pytest.fixture(scope="module")
def first(project: Path) -> Compiled:
    """The first compile of the project, in this process."""
    lines: list[str] = []
    done = compile_pipeline(Project.at(project, project / ".local_runner", lines.append), None)
    # A machine without user namespaces gets a note as well.
    assert ["compiling pipeline.py" in line for line in lines if "without namespaces" not in line] == [True]
    return done


@pytest.fixture
def edited(project: Path, first: Compiled, tmp_path: Path) -> Iterator[Path]:
    """The project for a test that changes it; put back afterwards."""
    shutil.copytree(project, tmp_path / "before")
    yield project
    for path in sorted(project.rglob("*")):
        if path.is_file() and not (tmp_path / "before" / path.relative_to(project)).exists():
            path.unlink()
    shutil.copytree(tmp_path / "before", project, dirs_exist_ok=True)


def lookup(root: Path) -> Compiled:
    return compile_pipeline(Project.at(root, root / ".local_runner", stop), None)


def steps(done: Compiled) -> dict[str, Any]:
    return {step["Name"]: step["Arguments"] for step in json.loads(done.definition)["Steps"]}


def code_uris(arguments: dict[str, Any]) -> dict[str, str]:
    return {item["InputName"]: item["S3Input"]["S3Uri"] for item in arguments["ProcessingInputs"]}


def test_a_definition_names_what_the_settings_say(first: Compiled) -> None:
    definition = json.loads(first.definition)
    script = steps(first)["Script"]
    assert first.name == "Flights"
    assert not first.cached
    assert script["AppSpecification"]["ImageUri"] == "local/processing"
    assert script["RoleArn"] == "arn:aws:iam::000000000000:role/data-team"
    values = {item["Name"]: item["DefaultValue"] for item in definition["Parameters"]}
    assert values["Bucket"] == "sagemaker-local"
    assert values["Caller"] == "arn:aws:iam::000000000000:role/local-runner"


def test_files_of_the_project_are_read_where_they_are(first: Compiled) -> None:
    uris = code_uris(steps(first)["Script"])
    assert uris == {
        "code": "s3://sagemaker-local/code/processing/script.py",
        "table": "s3://sagemaker-local/code/tables",
    }


def test_a_framework_processor_finds_its_bundle(project: Path, first: Compiled) -> None:
    uris = code_uris(steps(first)["Framework"])
    bundle = project / ".local_runner/s3" / uris["code"].removeprefix("s3://")
    entrypoint = project / ".local_runner/s3" / uris["entrypoint"].removeprefix("s3://")
    assert uris["code"].startswith("s3://sagemaker-local/uploads/")
    assert {path.name for path in bundle.iterdir()} == {"sourcedir.tar.gz", "install_requirements.py"}
    with tarfile.open(bundle / "sourcedir.tar.gz") as archive:
        assert archive.getnames() == ["requirements.txt", "train.py"]
    assert "python3 train.py" in entrypoint.read_text()


@pytest.mark.sandbox
@pytest.mark.programs("unshare")
def test_without_a_network_and_with_credentials_around_the_definition_is_the_same(
    project: Path, first: Compiled, tmp_path: Path
) -> None:
    done = run_python(COMPILE, str(project), str(tmp_path), prefix=("unshare", "-rn"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip("\n") == first.definition
    assert "production" not in done.stdout


def test_an_unchanged_project_does_not_import_the_sdk(project: Path, first: Compiled) -> None:
    done = run_python(COMPILE, str(project), str(project / ".local_runner"))
    assert done.stderr == "cached True SDK imported False\n"
    assert done.stdout.rstrip("\n") == first.definition


def test_a_script_may_change(edited: Path, first: Compiled) -> None:
    write(
        edited,
        {"processing/script.py": "print('other')\n", "processing/new.py": "", "tables/more.csv": "x\n"},
    )
    write(edited, {"notes.txt": "", "data/dt=2013-01-04/EWR.csv": ""})
    done = lookup(edited)
    assert done.cached
    assert done.definition == first.definition


@pytest.mark.parametrize(
    "change",
    [
        {"pipeline.py": PIPELINE + "\n"},
        {"team/names.py": "PIPELINE_NAME = 'Trains_'\n"},
        {"config.json": "[]"},
        {"training/train.py": "print(3)\n"},
        {"training/more.py": ""},
        {"sagemaker.py": ""},
        {"local_runner.toml": "[local]\nbucket = 'another-bucket'\n"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_the_definition_was_made_from_may_not(edited: Path, change: dict[str, str]) -> None:
    assert lookup(edited).cached
    write(edited, change)
    with pytest.raises(NotCachedError):
        lookup(edited)


def test_a_file_that_went_away_is_a_change(edited: Path) -> None:
    (edited / "config.json").unlink()
    with pytest.raises(NotCachedError):
        lookup(edited)


def test_an_environment_variable_that_the_project_reads_is_a_dependency(
    edited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNRELATED", "1")
    monkeypatch.setenv("AWS_PROFILE", "production")
    assert lookup(edited).cached
    monkeypatch.setenv("STAGE", "test")
    with pytest.raises(NotCachedError):
        lookup(edited)


@pytest.fixture
def disk(project: Path) -> Iterator[Path]:
    """Another file system, in the project, which a compile sees."""
    disk = project / ".local_runner/disk"
    disk.mkdir(parents=True)
    mount, umount = needs_program("mount"), needs_program("umount")
    subprocess.run([mount, "-t", "tmpfs", "-o", "size=16m", "disk", disk], check=True)
    yield disk
    subprocess.run([umount, "-l", disk], check=True)
    disk.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_the_cache_of_definitions_may_be_on_another_file_system(
    project: Path, first: Compiled, tmp_path: Path, disk: Path
) -> None:
    """As where /tmp is one: ``local_run`` links ``compiled`` of a test's state to the project's."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "compiled").symlink_to(disk)
    done = compile_pipeline(Project.at(project, state, print), None)
    assert done.definition == first.definition
    uploads = Path("s3/sagemaker-local/uploads")
    assert {path.name for path in (state / uploads).iterdir()} == {
        path.name for path in (project / ".local_runner" / uploads).iterdir()
    }
    assert not list(state.glob(".upload-*"))


def test_lost_uploads_and_a_broken_entry_are_compiled_again(edited: Path) -> None:
    shutil.move(edited / ".local_runner/s3", edited / ".local_runner/gone")
    with pytest.raises(NotCachedError):
        lookup(edited)
    shutil.move(edited / ".local_runner/gone", edited / ".local_runner/s3")
    assert lookup(edited).cached
    (entry,) = (edited / ".local_runner/compiled").glob("*.json")
    for broken in ("", "{", "[]", "{}", '{"name": 1, "definition": 2, "dependencies": [], "uploads": []}'):
        entry.write_text(broken)
        with pytest.raises(NotCachedError):
            lookup(edited)


# ------------------------------------------------------------------------------------------------ errors
FAULTY = """
import socket
import subprocess
import boto3
from sagemaker.core.helper.session_helper import get_execution_role
from sagemaker.core.processing import ScriptProcessor
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep


def one_argument(session): ...


def nothing(session, settings): ...


def raises(session, settings):
    return 1 / 0


def exits(session, settings):
    raise SystemExit(3)


def client(session, settings):
    boto3.client("s3").put_object(Bucket="b", Key="k")


def sessions_client(session, settings):
    session.sagemaker_client.list_pipelines()


def role(session, settings):
    return get_execution_role()


def connects(session, settings):
    socket.socket().connect(("192.0.2.1", 80))


def looks_up(session, settings):
    socket.getaddrinfo("example.com", 80)


def frozen(session, settings):
    settings.bucket = "mine"


def missing_script(session, settings):
    processor = ScriptProcessor(
        role=settings.role_arn,
        image_uri=settings.image_uri,
        command=["python3"],
        instance_count=1,
        instance_type="ml.m5.xlarge",
        sagemaker_session=session,
    )
    steps = [ProcessingStep("Clean", step_args=processor.run(code="processing/nope.py"))]
    return Pipeline(name="P", steps=steps, sagemaker_session=session)


def runs_a_program(session, settings):
    name = subprocess.run(["echo", "P"], capture_output=True, text=True).stdout.strip()
    return Pipeline(name=name, steps=[], sagemaker_session=session)
"""

FAULTS = {
    "nowhere": [
        "there is no function 'nowhere'",
        "one_argument(session), nothing(session, settings), raises(",
    ],
    "one_argument": ["one_argument(session) is called as one_argument(session, settings)"],
    "nothing": ["returned nothing (None)", "has to return the Pipeline"],
    "raises": ["ZeroDivisionError: division by zero", "pipeline.py, line 18, in raises", "return 1 / 0"],
    "exits": ["ends the program (exit code 3)", "in exits"],
    "client": ["s3:PutObject is a call to AWS", "in client", 'boto3.client("s3").put_object'],
    "sessions_client": ["sagemaker:ListPipelines is a call to AWS", "in sessions_client"],
    "role": ["sts:GetCallerIdentity is a call to AWS", "in role"],
    "connects": ["connects to 192.0.2.1", "in connects"],
    "looks_up": ["looks up the host example.com", "in looks_up"],
    "frozen": ["FrozenInstanceError", "in frozen"],
    "missing_script": ["step 'Clean' runs processing/nope.py, and there is no such file"],
}

COMPILE_EACH = """
import json, sys
from local_runner.compile import program
requests = json.load(sys.stdin)
print(json.dumps([program.main(program.Request(**request)) for request in requests]))
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the compiling program says of each function of a faulty file; one import of the SDK for all."""
    root = tmp_path_factory.mktemp("faulty")
    write(root, {"pipeline.py": FAULTY})
    names = [*FAULTS, "runs_a_program"]
    requests = [
        {
            "file": str(root / "pipeline.py"),
            "function": name,
            "label": "pipeline.py",
            "root": str(root),
            "state": str(root / ".local_runner"),
            "scratch": str(root),
            "account": "000000000000",
            "settings": {
                "environment": "local",
                "region": "us-east-1",
                "bucket": "sagemaker-local",
                "role_arn": "arn:aws:iam::000000000000:role/local-runner",
                "image_uri": "local/processing",
            },
        }
        for name in names
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMPILE_EACH],
        input=json.dumps(requests),
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
        },
        cwd=root,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(names, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("function", FAULTS)
def test_an_error_says_what_and_where(faulty: dict[str, dict[str, Any]], function: str) -> None:
    message = faulty[function]["error"]
    assert message.startswith(("pipeline.py: ", "pipeline.py cannot be compiled: "))
    for part in FAULTS[function]:
        assert part in message
    assert "program.py" not in message
    assert "site-packages" not in message


def test_a_program_that_the_pipeline_runs_is_told_of(faulty: dict[str, dict[str, Any]]) -> None:
    assert faulty["runs_a_program"]["name"] == "P"
    assert faulty["runs_a_program"]["programs"] == ["echo"]


def test_a_failed_compile_is_an_error_with_what_was_printed(tmp_path: Path) -> None:
    write(tmp_path, {"pipeline.py": "print('reading the plan')\nimport nothing_of_that_name\n"})
    with pytest.raises(CompileError) as caught:
        compile_pipeline(Project.at(tmp_path, tmp_path / "state", lambda _: None), None)
    message = caught.value.message
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in message
    assert "pipeline.py, line 2\n" in message
    assert message.endswith("It printed:\n  reading the plan")
    assert not list((tmp_path / "state/compiled").iterdir())
