"""What expressions come to, how values compare, and which paths are read."""

from __future__ import annotations

import json
import operator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runner.definition.expressions import (
    ExpressionError,
    Scope,
    condition_result,
    evaluate,
    resolve,
)
from local_runner.definition.grammar import parse_conditions, parse_value
from local_runner.definition.paths import Deferred, PathNotFoundError, follow, parse_path
from local_runner.errors import Problem
from local_runner.models import PropertyFile

FILES = {"s3://b/out/report.json": '{"bad": {"ratio": 0.25}, "rows": [5, {"a.b": 6}], "none": null, "text": "0.25"}'}


def read(uri: str) -> str:
    if uri not in FILES:
        raise FileNotFoundError(2, "No such file or directory", uri)
    return FILES[uri]


OUTPUT = {"OutputName": "quality", "S3Output": {"S3Uri": "s3://b/out"}}
VALIDATE = {"ExitMessage": "fine", "ProcessingOutputConfig": {"Outputs": [{"OutputName": "x"}, OUTPUT]}}
SCOPE = Scope(
    parameters={"Name": "flights", "Count": 3, "Ratio": 0.5, "Flag": True},
    execution={"PipelineExecutionId": "abcdefghijkl", "CurrentDateTime": "2026-01-01T00:00:00Z"},
    steps={"Validate": VALIDATE, "Gate": condition_result(True), "Later": Deferred("step 'Later' has not run")},
    property_files={("Validate", "Report"): PropertyFile("Report", "quality", "report.json")},
    read=read,
)


def parsed(value: Any) -> Any:
    problems: list[Problem] = []
    result = parse_value(value, "", problems)
    assert problems == []
    return result


def got(value: Any, scope: Scope = SCOPE) -> Any:
    return resolve(parsed(value), scope)


def json_get(path: str, **source: Any) -> Any:
    return {
        "Std:JsonGet": {**(source or {"PropertyFile": {"Get": "Steps.Validate.PropertyFiles.Report"}}), "Path": path}
    }


@pytest.mark.parametrize(
    ("value", "comes_to"),
    [
        ({"Get": "Parameters.Count"}, 3),
        ({"Get": "Execution.PipelineExecutionId"}, "abcdefghijkl"),
        ({"Get": "Steps.Gate.Outcome"}, "True"),
        ({"Get": "Steps.Validate.ProcessingOutputConfig.Outputs['quality'].S3Output.S3Uri"}, "s3://b/out"),
        ({"Get": "Steps.Validate.ProcessingOutputConfig.Outputs[1].S3Output.S3Uri"}, "s3://b/out"),
        ({"Std:Join": {"On": "/", "Values": ["a", {"Get": "Parameters.Count"}, 0.5, True]}}, "a/3/0.5/true"),
        ({"Std:Join": {"Values": ["a", {"Std:Join": {"On": "-", "Values": ["b", "c"]}}]}}, "ab-c"),
        ({"Std:Join": {"On": "/", "Values": []}}, ""),
        (json_get("bad.ratio"), 0.25),
        (json_get("$.rows[1]['a.b']"), 6),
        (json_get("rows[-2]"), 5),
        (json_get("none"), None),
        (json_get("text", S3Uri={"Std:Join": {"On": "/", "Values": ["s3://b/out", "report.json"]}}), "0.25"),
        ([{"a": {"Get": "Parameters.Flag"}}, "plain"], [{"a": True}, "plain"]),
    ],
)
def test_expressions_come_to_values(value: Any, comes_to: Any) -> None:
    assert got(value) == comes_to


@pytest.mark.parametrize(
    "value",
    [
        {"Get": "Parameters.Nowhere"},
        {"Get": "Steps.Later.ExitMessage"},
        {"Get": "Steps.Unheard.ExitMessage"},
        {"Std:Join": {"On": "", "Values": ["a", {"Get": "Steps.Later.ExitMessage"}]}},
        json_get("a", PropertyFile={"Get": "Steps.Later.PropertyFiles.Report"}),
        json_get("a", S3Uri={"Get": "Steps.Later.ExitMessage"}),
    ],
)
def test_what_is_not_known_yet_is_deferred(value: Any) -> None:
    assert isinstance(got(value), Deferred)


def test_without_a_reader_files_are_not_known_yet() -> None:
    scope = Scope(SCOPE.parameters, SCOPE.execution, SCOPE.steps, SCOPE.property_files)
    assert isinstance(got(json_get("bad.ratio"), scope), Deferred)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"Get": "Steps.Validate.ProcessingOutputConfig.Outputs['clean'].S3Output"}, r"\(there is: x, quality\)"),
        ({"Get": "Steps.Validate.ExitMesage"}, "ExitMessage"),
        ({"Get": "Steps.Validate.ExitMessage.Length"}, "no Length at ExitMessage"),
        ({"Std:Join": {"On": "", "Values": [json_get("rows")]}}, "cannot join a list"),
        ({"Std:Join": {"On": "", "Values": [json_get("none")]}}, "cannot join null"),
        (json_get("bad.ration"), r"no ration at bad \(there is: ratio\)"),
        (json_get("rows[2]"), r"no \[2\] at rows"),
        (json_get("a", S3Uri="s3://b/missing.json"), "cannot read s3://b/missing.json: No such file"),
        (json_get("a", S3Uri={"Get": "Parameters.Count"}), "the number 3, which is no URI"),
    ],
)
def test_what_has_no_value_says_what_there_is(value: Any, says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        got(value)


def test_a_property_file_that_is_no_json_says_so() -> None:
    scope = Scope({}, {}, SCOPE.steps, SCOPE.property_files, read=lambda uri: "{'a': 1}")
    with pytest.raises(ExpressionError, match=r"s3://b/out/report.json: it is not valid JSON.*line 1, column 2"):
        got(json_get("a"), scope)


def test_a_scope_grows_step_by_step() -> None:
    later = SCOPE.with_step("Later", {"ExitMessage": "done"}).at("2027-01-01T00:00:00Z")
    assert got([{"Get": "Steps.Later.ExitMessage"}, {"Get": "Execution.CurrentDateTime"}], later) == [
        "done",
        "2027-01-01T00:00:00Z",
    ]
    assert isinstance(got({"Get": "Steps.Later.ExitMessage"}), Deferred)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "Get" and key[:4] != "Std:"), inner)
    ),
)


@pytest.mark.slow
@given(JSON)
def test_json_without_expressions_resolves_to_itself(value: Any) -> None:
    assert got(value) == value


# ----------------------------------------------------------------------------------------------------------- paths
@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("a", ("a",)),
        ("a.b-c.d_e", ("a", "b-c", "d_e")),
        ("$.a[0][1].b", ("a", 0, 1, "b")),
        ("a['it\\'s'][\"b.c\"]", ("a", "it's", "b.c")),
        ("$['a']", ("a",)),
        ("[0]", (0,)),
        ("a.0", ("a", "0")),
    ],
)
def test_paths_are_names_and_indexes(path: str, segments: tuple[str | int, ...]) -> None:
    assert parse_path(path).segments == segments


@pytest.mark.parametrize(
    "path", ["", "$", ".a", "a.", "a..b", "$a", "a[", "a[]", "a[*]", "a[?(@.b)]", "a[0:1]", "a b", "a[0]b"]
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        parse_path(path)


@given(st.text(max_size=20))
def test_no_path_text_does_more_than_be_refused(path: str) -> None:
    with suppress(ValueError, PathNotFoundError):
        follow({"a": [1, {"b": 2}]}, parse_path(path))


# ------------------------------------------------------------------------------------------------------ conditions
def holds(*conditions: Any) -> bool:
    problems: list[Problem] = []
    found = parse_conditions(list(conditions), "", problems)
    assert problems == []
    return evaluate(found, SCOPE)


def compare(type_: str, left: Any, right: Any) -> Any:
    return {"Type": type_, "LeftValue": left, "RightValue": right}


@pytest.mark.parametrize(
    ("type_", "left", "right", "outcome"),
    [
        ("Equals", 1, 1.0, True),
        ("Equals", "1", 1, True),
        ("Equals", "1.0", 1, True),
        ("Equals", "1", "1.0", False),
        ("Equals", "a", "A", False),
        ("Equals", True, "true", True),
        ("Equals", {"Get": "Steps.Gate.Outcome"}, True, True),
        ("Equals", True, 1, False),
        ("Equals", None, None, True),
        ("Equals", None, 0, False),
        ("Equals", {"Get": "Parameters.Name"}, "flights", True),
        ("LessThan", "9", "10", True),
        ("LessThan", "9", 10, True),
        ("LessThan", "2026-01-09", "2026-01-10", True),
        ("GreaterThan", json_get("text"), 0.2, True),
        ("GreaterThanOrEqualTo", json_get("bad.ratio"), 0.25, True),
        ("LessThanOrEqualTo", json_get("bad.ratio"), {"Get": "Parameters.Ratio"}, True),
        ("GreaterThan", 2**53 + 1, float(2**53), True),
    ],
)
def test_comparisons(type_: str, left: Any, right: Any, outcome: bool) -> None:
    assert holds(compare(type_, left, right)) is outcome


@pytest.mark.parametrize(
    ("left", "right", "says"),
    [
        (True, 1, "cannot order the boolean true and the number 1"),
        ("a", 1, "cannot order"),
        (None, 1, "cannot order null"),
        (json_get("rows"), 1, "cannot compare a list"),
        ({"Get": "Steps.Later.ExitMessage"}, 1, "step 'Later' has not run"),
    ],
)
def test_what_cannot_be_compared_says_so(left: Any, right: Any, says: str) -> None:
    with pytest.raises(ExpressionError, match=says):
        holds(compare("LessThan", left, right))


def test_several_conditions_must_all_hold() -> None:
    true, false = compare("Equals", 1, 1), compare("Equals", 1, 2)
    assert holds(true, true)
    assert not holds(true, false)
    assert holds({"Type": "Or", "Conditions": [false, true]}, {"Type": "Not", "Condition": false})
    assert holds({"Type": "In", "QueryValue": "b", "Values": ["a", "b"]})
    assert not holds({"Type": "In", "QueryValue": "b", "Values": []})


NUMBERS = st.integers(-5, 5) | st.floats(-5, 5)
OPERATORS = {
    "Equals": operator.eq,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
# Pairs of a condition and what Python makes of it.
COMPARISONS = st.builds(
    lambda type_, left, right, texts: (
        compare(type_, json.dumps(left) if texts else left, right),
        OPERATORS[type_](left, right),
    ),
    st.sampled_from(sorted(OPERATORS)),
    NUMBERS,
    NUMBERS,
    st.booleans(),
)
MEMBERSHIPS = st.builds(
    lambda query, values: ({"Type": "In", "QueryValue": query, "Values": values}, query in values),
    st.text("ab", max_size=2),
    st.lists(st.text("ab", max_size=2)),
)
CONDITIONS = st.recursive(
    COMPARISONS | MEMBERSHIPS,
    lambda inner: (
        inner.map(lambda pair: ({"Type": "Not", "Condition": pair[0]}, not pair[1]))
        | st.lists(inner, min_size=1, max_size=3).map(
            lambda pairs: ({"Type": "Or", "Conditions": [c for c, _ in pairs]}, any(outcome for _, outcome in pairs))
        )
    ),
    max_leaves=8,
)


@given(st.lists(CONDITIONS, min_size=1, max_size=3))
def test_conditions_come_to_what_python_makes_of_them(pairs: list[tuple[Any, bool]]) -> None:
    assert holds(*(condition for condition, _ in pairs)) is all(outcome for _, outcome in pairs)
