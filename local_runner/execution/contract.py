"""What SageMaker promises a processing container: the files below /opt/ml, laid out and read back. Files only.

``stage`` turns a ProcessingJob into directories that an engine mounts; ``collect`` reads what the job left, publishes
its outputs and says how it ended. docs/CONTRACT.md lists what is emulated, its sources, and our choices where AWS
documents nothing.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_runner.errors import DataError
from local_runner.execution.failures import failure_reason
from local_runner.execution.pipes import offer
from local_runner.jsontext import as_object
from local_runner.models import (
    BindMount,
    InputMount,
    InputPipe,
    JobResult,
    ProcessingInput,
    ProcessingJob,
    StagedHost,
    StagedJob,
)
from local_runner.storage import job_tree
from local_runner.storage.clashes import ClashError
from local_runner.storage.local_s3 import Listing, S3Object, Storage, link_view, list_input
from local_runner.storage.s3_uri import key_prefix
from local_runner.storage.uniform import corrected

CONFIG_PATH = "/opt/ml/config"
OUTPUT_PATH = "/opt/ml/output"
EXIT_MESSAGE_BYTES = 1024
"""How much of /opt/ml/output/message is kept (SageMaker developer guide, Build Your Own Processing Container)."""


@dataclass(frozen=True)
class Collected:
    """What a job left: its outputs as local directories by OutputName, and the exit message and failure if any."""

    exit_code: int | None
    exit_message: str | None
    failure_reason: str | None
    outputs: Mapping[str, Path] = field(default_factory=dict[str, Path])


# ------------------------------------------------------------------------------------------------------- staging
def stage(job: ProcessingJob, *, run_id: str, step: str, storage: Storage, work: Path, logs: Path) -> StagedJob:
    """Lay out ``job`` under ``work``, logs under ``logs``. Raises DataError where an input has no objects.

    No input is copied: a host gets the directories themselves as read-only layers, or a directory of hard links where
    only some of the files belong to it, or named pipes (:mod:`local_runner.execution.pipes`).
    """
    listings = {item.name: list_input(item.name, item.s3_uri, item.s3_data_type, storage) for item in job.inputs}
    shared: dict[str, tuple[Path, ...]] = {}
    hosts: list[StagedHost] = []
    logs.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(job.hosts):
        directory = open_directory(work / name)
        inputs: list[InputMount] = []
        pipes: list[InputPipe] = []
        binds = [BindMount(CONFIG_PATH, _write_config(job, name, directory / "config"))]
        for number, item in enumerate(job.inputs):
            listing = listings[item.name]
            if item.input_mode == "Pipe":
                pipes.append(_pipe(item, listing, index, len(job.hosts), directory / f"pipe-{number}"))
                binds.append(BindMount(item.local_path, pipes[-1].directory))
                continue
            if item.distribution == "ShardedByS3Key" and len(job.hosts) > 1:
                layers = (link_view(shard(listing.objects, index, len(job.hosts)), directory / f"shard-{number}"),)
            else:
                if item.name not in shared:
                    shared[item.name] = (
                        corrected(listing.layers, work / f"uniform-{number}")
                        if listing.layers
                        else (link_view(listing.objects, work / f"view-{number}"),)
                    )
                layers = shared[item.name]
            inputs.append(InputMount(item.local_path, layers, open_directory(directory / f"scratch-{number}")))
        binds.append(BindMount(OUTPUT_PATH, open_directory(directory / "output")))
        for number, output in enumerate(job.outputs):
            binds.append(BindMount(output.local_path, open_directory(directory / f"output-{number}")))
        hosts.append(StagedHost(name, tuple(inputs), tuple(binds), logs / f"{name}.log", tuple(pipes)))
    return StagedJob(job, run_id, step, work, tuple(hosts))


def shard(objects: Sequence[S3Object], index: int, count: int) -> tuple[S3Object, ...]:
    """The objects host ``index`` of ``count`` gets under ShardedByS3Key.

    AWS promises about the same number of objects on each instance and not which: keys are sorted and dealt in turn.
    """
    return tuple(objects[index::count])


def _pipe(item: ProcessingInput, listing: Listing, index: int, count: int, directory: Path) -> InputPipe:
    """The first pipe of an input, and the objects that go through it to host ``index`` of ``count``."""
    objects = shard(listing.objects, index, count) if item.distribution == "ShardedByS3Key" else listing.objects
    paths = tuple(entry.path for entry in objects)
    pipe = InputPipe(item.name, open_directory(directory / "job"), directory, paths, item.compression == "Gzip")
    offer(pipe, 0)
    return pipe


def open_directory(path: Path) -> Path:
    """A directory that any user of the image may write to."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    return path


def _write_config(job: ProcessingJob, host: str, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    resources = {
        "current_host": host,
        "hosts": list(job.hosts),
        "network_interface_name": "eth0",
        "current_instance_type": job.instance_type,
    }
    (directory / "resourceconfig.json").write_text(json.dumps(resources))
    (directory / "processingjobconfig.json").write_text(json.dumps(_job_config(job)))
    return directory


def _job_config(job: ProcessingJob) -> dict[str, Any]:
    """processingjobconfig.json: the request as the developer guide shows it, with the service's defaults filled in."""
    request = job.request
    cluster = dict(request["ProcessingResources"]["ClusterConfig"])
    output_config: Mapping[str, Any] = request.get("ProcessingOutputConfig") or {}
    inputs = [
        {
            "InputName": item["InputName"],
            "AppManaged": item.get("AppManaged", False),
            "S3Input": {
                "S3DataDistributionType": "FullyReplicated",
                "S3CompressionType": "None",
                "S3InputMode": "File",
                "S3DownloadMode": "StartOfJob",
                **(as_object(item.get("S3Input")) or {}),
            },
        }
        for item in request.get("ProcessingInputs") or ()
    ]
    outputs = [{"AppManaged": False, **item} for item in output_config.get("Outputs") or ()]
    specification = request["AppSpecification"]
    return {
        "ProcessingJobArn": job.arn,
        "ProcessingJobName": job.name,
        "AppSpecification": {
            "ImageUri": job.image_uri,
            "ContainerEntrypoint": specification.get("ContainerEntrypoint"),
            "ContainerArguments": specification.get("ContainerArguments"),
        },
        "Environment": dict(job.environment),
        "ProcessingInputs": inputs,
        "ProcessingOutputConfig": {"Outputs": outputs, "KmsKeyId": output_config.get("KmsKeyId")},
        "ProcessingResources": {"ClusterConfig": {"VolumeKmsKeyId": None, **cluster}},
        "RoleArn": request.get("RoleArn"),
        "StoppingCondition": {"MaxRuntimeInSeconds": job.max_runtime},
    }


# ---------------------------------------------------------------------------------------------------- collecting
def collect(
    staged: StagedJob,
    result: JobResult,
    storage: Storage,
    faults: Sequence[str] = (),
    keep: Callable[[str, Path], None] | None = None,
) -> Collected:
    """Read the exit message, publish the outputs of a job that completed, and word the failure of one that did not.

    ``faults`` are what went wrong with the job's data while it ran. ``keep`` is called with each output of a job that
    completed before it is published. Outputs of a failed or stopped job are not
    published: AWS does not document it, and half a result that a later step or run could take for a whole one is the
    worse surprise. Upload mode Continuous, which asks for just that, is the exception.
    """
    message, invalid = _exit_message(staged)
    reason = _reason(staged, result, message, invalid, faults)
    unknown_end = any(host.exit_code is None for host in result.hosts)
    outputs: dict[str, Path] = {}
    if not unknown_end:  # what may still write is left alone: what it uploaded while it ran is all there is
        taken, refused = _take_outputs(staged, completed=reason is None)
        reason = reason or refused
        try:
            outputs = _publish(staged, taken, storage, keep, completed=reason is None)
        except DataError as error:
            reason = reason or str(error)
    return Collected(_exit_code(result), None if invalid else message, reason, outputs)


def _reason(
    staged: StagedJob, result: JobResult, message: str | None, invalid: str | None, faults: Sequence[str]
) -> str | None:
    """Why the job failed or was stopped, None where it completed."""
    if result.stopped == "max_runtime":
        limit = staged.job.max_runtime
        return f"The job ran longer than MaxRuntimeInSeconds ({limit} s) and was stopped."
    if result.stopped:
        return "Stopped."
    if faults:
        return "\n".join(faults)
    if not result.succeeded:
        exit_message = f"Exit message: {message.strip()}" if message else None
        hosts = [(host.log, ended) for host, ended in zip(staged.hosts, result.hosts, strict=True)]
        return failure_reason(hosts, exit_message)
    return f"ClientError: {OUTPUT_PATH}/message of {invalid} is not UTF-8." if invalid else None


def _take_outputs(staged: StagedJob, *, completed: bool) -> tuple[dict[str, Path], str | None]:
    """What the hosts left in each output, out of the job's reach, and why an output cannot be had.

    The last host wins a key that two wrote. Of a job that did not complete only what it wanted uploaded while it ran
    is taken. Nothing is published yet: a job of which one output cannot be had has none.
    """
    taken: dict[str, Path] = {}
    refused: str | None = None
    for number, output in enumerate(staged.job.outputs):
        if not completed and output.upload_mode == "EndOfJob":
            continue
        directory = staged.work / f"taken-{number}"
        try:
            for host in staged.hosts:
                job_tree.take(_source(host, output.local_path), str(directory), key_prefix(output.s3_uri))
        except job_tree.NotAKeyError as error:
            refused = refused or f"ClientError: output '{output.name}' cannot be uploaded: {error}."
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
                raise
            what = f"the hosts wrote {Path(error.filename2 or error.filename).name!r} as a file and as a folder"
            refused = refused or f"ClientError: output '{output.name}' cannot be kept: {what}."
        else:
            taken[output.name] = directory
    return taken, refused


def _publish(
    staged: StagedJob,
    taken: Mapping[str, Path],
    storage: Storage,
    keep: Callable[[str, Path], None] | None,
    *,
    completed: bool,
) -> dict[str, Path]:
    """Publish the outputs, of a job that did not complete only what it wanted uploaded while it ran."""
    wanted = [
        output
        for output in staged.job.outputs
        if output.name in taken and (completed or output.upload_mode == "Continuous")
    ]
    if completed and keep is not None:
        for output in wanted:
            keep(output.name, taken[output.name])
    try:
        places = storage.publish_all([(taken[output.name], output.s3_uri) for output in wanted])
    except ClashError as error:
        raise error.of_output(wanted[error.number].name) from None
    return {output.name: place.resolve() for output, place in zip(wanted, places, strict=True)}


def _source(host: StagedHost, local_path: str) -> Path:
    return next(bind.source for bind in host.binds if bind.local_path == local_path)


def _exit_code(result: JobResult) -> int | None:
    """The first exit code that is not 0; None where a host's is not known."""
    failed = [host.exit_code for host in result.hosts if host.exit_code != 0]
    return failed[0] if failed else 0


def _exit_message(staged: StagedJob) -> tuple[str | None, str | None]:
    """The hosts' messages, joined and cut at 1 KB, and the name of a host whose message is not UTF-8."""
    joined = b""
    for host in staged.hosts:
        try:
            with os.fdopen(job_tree.open_file(_source(host, OUTPUT_PATH), "message"), "rb") as file:
                content = file.read(EXIT_MESSAGE_BYTES + 4)
        except OSError:
            continue  # there is none
        try:
            # A character that the limit cuts in two is not the job's fault.
            content[:EXIT_MESSAGE_BYTES].decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                return None, host.name
        joined += content
    return joined[:EXIT_MESSAGE_BYTES].decode(errors="ignore") or None, None
