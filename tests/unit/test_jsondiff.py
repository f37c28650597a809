"""Two JSON values -> where they differ: the one walk, as its callers use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runner.cloud.change.definition import definition_changes
from local_runner.cloud.change.fields import field_changes, shown
from local_runner.fingerprint import Fingerprint, differences
from local_runner.jsondiff import ABSENT, json_differences
from local_runner.jsontext import value_text
from local_runner.secrets import DEFAULT_PATTERNS, SecretNames, Secrets

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=12,
)


def found(before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    return [(each.path, each.before, each.after) for each in json_differences(before, after)]


@given(values, values)
def test_there_is_a_difference_exactly_where_values_are_not_equal(before: Any, after: Any) -> None:
    assert bool(found(before, after)) == (before != after)


@given(values, values)
def test_the_other_way_round_the_same_places_differ(before: Any, after: Any) -> None:
    there = {(path, str(one), str(other)) for path, one, other in found(before, after)}
    assert there == {(path, str(other), str(one)) for path, one, other in found(after, before)}


def test_a_place_is_told_by_its_path_and_what_is_new_as_a_whole() -> None:
    before = {"Steps": [{"Name": "A", "Level": 1}], "Old": {"x": 1}}
    after = {"New": {"y": [2]}, "Steps": [{"Name": "A", "Level": 2}, {"Name": "B"}]}
    assert found(before, after) == [
        ("New", ABSENT, {"y": [2]}),
        ("Steps[0].Level", 1, 2),
        ("Steps[1]", ABSENT, {"Name": "B"}),
        ("Old", {"x": 1}, ABSENT),
    ]


def test_fields_of_requests_are_told_leaf_by_leaf_and_by_name() -> None:
    before = {"Tags": [{"Key": "a", "Value": "1"}], "At": "2026-01-01T00:00:00Z", "Gone": {"x": 1}, "None": None}
    after = {"At": "2026-01-01T01:00:00+01:00", "Tags": [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}]}
    changes = field_changes(before, after, "It.")
    assert [(change.path, change.before, change.after) for change in changes] == [
        ("It.Tags.a", "1", "2"),
        ("It.Tags.b", None, "3"),
        ("It.Gone.x", 1, None),
    ]


@pytest.mark.parametrize("before", [{}, None, "x", {"Get": "Parameters.All"}])
def test_secrets_of_a_table_that_is_shown_as_a_whole_are_hidden(before: Any, tmp_path: Path) -> None:
    steps = [{"Name": "A", "Arguments": {"Environment": value}} for value in (before, {"DB_PASSWORD": "not-learned"})]
    one, other = ({"Steps": [step]} for step in steps)
    changes = definition_changes(one, other, lambda _: None) + definition_changes(other, one, lambda _: None)
    assert changes
    found = shown(changes, Secrets(SecretNames(DEFAULT_PATTERNS), tmp_path))
    assert "DB_PASSWORD" in str(found)
    assert "not-learned" not in str(found)


def test_a_list_of_another_length_is_one_place_of_a_fingerprint() -> None:
    tested, wanted = (Fingerprint({"Steps": steps, "A": 1}, {}, None) for steps in ([{"a": 1}], [{"b": 1}, {"a": 1}]))
    assert differences(tested, wanted) == ["the definition changed at Steps"]


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (1, "1"), (0.5, "0.5"), ("True", "True")]
)
def test_values_as_the_service_writes_them(value: Any, text: str) -> None:
    assert value_text(value) == text
