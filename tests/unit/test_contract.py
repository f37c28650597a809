"""The files below /opt/ml: what a job finds, and what is made of what it leaves."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.definitions import processing_request, s3_output
from support.jobs import processing_job

from local_runner.engines.host_log import HostLog
from local_runner.execution.contract import OUTPUT_PATH, collect, shard, stage
from local_runner.execution.failures import failure_reason
from local_runner.models import HostResult, JobResult, ProcessingInput, ProcessingJob, ProcessingOutput, StagedJob
from local_runner.storage.local_s3 import DataError, S3Object, Source, Storage

RAW, OUT = "/opt/ml/processing/raw", "/opt/ml/processing/out"
REQUEST = processing_request(
    [{"InputName": "raw", "S3Input": {"S3Uri": "s3://b/in", "LocalPath": RAW}}],  # all that has to be said
    [s3_output("out", "s3://b/out", LocalPath=OUT)],
    2,
    AppSpecification={"ImageUri": "image", "ContainerEntrypoint": ["python3", "x.py"]},
)
JOB = processing_job(
    "python3",
    "x.py",
    image_uri="image",
    environment={"A": "1"},
    inputs=(ProcessingInput("raw", "s3://b/in", RAW, distribution="ShardedByS3Key"),),
    outputs=(ProcessingOutput("out", "s3://b/out", OUT),),
    instance_count=2,
    request=REQUEST,
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    for name in ("a", "b", "c"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    return Storage(tmp_path / "s3", (Source("s3://b/in", tmp_path / "in"),))


def lay_out(tmp_path: Path, storage: Storage, job: ProcessingJob = JOB) -> StagedJob:
    return stage(job, run_id="x", step="Step", storage=storage, work=tmp_path / "work", logs=tmp_path / "logs")


def place(staged: StagedJob, host: int, local_path: str) -> Path:
    return next(bind.source for bind in staged.hosts[host].binds if bind.local_path == local_path)


def ended(*codes: int | None) -> JobResult:
    return JobResult(tuple(HostResult(f"algo-{number}", code) for number, code in enumerate(codes, 1)))


def test_each_host_gets_its_shard_and_its_name(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage)
    seen = [sorted(file.name for file in host.inputs[0].layers[0].iterdir()) for host in staged.hosts]
    assert seen == [["a", "c"], ["b"]]
    config = json.loads((place(staged, 1, "/opt/ml/config") / "resourceconfig.json").read_text())
    assert config["current_host"] == "algo-2"
    assert config["hosts"] == ["algo-1", "algo-2"]


def test_processing_job_config_has_every_documented_key(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage)
    config = json.loads((place(staged, 0, "/opt/ml/config") / "processingjobconfig.json").read_text())
    assert config["AppSpecification"] == {
        "ImageUri": "image",
        "ContainerEntrypoint": ["python3", "x.py"],
        "ContainerArguments": None,
    }
    assert config["Environment"] == {"A": "1"}
    assert config["StoppingCondition"] == {"MaxRuntimeInSeconds": 60}
    assert config["ProcessingInputs"][0]["S3Input"] == {
        "S3Uri": "s3://b/in",
        "LocalPath": RAW,
        "S3DataDistributionType": "FullyReplicated",
        "S3CompressionType": "None",
        "S3InputMode": "File",
        "S3DownloadMode": "StartOfJob",
    }
    assert config["ProcessingOutputConfig"]["KmsKeyId"] is None
    assert config["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] is None


def test_a_replicated_input_is_the_directory_itself(tmp_path: Path, storage: Storage) -> None:
    job = replace(JOB, inputs=(replace(JOB.inputs[0], distribution="FullyReplicated"),))
    staged = lay_out(tmp_path, storage, job)
    assert all(host.inputs[0].layers == (tmp_path / "in",) for host in staged.hosts)


def test_an_input_without_objects_fails_as_in_the_cloud(tmp_path: Path, storage: Storage) -> None:
    job = replace(JOB, inputs=(replace(JOB.inputs[0], s3_uri="s3://b/in/dt=9"),))
    with pytest.raises(DataError, match="'raw' found no objects under s3://b/in/dt=9"):
        lay_out(tmp_path, storage, job)


def test_outputs_of_all_hosts_become_one_and_only_files_count(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage)
    for number in (0, 1):
        out = place(staged, number, OUT)
        (out / f"part-{number}").write_text(str(number))
        (out / "empty").mkdir()
        (out / "link").symlink_to("/etc/passwd")
    collected = collect(staged, ended(0, 0), storage)
    assert collected.failure_reason is None
    assert collected.exit_code == 0
    out = collected.outputs["out"]
    assert out == tmp_path / "s3/b/out"
    assert sorted(path.name for path in out.iterdir()) == ["part-0", "part-1"]


def test_a_failure_names_host_code_and_last_lines_and_publishes_nothing(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage)
    (place(staged, 0, OUT) / "half").write_text("")
    (place(staged, 1, OUTPUT_PATH) / "message").write_text("no rows")
    staged.hosts[1].log.write_text("".join(f"line {number}\n" for number in range(100)))
    collected = collect(staged, ended(0, 3), storage)
    assert collected.exit_code == 3
    assert collected.exit_message == "no rows"
    assert collected.failure_reason is not None
    assert "algo-2 exited with code 3" in collected.failure_reason
    assert "no rows" in collected.failure_reason
    assert "line 99" in collected.failure_reason
    assert "line 50" not in collected.failure_reason
    assert "algo-1" not in collected.failure_reason
    assert not (tmp_path / "s3").exists()


TRACEBACK = (
    """Traceback (most recent call last):
  File "a.py", line 3, in read
ValueError: a
message of two lines

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
"""
    + "".join(f'  File "b.py", line {number}, in deep\n    deep({number})\n' for number in range(12))
    + "KeyError: 'rows'\n"
)


@given(st.lists(st.integers(0, 3), min_size=40, max_size=40), st.booleans())
def test_a_traceback_is_told_whole_whatever_stdout_says_between(counts: list[int], apart: bool) -> None:
    """In the log the lines of stdout stand where they came; where the streams are one there is nothing between."""
    with TemporaryDirectory() as directory:
        path = Path(directory, "algo-1.log")
        with closing(HostLog(path, lambda line: None)) as log:
            log.write(b"begins\n")
            for number, line in enumerate(TRACEBACK.splitlines(keepends=True)):
                log.write(line.encode(), source=int(apart))
                for other in range(counts[number] if apart else 0):
                    log.write(b"row %d.%d\n" % (number, other))
            log.write(b"ends\n")
        reason = failure_reason([(path, HostResult("algo-1", 1, errors=tuple(log.errors)))], None)
    whole = "".join(f"  {line}\n" for line in TRACEBACK.splitlines() if line)
    assert whole in reason + "\n"
    assert "  ends" in reason


def test_an_engine_that_lost_the_host_says_so(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage)
    result = JobResult((HostResult("algo-1", None, "the engine stopped answering"), HostResult("algo-2", 0)))
    collected = collect(staged, result, storage)
    assert collected.exit_code is None
    assert "the engine stopped answering" in str(collected.failure_reason)


CONTINUOUS = replace(JOB, outputs=(replace(JOB.outputs[0], upload_mode="Continuous"),))


def test_what_a_stopped_job_wanted_uploaded_is_kept(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage, CONTINUOUS)
    (place(staged, 0, OUT) / "written").write_text("")
    collected = collect(staged, replace(ended(143, 0), stopped="max_runtime"), storage)
    assert [path.name for path in collected.outputs["out"].iterdir()] == ["written"]


def test_a_host_that_was_lost_may_still_write_and_is_left_alone(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage, CONTINUOUS)
    (place(staged, 0, OUT) / "written").write_text("")
    result = JobResult((HostResult("algo-1", None, "the engine stopped answering"), HostResult("algo-2", 0)))
    assert collect(staged, result, storage).outputs == {}
    assert (place(staged, 0, OUT) / "written").exists()


def test_of_outputs_of_which_one_cannot_be_kept_none_is_published(tmp_path: Path, storage: Storage) -> None:
    two = (JOB.outputs[0], ProcessingOutput("more", "s3://b/more", "/opt/ml/processing/more"))
    staged = lay_out(tmp_path, storage, replace(JOB, outputs=two))
    (place(staged, 0, OUT) / "good").write_text("")
    more = place(staged, 0, "/opt/ml/processing/more")
    Path(os.fsdecode(os.fsencode(more) + b"/\xff")).touch()
    collected = collect(staged, ended(0, 0), storage)
    assert "output 'more' cannot be uploaded" in str(collected.failure_reason)
    assert "is not UTF-8" in str(collected.failure_reason)
    assert collected.outputs == {}
    assert not (tmp_path / "s3").exists()


def test_a_file_of_one_host_that_is_a_folder_of_another_fails_the_job(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage)
    (place(staged, 0, OUT) / "x").write_text("")
    (place(staged, 1, OUT) / "x").mkdir()
    (place(staged, 1, OUT) / "x" / "y").write_text("")
    assert "as a file and as a folder" in str(collect(staged, ended(0, 0), storage).failure_reason)


@pytest.mark.parametrize(
    ("stopped", "expected"), [("max_runtime", "MaxRuntimeInSeconds (60 s)"), ("interrupted", "Stopped")]
)
def test_a_stopped_job_says_what_stopped_it(tmp_path: Path, storage: Storage, stopped: Any, expected: str) -> None:
    staged = lay_out(tmp_path, storage)
    collected = collect(staged, replace(ended(143, 0), stopped=stopped), storage)
    assert expected in str(collected.failure_reason)
    assert collected.outputs == {}


def test_exit_messages_are_joined_and_cut_at_one_kilobyte(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage)
    (place(staged, 0, OUTPUT_PATH) / "message").write_text("a" * 1000)
    (place(staged, 1, OUTPUT_PATH) / "message").write_text("é" * 1000)
    message = collect(staged, ended(0, 0), storage).exit_message
    assert message == "a" * 1000 + "é" * 12


def test_a_message_that_is_not_utf8_fails_the_job(tmp_path: Path, storage: Storage) -> None:
    staged = lay_out(tmp_path, storage)
    (place(staged, 0, OUTPUT_PATH) / "message").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in str(collect(staged, ended(0, 0), storage).failure_reason)


@given(count=st.integers(1, 20), total=st.integers(0, 100))
def test_shards_cover_everything_once_and_evenly(count: int, total: int) -> None:
    objects = [S3Object(str(number), str(number), Path("x")) for number in range(total)]
    shards = [shard(objects, index, count) for index in range(count)]
    assert sorted(item.key for part in shards for item in part) == sorted(item.key for item in objects)
    sizes = [len(part) for part in shards]
    assert max(sizes) - min(sizes) <= 1
