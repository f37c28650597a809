"""A resolved CreateProcessingJob request -> ProcessingJob, and its Describe response. No I/O.

What the service would refuse is :mod:`local_runner.sagemaker_api.limits`; this module finds what the service takes and
a local run does not, and what the service checks beyond its model. Parts of the wrong shape are skipped here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from local_runner.definition.paths import Deferred
from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object, kind
from local_runner.models import ProcessingInput, ProcessingJob, ProcessingOutput
from local_runner.names import MAX_NAME_BYTES, is_file_name, is_relative_path
from local_runner.storage.s3_uri import s3_problem, uri_problem

DEFAULT_MAX_RUNTIME = 86_400
LOCAL_ROOT = "/opt/ml/processing"

_EPOCH_DIGITS = 9
_NO_LOCAL = "cannot run on this machine yet."
_IGNORED = (
    (("NetworkConfig", "VpcConfig"), "VpcConfig"),
    (("NetworkConfig", "EnableInterContainerTrafficEncryption"), "traffic encryption between containers"),
    (("ProcessingOutputConfig", "KmsKeyId"), "KMS keys"),
    (("ProcessingResources", "ClusterConfig", "VolumeKmsKeyId"), "KMS keys"),
)


def job_name(execution_id: str, step: str, attempt: int = 1, base: Any = None) -> str:
    """The name of a step's job, ``pipelines-<execution id>-<Step>-<10 characters>``, as the service forms it.

    The ten characters are derived from the others, so that a plan is the same whenever it is made. Each ``attempt``
    (from 1) at a step is a job of its own.

    Where the step's Arguments have a name (a text; ``base``), that is ``<base>-<execution id>-<10 characters>-<number
    of failures before>`` (Guide, "IAM Access Management", "Customize access management for Pipelines jobs").
    """
    again = f"/{attempt}" if attempt > 1 else ""
    token = hashlib.sha256(f"{execution_id}/{step}{again}".encode()).hexdigest()[:10]
    if isinstance(base, str) and base:
        suffix = f"-{execution_id}-{token}-{attempt - 1}"
        # How a base that is too long is cut is not documented.
        return f"{base[: 63 - len(suffix)].rstrip('-')}{suffix}"
    prefix = f"pipelines-{execution_id}-"
    # ProcessingJobName has at most 63 characters and neither underscores nor a hyphen at an end.
    short = re.sub(r"[^A-Za-z0-9]+", "-", step)[: max(0, 63 - len(prefix) - len(token) - 1)].strip("-")
    return f"{prefix}{short}-{token}" if short else f"{prefix}{token}"


def processing_job(resolved: Mapping[str, Any], name: str, where: str) -> tuple[ProcessingJob | None, list[Problem]]:
    """The job that a resolved request asks for, and what of it cannot be had; the job is None where there is any.

    ``name`` is the job's, ``where`` the path of the request in the definition. It is None as well, without a problem
    of this module, where a part is Deferred or of the wrong shape (see :func:`limits.request_problems`).
    """
    problems = [
        *_resource_problems(resolved, where),
        *_path_problems(resolved, where),
        *_text_problems(resolved, where),
    ]
    inputs = _inputs(resolved, where, problems)
    outputs = _outputs(resolved, where, problems)
    app = _object(resolved, "AppSpecification")
    cluster = _object(_object(resolved, "ProcessingResources"), "ClusterConfig")
    max_runtime = _object(resolved, "StoppingCondition").get("MaxRuntimeInSeconds")
    moved = all(item.local_path for item in (*inputs, *outputs))  # where not, it is in the problems of the limits
    if problems or first_deferred(resolved) or not moved or not _is_whole(app, cluster, resolved):
        return None, problems
    job = ProcessingJob(
        name=name,
        image_uri=app["ImageUri"],
        entrypoint=_texts(app, "ContainerEntrypoint"),
        arguments=_texts(app, "ContainerArguments"),
        environment=dict(_object(resolved, "Environment")),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        instance_count=cluster["InstanceCount"],
        instance_type=cluster["InstanceType"],
        max_runtime=max_runtime if isinstance(max_runtime, int) else DEFAULT_MAX_RUNTIME,
        network_isolation=_object(resolved, "NetworkConfig").get("EnableNetworkIsolation") is True,
        request={**resolved, "ProcessingJobName": name},
    )
    return job, []


def describe(
    job: ProcessingJob,
    *,
    status: Literal["InProgress", "Completed", "Failed", "Stopping", "Stopped"],
    created: str = "",
    started: str = "",
    ended: str = "",
    exit_message: str | None = None,
    failure_reason: str | None = None,
) -> dict[str, Any]:
    """What DescribeProcessingJob would answer for the job: what property references read. Times are ISO 8601."""
    times = {"CreationTime": created, "ProcessingStartTime": started, "ProcessingEndTime": ended}
    messages = {"ExitMessage": exit_message, "FailureReason": failure_reason}
    return {
        "StoppingCondition": {"MaxRuntimeInSeconds": job.max_runtime},
        "Environment": {},
        **job.request,
        "ProcessingJobName": job.name,
        "ProcessingJobArn": job.arn,
        "ProcessingJobStatus": status,
        **{key: value for key, value in {**times, "LastModifiedTime": ended, **messages}.items() if value},
    }


def processing_reads(resolved: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The S3 URIs of the inputs that are known, each with its path in the request; not those that are AppManaged.

    URIs that are none are left to :func:`processing_job`, which names them.
    """
    return _uris(resolved.get("ProcessingInputs"), "ProcessingInputs", "S3Input")


def processing_writes(resolved: Mapping[str, Any]) -> list[str]:
    """The S3 URIs of the outputs that are known; not those that are AppManaged: nothing of them is written here."""
    outputs = _object(resolved, "ProcessingOutputConfig").get("Outputs")
    return [uri for _, uri in _uris(outputs, "ProcessingOutputConfig.Outputs", "S3Output")]


def _uris(items: Any, place: str, member: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for index, item in enumerate(as_list(items) or ()):
        mapping = as_object(item) or {}
        uri = _object(mapping, member).get("S3Uri")
        if isinstance(uri, str) and s3_problem(uri) is None and mapping.get("AppManaged") is not True:
            found.append((f"{place}[{index}].{member}.S3Uri", uri))
    return found


def output_uris(described: Mapping[str, Any]) -> dict[str, str]:
    """The S3 URIs of a job's outputs that are known, by OutputName, out of its request or Describe's answer."""
    outputs = _object(described, "ProcessingOutputConfig").get("Outputs")
    named = ((as_object(item) or {}) for item in as_list(outputs) or ())
    uris = {str(output.get("OutputName")): _object(output, "S3Output").get("S3Uri") for output in named}
    return {name: uri for name, uri in uris.items() if isinstance(uri, str) and s3_problem(uri) is None}


def ignored_kinds(resolved: Mapping[str, Any]) -> list[str]:
    """What the request asks of the cloud that has no meaning on this machine, by name."""
    return asked_for(resolved, _IGNORED)


def asked_for(resolved: Mapping[str, Any], kinds: Iterable[tuple[tuple[str, ...], str]]) -> list[str]:
    """Of these (path of keys, name) pairs the names of what the request asks for: it has a value that is not false."""
    found: list[str] = []
    for path, what in kinds:
        value: Any = resolved
        for key in path:
            value = (as_object(value) or {}).get(key)
        if value and what not in found:
            found.append(what)
    return found


def app_managed(resolved: Mapping[str, Any]) -> bool:
    """Whether the job's own program is to move an input or output (API ProcessingInput and ProcessingOutput)."""
    outputs = _object(resolved, "ProcessingOutputConfig").get("Outputs")
    items = [*(as_list(resolved.get("ProcessingInputs")) or ()), *(as_list(outputs) or ())]
    return any((as_object(item) or {}).get("AppManaged") is True for item in items)


def first_deferred(value: Any) -> Deferred | None:
    """The first part of the value that is not known yet."""
    if isinstance(value, Deferred):
        return value
    parts = (*(as_object(value) or {}).values(), *(as_list(value) or ()))
    return next((found for part in parts if (found := first_deferred(part))), None)


# ------------------------------------------------------------------------------------------------------- pieces
def _object(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
    return as_object(mapping.get(key)) or {}


def _texts(mapping: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    items = as_list(mapping.get(key))
    return None if items is None else tuple(map(str, items))


def _is_whole(app: dict[str, Any], cluster: dict[str, Any], resolved: Mapping[str, Any]) -> bool:
    """Whether the parts that a job cannot be without have their types; limits says so where they have not."""
    count = cluster.get("InstanceCount")
    environment = _object(resolved, "Environment")
    return (
        isinstance(app.get("ImageUri"), str)
        and isinstance(cluster.get("InstanceType"), str)
        and isinstance(count, int)
        and count >= 1
        and all(isinstance(value, str) for value in environment.values())
    )


def _resource_problems(resolved: Mapping[str, Any], where: str) -> list[Problem]:
    cluster = as_object(_object(resolved, "ProcessingResources").get("ClusterConfig"))
    where = f"{where}.ProcessingResources.ClusterConfig"
    if cluster is None:
        return []
    preferences = [key for key in cluster if key in ("InstancePreferences", "SelectedInstanceType")]
    if preferences:
        remedy = "Give InstanceType and InstanceCount."
        return [Problem(f"{where}.{preferences[0]}", f"{preferences[0]} {_NO_LOCAL}", remedy, local=True)]
    return [
        Problem(where, f"{key} is missing.", f"Give {key}.")
        for key in ("InstanceType", "InstanceCount")
        if cluster.get(key) is None
    ]


def _inputs(resolved: Mapping[str, Any], where: str, problems: list[Problem]) -> list[ProcessingInput]:
    found: list[ProcessingInput] = []
    for index, item in enumerate(as_list(resolved.get("ProcessingInputs")) or ()):
        path = f"{where}.ProcessingInputs[{index}]"
        mapping = as_object(item) or {}
        source = _object(mapping, "S3Input")
        if mapping.get("DatasetDefinition") is not None:
            remedy = "Give the input an S3Input, and --map its S3Uri to the data."
            what = f"An input from Athena or Redshift {_NO_LOCAL}"
            problems.append(Problem(f"{path}.DatasetDefinition", what, remedy, local=True))
            continue
        if mapping and not source:
            problems.append(Problem(path, "S3Input is missing.", "Give the input an S3Input."))
            continue
        if mapping.get("AppManaged") is True:
            continue
        pipe, gzip = source.get("S3InputMode") == "Pipe", source.get("S3CompressionType") == "Gzip"
        if gzip and not pipe:
            what = "Gzip is for S3InputMode Pipe only (API ProcessingS3Input, S3CompressionType)."
            remedy = "Use Pipe, or None and let the script decompress the files."
            problems.append(Problem(f"{path}.S3Input.S3CompressionType", what, remedy))
        name = mapping.get("InputName")
        if pipe and isinstance(name, str):
            _check_pipe_name(name, f"{path}.InputName", problems)
        uri, local = _location(source, f"{path}.S3Input", problems)
        manifest = source.get("S3DataType") == "ManifestFile"
        sharded = source.get("S3DataDistributionType") == "ShardedByS3Key"
        if uri:
            found.append(
                ProcessingInput(
                    name=str(mapping.get("InputName")),
                    s3_uri=uri,
                    local_path=local,
                    s3_data_type="ManifestFile" if manifest else "S3Prefix",
                    distribution="ShardedByS3Key" if sharded else "FullyReplicated",
                    input_mode="Pipe" if pipe else "File",
                    compression="Gzip" if gzip else "None",
                )
            )
    return found


def _outputs(resolved: Mapping[str, Any], where: str, problems: list[Problem]) -> list[ProcessingOutput]:
    found: list[ProcessingOutput] = []
    config = _object(resolved, "ProcessingOutputConfig")
    for index, item in enumerate(as_list(config.get("Outputs")) or ()):
        path = f"{where}.ProcessingOutputConfig.Outputs[{index}]"
        mapping = as_object(item) or {}
        target = _object(mapping, "S3Output")
        if mapping.get("FeatureStoreOutput") is not None:
            what = f"An output to the Feature Store {_NO_LOCAL}"
            problems.append(Problem(f"{path}.FeatureStoreOutput", what, "Give the output an S3Output.", local=True))
            continue
        if mapping and not target:
            problems.append(Problem(path, "S3Output is missing.", "Give the output an S3Output."))
            continue
        if mapping.get("AppManaged") is True:
            continue
        uri, local = _location(target, f"{path}.S3Output", problems)
        if uri:
            mode = "Continuous" if target.get("S3UploadMode") == "Continuous" else "EndOfJob"
            found.append(ProcessingOutput(str(mapping.get("OutputName")), uri, local, mode))
    return found


def _location(mapping: dict[str, Any], where: str, problems: list[Problem]) -> tuple[str, str]:
    """S3Uri and LocalPath of an input or output, empty where they are missing, of a wrong type or faulty."""
    uri, local = mapping.get("S3Uri"), mapping.get("LocalPath")
    uri = uri if isinstance(uri, str) else ""
    problem = uri_problem(uri, f"{where}.S3Uri") if uri or mapping.get("S3Uri") == "" else None
    if problem:
        problems.append(problem)
    local = local if isinstance(local, str) else ""
    return ("" if problem else uri), local.rstrip("/")


def _path_problems(resolved: Mapping[str, Any], where: str) -> list[Problem]:
    """Names and LocalPaths: each once in a job, and the paths where the service mounts them."""
    problems: list[Problem] = []
    outputs = _object(resolved, "ProcessingOutputConfig").get("Outputs")
    sides = (
        (resolved.get("ProcessingInputs"), "ProcessingInputs", "S3Input", "InputName"),
        (outputs, "ProcessingOutputConfig.Outputs", "S3Output", "OutputName"),
    )
    paths: dict[str, str] = {}
    for items, place, kind_of, name_key in sides:
        names: dict[str, str] = {}
        for index, item in enumerate(as_list(items) or ()):
            mapping = as_object(item) or {}
            path = f"{where}.{place}[{index}]"
            _once(mapping.get(name_key), f"{path}.{name_key}", names, problems)
            local = _object(mapping, kind_of).get("LocalPath")
            if isinstance(local, str):
                _check_local_path(local, f"{path}.{kind_of}.LocalPath", problems)
                _once(local.rstrip("/"), f"{path}.{kind_of}.LocalPath", paths, problems)
    return problems


def _once(value: Any, where: str, seen: dict[str, str], problems: list[Problem]) -> None:
    if isinstance(value, str) and value in seen:
        problems.append(Problem(where, f"'{value}' is already at {seen[value]}.", "Give each one of its own."))
    elif isinstance(value, str):
        seen[value] = where


def _check_local_path(local: str, where: str, problems: list[Problem]) -> None:
    below = local.removesuffix("/").removeprefix(f"{LOCAL_ROOT}/")
    if not local.startswith(f"{LOCAL_ROOT}/") or not is_relative_path(below):
        problems.append(Problem(where, f"{kind(local)} is no directory under {LOCAL_ROOT}/.", "Choose one."))


def _check_pipe_name(name: str, where: str, problems: list[Problem]) -> None:
    """The InputName of a Pipe input names its pipes: ``<LocalPath>/<InputName>_<epoch>``, with any number of epochs."""
    longest = MAX_NAME_BYTES - _EPOCH_DIGITS - 1
    if not is_file_name(name) or len(name.encode()) > longest:
        what = f"{kind(name)} cannot be the name of a pipe, which is a file <InputName>_<epoch> in LocalPath."
        remedy = f"Give it the name of a file: no '/', not '..', at most {longest} bytes."
        problems.append(Problem(where, what, remedy, local=True))


def _text_problems(resolved: Mapping[str, Any], where: str) -> list[Problem]:
    """Texts that no program can be started with: the kernel ends each at its first NUL (execve(2))."""
    app = _object(resolved, "AppSpecification")
    texts: list[tuple[str, Any]] = [(f"{where}.AppSpecification.ImageUri", app.get("ImageUri"))]
    for key in ("ContainerEntrypoint", "ContainerArguments"):
        texts += [(f"{where}.AppSpecification.{key}[{n}]", text) for n, text in enumerate(as_list(app.get(key)) or ())]
    for name, text in _object(resolved, "Environment").items():
        place = f"{where}.Environment.{name}".replace("\0", "\\0")
        texts += [(place, name), (place, text)]
    return [
        Problem(place, f"{kind(text)} holds a NUL, which no program can be given.", "Take it out.")
        for place, text in texts
        if isinstance(text, str) and "\0" in text
    ]
