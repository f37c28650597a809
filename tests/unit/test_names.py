"""Names are plain technical terms: what a reader would look for is what a thing is called."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import local_runner

PACKAGE = Path(local_runner.__file__).parent
NOT_PLAIN = {
    "gone", "inject", "lookup", "nowhere", "played", "said", "told", "words",
}  # fmt: skip
"""Words that say too little of what a variable or function holds or does: ``message``, ``output``, ``reported`` do."""


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The names that a module gives: of functions, classes, arguments, variables and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case _:
                pass


def not_plain(name: str) -> set[str]:
    return set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_")) & NOT_PLAIN


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_are_plain(path: Path) -> None:
    found = [f"line {line}: {name}" for name, line in names(ast.parse(path.read_text("utf-8"))) if not_plain(name)]
    assert not found


@pytest.mark.parametrize("name", ["_said", "told", "ScheduleWords", "let_gone"])
def test_what_is_not_plain_is_found(name: str) -> None:
    ((given, _),) = names(ast.parse(f"{name} = 1"))
    assert not_plain(given)
