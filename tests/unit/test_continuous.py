"""Uploads while a job runs: the test writes where the job would."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.jobs import processing_job

from local_runner.execution.continuous import LOOK_SECONDS, uploading
from local_runner.models import BindMount, ProcessingOutput, StagedHost, StagedJob
from local_runner.storage.local_s3 import Storage

LOCAL_PATH = "/opt/ml/processing/output/o"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "s3")


@pytest.fixture
def job(tmp_path: Path) -> StagedJob:
    """A job of two hosts with one Continuous output."""
    output = ProcessingOutput("o", "s3://b/o", LOCAL_PATH, "Continuous")
    request = processing_job("true", outputs=(output,), instance_count=2)
    hosts: list[StagedHost] = []
    for name in request.hosts:
        (tmp_path / name).mkdir()
        hosts.append(StagedHost(name, (), (BindMount(LOCAL_PATH, tmp_path / name),), tmp_path / "log"))
    return StagedJob(request, "run", "Step", tmp_path / "work", tuple(hosts))


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20 * LOOK_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def uploaded(storage: Storage) -> dict[str, bytes]:
    return {item.name: item.path.read_bytes() for item in storage.list_objects("s3://b/o/").objects}


@pytest.mark.slow
def test_files_of_all_hosts_are_there_while_the_job_runs(storage: Storage, job: StagedJob, tmp_path: Path) -> None:
    with uploading(job, storage):
        (tmp_path / "algo-1" / "d").mkdir()
        (tmp_path / "algo-1" / "d" / "f").write_bytes(b"1")
        (tmp_path / "algo-2" / "g").write_bytes(b"2")
        assert eventually(lambda: uploaded(storage) == {"d/f": b"1", "g": b"2"})
        assert (tmp_path / "algo-2" / "g").read_bytes() == b"2", "the job keeps its files"


@pytest.mark.slow
def test_what_changes_later_is_uploaded_again_and_never_in_place(
    storage: Storage, job: StagedJob, tmp_path: Path
) -> None:
    with uploading(job, storage), (tmp_path / "algo-1" / "f").open("ab", buffering=0) as file:
        file.write(b"one")
        assert eventually(lambda: uploaded(storage) == {"f": b"one"})
        held = storage.list_objects("s3://b/o/").objects[0].path.open("rb")
        file.write(b"two")
        assert eventually(lambda: uploaded(storage) == {"f": b"onetwo"})
        with held:
            assert held.read() == b"one"


@pytest.mark.slow
def test_links_and_pipes_are_no_objects(storage: Storage, job: StagedJob, tmp_path: Path) -> None:
    directory = tmp_path / "algo-1"
    with uploading(job, storage):
        (directory / "link").symlink_to("/etc/hostname")
        os.mkfifo(directory / "pipe")
        (directory / "f").write_bytes(b"1")
        assert eventually(lambda: uploaded(storage) == {"f": b"1"})


@pytest.mark.slow
def test_a_file_that_is_written_all_the_time_waits_for_the_end(
    storage: Storage, job: StagedJob, tmp_path: Path
) -> None:
    over = threading.Event()

    def write() -> None:
        with (tmp_path / "algo-1" / "growing").open("ab", buffering=0) as file:
            while not over.wait(LOOK_SECONDS / 20):
                file.write(b"x")

    writer = threading.Thread(target=write)
    with uploading(job, storage):
        writer.start()
        (tmp_path / "algo-1" / "done").write_bytes(b"1")
        assert eventually(lambda: "done" in uploaded(storage))
        assert "growing" not in uploaded(storage)
        over.set()
        writer.join()
