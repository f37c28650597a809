"""A job that fills the disk of the state directory is stopped while there is still room for everybody else."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import local_runner
from support.definitions import pipeline, processing, write
from support.machine import needs_program
from support.project import link_caches

from local_runner.execution.room import LEAST_FREE, leaving_room

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, which only root may")


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of as many MB as the test says."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount, umount = needs_program("mount"), needs_program("umount")
    subprocess.run([mount, "-t", "tmpfs", "-o", f"size={request.param}m", "small", directory], check=True)
    yield directory
    subprocess.run([umount, "-l", directory], check=True)


@pytest.mark.parametrize("disk", [8], indirect=True)
@pytest.mark.parametrize(("megabytes", "stopped"), [(3, False), (7, True)])
def test_a_job_is_stopped_when_too_little_is_left(disk: Path, megabytes: int, stopped: bool) -> None:
    with leaving_room(disk, threading.Event(), least=2 << 20) as room:
        (disk / "left").write_bytes(bytes(megabytes << 20))
        assert room.stop.wait(30 if stopped else 0.3) == stopped
    assert (f"the disk of {disk} has less than 2 MB left" in room.fault) == stopped


@pytest.mark.parametrize("disk", [8], indirect=True)
@pytest.mark.parametrize("least", [2 << 20, 200 << 20])
def test_it_is_stopped_for_other_reasons_as_well(disk: Path, least: int) -> None:
    """Also where the disk is too small to be looked at."""
    stop = threading.Event()
    with leaving_room(disk, stop, least) as room:
        stop.set()
        assert room.stop.wait(30)
    assert not room.fault


@pytest.mark.sandbox
@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("disk", [2 * (LEAST_FREE >> 20) + 100], indirect=True)
def test_the_step_fails_and_says_why(disk: Path, tmp_path: Path) -> None:
    """What it wrote is gone then, and the next job runs."""
    state = link_caches(disk / "state")
    full = processing("Full", "head -c 400M /dev/zero > /tmp/x; exec sleep 60")
    after = processing("After", "true", DependsOn=[{"Step": "Full", "Trigger": "Failed"}])
    target = write(tmp_path / "d.json", pipeline(full, after))
    done = local_runner("run", target, "--json", "--engine", "sandbox", "--state", state)
    steps = {step["name"]: step for step in json.loads(done.stdout)["steps"]}
    assert (steps["Full"]["status"], steps["After"]["status"]) == ("Failed", "Succeeded")
    assert "has less than 256 MB left. Make room" in steps["Full"]["failure_reason"]
