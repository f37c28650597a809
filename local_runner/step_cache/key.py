"""What a Processing step depends on, and the key that stands for all of it. Reads the files of the job's inputs.

In the key: the step's name, the resolved request, the image's content, the engine's kind and whether it limits jobs,
and of every input the names and digests of its objects, a folder at a time. What belongs to one execution only (its id,
its times, the job's name) is a placeholder in the S3 URIs of inputs and outputs, as those say where things lie and not
what they are. Anywhere else, in an argument or the environment, it is part of the key, and such a step never hits. That
a job can read its URIs and its name in processingjobconfig.json is left out of account: our choice (docs/CACHE.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from local_runner.jsontext import as_list, as_object
from local_runner.models import ProcessingInput, ProcessingJob
from local_runner.sagemaker_api.processing import app_managed
from local_runner.secrets import Secrets
from local_runner.step_cache.digests import FileContent, FileDigests, FolderContent, file_listing_digest
from local_runner.storage.local_s3 import Storage, list_input
from local_runner.storage.records import Each, RecordError

_FORMAT = 2
"""Changes when the same parts would have another meaning."""

MOST_FILES = 10_000
"""Objects of an input whose digests are kept one by one, so that ``why`` can name them; of more, those of folders."""

Files = Mapping[str, FileContent]


@dataclass(frozen=True)
class InputContent:
    """The objects of an input, as the content of each folder by its path below the LocalPath (empty, or ``a/b/``).

    ``read_files`` gives them one by one, by their names below the LocalPath; None where they are too many.
    """

    folders: tuple[tuple[str, FolderContent], ...]
    read_files: Callable[[], Files | None] = field(default=lambda: None, compare=False, repr=False)

    @property
    def digest(self) -> str:
        """What stands for names and contents, wherever the files lie."""
        return file_listing_digest(self.folders)

    @cached_property
    def files(self) -> Files | None:
        """The objects one by one; None where they are more than MOST_FILES."""
        return self.read_files()


HOT = ", hot"
"""Follows an engine's name where hot workers run its jobs: what they leave is never taken for that of a full run."""


@dataclass(frozen=True)
class Machine:
    """What runs the job: the engine's name, whether it limits jobs, and what identifies the image's content."""

    engine: str
    limits: bool
    image: str

    @property
    def hot(self) -> bool:
        """Whether hot workers run the job."""
        return self.engine.endswith(HOT)


@dataclass(frozen=True)
class Signature:
    """What a step depends on. ``inputs`` are the contents of the inputs by their names.

    The step's name is part of it, as two steps that ask for the same are not meant to be one.
    """

    step: str
    machine: Machine
    request: Mapping[str, Any]
    inputs: Mapping[str, InputContent]

    @property
    def key(self) -> str:
        """What stands for all of it: 64 hex digits."""
        document = {
            "format": _FORMAT,
            "step": self.step,
            "machine": vars(self.machine),
            "request": self.request,
            "inputs": {name: content.digest for name, content in self.inputs.items()},
        }
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        inputs: dict[str, Any] = {}
        for name, content in self.inputs.items():
            folders = [[path, folder.objects, folder.digest] for path, folder in content.folders]
            files = {file: list(each) for file, each in (content.files or {}).items()}
            inputs[name] = {"folders": folders, "files": files}
        return {"step": self.step, "machine": vars(self.machine), "request": self.request, "inputs": inputs}


SIGNATURE = {
    "step": str,
    "machine": {"engine": str, "limits": bool, "image": str},
    "request": Each(object),
    "inputs": Each({"folders": [[(int, str)]], "files": Each([(int, str)])}),
}
"""The shape of what ``Signature.record`` gives."""


def signature_from(record: Mapping[str, Any]) -> Signature:
    """What ``Signature.record`` gave. Raises RecordError where a folder or file of an input is something else."""
    inputs = {name: _input_content(content) for name, content in record["inputs"].items()}
    machine = Machine(**{name: record["machine"][name] for name in ("engine", "limits", "image")})
    return Signature(record["step"], machine, record["request"], inputs)


def _input_content(record: Mapping[str, Any]) -> InputContent:
    folders: list[tuple[str, FolderContent]] = []
    for folder in record["folders"]:
        match folder:
            case [str(path), int(count), str(digest)]:
                folders.append((path, FolderContent(count, digest, b"")))
            case _:
                raise RecordError("a folder of an input is not its path, number of files and digest")
    files = {file: _content(content) for file, content in record["files"].items()}
    return InputContent(tuple(folders), lambda: files or None)


def _content(record: list[Any]) -> FileContent:
    match record:
        case [int(size), str(digest)]:
            return FileContent(size, digest)
        case _:
            raise RecordError("a file of an input is not its size and digest")


def why_not_cached(job: ProcessingJob) -> str | None:
    """What keeps a job out of the cache, as a sentence: it moves data itself, or uploads while it runs."""
    if app_managed(job.request):
        return "An input or output is AppManaged: its program moves data itself, which the cache would not repeat."
    if any(output.upload_mode == "Continuous" for output in job.outputs):
        return "An output is uploaded while the job runs (Continuous); what was there meanwhile cannot be repeated."
    return None


def sign(
    step: str,
    job: ProcessingJob,
    machine: Machine,
    inputs: Mapping[str, InputContent],
    places: Sequence[tuple[str, str]],
    secrets: Secrets,
) -> Signature:
    """The signature of a step's job with these inputs. ``places`` are the texts that are placeholders in S3 URIs.

    Of ``secrets`` it has the keyed hashes, and so has the key: nobody who reads them can try out values.
    """
    return Signature(step, machine, secrets.hidden(_stable(job.request, places)), inputs)


def digested(item: ProcessingInput, storage: Storage, digests: FileDigests) -> InputContent:
    """The content of an input. Raises DataError where there is none, OSError, UnstableError."""
    listing = list_input(item.name, item.s3_uri, item.s3_data_type, storage)
    found = [(path, digests.folder(each.directory, each.names, each.files)) for path, each in listing.folders]

    def files() -> Files | None:
        if sum(folder.objects for _, folder in found) > MOST_FILES:
            return None
        objects = listing.objects
        digested = digests.of([entry.file for entry in objects])
        return {entry.name: each.content for entry, each in zip(objects, digested, strict=True)}

    return InputContent(tuple(sorted(found)), files)


def places_of(execution: Mapping[str, str], job: str, sources: Iterable[str] = ()) -> list[tuple[str, str]]:
    """(text, placeholder) for what belongs to one execution only, a longer text before those it may hold.

    ``execution`` are the variables that expressions see, ``job`` the job's name, ``sources`` the ids of earlier
    executions that this one continues.
    """
    names = ("StartDateTime", "CurrentDateTime", "PipelineExecutionArn", "PipelineExecutionId")
    found = {execution[name]: f"<{name}>" for name in names if execution.get(name)}
    found |= {job: "<JobName>"} | dict.fromkeys(sources, "<PipelineExecutionId>")
    return sorted(found.items(), key=lambda item: -len(item[0]))


def _stable(request: Mapping[str, Any], places: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The request without the job's name, its S3 URIs with placeholders."""

    def replaced(items: Any, member: str) -> list[Any]:
        found: list[Any] = []
        for item in as_list(items) or ():
            entry = dict(as_object(item) or {})
            target = as_object(entry.get(member))
            if target is not None and isinstance(target.get("S3Uri"), str):
                uri = str(target["S3Uri"])
                for text, placeholder in places:
                    uri = uri.replace(text, placeholder)
                entry[member] = {**target, "S3Uri": uri}
            found.append(entry)
        return found

    stable = {key: value for key, value in request.items() if key != "ProcessingJobName"}
    if "ProcessingInputs" in stable:
        stable["ProcessingInputs"] = replaced(stable["ProcessingInputs"], "S3Input")
    config = as_object(stable.get("ProcessingOutputConfig"))
    if config is not None:
        stable["ProcessingOutputConfig"] = {**config, "Outputs": replaced(config.get("Outputs"), "S3Output")}
    return stable
