"""A job as stock local mode is given it, and what stock local mode makes of it. No I/O.

All of it was read in the code of SDK 3.27.0 (``sagemaker/core/local``): ``entities.py`` has what it refuses,
``image.py`` and ``local_session.py`` what it ignores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object
from local_runner.models import ProcessingInput, ProcessingJob, ProcessingOutput

DIFFERENCES = (
    "A host is called algo-N-<5 characters>, and its host name is the container's id.",
    "stdout and stderr are one terminal (TERM=xterm); a line that is not UTF-8 breaks the job off.",
    "The hosts of a job share their input and output directories, and all are stopped when the first one ends.",
    "/opt/ml/output/message is deleted unread: there is no ExitMessage.",
    "Exit code 130 passes for success, and the outputs of a failed job are uploaded.",
    "Links in outputs are followed; one whose target does not exist fails the job.",
    "processingjobconfig.json has no role, volume size or MaxRuntimeInSeconds of the request, and local S3Uris.",
    "Jobs have a network, and no limits on time, memory or processors, whatever the request says.",
)
"""What is different in every job of stock local mode, a sentence each."""

_OUTPUTS = "ProcessingOutputConfig.Outputs"
_REMEDY = "Use --engine docker, which runs it as the cloud does."

_REFUSED = (
    ("S3Input", "S3InputMode", "File"),
    ("S3Input", "S3DataDistributionType", "FullyReplicated"),
    ("S3Input", "S3CompressionType", "None"),
    ("S3Output", "S3UploadMode", "EndOfJob"),
)

# What docker compose takes for a variable of this machine: $NAME, ${NAME} with or without a default, $$ for $.
_VARIABLE = re.compile(r"\$(?:\$|[_a-z]\w*|\{[_a-z]\w*(?::?[-?][^}]*)?\}|(?P<invalid>))", re.IGNORECASE | re.ASCII)


def stock_request(job: ProcessingJob) -> dict[str, Any]:
    """The CreateProcessingJob request of a job: its request, and the fields of the job over that."""
    request = job.request
    application: dict[str, Any] = {"ImageUri": job.image_uri}
    if job.entrypoint is not None:
        application["ContainerEntrypoint"] = list(job.entrypoint)
    if job.arguments is not None:
        application["ContainerArguments"] = list(job.arguments)
    cluster = (as_object(request.get("ProcessingResources")) or {}).get("ClusterConfig")
    size = {"InstanceCount": job.instance_count, "InstanceType": job.instance_type}
    output_config = as_object(request.get("ProcessingOutputConfig")) or {}
    return {
        **request,
        "ProcessingJobName": job.name,
        "AppSpecification": application,
        "Environment": dict(job.environment),
        "ProcessingResources": {"ClusterConfig": {**(as_object(cluster) or {}), **size}},
        "ProcessingInputs": [_input(item, request.get("ProcessingInputs")) for item in job.inputs],
        "ProcessingOutputConfig": {
            **output_config,
            "Outputs": [_output(item, output_config.get("Outputs")) for item in job.outputs],
        },
    }


def _input(item: ProcessingInput, requested: Any) -> dict[str, Any]:
    given = _named(requested, "InputName", item.name)
    fields = {
        "S3Uri": item.s3_uri,
        "LocalPath": item.local_path,
        "S3DataType": item.s3_data_type,
        "S3DataDistributionType": item.distribution,
    }
    return {**given, "InputName": item.name, "S3Input": {**(as_object(given.get("S3Input")) or {}), **fields}}


def _output(item: ProcessingOutput, requested: Any) -> dict[str, Any]:
    given = _named(requested, "OutputName", item.name)
    fields = {"S3Uri": item.s3_uri, "LocalPath": item.local_path}
    target = {"S3UploadMode": "EndOfJob", **(as_object(given.get("S3Output")) or {}), **fields}
    return {**given, "OutputName": item.name, "S3Output": target}


def _named(requested: Any, key: str, name: str) -> dict[str, Any]:
    for item in as_list(requested) or ():
        found = as_object(item) or {}
        if found.get(key) == name:
            return found
    return {}


# ---------------------------------------------------------------------------------------------------- what it refuses
def refused(path: str, job: ProcessingJob) -> list[Problem]:
    """What stock local mode raises an error for. ``path`` is the step's in the definition."""
    request = stock_request(job)
    problems: list[Problem] = []
    for where in _app_managed(job.request):
        what = "the SDK's local mode ignores AppManaged and moves the data itself."
        problems.append(Problem(f"{path}.Arguments.{where}.AppManaged", what, _REMEDY, local=True))
    for where, item in _places(request):
        for kind, key, supported in _REFUSED:
            value = item.get(kind, {}).get(key, supported)
            if value != supported:
                always = ", on one instance too" if value == "ShardedByS3Key" else ""
                what = f"the SDK's local mode refuses {key} {value}{always}; it takes {supported} only."
                problems.append(Problem(f"{path}.Arguments.{where}.{kind}.{key}", what, _REMEDY, local=True))
    where = f"{path}.Arguments.AppSpecification"
    if job.arguments and not job.entrypoint:
        what = "ContainerArguments without ContainerEntrypoint break the SDK's local mode (KeyError: 'entrypoint')."
        problems.append(Problem(where, what, _REMEDY, local=True))
    for place, text in _interpolated(request):
        if any(match["invalid"] is not None for match in _VARIABLE.finditer(text)):
            what = "docker compose, which the SDK's local mode goes through, takes the $ for a broken variable."
            problems.append(Problem(f"{path}.Arguments.{place}", what, _REMEDY, local=True))
    return problems


# ---------------------------------------------------------------------------------------------------- what it ignores
def ignored(path: str, job: ProcessingJob) -> list[Problem]:
    """What stock local mode runs differently from what the request says, without an error."""
    request = stock_request(job)
    found: list[Problem] = []

    def say(where: str, what: str) -> None:
        found.append(Problem(f"{path}.Arguments.{where}", what))

    if job.network_isolation or request.get("NetworkConfig"):
        say("NetworkConfig", "NetworkConfig is ignored: jobs have a network.")
    if request.get("StoppingCondition"):
        say("StoppingCondition", "StoppingCondition is ignored: no job is stopped for its time.")
    if request.get("ExperimentConfig"):
        say("ExperimentConfig", "ExperimentConfig is ignored.")
    for where, item in _places(request):
        if item.get("S3Input", {}).get("S3DataType") == "ManifestFile":
            what = "ManifestFile is ignored and the job gets the manifest; here it gets the files that this names."
            say(f"{where}.S3Input.S3DataType", what)
    if job.instance_count > 1:
        what = "the hosts share their directories, and all are stopped when the first one ends."
        say("ProcessingResources.ClusterConfig.InstanceCount", what)
    for place, text in _interpolated(request):
        if any(match["invalid"] is None for match in _VARIABLE.finditer(text)):
            say(place, "docker compose replaces a $ and what follows by a variable's value.")
    return found


def _places(request: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each input and output with its path in the request."""
    for index, item in enumerate(request["ProcessingInputs"]):
        yield f"ProcessingInputs[{index}]", item
    for index, item in enumerate(request["ProcessingOutputConfig"]["Outputs"]):
        yield f"{_OUTPUTS}[{index}]", item


def _app_managed(request: Mapping[str, Any]) -> Iterator[str]:
    """The paths of the inputs and outputs that stand in the request only, as the service moves none of them."""
    outputs = (as_object(request.get("ProcessingOutputConfig")) or {}).get("Outputs")
    for place, items in (("ProcessingInputs", request.get("ProcessingInputs")), (_OUTPUTS, outputs)):
        for index, item in enumerate(as_list(items) or ()):
            if (as_object(item) or {}).get("AppManaged") is True:
                yield f"{place}[{index}]"


def _interpolated(request: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts that go through docker compose's interpolation, with their paths."""
    for key in ("ContainerEntrypoint", "ContainerArguments"):
        for index, text in enumerate(request["AppSpecification"].get(key, ())):
            yield f"AppSpecification.{key}[{index}]", text
    for name, text in request["Environment"].items():
        yield f"Environment.{name}", text
