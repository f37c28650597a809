"""How expressions and conditions are written in definition JSON -> :mod:`local_runner.definition.syntax`. No I/O.

What cannot be read becomes a Problem and a Deferred in its place, so that the rest is still looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from local_runner.definition.json_path import parse_json_path
from local_runner.definition.paths import Deferred, parse_path
from local_runner.definition.syntax import (
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
    Operator,
    Or,
)
from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object, kind

P = TypeVar("P")

MALFORMED = Deferred("it is malformed")
_GET_FORMS = 'Write {"Get": "Parameters.NAME"}, "Steps.NAME.PROPERTY" or "Execution.VARIABLE".'
_CONDITION_TYPES = (*get_args(Operator), "In", "NotIn", "Not", "Or")
# What the query and the values are called: as the SDK writes them, and as the published schema of definitions has them.
_IN_MEMBERS = (("QueryValue", "Values"), ("Value", "In"))


def parse_value(value: Any, where: str, problems: list[Problem]) -> Any:
    """The JSON value with its expressions parsed; what is malformed is added to ``problems``."""
    items = as_list(value)
    if items is not None:
        return [parse_value(item, f"{where}[{index}]", problems) for index, item in enumerate(items)]
    mapping = as_object(value)
    if mapping is None:
        return value
    function = next((key for key in mapping if key.startswith("Std:")), None)
    if function is None and mapping.keys() != {"Get"}:
        return {key: parse_value(item, f"{where}.{key}", problems) for key, item in mapping.items()}
    if len(mapping) > 1:
        problems.append(Problem(where, f"{function} stands beside other keys.", "Let it be the only key."))
        return MALFORMED
    return _parse_expression(function or "Get", mapping, where, problems)


def _parse_expression(
    function: str, mapping: dict[str, Any], where: str, problems: list[Problem]
) -> Expression | Deferred:
    match function:
        case "Get":
            return _parse_get(mapping["Get"], f"{where}.Get", problems)
        case "Std:Join":
            return _parse_join(mapping[function], f"{where}.{function}", problems)
        case "Std:JsonGet":
            return _parse_json_get(mapping[function], f"{where}.{function}", problems)
        case _:
            problems.append(
                Problem(where, f"{function} is no function of pipelines.", "There are Std:Join and Std:JsonGet.")
            )
            return MALFORMED


def _parse_get(value: Any, where: str, problems: list[Problem]) -> Expression | Deferred:
    if not isinstance(value, str):
        problems.append(Problem(where, f"Get wants a text, and this is {kind(value)}.", _GET_FORMS))
        return MALFORMED
    space, _, name = value.partition(".")
    step, _, path_text = name.partition(".")
    match space:
        case "Parameters" if name:
            return GetParameter(name)
        case "Execution" if name:
            return GetVariable(name)
        case "Steps" if step and path_text.startswith("PropertyFiles."):
            problems.append(Problem(where, f"'{value}' is a property file.", "Read it with Std:JsonGet."))
            return MALFORMED
        case "Steps" if step and path_text:
            path = _parse_path(path_text, where, problems, parse_path)
            return MALFORMED if path is None else GetProperty(step, path)
        case _:
            problems.append(Problem(where, f"'{value}' names nothing that Get can read.", _GET_FORMS))
            return MALFORMED


def _parse_path(value: Any, where: str, problems: list[Problem], parse: Callable[[str], P]) -> P | None:
    if not isinstance(value, str):
        problems.append(Problem(where, f"a path is wanted, and this is {kind(value)}."))
        return None
    try:
        return parse(value)
    except ValueError as error:
        problems.append(Problem(where, str(error)))
        return None


def _parse_join(value: Any, where: str, problems: list[Problem]) -> Expression | Deferred:
    mapping = _function_object(value, where, {"On", "Values"}, problems)
    values = as_list(mapping.get("Values")) if mapping else None
    on = mapping.get("On", "") if mapping else ""
    if mapping is None:
        return MALFORMED
    if values is None or not isinstance(on, str):
        problems.append(Problem(where, "Std:Join wants On, a text, and Values, a list."))
        return MALFORMED
    before = len(problems)
    parsed = [_scalar(item, f"{where}.Values[{index}]", problems) for index, item in enumerate(values)]
    if None in values:
        problems.append(Problem(f"{where}.Values[{values.index(None)}]", "Std:Join cannot join null.", "Take it out."))
    return Join(on, tuple(parsed)) if len(problems) == before else MALFORMED


def _parse_json_get(value: Any, where: str, problems: list[Problem]) -> Expression | Deferred:
    mapping = _function_object(value, where, {"PropertyFile", "S3Uri", "Path"}, problems)
    if mapping is None:
        return MALFORMED
    path = _parse_path(mapping.get("Path"), f"{where}.Path", problems, parse_json_path)
    if ("PropertyFile" in mapping) == ("S3Uri" in mapping):
        problems.append(Problem(where, "Std:JsonGet wants a PropertyFile or an S3Uri, one of the two."))
        return MALFORMED
    if "S3Uri" in mapping:
        uri = _scalar(mapping["S3Uri"], f"{where}.S3Uri", problems)
        return MALFORMED if isinstance(uri, Deferred) or path is None else JsonGet(path, s3_uri=uri)
    source = as_object(mapping["PropertyFile"])
    reference = source.get("Get") if source else mapping["PropertyFile"]
    parts = reference.split(".", 3) if isinstance(reference, str) else []
    if len(parts) != 4 or parts[0] != "Steps" or parts[2] != "PropertyFiles" or not parts[1] or not parts[3]:
        problems.append(
            Problem(
                f"{where}.PropertyFile",
                'this is not {"Get": "Steps.STEP.PropertyFiles.NAME"}.',
                "Write it so.",
            )
        )
        return MALFORMED
    return MALFORMED if path is None else JsonGet(path, step=parts[1], property_file=parts[3])


def _function_object(value: Any, where: str, known: set[str], problems: list[Problem]) -> dict[str, Any] | None:
    mapping = as_object(value)
    if mapping is None:
        problems.append(Problem(where, f"an object is wanted, and this is {kind(value)}."))
        return None
    for key in sorted(mapping.keys() - known):
        problems.append(Problem(f"{where}.{key}", f"'{key}' is not known here.", f"Known are {_and(known)}."))
    return mapping


def _and(names: set[str]) -> str:
    *first, last = sorted(names)
    return f"{', '.join(first)} and {last}"


# ----------------------------------------------------------------------------------------------------- conditions
def parse_conditions(value: Any, where: str, problems: list[Problem]) -> tuple[Condition, ...]:
    """The conditions of a list; those that are malformed are left out and added to ``problems``."""
    items = as_list(value)
    if not items:
        problems.append(Problem(where, "a list of at least one condition is wanted."))
        return ()
    parsed = [_parse_condition(item, f"{where}[{index}]", problems) for index, item in enumerate(items)]
    return tuple(condition for condition in parsed if condition is not None)


def _parse_condition(value: Any, where: str, problems: list[Problem]) -> Condition | None:
    mapping = as_object(value)
    if mapping is None:
        problems.append(Problem(where, f"a condition is an object, and this is {kind(value)}."))
        return None
    operator = mapping.get("Type")
    match operator:
        case "Equals" | "NotEquals" | "GreaterThan" | "GreaterThanOrEqualTo" | "LessThan" | "LessThanOrEqualTo":
            _check_members(mapping, {"LeftValue", "RightValue"}, where, problems)
            return Comparison(
                operator,
                _operand(mapping, "LeftValue", where, problems),
                _operand(mapping, "RightValue", where, problems),
            )
        case "In" | "NotIn":
            return _parse_in(mapping, operator == "NotIn", where, problems)
        case "Not":
            _check_members(mapping, {"Condition"}, where, problems)
            if "Condition" not in mapping:
                return None
            inner = _parse_condition(mapping["Condition"], f"{where}.Condition", problems)
            return None if inner is None else Not(inner)
        case "Or":
            _check_members(mapping, {"Conditions"}, where, problems)
            if "Conditions" not in mapping:
                return None
            return Or(parse_conditions(mapping["Conditions"], f"{where}.Conditions", problems))
        case _:
            what = "the condition has no Type." if operator is None else f"there is no condition of Type {operator!r}."
            problems.append(Problem(f"{where}.Type", what, f"Types are {', '.join(_CONDITION_TYPES)}."))
            return None


def _parse_in(mapping: dict[str, Any], negated: bool, where: str, problems: list[Problem]) -> In:
    members = next((members for members in _IN_MEMBERS if members[1] in mapping), _IN_MEMBERS[0])
    query, values = members
    _check_members(mapping, {query, values}, where, problems)
    options = as_list(mapping.get(values))
    if options is None and values in mapping:
        problems.append(Problem(f"{where}.{values}", f"a list is wanted, and this is {kind(mapping[values])}."))
    parsed = [_scalar(item, f"{where}.{values}[{n}]", problems) for n, item in enumerate(options or ())]
    return In(_operand(mapping, query, where, problems), tuple(parsed), negated, members)


def _check_members(mapping: dict[str, Any], wanted: set[str], where: str, problems: list[Problem]) -> None:
    for key in sorted(wanted - mapping.keys()):
        problems.append(Problem(where, f"the {mapping['Type']} condition has no {key}.", "Add it."))
    for key in sorted(mapping.keys() - wanted - {"Type"}):
        problems.append(Problem(f"{where}.{key}", f"'{key}' is not known in a condition of Type {mapping['Type']}."))


def _operand(mapping: dict[str, Any], key: str, where: str, problems: list[Problem]) -> Any:
    return _scalar(mapping[key], f"{where}.{key}", problems) if key in mapping else MALFORMED


def _scalar(value: Any, where: str, problems: list[Problem]) -> Any:
    parsed = parse_value(value, where, problems)
    if isinstance(parsed, dict | list):
        wanted = "a text, number, boolean or expression is wanted"
        problems.append(Problem(where, f"{wanted}, and this is {kind(value)}."))
        return MALFORMED
    return parsed
