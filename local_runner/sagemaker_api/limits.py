"""A resolved request against the service's own limits, and its rules beyond them. Reads botocore's service model, and
keeps what it needs of it in small files of the cache directory; no network.

The limits are those of the installed botocore, so that no number is copied. Loading its model takes a third of a
second; the extracts, one for each request, take a few milliseconds and are made once per botocore version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from local_runner.definition.paths import Deferred
from local_runner.definition.references import did_you_mean
from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object, kind, shorten
from local_runner.sagemaker_api.service_rules import rule_problems
from local_runner.storage.records import Each, RecordError, read_record, write_record

_FORMAT = 2
_KEPT = ("type", "required", "min", "max", "pattern", "enum")

# The pipeline service gives a job its name, and its own role where the step names none.
_FILLED_IN = {
    "CreateProcessingJobRequest": frozenset({"ProcessingJobName", "RoleArn"}),
    "CreateTrainingJobRequest": frozenset({"TrainingJobName", "RoleArn"}),
    "CreateTransformJobRequest": frozenset({"TransformJobName"}),
    "CreateModelInput": frozenset({"ModelName"}),
    # botocore makes the token where a call has none.
    "CreatePipelineRequest": frozenset({"ClientRequestToken"}),
    "StartPipelineExecutionRequest": frozenset({"ClientRequestToken"}),
}

Shapes = dict[str, dict[str, Any]]


def request_problems(request: Mapping[str, Any], shape: str, where: str, cache_dir: Path) -> list[Problem]:
    """Everything in the request that the service would refuse: members, types, lengths, ranges, patterns, enums, and
    what :mod:`local_runner.sagemaker_api.service_rules` has for its parts.

    ``shape`` is what botocore calls the request (``CreateProcessingJobRequest``), ``where`` its path in the
    definition. Values that are Deferred are skipped, and a null is taken as left out.
    """
    return shape_problems(request, shape, where, load_shapes(shape, cache_dir))


def shape_problems(value: Any, shape: str, where: str, shapes: Shapes) -> list[Problem]:
    """As ``request_problems``, against shapes at hand (of any service; :func:`load_shapes` has their form)."""
    problems: list[Problem] = []
    _check(value, shape, where, shapes, problems)
    return problems


@lru_cache(maxsize=16)
def load_shapes(shape: str, cache_dir: Path) -> Shapes:
    """The shapes that make up a request, by name, as botocore's model has them but without their documentation."""
    import botocore  # not at the top: `local-runner --help` does not need it

    path = cache_dir / f"limits-{botocore.__version__}-{shape}.json"
    try:
        kept = read_record(path, {"format": int, "shapes": Each(dict)})
        if kept["format"] == _FORMAT:
            return kept["shapes"]
    except (OSError, RecordError):
        pass  # not there yet, or not whole: it is made anew
    shapes = _extract(shape)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        write_record(path, {"format": _FORMAT, "shapes": shapes})
    return shapes


@cache  # of the installed botocore, for every state directory of this process
def _extract(request: str) -> Shapes:
    from botocore.loaders import Loader  # costs 0.3 s with the model; needed once per version

    loader: Any = Loader()
    model: Shapes = loader.load_service_model("sagemaker", "service-2")["shapes"]
    shapes: Shapes = {}
    waiting = [request]
    while waiting:
        name = waiting.pop()
        if name in shapes:
            continue
        shape = model[name]
        kept: dict[str, Any] = {key: shape[key] for key in _KEPT if key in shape}
        if "members" in shape:
            kept["members"] = {key: member["shape"] for key, member in shape["members"].items()}
            waiting += kept["members"].values()
        for part in ("member", "key", "value"):
            if part in shape:
                kept[part] = shape[part]["shape"]
                waiting.append(kept[part])
        shapes[name] = kept
    return shapes


def _check(value: Any, name: str, where: str, shapes: Shapes, problems: list[Problem]) -> None:
    if isinstance(value, Deferred):
        return
    shape = shapes[name]
    problems += rule_problems(value, name, where)
    match shape["type"]:
        case "structure":
            _check_structure(value, name, where, shapes, problems)
        case "list":
            items = as_list(value)
            if items is None:
                problems.append(Problem(where, f"a list is wanted, and this is {kind(value)}."))
                return
            _check_range(len(items), shape, where, "items", problems)
            for index, item in enumerate(items):
                _check(item, shape["member"], f"{where}[{index}]", shapes, problems)
        case "map":
            mapping = as_object(value)
            if mapping is None:
                problems.append(Problem(where, f"an object is wanted, and this is {kind(value)}."))
                return
            _check_range(len(mapping), shape, where, "entries", problems)
            for key, item in mapping.items():
                _check(key, shape["key"], f"{where}.{key}", shapes, problems)
                _check(item, shape["value"], f"{where}.{key}", shapes, problems)
        case _:
            _check_scalar(value, shape, where, problems)


def _check_structure(value: Any, name: str, where: str, shapes: Shapes, problems: list[Problem]) -> None:
    mapping = as_object(value)
    if mapping is None:
        problems.append(Problem(where, f"an object is wanted, and this is {kind(value)}."))
        return
    members: dict[str, str] = shapes[name]["members"]
    filled_in = _FILLED_IN.get(name, frozenset[str]())
    for required in shapes[name].get("required", ()):
        if mapping.get(required) is None and required not in filled_in:
            problems.append(Problem(where, f"{required} is missing.", "The service requires it."))
    for key, item in mapping.items():
        if key not in members:
            remedy = did_you_mean(key, members) or f"Known are {', '.join(members)}."
            problems.append(Problem(f"{where}.{key}", f"'{shorten(key)}' is not known here.", remedy))
        elif item is not None:
            _check(item, members[key], f"{where}.{key}", shapes, problems)


def _check_scalar(value: Any, shape: dict[str, Any], where: str, problems: list[Problem]) -> None:
    match shape["type"], value:
        case "string", str():
            _check_text(value, shape, where, problems)
        case "string", bool() | int() | float():
            remedy = "Write it as a text; with the SDK, a parameter's to_string()."
            problems.append(Problem(where, f"a text is wanted, and this is {kind(value)}.", remedy))
        case "integer" | "long", int() if not isinstance(value, bool):
            _check_range(value, shape, where, "", problems)
        case "float" | "double", int() | float() if not isinstance(value, bool):
            _check_range(value, shape, where, "", problems)
        case ("boolean", bool()) | ("blob" | "timestamp", _):
            pass
        case type_, _:
            names = {"string": "a text", "integer": "a whole number", "boolean": "true or false"}
            problems.append(Problem(where, f"{names.get(type_, 'a number')} is wanted, and this is {kind(value)}."))


def _check_text(value: str, shape: dict[str, Any], where: str, problems: list[Problem]) -> None:
    options: list[str] = shape.get("enum", [])
    if options:
        if value not in options:
            few = f"There are {', '.join(options)}." if len(options) <= 8 else ""
            remedy = few or did_you_mean(value, options) or "The installed botocore does not know it."
            problems.append(Problem(where, f"{kind(value)} is not one of the values that the service takes.", remedy))
        return
    before = len(problems)
    _check_range(len(value), shape, where, "characters", problems)
    pattern = _compiled(shape["pattern"]) if "pattern" in shape else None
    # A text of the wrong length is not matched as well: it is one fault, and the match could take long.
    if len(problems) == before and pattern is not None and not pattern.fullmatch(value):
        problems.append(
            Problem(
                where,
                f"{kind(value)} is not of the form that the service takes.",
                f"It takes {pattern.pattern}",
            )
        )


_JAVA_CLASSES = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s"}
"""Java's classes of characters that Python lacks, and what takes all of each (and a little more)."""


@lru_cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    if "[^" not in pattern:  # where more is taken, nothing is refused wrongly
        for java, python in _JAVA_CLASSES.items():
            pattern = pattern.replace(java, python)
    try:
        return re.compile(pattern)
    except re.error:
        return None  # what Python lacks is left to the service


def _check_range(size: float, shape: dict[str, Any], where: str, unit: str, problems: list[Problem]) -> None:
    least, most = shape.get("min"), shape.get("max")
    given = f"it has {size} {unit}" if unit else f"it is {size}"
    if least is not None and size < least:
        problems.append(Problem(where, f"{given}, and the service wants at least {least}."))
    if most is not None and size > most:
        problems.append(Problem(where, f"{given}, and the service takes at most {most}."))
