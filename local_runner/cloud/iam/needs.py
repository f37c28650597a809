"""Which S3 prefixes, images, keys and resources a definition names, as far as they are known before it runs. No I/O.

A location may be an expression: the text of its beginning that is the same in every execution is what a policy allows
(``Join("/", [ProcessedData, "executions", PipelineExecutionId])`` -> ``s3://bucket/processed/executions/``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_runner.definition.syntax import GetParameter, GetProperty, Join, JsonGet
from local_runner.jsontext import as_list, as_object, as_tuple, value_text
from local_runner.models import ParameterValue, PipelineDefinition, Step
from local_runner.storage.s3_uri import place_named

_ECR_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<name>[^:@]+)(?:[:@].*)?"
)
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
_NAMES_A_PLACE = re.compile(r"(?:Uri|Url|Path|RoleArn|KmsKeyId)s?$")
_WITH_A_ROLE = ("AutoML", "Processing", "Training", "Tuning")
_MANIFEST = re.compile(r"(?:Augmented)?ManifestFile")
_WRITTEN = re.compile(r"(?:Output|Checkpoint|DebugHook|Profiler|TensorBoard|Monitoring)\w*(?:\.|\[|$)")


@dataclass(frozen=True, order=True)
class Location:
    """An S3 prefix: every key that begins with ``prefix``."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class Repository:
    """An ECR repository, which may be another account's."""

    account: str
    region: str
    name: str


@dataclass(frozen=True)
class Needs:
    """What the steps touch. ``unknown`` are sentences on what cannot be known before an execution.

    ``run_types`` are those of the steps whose jobs have the role, and none of their own; ``job_names`` are types of
    steps with beginnings of their jobs' names. ``keys`` are KMS keys as the API takes them: by id, by ARN, by alias, or
    by the ARN of an alias. ``network``: a job is in a VPC. ``keeps_trials``: an execution is kept as a trial of an
    experiment.
    """

    reads: tuple[Location, ...]
    writes: tuple[Location, ...]
    repositories: tuple[Repository, ...]
    roles: tuple[str, ...]
    step_types: tuple[str, ...]
    run_types: tuple[str, ...]
    functions: tuple[str, ...]
    queues: tuple[str, ...]
    job_names: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]
    network: bool
    keeps_trials: bool
    unknown: tuple[str, ...]


def needs_of(
    definition: PipelineDefinition,
    role: str,
    parameters: Mapping[str, ParameterValue],
    scheduled: Mapping[str, ParameterValue] | None = None,
) -> Needs:
    """What the definition's steps touch as ``role`` (an ARN), in executions with these values and with its defaults.

    ``parameters`` replace the defaults; ``scheduled`` are what a schedule starts it with, over those.
    """
    usual = {p.name: p.default for p in definition.parameters if p.default is not None} | dict(parameters)
    values = usual | dict(scheduled or {})
    reads, writes, images, roles = set[Location](), set[Location](), set[Repository](), set[str]()
    keys, unknown, network, run_types = set[str](), list[str](), False, set[str]()
    for step in definition.steps:
        texts = [*_texts(step, values | usual), *_texts(step, values)]
        named = {text for where, text, _ in texts if where.endswith("RoleArn") and _ROLE_ARN.fullmatch(text)}
        roles |= named
        if step.type in _WITH_A_ROLE and not any(where.endswith("RoleArn") for where, _, _ in texts):
            roles.add(role)  # the service gives it to the job
        places = {
            (where, Location(place.bucket, place.key)) for where, text, _ in texts if (place := place_named(text))
        }
        written = {place for where, place in places if _WRITTEN.search(where)}
        if named and role not in named:
            # What its job touches is the other role's; the pipeline itself reads its property files.
            reads |= written if step.property_files else set()
            continue
        run_types.add(step.type)
        writes |= written
        reads |= {place for where, place in places if not _WRITTEN.search(where)}
        for where, text, value in texts:
            network = network or ".VpcConfig." in where
            if image := _ECR_URI.fullmatch(text):
                images.add(Repository(image["account"], image["region"], image["name"]))
            elif text and where.endswith("KmsKeyId"):
                keys.add(text)
            elif where.endswith(".S3DataType") and _MANIFEST.fullmatch(text):
                uri = where.removesuffix("S3DataType") + "S3Uri"
                unknown.append(f"{uri} is a manifest, and the objects that it lists are known when it is read")
            elif not text and _NAMES_A_PLACE.search(where) and isinstance(value, GetParameter):
                unknown.append(f"{where} is the parameter {value.name}, which has no value before an execution")
    steps = definition.steps
    return Needs(
        reads=tuple(sorted(shortest(reads))),
        writes=tuple(sorted(shortest(writes))),
        repositories=tuple(sorted(images, key=str)),
        roles=tuple(sorted(roles)),
        step_types=tuple(sorted({step.type for step in steps})),
        run_types=tuple(sorted(run_types)),
        functions=tuple(sorted({step.function_arn for step in steps if step.function_arn})),
        queues=tuple(sorted(filter(None, (_queue_arn(step) for step in steps)))),
        job_names=tuple(sorted(set(_job_names(steps, values)))),
        keys=tuple(sorted(keys)),
        network=network,
        keeps_trials=definition.keeps_trials,
        unknown=tuple(dict.fromkeys(unknown)),
    )


def beginning(value: Any, values: Mapping[str, ParameterValue | None]) -> tuple[str, bool]:
    """The text with which the value begins in every execution, and whether that is all of it."""
    match value:
        case str() | int() | float():
            return value_text(value), True
        case GetParameter():
            known = values.get(value.name)
            return ("", False) if known is None else (value_text(known), True)
        case Join():
            text = ""
            for index, item in enumerate(value.values):
                part, whole = beginning(item, values)
                text += (value.on if index else "") + part
                if not whole:
                    return text, False
            return text, True
        case _:
            return "", False


def _texts(step: Step, values: Mapping[str, ParameterValue | None]) -> Generator[tuple[str, str, Any]]:
    """Every value of the step's arguments that is a text, or an expression, each with its path and beginning."""
    for where, value in _walk(step.arguments, f"{step.path}.Arguments"):
        if isinstance(value, str | GetParameter | Join):
            yield where, beginning(value, values)[0], value
        elif isinstance(value, JsonGet) and value.s3_uri is not None:
            yield f"{where}.Std:JsonGet.S3Uri", beginning(value.s3_uri, values)[0], value.s3_uri
        elif isinstance(value, GetProperty):
            continue  # what another step made: that step's outputs are among the locations


def _walk(value: Any, where: str) -> Generator[tuple[str, Any]]:
    if (table := as_object(value)) is not None:
        for key, item in table.items():
            yield from _walk(item, f"{where}.{key}")
    elif items := as_list(value) or as_tuple(value):
        for index, item in enumerate(items):
            yield from _walk(item, f"{where}[{index}]")
    else:
        yield where, value


def shortest(locations: Collection[Location]) -> set[Location]:
    """The locations that no other one of them covers."""
    return {
        one
        for one in locations
        if not any(
            other != one and other.bucket == one.bucket and one.prefix.startswith(other.prefix) for other in locations
        )
    }


def _queue_arn(step: Step) -> str | None:
    """The ARN of a Callback step's queue, whose URL is ``https://sqs.REGION.amazonaws.com/ACCOUNT/NAME``."""
    match = re.fullmatch(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?/(\d{12})/([^/]+)", step.queue_url or "")
    return f"arn:{'aws-cn' if match[2] else 'aws'}:sqs:{match[1]}:{match[3]}:{match[4]}" if match else None


def _job_names(steps: Sequence[Step], values: Mapping[str, ParameterValue | None]) -> Generator[tuple[str, str]]:
    """Each type with a beginning of its jobs' names: the one that the step gives (the SDK's custom job prefix), else
    the service's, which names a job pipelines-<execution id>-<step>-<random>.
    """
    keys = ("ProcessingJobName", "TrainingJobName", "TransformJobName", "HyperParameterTuningJobName", "ModelName")
    for step in steps:
        # A Transform step's ModelName is that of the model that it reads.
        own = [key for key in keys if key in step.arguments and (key != "ModelName" or step.type == "Model")]
        given = beginning(step.arguments[own[0]], values)[0] if own else ""
        yield step.type, given or "pipelines-"
