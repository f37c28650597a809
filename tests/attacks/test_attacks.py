"""Jobs that try to reach what is not theirs, on every engine, and what comes of it on this machine.

``ATTACK_SECONDS`` is how long attacks that need luck go on (``make attack``: 60; in ``make test`` they are short).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.definitions import pipeline, processing, s3_input, s3_output, write
from support.project import PROJECT

from local_runner.engines.hot.worker import end_workers
from local_runner.events import Silent
from local_runner.models import StepExecution
from local_runner.project import Project
from local_runner.run.pipeline import run_pipeline
from local_runner.run.request import RunRequest

STATE = PROJECT / ".local_runner"
JOBS = Path(__file__).with_name("jobs")
SECONDS = os.environ.get("ATTACK_SECONDS", "2")
SECRET = "what only the host may read"
OUT, RAW, CODE = "/opt/ml/processing/out", "/opt/ml/processing/raw", "/opt/ml/processing/code"
ENGINES = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("hot", marks=pytest.mark.docker),
    pytest.param("sandbox", marks=pytest.mark.sandbox),
]
pytestmark = pytest.mark.slow


@dataclass
class Attacker:
    """Runs a script of ``jobs/`` as the one step of a pipeline, on one engine and in one state directory."""

    engine: str
    directory: Path

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def victim(self) -> Path:
        """A file of this machine, which no job may read or write."""
        return self.directory / "host" / "victim"

    def run(
        self,
        script: str,
        *arguments: object,
        inputs: Sequence[dict[str, Any]] = (),
        upload_mode: str = "EndOfJob",
        max_runtime: int = 300,
    ) -> StepExecution:
        application: dict[str, Any] = {"ContainerEntrypoint": ["python3", f"{CODE}/{script}"]}
        if arguments:
            application["ContainerArguments"] = [str(each) for each in arguments]
        step = processing(
            "Attack",
            inputs=[*inputs, s3_input("code", f"s3://attack/code/{script}", LocalPath=CODE)],
            outputs=[s3_output("out", "s3://attack/out", LocalPath=OUT, S3UploadMode=upload_mode)],
            members={"AppSpecification": application, "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime}},
        )
        definition = write(self.directory / "definition.json", pipeline(step))
        asked = RunRequest(
            target=str(definition),
            engine="sandbox" if self.engine == "sandbox" else "docker",
            hot=self.engine == "hot",
            data={"s3://attack/code": JOBS, "s3://attack/in": self.directory / "in"},
        )
        _, execution = run_pipeline(Project.at(PROJECT, self.state, Silent().note), asked, Silent())
        return execution.step("Attack")

    def local_s3(self) -> dict[str, bytes]:
        """All that was ever published, by path; nothing in it is a link."""
        found = [path for path in (self.state / "s3").rglob("*") if not path.is_dir()]
        assert not [path for path in found if path.is_symlink()]
        return {str(path.relative_to(self.state / "s3")): path.read_bytes() for path in found if path.name != ".lock"}


@pytest.fixture(params=ENGINES)
def attacker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Attacker]:
    attacker = Attacker(request.param, tmp_path)
    request.getfixturevalue("environment" if attacker.engine == "sandbox" else "processing_image")
    attacker.state.mkdir()
    (attacker.state / "cache").symlink_to(STATE / "cache")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "object").write_bytes(b"data" * 1000)
    attacker.victim.parent.mkdir()
    attacker.victim.write_text(SECRET)
    attacker.victim.chmod(0o600)
    yield attacker
    end_workers(attacker.state)
    assert attacker.victim.read_text() == SECRET
    assert stat.S_IMODE(attacker.victim.stat().st_mode) == 0o600
    assert not [path for path in (attacker.state / "runs").glob("*/work") if path.exists()]


def pipe(**fields: str) -> dict[str, Any]:
    return {
        "InputName": "raw",
        "S3Input": {
            "S3Uri": "s3://attack/in",
            "LocalPath": RAW,
            "S3DataType": "S3Prefix",
            "S3InputMode": "Pipe",
            **fields,
        },
    }


def test_a_link_in_place_of_a_pipe_gets_no_data(attacker: Attacker) -> None:
    ended = attacker.run("pipe_replaced.py", attacker.victim, SECONDS, inputs=[pipe()])
    assert ended.status == "Failed"
    assert "raw_0 of input 'raw' is gone" in str(ended.failure_reason)


def test_a_file_under_the_name_of_the_next_pipe_ends_the_data_and_fails_the_step(attacker: Attacker) -> None:
    ended = attacker.run("pipe_next_made.py", inputs=[pipe()])
    assert ended.log is not None
    assert "read 4000" in ended.log.read_text(), "the reader sees the end of the first pipe"
    assert ended.status == "Failed"
    assert "raw_1" in str(ended.failure_reason)


def test_names_that_are_exchanged_while_they_are_uploaded(attacker: Attacker) -> None:
    ended = attacker.run("exchange.py", attacker.victim, SECONDS, upload_mode="Continuous")
    assert ended.status == "Succeeded", ended.failure_reason
    published = attacker.local_s3()
    assert published
    assert set(published.values()) == {b"own"}


def test_what_is_left_is_published_with_uniform_modes(attacker: Attacker) -> None:
    ended = attacker.run("leave.py", attacker.victim)
    assert ended.status == "Succeeded", ended.failure_reason
    assert ended.exit_message is None
    names = ("plain", "setuid", "setgid", "sticky", "shut", "again", "shut-folder/inner/file")
    assert set(attacker.local_s3()) == {f"attack/out/{name}" for name in names}
    for path in ended.outputs["out"].rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) == (0o755 if path.is_dir() else 0o644)
        assert not os.listxattr(path)


def test_folders_deeper_than_any_path_cost_the_step_alone(attacker: Attacker) -> None:
    ended = attacker.run("deep.py", OUT, "/tmp", CODE)
    assert ended.status == "Failed"
    assert "in more than 100 folders" in str(ended.failure_reason)
    assert attacker.run("deep.py", "/tmp", "/opt/ml/output").status == "Succeeded"


def test_the_state_is_its_users_alone(attacker: Attacker) -> None:
    attacker.state.chmod(0o755)
    assert attacker.run("leave.py", attacker.victim).status == "Succeeded"
    assert stat.S_IMODE(attacker.state.stat().st_mode) == 0o700


def test_a_state_directory_that_holds_other_things_keeps_its_mode(attacker: Attacker) -> None:
    (attacker.state / "of-somebody").touch()
    attacker.state.chmod(0o755)
    assert attacker.run("leave.py", attacker.victim).status == "Succeeded"
    folders = [path for path in attacker.state.iterdir() if path.is_dir() and not path.is_symlink()]
    assert {path.name for path in folders} >= {"runs", "s3"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert stat.S_IMODE(attacker.state.stat().st_mode) == 0o755


def rows() -> dict[str, dict[str, str]]:
    """The table of docs/SECURITY.md: by attack and engine, what the document says."""
    text = (PROJECT / "docs" / "SECURITY.md").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if match := re.match(r"\|.*\(`(\w+)`\) \| (.*) \| (.*) \| (.*) \|$", line):
            found[match[1]] = {"docker": match[2], "hot": match[3], "sandbox": match[4]}
    return found


def test_each_attack_of_the_document_ends_as_it_says(attacker: Attacker) -> None:
    (attacker.state / "runs").mkdir()
    of_state = attacker.state / "runs" / "other.json"
    of_state.write_text(SECRET)
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "attack-victim"])
    try:
        with socket.socket(socket.AF_UNIX) as abstract, socket.create_server(("127.0.0.1", 0)) as listener:
            abstract.bind(b"\0" + os.fsencode(f"local-runner-{os.getpid()}"))
            abstract.listen()
            shadow = hashlib.sha256(Path("/etc/shadow").read_bytes()).hexdigest() if os.geteuid() == 0 else "-"
            host = (attacker.victim, PROJECT / "pyproject.toml", of_state, shadow)
            ended = attacker.run(
                "probe.py", *host, victim.pid, f"local-runner-{os.getpid()}", listener.getsockname()[1]
            )
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
    assert ended.status == "Succeeded", ended.failure_reason
    assert ended.log is not None
    tried = [json.loads(line) for line in ended.log.read_text().splitlines() if line.startswith('{"attack"')]
    assert not Path("/usr/bin/local-runner-attack").exists()
    said = {name: cells[attacker.engine] for name, cells in rows().items()}
    wanted = {name: "refused" if os.geteuid() and "as root" in cell else cell.split()[0].strip(",;:.")
              for name, cell in said.items()}  # fmt: skip
    assert {each["attack"]: each["end"] for each in tried} == wanted, [each for each in tried if "by" in each]
