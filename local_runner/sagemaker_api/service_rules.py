"""What the service refuses although botocore's model lets it pass: one table, each rule with its source.

The rules stand by the shape of the API that they are about. :mod:`local_runner.sagemaker_api.limits` applies them
where it meets that shape, to what is known: in planning to literals and parameters, and again when a step starts. A
value that is not known yet (Deferred) breaks no rule. Reads ``local_storage.json`` beside this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from local_runner.definition.paths import Deferred
from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object, kind, parse_json, shorten


@dataclass(frozen=True)
class Fault:
    """What breaks a rule: ``below`` is its path from the value on (``.Value``), ``what`` a sentence without its end."""

    below: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Rule:
    """``faults`` finds what breaks the rule in a value of the rule's shape; ``source`` says where AWS states it."""

    source: str
    faults: Callable[[Any], Iterator[Fault]]


def rule_problems(value: Any, shape: str, where: str) -> list[Problem]:
    """What the service refuses of a value of that shape, beyond the model. ``where`` is its path in the definition."""
    return broken(RULES.get(shape, ()), value, where)


def broken(rules: Iterable[Rule], value: Any, where: str) -> list[Problem]:
    """What breaks these rules in a value, each with the rule's source."""
    return [
        Problem(f"{where}{fault.below}", f"{fault.what} ({rule.source}).", fault.remedy)
        for rule in rules
        for fault in rule.faults(value)
    ]


def pipeline_name_problems(name: str, where: str) -> list[Problem]:
    """What the service refuses of a pipeline's name (API shape PipelineName, which a cached run need not load)."""
    if PIPELINE_NAME.fullmatch(name):
        return []
    what = f"{kind(name)} ({len(name)} characters) is no name that the service takes (API shape PipelineName)."
    return [Problem(where, what, "It takes letters, digits and hyphens between them, 256 characters at most.")]


PIPELINE_NAME = re.compile(r"(?=.{1,256}\Z)[a-zA-Z0-9](-*[a-zA-Z0-9]){0,255}", re.ASCII)


# ------------------------------------------------------------------------------------------------------- the rules
def _empty_text(value: Any) -> Iterator[Fault]:
    if value is None or value == "":
        yield Fault("", "the service takes no empty text here", "Leave it out, or give a text that means 'none'.")


def _empty_value(value: Any) -> Iterator[Fault]:
    if (as_object(value) or {}).get("Value") == "":
        remedy = "Leave the parameter out, so that its default holds, or give a text."
        yield Fault(".Value", "the service takes no empty value at the start", remedy)


def _what_moving_needs(member: str, keys: tuple[str, ...]) -> Callable[[Any], Iterator[Fault]]:
    """What an input or output has to say where the service moves it, and the job's program does not (AppManaged)."""
    values = {"S3InputMode": "File or Pipe", "LocalPath": "a path under /opt/ml/processing/"}

    def faults(value: Any) -> Iterator[Fault]:
        item = as_object(value) or {}
        moved = as_object(item.get(member))
        managed = item.get("AppManaged")
        if moved is None or managed is True or isinstance(managed, Deferred):
            return
        for key in keys:
            if moved.get(key) is None:
                yield Fault(f".{member}.{key}", f"{key} is missing", f"Give {values[key]}.")

    return faults


def _key_of_local_storage(value: Any) -> Iterator[Fault]:
    resources = as_object(value) or {}
    type_ = resources.get("InstanceType")
    if resources.get("VolumeKmsKeyId") and local_storage(type_) is not None:
        what = f"{type_} has local storage, which is encrypted by the instance, and takes no VolumeKmsKeyId"
        yield Fault(".VolumeKmsKeyId", what, "Leave it out, or use an instance type without local storage.")


def _volume_of_local_storage(value: Any) -> Iterator[Fault]:
    resources = as_object(value) or {}
    type_, size = resources.get("InstanceType"), resources.get("VolumeSizeInGB")
    most = local_storage(type_)
    if most is not None and isinstance(size, int) and size > most:
        what = f"{type_} has {most} GB of local storage, which is all that its jobs get, and this asks for {size}"
        yield Fault(".VolumeSizeInGB", what, f"Ask for {most} at most, or use another instance type.")


def _unique(key: str) -> Callable[[Any], Iterator[Fault]]:
    def faults(value: Any) -> Iterator[Fault]:
        seen: set[str] = set()
        for index, item in enumerate(as_list(value) or ()):
            name = (as_object(item) or {}).get(key)
            if isinstance(name, str) and name in seen:
                yield Fault(f"[{index}].{key}", f"there are two '{shorten(name)}'", "Leave one of them.")
            elif isinstance(name, str):
                seen.add(name)

    return faults


def _wait_below_runtime(value: Any) -> Iterator[Fault]:
    condition = as_object(value) or {}
    wait, run = condition.get("MaxWaitTimeInSeconds"), condition.get("MaxRuntimeInSeconds")
    if isinstance(wait, int) and isinstance(run, int) and wait < run:
        what = f"it is {wait}, and MaxRuntimeInSeconds is {run}"
        yield Fault(".MaxWaitTimeInSeconds", what, "Give at least as much as MaxRuntimeInSeconds.")


def _payload(value: Any) -> Iterator[Fault]:
    request = as_object(value) or {}
    payload, side_by_side = request.get("MaxPayloadInMB"), request.get("MaxConcurrentTransforms")
    if not isinstance(payload, int):
        return
    total = payload * side_by_side if isinstance(side_by_side, int) else payload
    if payload > _MOST_PAYLOAD or total > _MOST_PAYLOAD:
        what = f"{max(payload, total)} MB could be on their way at once, and the service takes {_MOST_PAYLOAD}"
        yield Fault(".MaxPayloadInMB", what, "Lower it, or MaxConcurrentTransforms, which multiplies it.")


def _two_algorithms(value: Any) -> Iterator[Fault]:
    algorithm = as_object(value) or {}
    if algorithm.get("AlgorithmName") is not None and algorithm.get("TrainingImage") is not None:
        yield Fault(".AlgorithmName", "AlgorithmName and TrainingImage are both given", "Give one of the two.")


_MOST_PAYLOAD = 100
_KEY = "You can't request a VolumeKmsKeyId when using an instance type with local storage"
_EMPTY_TEXT = Rule(
    "aws/sagemaker-python-sdk issue 3758: the service's message 'may not contain null or empty strings'", _empty_text
)
_MOVED_INPUT = Rule(
    "aws/sagemaker-python-sdk issue 2578: 'missing one or more required fields'",
    _what_moving_needs("S3Input", ("S3InputMode", "LocalPath")),
)
_MOVED_OUTPUT = Rule(
    "API ProcessingS3Output: what is uploaded lies there", _what_moving_needs("S3Output", ("LocalPath",))
)
_EMPTY_VALUE = Rule(
    "aws/sagemaker-python-sdk issue 4016: StartPipelineExecution wants at least 1 character", _empty_value
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "ContainerArgument": (_EMPTY_TEXT,),
    "ContainerEntrypointString": (_EMPTY_TEXT,),
    "ProcessingInput": (_MOVED_INPUT,),
    "ProcessingOutput": (_MOVED_OUTPUT,),
    "ProcessingClusterConfig": (
        Rule(f"API ProcessingClusterConfig: {_KEY}", _key_of_local_storage),
        Rule(
            "API ProcessingClusterConfig, VolumeSizeInGB: not greater than the local storage", _volume_of_local_storage
        ),
    ),
    "ResourceConfig": (Rule(f"API ResourceConfig: {_KEY}", _key_of_local_storage),),
    "TransformResources": (Rule(f"API TransformResources: {_KEY}", _key_of_local_storage),),
    "StoppingCondition": (Rule("API StoppingCondition, MaxWaitTimeInSeconds", _wait_below_runtime),),
    "CreateTransformJobRequest": (Rule("API CreateTransformJob, MaxPayloadInMB", _payload),),
    "AlgorithmSpecification": (Rule("API AlgorithmSpecification", _two_algorithms),),
    "TagList": (Rule("API Tag: keys are unique for each resource", _unique("Key")),),
    "Parameter": (_EMPTY_VALUE,),
}
"""The rules by the shape of the API that each is about. An empty tuple is none."""


# ---------------------------------------------------------------------------------------------------- local storage
def local_storage(instance_type: Any) -> int | None:
    """GB of local storage that an instance of that type has; None where it has none, or the type is not known."""
    return _local_storage().get(instance_type) if isinstance(instance_type, str) else None


@cache
def _local_storage() -> dict[str, int]:
    text = Path(__file__).with_name("local_storage.json").read_text(encoding="utf-8")
    return parse_json(text)["gigabytes"]
