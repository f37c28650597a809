"""Nobody asks an engine for its name: what differs between engines is in their capabilities."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import local_runner
from local_runner.run.engine import CAPABILITIES

PACKAGE = Path(local_runner.__file__).parent
NAMES = {*CAPABILITIES, "fake"}
MAKES_THEM = PACKAGE / "run" / "engine.py"


def compared(tree: ast.AST) -> Iterator[ast.AST]:
    """Each comparison with an engine's name, by an operator or a pattern."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            constants = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
            if NAMES & constants:
                yield node


@pytest.mark.parametrize(
    "source",
    ['engine.name == "docker"', 'name in ("docker", "sandbox")', "match engine.name:\n case 'sdk': pass"],
)
def test_a_comparison_with_a_name_is_seen(source: str) -> None:
    assert list(compared(ast.parse(source)))


def test_no_engine_is_asked_for_its_name() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {ast.unparse(node)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != MAKES_THEM
        for node in compared(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "Ask the engine's capabilities in place of its name"
