"""Training and Transform steps: laid out for the SDK's stock local mode, run by it, and their results published.

``run_training`` and ``run_transform`` copy what the job reads out of local S3 (stock local mode mounts a directory as
it is, and a job may write there), and publish what it leaves if it completed. A Model step runs nothing: what it
describes is handed to stock local mode together with the transform job that uses it.
"""

from __future__ import annotations

import shutil
import tarfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_runner.engines import OnLine
from local_runner.engines.sdk.engine import SdkEngine, host_logs, host_results
from local_runner.engines.sdk.job import SdkEnd
from local_runner.errors import EngineError
from local_runner.execution.contract import failure_reason, last_lines, open_directory
from local_runner.jsontext import as_list, as_object
from local_runner.models import StockInput, StockJob
from local_runner.sagemaker_api.stock import artifacts
from local_runner.secrets import Secrets
from local_runner.storage import job_tree
from local_runner.storage.local_s3 import DataError, Storage, list_input

FAILURE_CHARACTERS = 1024
"""How much of /opt/ml/output/failure becomes the FailureReason (developer guide, How Amazon SageMaker AI Processes
Training Output)."""


@dataclass(frozen=True)
class StockPlaces:
    """Where a stock job finds and leaves things: its execution's id, scratch space, logs, local S3, and its engine."""

    run_id: str
    step: str
    work: Path
    logs: Path
    storage: Storage
    engine: SdkEngine
    on_line: OnLine
    stop: threading.Event
    secrets: Secrets

    def log(self, host: str) -> Path:
        """The log file of a host."""
        return self.logs / f"{host}.log"


@dataclass(frozen=True)
class StockEnd:
    """How it ended. ``outputs`` are local directories by what the Describe response calls them."""

    exit_code: int | None
    failure_reason: str | None = None
    stopped: bool = False
    lost: bool = False
    outputs: Mapping[str, Path] = field(default_factory=dict[str, Path])


def check_model(job: StockJob, storage: Storage) -> None:
    """Raises DataError where the model's data is not there, which CreateModel looks for."""
    for item in job.inputs:
        storage.read(item.s3_uri)


# ------------------------------------------------------------------------------------------------------- training
def run_training(job: StockJob, places: StockPlaces) -> StockEnd:
    """Run a training job; what it left goes to ``<S3OutputPath>/<name>/output``. Raises DataError, OSError."""
    channels = {item.name: _copied(item, places.storage, places.work / f"channel-{item.name}") for item in job.inputs}
    left = open_directory(places.work / "artifacts")
    algorithm = job.request["AlgorithmSpecification"]

    def calls(image: str, uri: Callable[[Path], str]) -> list[tuple[str, dict[str, Any]]]:
        inputs = [_channel(channel, uri(channels[channel["ChannelName"]])) for channel in _channels(job)]
        request = {
            **job.request,
            "AlgorithmSpecification": {**algorithm, "TrainingImage": image},
            "InputDataConfig": inputs,
            "OutputDataConfig": {**job.request["OutputDataConfig"], "S3OutputPath": uri(left)},
        }
        return [("create_training_job", request)]

    end = _run(job, algorithm["TrainingImage"], places, calls)
    if end.stopped:
        return StockEnd(None, "Stopped.", stopped=True)
    results = host_results(job.hosts, end)
    failed = [result for result in results if result.exit_code != 0]
    if failed:
        said = _failure(left / "output.tar.gz")
        told = f"AlgorithmError: {said}" if said else None
        reason = failure_reason([(places.log(result.host), result) for result in results], told)
        return StockEnd(failed[0].exit_code, reason, lost=any(result.exit_code is None for result in failed))
    _keep_data(left / "output.tar.gz")
    job_tree.take(left, str(places.work / "taken"))
    published = places.storage.publish(places.work / "taken", artifacts(job))
    return StockEnd(0, outputs={"ModelArtifacts": published.resolve()})


def _channels(job: StockJob) -> list[dict[str, Any]]:
    return [as_object(item) or {} for item in as_list(job.request.get("InputDataConfig")) or ()]


def _channel(channel: dict[str, Any], uri: str) -> dict[str, Any]:
    # The copy is what one instance gets, also of objects that are dealt out to instances.
    source = {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated", "S3Uri": uri}
    return {**channel, "DataSource": {"S3DataSource": source}}


def _keep_data(archive: Path) -> None:
    """Of stock local mode's archive of /opt/ml/output keep /opt/ml/output/data, which is what the service archives."""
    kept = archive.with_suffix(".new")
    with tarfile.open(archive) as old, tarfile.open(kept, "w:gz") as new:
        for member in old:
            inside = member.name.removeprefix("data/")
            if inside != member.name:
                member.name = inside
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
    kept.replace(archive)


def _failure(archive: Path) -> str:
    """What the job wrote to /opt/ml/output/failure, which stock local mode archives and does not read."""
    with suppress(OSError, KeyError, tarfile.TarError), tarfile.open(archive) as tar:
        file = tar.extractfile("failure")
        return file.read(4 * FAILURE_CHARACTERS).decode(errors="replace")[:FAILURE_CHARACTERS] if file else ""
    return ""


# ------------------------------------------------------------------------------------------------------ transform
def run_transform(job: StockJob, model: Mapping[str, Any], places: StockPlaces) -> StockEnd:
    """Run a transform job with the model of a CreateModel request; each object's answer is ``<name>.out``.

    Raises DataError, OSError. Stock local mode transforms only the files at the top of a directory: objects are given
    to it under numbers, and get their names back afterwards.
    """
    (data,) = job.inputs
    listing = list_input(data.name, data.s3_uri, data.s3_data_type, places.storage)
    numbered = open_directory(places.work / "data")
    names: dict[str, str] = {}
    for number, entry in enumerate(listing.objects):
        shutil.copyfile(entry.path, numbered / f"{number:08}")
        names[f"{number:08}.out"] = f"{entry.name}.out"
    answers = open_directory(places.work / "answers")
    container = dict(model["PrimaryContainer"])
    model_data = _model_data(container, places)

    def calls(image: str, uri: Callable[[Path], str]) -> list[tuple[str, dict[str, Any]]]:
        primary: dict[str, Any] = {
            **container,
            "Image": image,
            "ModelDataUrl": uri(model_data),
            "Environment": container.get("Environment") or {},
        }
        source = {"ContentType": None, **job.request["TransformInput"]}
        source["DataSource"] = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri(numbered)}}
        target = {**job.request["TransformOutput"], "S3OutputPath": uri(answers)}
        request = {**job.request, "TransformInput": source, "TransformOutput": target}
        name = job.request["ModelName"]
        return [
            ("create_model", {"ModelName": name, "PrimaryContainer": primary}),
            ("create_transform_job", request),
        ]

    end = _run(job, container["Image"], places, calls)
    if end.stopped:
        return StockEnd(None, "Stopped.", stopped=True)
    if end.error:
        # The server is stopped at the end, whatever came of it: its exit code says nothing then.
        code = next((ended.exit_code for ended in end.containers.values() if ended.exit_code), None)
        said = [f"  {line}" for line in last_lines(places.log("algo-1"))]
        told = [end.error, "Its last lines:", *said] if said else [end.trouble]
        return StockEnd(code, "\n".join(told))
    taken, renamed = places.work / "taken", places.work / "renamed"
    job_tree.take(answers, str(taken))
    for number, name in names.items():
        place = renamed / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (taken / number).rename(place)
    return StockEnd(0, outputs={"TransformOutput": places.storage.publish(renamed, job.output_uri).resolve()})


def _model_data(container: Mapping[str, Any], places: StockPlaces) -> Path:
    """A directory with the model's archive, which stock local mode unpacks there; an empty one where it has none."""
    directory = open_directory(places.work / "model")
    uri = container.get("ModelDataUrl")
    if uri:
        (directory / "model.tar.gz").write_bytes(places.storage.read(uri))
    return directory


# --------------------------------------------------------------------------------------------------------- pieces
_Calls = Callable[[str, Callable[[Path], str]], list[tuple[str, dict[str, Any]]]]
"""The calls to stock local mode, of the local image and of what makes a file:// URI of a directory."""


def _copied(item: StockInput, storage: Storage, directory: Path) -> Path:
    """A directory of copies of an input's objects."""
    open_directory(directory)
    for entry in list_input(item.name, item.s3_uri, item.s3_data_type, storage).objects:
        place = directory / entry.name
        open_directory(place.parent)
        shutil.copyfile(entry.path, place)
    return directory


def _run(job: StockJob, image_uri: str, places: StockPlaces, calls: _Calls) -> SdkEnd:
    """Let stock local mode run the calls. Raises DataError where the image or the SDK cannot be had."""
    places.logs.mkdir(parents=True, exist_ok=True)
    try:
        image = places.engine.image(image_uri)
        with (
            places.engine.job(places.run_id, places.step, places.work, image) as opened,
            host_logs({host: places.log(host) for host in job.hosts}, places.on_line, places.secrets) as logs,
        ):
            return opened.job.run(calls(image, opened.job.uri), opened.labels, logs, places.stop)
    except EngineError as error:
        raise DataError(error.message) from None
