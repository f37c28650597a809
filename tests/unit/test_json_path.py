"""JsonPath in Std:JsonGet: one value of a document, or a sentence on why there is none."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runner.definition.json_path import parse_json_path, value_at
from local_runner.definition.paths import PathNotFoundError

DOCUMENT: Any = {
    "metrics": [{"name": "auc", "value": 0.9}, {"name": "f1", "value": 0.5}],
    "rows": [1, 2, 3],
    "by day": {"1": {"bad": None}},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metrics[0].value", 0.9),
        ("$.rows[-1]", 3),
        ("rows[2:]", 3),
        ("$.rows[:1]", 1),
        ("$.metrics[?(@.name == 'f1')].value", 0.5),
        ("$.metrics[?@.value > 0.6].name", "auc"),
        ("$.metrics[?(@.name =~ /f.*/)].value", 0.5),
        ("$['by day'].*.bad", None),
        ("$..bad", None),
        ("$.*['1']", {"bad": None}),
    ],
)
def test_one_value_is_found(path: str, value: Any) -> None:
    assert value_at(DOCUMENT, parse_json_path(path)) == value


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("$.rows[*]", "more than one value matches it"),
        ("$..value", "more than one value matches it"),
        ("$.rows[7:]", "nothing matches it"),
        ("$.metrics[?(@.name == 'mae')].value", "nothing matches it"),
        ("rows[7]", "there is no [7] at rows"),
    ],
)
def test_no_value_and_several_are_told(path: str, said: str) -> None:
    with pytest.raises(PathNotFoundError) as raised:
        value_at(DOCUMENT, parse_json_path(path))
    assert said in str(raised.value)


@pytest.mark.parametrize("path", ["", "a[", "$.a[?(", "rows[?@ =~ /(/]", "$.rows[99999999999999999999:]", "*" * 2000])
def test_what_is_no_path_is_refused_with_a_sentence(path: str) -> None:
    with pytest.raises(ValueError, match=r"path|characters"):
        parse_json_path(path)


@given(st.text(alphabet="$.[]*?@()'\"=<>!&|~/:,-0123456789abn \\`#^{}", max_size=25))
def test_any_text_has_a_value_or_a_reason(text: str) -> None:
    with suppress(ValueError, PathNotFoundError):
        value_at(DOCUMENT, parse_json_path(text))


def test_the_library_is_imported_where_a_path_needs_it_only() -> None:
    program = (
        "import sys; from local_runner.definition.json_path import parse_json_path as parse;"
        "parse('a.b[0]'); assert 'jsonpath' not in sys.modules; parse('$.a[*]'); assert 'jsonpath' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
