"""What is left of the sdk engine when its runner is killed, or its process too: nothing, after the next run."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support.values import until

from local_runner.docker_host.connection import connect
from local_runner.engines.docker.sweep import LABEL_RUN
from local_runner.engines.sdk.engine import NETWORK
from local_runner.engines.sdk.process import LABEL
from local_runner.storage.runs import new_execution_id

pytestmark = [pytest.mark.docker, pytest.mark.programs("docker compose")]

RUNNER = """
import pathlib, sys, threading
from local_runner.execution.contract import stage
from local_runner.engines.sdk.engine import SdkEngine
from local_runner.models import ProcessingJob
from local_runner.storage.runs import open_run
from local_runner.storage.local_s3 import Storage

state, image, run_id, seconds = pathlib.Path(sys.argv[1]), *sys.argv[2:]
job = ProcessingJob(
    name="n", image_uri="i", entrypoint=("sleep", seconds), arguments=None, environment={}, inputs=(), outputs=(),
    instance_count=1, instance_type="ml.m5.xlarge", max_runtime=60, network_isolation=False,
    request={"AppSpecification": {"ImageUri": "i"}, "ProcessingResources": {"ClusterConfig": {}}},
)
run = open_run(state, run_id)
engine = SdkEngine(state, lambda _: image, print)
engine.prepare([job])
staged = stage(job, run_id=run_id, step="Sleep", storage=Storage(state), work=run.work, logs=run.logs("Sleep"))
engine.run(staged, print, threading.Event())
engine.close()
"""


@pytest.mark.parametrize("both", [False, True], ids=["the runner", "the runner and the process of the SDK"])
def test_a_killed_runner(tmp_path: Path, processing_image: str, both: bool) -> None:
    run_id = new_execution_id()
    command = [sys.executable, "-c", RUNNER, str(tmp_path / "state"), processing_image]
    with subprocess.Popen([*command, run_id, "600"]) as runner:
        until(lambda: "running" in _containers(run_id) or runner.poll() is not None)
        assert runner.poll() is None
        directory = Path(tempfile.gettempdir()) / _found(run_id)[0]["Labels"][LABEL]
        assert directory.is_dir()
        children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()
        if both:
            for child in children:
                os.kill(int(child), signal.SIGKILL)
        runner.kill()
    if both:
        assert _containers(run_id)
        subprocess.run([*command, new_execution_id(), "0"], check=True)
    until(lambda: not _found(run_id) and not directory.exists())
    until(lambda: not _networks() or not _alone())


def _found(run_id: str) -> list[dict[str, Any]]:
    client = connect()
    try:
        return client.api.containers(all=True, filters={"label": f"{LABEL_RUN}={run_id}"})
    finally:
        client.close()


def _containers(run_id: str) -> list[str]:
    return [container["State"] for container in _found(run_id)]


def _networks() -> list[object]:
    """Those that the engine made: one that stock local mode itself left on this machine stays."""
    client = connect()
    try:
        return client.api.networks(names=[NETWORK], filters={"label": LABEL})
    finally:
        client.close()


def _alone() -> bool:
    """Whether no other test, in a process of its own, has the sdk engine now: the network is for all of them.

    Asked in turn, as the engines do: one that ends now would take this for another engine, and leave the network.
    """
    base = Path(tempfile.gettempdir()) / f"local-runner-sdk-{os.getuid()}"
    with base.with_suffix(".turn").open("ab") as turn, base.with_suffix(".lock").open("ab") as lock:
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
