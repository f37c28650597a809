"""What a script imports, found by reading it: packages that a hot worker loads before it forks. Reads those files."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

_MOST_FILES = 200


def imports_of(script: Path) -> list[str]:
    """The modules that the script and the Python files beside it import when they are loaded, sorted.

    What stands in a function is left out: that may never be imported. A file that is no Python has no imports.
    """
    beside = (path for path in sorted(script.parent.rglob("*.py"))[:_MOST_FILES] if path != script)
    own = {path.relative_to(script.parent).parts[0].removesuffix(".py") for path in script.parent.rglob("*.py")}
    found: set[str] = set()
    for path in (script, *beside):
        try:
            tree = ast.parse(path.read_bytes())
            found.update(_imported(tree.body))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return sorted(name for name in found if name.partition(".")[0] not in own and not _runs(name))


def _runs(name: str) -> bool:
    """Whether it is a program (``venv.__main__``) and no module, or a package's own affair."""
    return any(part.startswith("_") for part in name.split("."))


def _imported(body: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in body:
        match statement:
            case ast.Import():
                yield from (alias.name for alias in statement.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
                # It may be a module or something in it, which only whoever imports it finds out.
                yield from (f"{module}.{alias.name}" for alias in statement.names if alias.name.islower())
            case ast.If() | ast.Try():
                yield from _imported(statement.body)
                yield from _imported(statement.orelse)
            case _:
                continue
