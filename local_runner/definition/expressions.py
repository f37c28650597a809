"""What expressions and conditions evaluate to: Get, Std:Join, Std:JsonGet, comparisons.

No I/O of its own: files are read through ``Scope.read``, which the caller gives. What can be written is
:mod:`local_runner.definition.syntax`.

What AWS does not document, and is chosen here:

- Join writes numbers as JSON does and booleans as ``true`` and ``false``; null, lists and objects cannot be joined.
- Two values are compared as numbers where one is a number and the other one or a text that spells one; two texts are
  equal only if they are the same text, and are ordered as numbers where both spell one, else as text (so ISO dates
  order by time). A boolean equals the text ``true`` or ``false`` (any case), has no order, and equals no number.
- ``CurrentDateTime`` is the time that ``Scope.execution`` holds; ``Scope.at`` sets it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from local_runner.definition.json_path import Query, value_at
from local_runner.definition.paths import Deferred, Path, PathNotFoundError
from local_runner.definition.syntax import (
    EXPRESSIONS,
    JOB_VARIABLES,
    Comparison,
    Condition,
    Expression,
    GetParameter,
    GetProperty,
    GetVariable,
    In,
    Join,
    JsonGet,
    Not,
    Or,
)
from local_runner.jsontext import as_list, as_object, kind, parse_json, shorten, value_text
from local_runner.models import ParameterValue, PropertyFile


class ExpressionError(Exception):
    """An expression has no value, though everything it reads is known; the message is a sentence."""


@dataclass(frozen=True)
class Scope:
    """What expressions can see at one moment of an execution.

    ``steps`` holds a Describe-like response for each step that is done; a step that is not in it, or a Deferred in
    it, is not known yet. ``read`` gives the text at an S3 URI and raises OSError where there is none; without it
    JsonGet is not known yet. ``property_files`` are those of the definition by (step, name).
    """

    parameters: Mapping[str, ParameterValue]
    execution: Mapping[str, str]
    steps: Mapping[str, Mapping[str, Any] | Deferred] = field(default_factory=dict[str, Mapping[str, Any] | Deferred])
    property_files: Mapping[tuple[str, str], PropertyFile] = field(default_factory=dict[tuple[str, str], PropertyFile])
    read: Callable[[str], str] | None = None

    def with_step(self, name: str, describe: Mapping[str, Any] | Deferred) -> Scope:
        """This scope, and the result of one more step."""
        return replace(self, steps={**self.steps, name: describe})

    def at(self, now: str) -> Scope:
        """This scope at another moment (ISO 8601): the value of CurrentDateTime."""
        return replace(self, execution={**self.execution, "CurrentDateTime": now})

    def of_job(self, name: str) -> Scope:
        """This scope as the arguments of a step see it whose job has that name."""
        return replace(self, execution={**self.execution, **dict.fromkeys(JOB_VARIABLES, name)})


def condition_result(outcome: bool) -> dict[str, str]:
    """What a Condition step with the result ``outcome`` shows to ``Get``; the service writes it as text."""
    return {"Outcome": "True" if outcome else "False"}


def resolve(value: Any, scope: Scope) -> Any:
    """The value with every expression replaced by its value, or by a Deferred where that is not known yet.

    A value without expressions comes back equal. Raises ExpressionError.
    """
    return substitute(value, "", lambda expression, _: evaluate_expression(expression, scope))


def substitute(value: Any, where: str, replacement: Callable[[Expression, str], Any]) -> Any:
    """The JSON value with every outermost expression replaced; ``replacement`` is given its path as well."""
    if isinstance(value, EXPRESSIONS):
        return replacement(value, where)
    mapping = as_object(value)
    if mapping is not None:
        return {key: substitute(item, f"{where}.{key}", replacement) for key, item in mapping.items()}
    items = as_list(value)
    if items is not None:
        return [substitute(item, f"{where}[{index}]", replacement) for index, item in enumerate(items)]
    return value


def evaluate_expression(expression: Any, scope: Scope) -> Any:
    """The value of one expression (a plain value is itself). Raises ExpressionError."""
    match expression:
        case GetParameter(name):
            return scope.parameters.get(name, Deferred(f"parameter '{name}' has no value"))
        case GetVariable(name):
            return scope.execution.get(name, Deferred(f"Execution.{name} has no value"))
        case GetProperty(step, path):
            result = scope.steps.get(step, Deferred(f"step '{step}' has not run"))
            return result if isinstance(result, Deferred) else _followed(result, path, f"Steps.{step}")
        case Join(on, values):
            return _joined(on, [evaluate_expression(value, scope) for value in values])
        case JsonGet(path):
            uri = json_uri(expression, scope)
            return uri if isinstance(uri, Deferred) else _read_json(uri, path, scope)
        case _:
            return expression


def json_uri(expression: JsonGet, scope: Scope) -> str | Deferred:
    """The S3 URI of the file that a JsonGet reads. Raises ExpressionError."""
    if expression.step is None:
        uri = evaluate_expression(expression.s3_uri, scope)
        if not isinstance(uri, str | Deferred):
            raise ExpressionError(f"Std:JsonGet's S3Uri is {kind(uri)}, which is no URI.")
        return uri
    file = scope.property_files.get((expression.step, str(expression.property_file)))
    result = scope.steps.get(expression.step)
    if file is None or result is None or isinstance(result, Deferred):
        return Deferred(f"step '{expression.step}' has not run")
    location = Path(
        f"ProcessingOutputConfig.Outputs['{file.output_name}'].S3Output.S3Uri",
        ("ProcessingOutputConfig", "Outputs", file.output_name, "S3Output", "S3Uri"),
    )
    prefix = _followed(result, location, f"Steps.{expression.step}")
    return prefix if isinstance(prefix, Deferred) else f"{str(prefix).rstrip('/')}/{file.file_path}"


def _followed(value: Any, path: Path | Query, name: str) -> Any:
    try:
        return value_at(value, path)
    except PathNotFoundError as error:
        raise ExpressionError(f"{name} has no '{path.text}': {error}.") from None


def _joined(on: str, values: list[Any]) -> str | Deferred:
    for value in values:
        if isinstance(value, Deferred):
            return value
    return on.join(_text(value) for value in values)


def _text(value: Any) -> str:
    if isinstance(value, str | int | float):
        return value_text(value)
    raise ExpressionError(f"Std:Join cannot join {kind(value)}; it joins texts, numbers and booleans.")


def _read_json(uri: str, path: Path | Query, scope: Scope) -> Any:
    if scope.read is None:
        return Deferred(f"{uri} is read when the execution gets there")
    try:
        document = parse_json(scope.read(uri))
    except OSError as error:
        raise ExpressionError(f"Std:JsonGet cannot read {uri}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise ExpressionError(f"Std:JsonGet cannot read {uri}: it is not UTF-8 text.") from None
    except ValueError as error:
        raise ExpressionError(f"Std:JsonGet cannot read {uri}: it {error}") from None
    return _followed(document, path, uri)


# ----------------------------------------------------------------------------------------------------- conditions
_NUMBER = re.compile(r"\s*[+-]?\d{1,300}(\.\d{1,300})?([eE][+-]?\d{1,3})?\s*", re.ASCII)


def evaluate(conditions: Sequence[Condition], scope: Scope) -> bool:
    """Whether every one of the conditions holds. Raises ExpressionError, also where a value is not known yet."""
    return all(_holds(condition, scope) for condition in conditions)


def _holds(condition: Condition, scope: Scope) -> bool:
    match condition:
        case Comparison("Equals", left, right):
            return _equal(_known(left, scope), _known(right, scope))
        case Comparison("NotEquals", left, right):
            return not _equal(_known(left, scope), _known(right, scope))
        case Comparison(operator, left, right):
            order = _order(_known(left, scope), _known(right, scope))
            match operator:
                case "GreaterThan":
                    return order > 0
                case "GreaterThanOrEqualTo":
                    return order >= 0
                case "LessThan":
                    return order < 0
                case _:
                    return order <= 0
        case In(query, values, negated):
            wanted = _known(query, scope)
            return any(_equal(wanted, _known(value, scope)) for value in values) is not negated
        case Not(inner):
            return not _holds(inner, scope)
        case Or(conditions):
            return any(_holds(inner, scope) for inner in conditions)


def _known(value: Any, scope: Scope) -> Any:
    result = evaluate_expression(value, scope)
    if isinstance(result, Deferred):
        raise ExpressionError(f"A condition reads a value that is not known: {result.reason}.")
    if result is not None and not isinstance(result, str | int | float):
        raise ExpressionError(f"A condition cannot compare {kind(result)}; it compares texts, numbers and booleans.")
    return result


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value) if re.search(r"[.eE]", value) else int(value)
    return None


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return _truth(left) is not None and _truth(left) is _truth(right)
    if isinstance(left, str) and isinstance(right, str):
        return left == right
    first, second = _number(left), _number(right)
    if first is not None and second is not None:
        return first == second
    return left is None and right is None


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def _order(left: Any, right: Any) -> int:
    """Negative, zero or positive, as left is before, beside or after right."""
    first, second = _number(left), _number(right)
    if first is not None and second is not None:
        return (first > second) - (first < second)
    if isinstance(left, str) and isinstance(right, str):
        return (left > right) - (left < right)
    raise ExpressionError(f"A condition cannot order {_shown(left)} and {_shown(right)}.")


def _shown(value: Any) -> str:
    return kind(shorten(value) if isinstance(value, str) else value)
