"""A CreateTrainingJob, CreateTransformJob or CreateModel request, resolved -> StockJob, and what Describe says. No I/O.

These run in the SDK's stock local mode. What that refuses, or runs in another way than the service without saying so,
is refused here by name, and so before anything runs; what has no meaning on this machine is noted. All of it was read
in the code of SDK 3.27.0 (``sagemaker/core/local/entities.py`` and ``image.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from local_runner.definition.paths import Deferred
from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object, kind
from local_runner.models import StockInput, StockJob
from local_runner.names import is_file_name
from local_runner.sagemaker_api.processing import asked_for, first_deferred
from local_runner.storage.s3_uri import s3_problem, uri_problem

_STOCK = "the SDK's local mode, which runs it here,"
_ENCRYPTED = "KMS keys"
_IGNORED = (
    (("EnableNetworkIsolation",), "network isolation"),
    (("VpcConfig",), "VpcConfig"),
    (("EnableInterContainerTrafficEncryption",), "traffic encryption between containers"),
    (("EnableManagedSpotTraining",), "spot training"),
    (("CheckpointConfig",), "checkpoints"),
    (("RetryStrategy",), "RetryStrategy"),
    (("DataCaptureConfig",), "data capture"),
    (("ModelClientConfig",), "ModelClientConfig"),
    (("OutputDataConfig", "KmsKeyId"), _ENCRYPTED),
    (("TransformOutput", "KmsKeyId"), _ENCRYPTED),
    (("ResourceConfig", "VolumeKmsKeyId"), _ENCRYPTED),
    (("TransformResources", "VolumeKmsKeyId"), _ENCRYPTED),
)


# ------------------------------------------------------------------------------------------------------- training
def training_job(resolved: Mapping[str, Any], name: str, where: str) -> tuple[StockJob | None, list[Problem]]:
    """The training job that a request asks for, and what of it cannot be had; the job is None where there is any.

    ``name`` is the job's, ``where`` the path of the request in the definition.
    """
    problems: list[Problem] = []
    resources = _object(resolved, "ResourceConfig")
    count = resources.get("InstanceCount")
    for key in ("InstanceGroups", "TrainingPlanArn"):
        if resources.get(key) is not None:
            _refuse(problems, f"{where}.ResourceConfig.{key}", key, "Give InstanceType and InstanceCount.")
    for key in ("InstanceType", "InstanceCount"):
        if resources.get(key) is None and "InstanceGroups" not in resources:
            problems.append(Problem(f"{where}.ResourceConfig", f"{key} is missing.", f"Give {key}."))
    _check_algorithm(_object(resolved, "AlgorithmSpecification"), f"{where}.AlgorithmSpecification", problems)
    _check_variables(_object(resolved, "Environment"), f"{where}.Environment", problems)
    channels = [
        _channel(as_object(item) or {}, f"{where}.InputDataConfig[{index}]", count, problems)
        for index, item in enumerate(as_list(resolved.get("InputDataConfig")) or ())
    ]
    output = _object(resolved, "OutputDataConfig")
    if output.get("CompressionType") == "NONE":
        _refuse(problems, f"{where}.OutputDataConfig.CompressionType", "CompressionType NONE", "Use GZIP.")
    output_uri = _uri(output, "S3OutputPath", f"{where}.OutputDataConfig", problems)
    if problems or first_deferred(resolved) or not isinstance(count, int) or not output_uri:
        return None, problems
    request = {**resolved, "TrainingJobName": name}
    inputs = tuple(channel for channel in channels if channel)
    return StockJob("Training", name, inputs, output_uri.rstrip("/"), request, count), []


def _check_algorithm(algorithm: dict[str, Any], where: str, problems: list[Problem]) -> None:
    if algorithm.get("AlgorithmName") is not None:
        remedy = "Give the TrainingImage that the algorithm uses."
        _refuse(problems, f"{where}.AlgorithmName", "algorithms by their names", remedy)
    elif algorithm.get("TrainingImage") is None:
        problems.append(Problem(where, "TrainingImage is missing.", "Give it."))
    if algorithm.get("TrainingInputMode") == "Pipe":
        _refuse(problems, f"{where}.TrainingInputMode", "TrainingInputMode Pipe", "Use File or FastFile.")
    if algorithm.get("ContainerArguments") and not algorithm.get("ContainerEntrypoint"):
        what = "ContainerArguments without a ContainerEntrypoint"
        _refuse(problems, f"{where}.ContainerArguments", what, "Give both.")
    for key in ("ContainerEntrypoint", "ContainerArguments"):
        for index, text in enumerate(as_list(algorithm.get(key)) or ()):
            _check_dollar(text, f"{where}.{key}[{index}]", problems)


def _channel(channel: dict[str, Any], where: str, count: Any, problems: list[Problem]) -> StockInput | None:
    name = channel.get("ChannelName")
    if isinstance(name, str) and not is_file_name(name):
        what = f"{kind(name)} cannot be the directory of a channel, /opt/ml/input/data/<ChannelName>."
        problems.append(Problem(f"{where}.ChannelName", what, "Give it the name of a file: no '/', not '..'."))
    source = _object(channel, "DataSource")
    for other in source:
        if other != "S3DataSource":
            _refuse(problems, f"{where}.DataSource.{other}", other, "Give an S3DataSource, and --map its S3Uri.")
            return None
    if channel.get("InputMode") == "Pipe":
        _refuse(problems, f"{where}.InputMode", "InputMode Pipe", "Use File or FastFile.")
    for key, plain in (("CompressionType", "None"), ("RecordWrapperType", "None")):
        if channel.get(key, plain) != plain and not isinstance(channel[key], Deferred):
            _refuse(problems, f"{where}.{key}", f"{key} {channel[key]}", f"Use {plain}.")
    s3 = _object(source, "S3DataSource")
    sharded = s3.get("S3DataDistributionType") == "ShardedByS3Key"
    if sharded and count != 1 and not isinstance(count, Deferred):
        place = f"{where}.DataSource.S3DataSource.S3DataDistributionType"
        _refuse(problems, place, "ShardedByS3Key", "Use FullyReplicated, or one instance.")
    return _s3_input(str(channel.get("ChannelName")), s3, f"{where}.DataSource.S3DataSource", problems)


# ------------------------------------------------------------------------------------------------------ transform
def transform_job(resolved: Mapping[str, Any], name: str, where: str) -> tuple[StockJob | None, list[Problem]]:
    """The transform job that a request asks for; see :func:`training_job`. Its model is a Model step's."""
    problems: list[Problem] = []
    source = _object(resolved, "TransformInput")
    at = f"{where}.TransformInput"
    if source.get("CompressionType", "None") != "None":
        _refuse(problems, f"{at}.CompressionType", f"CompressionType {source['CompressionType']}", "Use None.")
    if source.get("SplitType") in ("RecordIO", "TFRecord"):
        _refuse(problems, f"{at}.SplitType", f"SplitType {source['SplitType']}", "Use None or Line.")
    processing = _object(resolved, "DataProcessing")
    defaults = {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"}
    for key, value in processing.items():
        if value not in (None, defaults.get(key)):
            _refuse(problems, f"{where}.DataProcessing.{key}", key, "Do it in a Processing step.")
    _check_variables(_object(resolved, "Environment"), f"{where}.Environment", problems)
    s3_source = _object(_object(source, "DataSource"), "S3DataSource")
    data = _s3_input("data", s3_source, f"{at}.DataSource.S3DataSource", problems)
    output_uri = _uri(_object(resolved, "TransformOutput"), "S3OutputPath", f"{where}.TransformOutput", problems)
    if problems or first_deferred(resolved) or data is None or not output_uri:
        return None, problems
    return StockJob("Transform", name, (data,), output_uri.rstrip("/"), {**resolved, "TransformJobName": name}), []


def model_elsewhere(resolved: Mapping[str, Any], where: str) -> list[Problem]:
    """A name that is written out is that of a model in the cloud: a Model step's is only known when it has run."""
    name = resolved.get("ModelName")
    if not isinstance(name, str):
        return []
    what = f"the model {name} is in the cloud, and not on this machine."
    remedy = "Make it with a Model step, and give its property ModelName."
    return [Problem(f"{where}.ModelName", what, remedy, local=True)]


# ---------------------------------------------------------------------------------------------------------- model
def model(resolved: Mapping[str, Any], name: str, where: str) -> tuple[StockJob | None, list[Problem]]:
    """The model that a request describes; see :func:`training_job`."""
    problems: list[Problem] = []
    container = _object(resolved, "PrimaryContainer")
    at = f"{where}.PrimaryContainer"
    if resolved.get("Containers"):
        _refuse(problems, f"{where}.Containers", "several containers in a row", "Give one PrimaryContainer.")
    elif not container:
        problems.append(Problem(where, "PrimaryContainer is missing.", "Give it."))
    elif container.get("Image") is None:
        packaged = container.get("ModelPackageName") is not None
        remedy = "Give it; model packages are not on this machine."
        problems.append(Problem(at, "Image is missing.", remedy, local=packaged))
    for key in ("ModelDataSource", "AdditionalModelDataSources", "MultiModelConfig"):
        if container.get(key) is not None:
            _refuse(problems, f"{at}.{key}", key, "Give a ModelDataUrl.")
    if container.get("Mode") == "MultiModel":
        _refuse(problems, f"{at}.Mode", "Mode MultiModel", "Use SingleModel.")
    _check_variables(_object(container, "Environment"), f"{at}.Environment", problems)
    data = container.get("ModelDataUrl")
    uri = _uri(container, "ModelDataUrl", at, problems) if data is not None else ""
    if problems or first_deferred(resolved):
        return None, problems
    inputs = (StockInput("model", uri, "Object"),) if uri else ()
    return StockJob("Model", name, inputs, "", {**resolved, "ModelName": name}), []


# ---------------------------------------------------------------------------------------- what they read and write
def training_reads(resolved: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The S3 URIs of the channels that are known, each with its path in the request."""
    found: list[tuple[str, str]] = []
    for index, item in enumerate(as_list(resolved.get("InputDataConfig")) or ()):
        source = _object(_object(as_object(item) or {}, "DataSource"), "S3DataSource")
        found += _known(source.get("S3Uri"), f"InputDataConfig[{index}].DataSource.S3DataSource.S3Uri")
    return found


def transform_reads(resolved: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The S3 URI of the data, if it is known, with its path in the request."""
    source = _object(_object(_object(resolved, "TransformInput"), "DataSource"), "S3DataSource")
    return _known(source.get("S3Uri"), "TransformInput.DataSource.S3DataSource.S3Uri")


def model_reads(resolved: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The S3 URI of the model's data, if it is known, with its path in the request."""
    return _known(_object(resolved, "PrimaryContainer").get("ModelDataUrl"), "PrimaryContainer.ModelDataUrl")


def stock_writes(resolved: Mapping[str, Any]) -> list[str]:
    """Where a training or transform job writes, if it is known."""
    outputs = (_object(resolved, key).get("S3OutputPath") for key in ("OutputDataConfig", "TransformOutput"))
    return [uri for output in outputs for _, uri in _known(output, "")]


def stock_ignored(resolved: Mapping[str, Any]) -> list[str]:
    """What the request asks of the cloud that has no meaning on this machine, by name."""
    found = asked_for(resolved, _IGNORED)
    if (_object(resolved, "TransformResources").get("InstanceCount") or 1) != 1:
        found.append("more than one instance of a transform job")
    return found


def artifacts(job: StockJob) -> str:
    """Where a training job leaves what it archives; ``model.tar.gz`` is in there (API ModelArtifacts)."""
    return f"{job.output_uri}/{job.name}/output"


def describe_stock(
    job: StockJob,
    *,
    status: Literal["Completed", "Failed", "Stopped"],
    created: str,
    started: str,
    ended: str,
    failure_reason: str | None = None,
) -> dict[str, Any]:
    """What the job's Describe call would answer: what property references read. Times are ISO 8601."""
    noun = "Model" if job.kind == "Model" else f"{job.kind}Job"
    response = {**job.request, f"{noun}Name": job.name, f"{noun}Arn": job.arn, "CreationTime": created}
    if job.kind == "Model":
        return response
    if job.kind == "Training":
        response["ModelArtifacts"] = {"S3ModelArtifacts": f"{artifacts(job)}/model.tar.gz"}
        response |= {"SecondaryStatus": status, "LastModifiedTime": ended}
    times = {f"{job.kind}StartTime": started, f"{job.kind}EndTime": ended}
    reason = {"FailureReason": failure_reason} if failure_reason else {}
    return {**response, f"{noun}Status": status, **times, **reason}


# --------------------------------------------------------------------------------------------------------- pieces
def _object(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
    return as_object(mapping.get(key)) or {}


def _known(uri: Any, where: str) -> list[tuple[str, str]]:
    return [(where, uri)] if isinstance(uri, str) and s3_problem(uri) is None else []


def _refuse(problems: list[Problem], where: str, what: str, remedy: str) -> None:
    problems.append(Problem(where, f"{_STOCK} has no {what}.", remedy, local=True))


def _s3_input(name: str, source: dict[str, Any], where: str, problems: list[Problem]) -> StockInput | None:
    data_type = source.get("S3DataType", "S3Prefix")
    if data_type not in ("S3Prefix", "ManifestFile") and not isinstance(data_type, Deferred):
        _refuse(problems, f"{where}.S3DataType", f"S3DataType {data_type}", "Use S3Prefix or ManifestFile.")
    uri = _uri(source, "S3Uri", where, problems)
    return StockInput(name, uri, "ManifestFile" if data_type == "ManifestFile" else "S3Prefix") if uri else None


def _uri(mapping: dict[str, Any], key: str, where: str, problems: list[Problem]) -> str:
    """The S3 URI under that key, empty where it is not known, missing or faulty."""
    uri = mapping.get(key)
    if not isinstance(uri, str):
        return ""  # missing or of a wrong type: limits says so
    problem = uri_problem(uri, f"{where}.{key}")
    if problem:
        problems.append(problem)
    return "" if problem else uri


def _check_variables(environment: dict[str, Any], where: str, problems: list[Problem]) -> None:
    for key, text in environment.items():
        _check_dollar(text, f"{where}.{key}", problems)


def _check_dollar(text: Any, where: str, problems: list[Problem]) -> None:
    if isinstance(text, str) and "$" in text:
        what = f"docker compose, which runs it here, replaces a $ and what follows in {kind(text)}."
        problems.append(Problem(where, what, "Do without the $.", local=True))
