"""A job that would be killed on its instance is killed here; the command line, with real containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.definitions import pipeline, processing, write
from support.jobs import processing_job

from local_runner.engines.docker.engine import DockerEngine
from local_runner.engines.instances import Machine
from local_runner.execution.contract import collect, stage
from local_runner.models import ProcessingJob
from local_runner.storage.local_s3 import Storage
from local_runner.storage.runs import new_execution_id, open_run

pytestmark = pytest.mark.docker

FILL = "held = bytearray(5 << 30)"

# Old cgroups have the first two files, new ones the others.
FILES = "memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory.max memory.swap.max"
LIMITS = f"import os; os.system('cd /sys/fs/cgroup && grep -sH . {FILES}')"


class Project:
    """An empty project, in which definitions of one Processing step are run by the command line."""

    def __init__(self, root: Path, image: str) -> None:
        self.root = root
        self.image = image

    def run(self, code: str, instance_type: str, *options: str) -> tuple[dict[str, Any], str]:
        """The record of the step, and all that was said."""
        members = {
            "AppSpecification": {"ContainerEntrypoint": ["python3", "-c", code]},
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": 1, "InstanceType": instance_type, "VolumeSizeInGB": 1}
            },
        }
        write(self.root / "d.json", pipeline(processing("Fill", image="job", members=members)))
        command = ["run", "d.json", "--engine", "docker", "--image", self.image, "--json", *options]
        done = subprocess.run(
            [sys.executable, "-m", "local_runner", *command],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            text=True,
            capture_output=True,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)["steps"][0], done.stderr


@pytest.fixture
def project(tmp_path: Path, processing_image: str) -> Project:
    return Project(tmp_path, processing_image)


def limits(step: dict[str, Any]) -> dict[str, str]:
    """The cgroup files that the job printed, by name."""
    return dict(line.split(":") for line in Path(step["log"]).read_text().splitlines())


def test_limits_are_the_instances_without_swap(project: Project) -> None:
    found = limits(project.run(LIMITS, "ml.t3.medium")[0])
    size = str(4 << 30)
    assert found.get("memory.max", found.get("memory/memory.limit_in_bytes")) == size
    assert found.get("memory/memory.memsw.limit_in_bytes", size) == size
    assert found.get("memory.swap.max", "0") == "0"


def test_no_limits(project: Project) -> None:
    step, said = project.run(LIMITS, "ml.t3.medium", "--no-limits")
    size = limits(step).get("memory.max", limits(step).get("memory/memory.limit_in_bytes"))
    assert size == "max" or int(str(size)) > 1 << 50
    assert "GiB" not in said


def test_a_type_larger_than_any_machine_is_capped_and_said_once(project: Project) -> None:
    step, said = project.run("pass", "ml.r8i.96xlarge")
    assert step["status"] == "Succeeded"
    assert said.count("ml.r8i.96xlarge has 3072 GiB and 384 vCPUs, this machine ") == 1


CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {FILL!r}], check=True)"
FULL = "out of memory; this machine has 0.1 GiB (ml.t3.medium has 4 GiB)."


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (FILL, f"algo-1 was killed: {FULL}"),
        (CHILD, f"algo-1 exited with code 1: a process of it was killed, {FULL}"),
    ],
)
def test_the_memory_is_the_reason(tmp_path: Path, processing_image: str, code: str, reason: str) -> None:
    notes: list[str] = []
    small = DockerEngine(tmp_path, lambda _: processing_image, note=notes.append, machine=Machine(64 << 20, 64))
    with closing(small) as engine:
        engine.prepare([job(code)])
        storage = Storage(tmp_path / "s3")
        run = open_run(tmp_path, new_execution_id())  # held, so that no other engine's start sweeps the container
        staged = stage(job(code), run_id=run.id, step="x", storage=storage, work=run.work, logs=tmp_path / "l")
        result = engine.run(staged, lambda host, line: None, threading.Event())
        assert str(collect(staged, result, storage).failure_reason).splitlines()[0] == reason
    assert len(notes) == 1


def job(code: str) -> ProcessingJob:
    return processing_job("python3", "-c", code, image_uri="job", instance_type="ml.t3.medium")
