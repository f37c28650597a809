"""Transform steps, in the SDK's stock local mode. Copies the data out of local S3, publishes the answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local_runner.definition.expressions import Scope
from local_runner.engines import OnLine
from local_runner.engines.sdk.hosts import not_started
from local_runner.errors import DataError
from local_runner.execution.attempt import Attempt
from local_runner.execution.contract import open_directory
from local_runner.execution.ended import Ended
from local_runner.execution.failures import last_lines
from local_runner.execution.steps.stock_job import StockEnd, log_of, make_calls, run_step
from local_runner.jsontext import as_object
from local_runner.models import StockJob
from local_runner.storage import job_tree
from local_runner.storage.local_s3 import Storage, list_input


def run(attempt: Attempt) -> Ended:
    """Run the job with the model that a Model step made; each object's answer is ``<name>.out``.

    Raises ExpressionError, DataError, OSError.
    """
    return run_step(attempt, _transform)


def _transform(attempt: Attempt, job: StockJob, on_line: OnLine) -> StockEnd:
    """Stock local mode transforms only the files at the top of a directory: objects are given to it under numbers, and
    get their names back afterwards."""
    storage, work = attempt.resources.storage, attempt.work
    model = _model_of(job, attempt.scope)
    (data,) = job.inputs
    listing = list_input(data.name, data.s3_uri, data.s3_data_type, storage)
    numbered = open_directory(work / "data")
    names: dict[str, str] = {}
    for number, entry in enumerate(listing.objects):
        shutil.copyfile(entry.path, numbered / f"{number:08}")
        names[f"{number:08}.out"] = f"{entry.name}.out"
    answers = open_directory(work / "answers")
    container = dict(model["PrimaryContainer"])
    model_data = _model_data(container, storage, work / "model")

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

    end = make_calls(attempt, job, container["Image"], on_line, calls)
    if end.stopped:
        return StockEnd(None, "Stopped.", stopped=True)
    if end.error:
        # The server is stopped at the end, whatever came of it: its exit code says nothing then.
        code = next((ended.exit_code for ended in end.containers.values() if ended.exit_code), None)
        tail = [f"  {line}" for line in last_lines(log_of(attempt, "algo-1"))]
        reason = [end.error, "Its last lines:", *tail] if tail else [not_started(end.trouble) or end.trouble]
        return StockEnd(code, "\n".join(reason))
    taken, renamed = work / "taken", work / "renamed"
    job_tree.take(answers, str(taken))
    for number, name in names.items():
        place = renamed / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (taken / number).rename(place)
    return StockEnd(0, outputs={"TransformOutput": storage.publish(renamed, job.output_uri).resolve()})


def _model_of(job: StockJob, scope: Scope) -> Mapping[str, Any]:
    """The request of the Model step whose model a transform job uses. Raises DataError where none made it."""
    name = job.request["ModelName"]
    for described in scope.steps.values():
        known = as_object(described) or {}
        if known.get("ModelName") == name and "PrimaryContainer" in known:
            return known
    raise DataError(f"ValidationException: there is no model {name}; a Model step of the pipeline has to make it.")


def _model_data(container: Mapping[str, Any], storage: Storage, directory: Path) -> Path:
    """A directory with the model's archive, which stock local mode unpacks there; an empty one where it has none."""
    open_directory(directory)
    uri = container.get("ModelDataUrl")
    if uri:
        (directory / "model.tar.gz").write_bytes(storage.read(uri))
    return directory
