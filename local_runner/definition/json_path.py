"""JsonPath, as ``Std:JsonGet`` reads files with it. No I/O; the library is imported where a path needs it.

The Guide calls JsonGet's Path a JsonPath and says no more. A path of names and indexes is read by
:mod:`local_runner.definition.paths`, as those of properties are; what has wildcards, slices, filters, unions or ``..``
is read by the library ``python-jsonpath`` (RFC 9535, and the operators ``=~`` and ``in``). JsonGet wants one value.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from local_runner.definition.paths import Path, PathNotFoundError, follow, parse_path

_LONGEST = 1024


@dataclass(frozen=True)
class Query:
    """A JsonPath that may have any number of matches; ``text`` is how it was written."""

    text: str


def parse_json_path(text: str) -> Path | Query:
    """The path that the text writes. Raises ValueError with a sentence where it is none."""
    try:
        return parse_path(text)
    except ValueError as error:
        if not text.strip():
            raise
        _compiled(text, str(error))
        return Query(text)


def value_at(document: Any, path: Path | Query) -> Any:
    """The one value at the path. Raises PathNotFoundError, also where there are several."""
    if isinstance(path, Path):
        return follow(document, path)
    from jsonpath import JSONPathError

    try:
        found = [match.obj for match in islice(_compiled(path.text, "").finditer(document), 2)]
    except (JSONPathError, RecursionError, ArithmeticError) as error:
        raise PathNotFoundError(f"it cannot be evaluated ({_sentence(error)})") from None
    if not found:
        raise PathNotFoundError("nothing matches it")
    if len(found) > 1:
        raise PathNotFoundError("more than one value matches it, and one is wanted")
    return found[0]


def _compiled(text: str, otherwise: str) -> Any:
    """The library's form of the path. Raises ValueError; ``otherwise`` is the sentence on what else it could be."""
    import re

    from jsonpath import JSONPathError, compile  # not at the top: few paths need it

    if len(text) > _LONGEST:
        raise ValueError(f"the path has {len(text)} characters; {_LONGEST} are read at most.")
    try:
        return compile(text.strip())
    except (JSONPathError, re.error, RecursionError, ValueError, OverflowError) as error:
        raise ValueError(f"{otherwise} As a JsonPath: {_sentence(error)}.".strip()) from None


def _sentence(error: Exception) -> str:
    return str(error).partition("\n")[0].strip() or type(error).__name__
