"""What can be written in a definition in place of a value: expressions and conditions, parsed. No I/O.

How they are written in JSON is :mod:`local_runner.definition.grammar`; what they evaluate to is
:mod:`local_runner.definition.expressions`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

from local_runner.definition.json_path import Query
from local_runner.definition.paths import Deferred, Path
from local_runner.jsontext import as_list, as_object, as_tuple

EXECUTION_VARIABLES = (
    "StartDateTime",
    "CurrentDateTime",
    "PipelineName",
    "PipelineArn",
    "PipelineExecutionId",
    "PipelineExecutionArn",
)
JOB_VARIABLES = {"ProcessingJobName": "Processing", "TrainingJobName": "Training"}
"""Execution variables that only the arguments of a step of one type can read: the name of its own job."""


@dataclass(frozen=True)
class GetParameter:
    """``{"Get": "Parameters.<name>"}``"""

    name: str


@dataclass(frozen=True)
class GetVariable:
    """``{"Get": "Execution.<name>"}``"""

    name: str


@dataclass(frozen=True)
class GetProperty:
    """``{"Get": "Steps.<step>.<path into its Describe response>"}``"""

    step: str
    path: Path


@dataclass(frozen=True)
class Join:
    """``{"Std:Join": {"On": on, "Values": values}}``; the values are texts, numbers, booleans or expressions."""

    on: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class JsonGet:
    """``Std:JsonGet`` of a step's property file (``step`` and ``property_file``), or of an object (``s3_uri``)."""

    path: Path | Query
    step: str | None = None
    property_file: str | None = None
    s3_uri: Any = None


Expression = GetParameter | GetVariable | GetProperty | Join | JsonGet
EXPRESSIONS = (GetParameter, GetVariable, GetProperty, Join, JsonGet)

Operator = Literal["Equals", "NotEquals", "GreaterThan", "GreaterThanOrEqualTo", "LessThan", "LessThanOrEqualTo"]


@dataclass(frozen=True)
class Comparison:
    """``LeftValue`` compared with ``RightValue``."""

    operator: Operator
    left: Any
    right: Any


@dataclass(frozen=True)
class In:
    """Whether the query equals one of the values; ``negated``, whether it equals none.

    ``members`` are what the two are called in the definition.
    """

    query: Any
    values: tuple[Any, ...]
    negated: bool = False
    members: tuple[str, str] = ("QueryValue", "Values")


@dataclass(frozen=True)
class Not:
    """The opposite of a condition."""

    condition: Condition


@dataclass(frozen=True)
class Or:
    """Whether one of the conditions holds."""

    conditions: tuple[Condition, ...]


Condition = Comparison | In | Not | Or


def walk(value: Any, where: str) -> Generator[tuple[str, Expression | Deferred]]:
    """Every expression in a value or condition, outer before inner, each with its path in the definition."""
    match value:
        case GetParameter() | GetVariable() | GetProperty() | Deferred():
            yield where, value
        case Join():
            yield where, value
            yield from walk(value.values, f"{where}.Std:Join.Values")
        case JsonGet():
            yield where, value
            yield from walk(value.s3_uri, f"{where}.Std:JsonGet.S3Uri")
        case Comparison():
            yield from walk(value.left, f"{where}.LeftValue")
            yield from walk(value.right, f"{where}.RightValue")
        case In():
            query, values = value.members
            yield from walk(value.query, f"{where}.{query}")
            yield from walk(value.values, f"{where}.{values}")
        case Not():
            yield from walk(value.condition, f"{where}.Condition")
        case Or():
            yield from walk(value.conditions, f"{where}.Conditions")
        case _:
            for key, item in (as_object(value) or {}).items():
                yield from walk(item, f"{where}.{key}")
            for index, item in enumerate(as_list(value) or as_tuple(value)):
                yield from walk(item, f"{where}[{index}]")
