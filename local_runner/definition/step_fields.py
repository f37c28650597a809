"""RetryPolicies, OutputParameters and PropertyFiles of a step's JSON -> their dataclasses, with every problem. No I/O.

Ranges and defaults: developer guide, Retry Policy for Pipeline Steps. That BackoffRate may be below 1 but not below 0
is the SDK's rule (``sagemaker.mlops.workflow.retry``); the guide gives no range.
"""

from __future__ import annotations

from typing import Any, get_args

from local_runner.definition.reading import Reading
from local_runner.definition.references import did_you_mean
from local_runner.jsontext import as_list, kind
from local_runner.models import OutputParameter, ParameterType, PropertyFile, RetryPolicy, ServiceException
from local_runner.names import is_relative_path

EXCEPTIONS: tuple[ServiceException, ...] = get_args(ServiceException)

_POLICY_KEYS = ("ExceptionType", "IntervalSeconds", "BackoffRate", "MaxAttempts", "ExpireAfterMin")
_LONGEST_INTERVAL = 43_200
_MOST_RETRIES = 20
_LONGEST_MINUTES = 14_400
# API shape OutputParameterList.
_MOST_OUTPUTS = 50


def parse_retry_policies(reading: Reading, value: Any, where: str) -> tuple[RetryPolicy, ...]:
    """The policies of a step, in the order in which they are asked."""
    return tuple(_policy(reading, mapping, path) for path, mapping in reading.objects(value, where))


def _policy(reading: Reading, mapping: dict[str, Any], where: str) -> RetryPolicy:
    reading.known_keys(mapping, _POLICY_KEYS, where)
    interval = reading.number(mapping, "IntervalSeconds", where, 0, _LONGEST_INTERVAL)
    rate = reading.number(mapping, "BackoffRate", where, 0, None, whole=False)
    retries = reading.number(mapping, "MaxAttempts", where, 0, _MOST_RETRIES)
    minutes = reading.number(mapping, "ExpireAfterMin", where, 0, _LONGEST_MINUTES)
    if retries is not None and minutes is not None:
        reading.problem(where, "MaxAttempts and ExpireAfterMin are both given.", "Give one of the two.")
    default = RetryPolicy(())
    most = default.max_attempts if minutes is None else None
    return RetryPolicy(
        exceptions=_exceptions(reading, mapping.get("ExceptionType"), f"{where}.ExceptionType"),
        interval_seconds=default.interval_seconds if interval is None else int(interval),
        backoff_rate=default.backoff_rate if rate is None else float(rate),
        max_attempts=most if retries is None else int(retries),
        expire_after_min=None if minutes is None else int(minutes),
    )


def _exceptions(reading: Reading, value: Any, where: str) -> tuple[ServiceException, ...]:
    items = as_list(value)
    if not items:
        given = "missing" if value is None else "empty" if items == [] else kind(value)
        reading.problem(where, f"a list of exception types is wanted, and this is {given}.", _there_are())
    found: list[ServiceException] = []
    for index, item in enumerate(items or ()):
        if item in EXCEPTIONS:
            found.append(EXCEPTIONS[EXCEPTIONS.index(item)])
        else:
            remedy = did_you_mean(item, EXCEPTIONS) if isinstance(item, str) else ""
            what = f"there is no exception type that is {kind(item)}."
            reading.problem(f"{where}[{index}]", what, remedy or _there_are())
    return tuple(found)


def _there_are() -> str:
    return f"There are {', '.join(EXCEPTIONS)}."


def parse_outputs(reading: Reading, value: Any, where: str) -> tuple[OutputParameter, ...]:
    """What a Lambda or Callback step declares to hand on."""
    found: dict[str, OutputParameter] = {}
    listed = reading.objects(value, where)
    if len(listed) > _MOST_OUTPUTS:
        reading.problem(where, f"it has {len(listed)} items, and the service takes at most {_MOST_OUTPUTS}.")
    for path, mapping in listed:
        reading.known_keys(mapping, ("OutputName", "OutputType"), path)
        name = reading.text(mapping, "OutputName", path)
        type_ = next((known for known in get_args(ParameterType) if known == mapping.get("OutputType")), None)
        if type_ is None:
            given = kind(mapping["OutputType"]) if "OutputType" in mapping else "missing"
            remedy = f"Types are {', '.join(get_args(ParameterType))}."
            reading.problem(f"{path}.OutputType", f"a type is wanted, and this is {given}.", remedy)
        if name in found:
            reading.problem(f"{path}.OutputName", f"there are two outputs '{name}'.", "Rename one.")
        elif name:
            found[name] = OutputParameter(name, type_ or "String")
    return tuple(found.values())


def parse_property_files(reading: Reading, value: Any, where: str) -> tuple[PropertyFile, ...]:
    """The JSON files that a step leaves for ``Std:JsonGet``."""
    files: dict[str, PropertyFile] = {}
    for path, mapping in reading.objects(value, where):
        reading.known_keys(mapping, ("PropertyFileName", "OutputName", "FilePath"), path)
        name = reading.text(mapping, "PropertyFileName", path)
        output = reading.text(mapping, "OutputName", path)
        file_path = reading.text(mapping, "FilePath", path)
        if file_path and not is_relative_path(file_path):
            reading.problem(f"{path}.FilePath", f"{kind(file_path)} is no path inside the output.")
        if name in files:
            reading.problem(f"{path}.PropertyFileName", f"there are two property files '{name}'.", "Rename one.")
        elif name and output and file_path:
            files[name] = PropertyFile(name, output, file_path)
    return tuple(files.values())
