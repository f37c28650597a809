"""What a job reads from the named pipes of an input: threads that read stand for the job."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.jobs import processing_job

from local_runner.execution.pipes import feeding, offer
from local_runner.models import InputPipe, StagedHost, StagedJob

OBJECTS = st.lists(st.binary(max_size=200_000), min_size=1, max_size=4)


def staged(directory: Path, contents: Sequence[bytes], *, compressed: bool = False) -> StagedJob:
    """A job of one host with one pipe, through which these objects go."""
    pipes, data = directory / "pipes", directory / "data"
    pipes.mkdir()
    data.mkdir()
    for number, content in enumerate(contents):
        (data / f"{number}").write_bytes(content)
    (directory / "own").mkdir()
    pipe = InputPipe(
        "raw", pipes, directory / "own", tuple(data / f"{number}" for number in range(len(contents))), compressed
    )
    offer(pipe, 0)
    host = StagedHost("algo-1", (), (), directory / "log", (pipe,))
    return StagedJob(processing_job("true"), "run", "Step", directory, (host,))


def pipe_of(job: StagedJob, epoch: int) -> Path:
    return job.hosts[0].pipes[0].directory / f"raw_{epoch}"


@settings(max_examples=25, deadline=None)
@given(OBJECTS, st.booleans())
def test_what_goes_in_comes_out_in_each_epoch(contents: list[bytes], compressed: bool) -> None:
    stored = [gzip.compress(content) if compressed else content for content in contents]
    with TemporaryDirectory() as name:
        job = staged(Path(name), stored, compressed=compressed)
        with feeding(job) as faults:
            for epoch in range(3):
                assert pipe_of(job, epoch).read_bytes() == b"".join(contents)
        assert not faults


def test_a_pipe_that_nobody_opens_ends_with_the_job(tmp_path: Path) -> None:
    before = threading.active_count()
    with feeding(staged(tmp_path, [b"data"])) as faults:
        pass
    assert threading.active_count() == before
    assert not faults


def test_a_reader_that_stops_in_the_middle_holds_nobody_up(tmp_path: Path) -> None:
    job = staged(tmp_path, [b"x" * (1 << 20)])
    with feeding(job) as faults:
        reader = os.open(pipe_of(job, 0), os.O_RDONLY)
        assert os.read(reader, 1) == b"x"
    os.close(reader)
    assert not faults


def test_who_leaves_early_finds_the_next_epoch_whole(tmp_path: Path) -> None:
    job = staged(tmp_path, [b"x" * (1 << 20)])
    with feeding(job):
        with pipe_of(job, 0).open("rb") as early:
            early.read(1)
        while not pipe_of(job, 1).exists():
            pass
        assert len(pipe_of(job, 1).read_bytes()) == 1 << 20


@pytest.mark.parametrize("damage", [b"no gzip", gzip.compress(b"x" * 1000)[:-12], b""], ids=["other", "cut", "empty"])
def test_what_is_no_gzip_is_a_fault_that_names_the_object(tmp_path: Path, damage: bytes) -> None:
    job = staged(tmp_path, [gzip.compress(b"good\n"), damage], compressed=True)
    with feeding(job) as faults:
        read = pipe_of(job, 0).read_bytes()
        pipe_of(job, 1).exists()
    assert read.startswith(b"good\n")
    assert bool(faults) is bool(damage), "an empty object has nothing to decompress"
    assert all("input 'raw'" in fault and " 1 is " in fault for fault in faults)


def test_an_object_that_is_gone_is_a_fault(tmp_path: Path) -> None:
    job = staged(tmp_path, [b"a", b"b"])
    job.hosts[0].pipes[0].objects[1].unlink()
    with feeding(job) as faults:
        assert pipe_of(job, 0).read_bytes() == b"a"
    assert len(faults) == 1


def test_a_job_that_removes_its_pipe_is_told(tmp_path: Path) -> None:
    job = staged(tmp_path, [b"a"])
    pipe_of(job, 0).unlink()
    with feeding(job) as faults:
        pass
    assert "raw_0" in faults[0]
