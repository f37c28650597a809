"""Paths into JSON: ``a.b[0]['c d']``, as Get writes them to properties and JsonGet to files. No I/O.

They are names, quoted names and indexes, with an optional ``$`` in front. What else JsonGet may write is
:mod:`local_runner.definition.json_path`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from local_runner.jsontext import as_list, as_object

_SEGMENT = re.compile(
    r"""\.?(?P<name>[^.\[\]'"*$?@(),:\s]+)
      | \[\s*(?P<index>-?\d{1,9})\s*\]
      | \[\s*'(?P<single>(?:[^'\\]|\\.)*)'\s*\]
      | \[\s*"(?P<double>(?:[^"\\]|\\.)*)"\s*\]""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Deferred:
    """Stands for a value that only the execution will know. ``reason`` completes "not known: ..."."""

    reason: str


@dataclass(frozen=True)
class Path:
    """A parsed path; ``text`` is how it was written."""

    text: str
    segments: tuple[str | int, ...]


class PathNotFoundError(Exception):
    """The value has nothing at that path; the message says how far the path leads."""


def parse_path(text: str) -> Path:
    """The path that the text writes. Raises ValueError with a sentence where it is none, or not one of this subset."""
    rest = text.strip()
    rooted = rest.startswith("$")
    rest = rest.removeprefix("$")
    segments: list[str | int] = []
    position = 0
    while position < len(rest):
        match = _SEGMENT.match(rest, position)
        wants_dot = bool(segments) or rooted
        if match is None or (rest[position] == ".") != (wants_dot and match["name"] is not None):
            raise ValueError(
                f"{text!r} is not a path of names and indexes, such as \"metrics.rows[0]['bad ratio']\" (at"
                f" {rest[position : position + 20]!r})."
            )
        segments.append(_segment(match))
        position = match.end()
    if not segments:
        raise ValueError("the path is empty.")
    return Path(text, tuple(segments))


def _segment(match: re.Match[str]) -> str | int:
    if match["name"] is not None:
        return match["name"]
    if match["index"] is not None:
        return int(match["index"])
    quoted = match["single"] if match["single"] is not None else match["double"]
    return re.sub(r"\\(.)", r"\1", quoted)


def follow(value: Any, path: Path) -> Any:
    """The value at the path, or the Deferred met on the way. Raises PathNotFoundError.

    A list of named things (``Outputs['clean']``) is addressed by the element's own ...Name as well as by index.
    """
    for position, segment in enumerate(path.segments):
        if isinstance(value, Deferred):
            return value
        found, value = _step_into(value, segment)
        if not found:
            there = _spelled(path.segments[:position]) or "the top"
            raise PathNotFoundError(f"there is no {_spelled((segment,))} at {there}{_choices(value)}")
    return value


def _step_into(value: Any, segment: str | int) -> tuple[bool, Any]:
    """Whether the segment is there, and its value (the value looked into, where it is not)."""
    mapping = as_object(value)
    if mapping is not None:
        key = str(segment)
        return (True, mapping[key]) if key in mapping else (False, value)
    items = as_list(value)
    if items is None:
        return False, value
    if isinstance(segment, int):
        return (True, items[segment]) if -len(items) <= segment < len(items) else (False, value)
    for item in items:
        names = _names(item)
        if segment in names:
            return True, item
        if any(isinstance(name, Deferred) for name in names):
            return True, Deferred("a name in this list is not known yet")
    return False, value


def _names(item: Any) -> list[Any]:
    # InputName, OutputName and their like: the Describe responses name list members so.
    return [value for key, value in (as_object(item) or {}).items() if key.endswith("Name")]


def _spelled(segments: tuple[str | int, ...]) -> str:
    text = ""
    for segment in segments:
        if isinstance(segment, int):
            text += f"[{segment}]"
        elif re.fullmatch(r"[\w-]+", segment):
            text += f".{segment}" if text else segment
        else:
            text += f"['{segment}']"
    return text


def _choices(value: Any) -> str:
    """What there is instead, for the end of a message."""
    mapping = as_object(value)
    if mapping is not None:
        names = sorted(mapping)
    else:
        items = as_list(value)
        if items is None:
            return ""
        names = [name for item in items for name in _names(item) if isinstance(name, str)] or [f"{len(items)} items"]
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f" (there is: {shown or 'nothing'})"
