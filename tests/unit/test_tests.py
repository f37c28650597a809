"""The tests' own rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
MODULES = sorted(path for path in TESTS.rglob("*.py") if "jobs" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    """The parts of the names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [name.name for name in node.names]
            yield from ".".join([*names, getattr(node, "module", None) or ""]).split(".")


def test_no_module_imports_a_test_or_a_conftest() -> None:
    """What several tests share is in ``tests/support``, which can be found from anywhere."""
    tests = {path.stem for path in MODULES if path.name.startswith("test_")} | {"conftest"}
    assert {path.name: found for path in MODULES if (found := tests & set(imported(path)))} == {}


def test_processing_steps_are_made_in_one_place() -> None:
    elsewhere = [path for path in MODULES if path.parent.name != "support"]
    makes = [path.name for path in elsewhere if '"Type": "Processing"' in path.read_text(encoding="utf-8")]
    assert [name for name in makes if name != Path(__file__).name] == []
