"""Training steps, in the SDK's stock local mode. Copies its channels out of local S3, publishes the model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from local_runner.engines import OnLine
from local_runner.engines.sdk.hosts import host_results
from local_runner.execution.attempt import Attempt
from local_runner.execution.contract import open_directory
from local_runner.execution.ended import Ended
from local_runner.execution.failures import failure_reason
from local_runner.execution.steps.stock_job import StockEnd, log_of, make_calls, run_step
from local_runner.jsontext import as_list, as_object
from local_runner.models import StockInput, StockJob
from local_runner.sagemaker_api.stock import artifacts
from local_runner.storage import job_tree
from local_runner.storage.local_s3 import Storage, list_input

FAILURE_CHARACTERS = 1024
"""How much of /opt/ml/output/failure becomes the FailureReason (developer guide, How Amazon SageMaker AI Processes
Training Output)."""


def run(attempt: Attempt) -> Ended:
    """Run the job; its model goes to ``<S3OutputPath>/<name>/output``. Raises ExpressionError, DataError, OSError."""
    return run_step(attempt, _train)


def _train(attempt: Attempt, job: StockJob, on_line: OnLine) -> StockEnd:
    storage, work = attempt.resources.storage, attempt.work
    channels = {item.name: _copied(item, storage, work / f"channel-{item.name}") for item in job.inputs}
    left = open_directory(work / "artifacts")
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

    end = make_calls(attempt, job, algorithm["TrainingImage"], on_line, calls)
    if end.stopped:
        return StockEnd(None, "Stopped.", stopped=True)
    results = host_results(job.hosts, end)
    failed = [result for result in results if result.exit_code != 0]
    if failed:
        failure = _failure(left / "output.tar.gz")
        message = f"AlgorithmError: {failure}" if failure else None
        reason = failure_reason([(log_of(attempt, result.host), result) for result in results], message)
        return StockEnd(failed[0].exit_code, reason, engine_failed=any(result.exit_code is None for result in failed))
    _keep_data(left / "output.tar.gz")
    job_tree.take(left, str(work / "taken"))
    published = storage.publish(work / "taken", artifacts(job))
    return StockEnd(0, outputs={"ModelArtifacts": published.resolve()})


def _copied(item: StockInput, storage: Storage, directory: Path) -> Path:
    """A directory of copies of an input's objects."""
    open_directory(directory)
    for entry in list_input(item.name, item.s3_uri, item.s3_data_type, storage).objects:
        place = directory / entry.name
        open_directory(place.parent)
        shutil.copyfile(entry.path, place)
    return directory


def _channels(job: StockJob) -> list[dict[str, Any]]:
    return [as_object(item) or {} for item in as_list(job.request.get("InputDataConfig")) or ()]


def _channel(channel: dict[str, Any], uri: str) -> dict[str, Any]:
    # The copy is what one instance gets, also of objects that are dealt out to instances.
    source = {"S3DataType": "S3Prefix", "S3DataDistributionType": "FullyReplicated", "S3Uri": uri}
    return {**channel, "DataSource": {"S3DataSource": source}}


def _keep_data(archive: Path) -> None:
    """Of stock local mode's archive of /opt/ml/output keep /opt/ml/output/data, which is what the service archives."""
    import tarfile  # only a Training step needs it

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
    import tarfile

    with suppress(OSError, KeyError, tarfile.TarError), tarfile.open(archive) as tar:
        file = tar.extractfile("failure")
        return file.read(4 * FAILURE_CHARACTERS).decode(errors="replace")[:FAILURE_CHARACTERS] if file else ""
    return ""
