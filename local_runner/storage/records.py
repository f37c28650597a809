"""Records that this program writes and reads again, each with its digest: one place that says whether a file holds one.

A record's first line is the SHA-256 of the rest. One that was changed, cut, or written before records had digests is
none: it is made anew. So is nothing acted on that this program has not written. Reads and writes files.

A shape says what a value has to be: a type or several; ``[shape]`` for a list, ``Each(shape)`` for an object with any
keys, and a dict for an object with those keys, beside any others, which a later version may write. Checked by hand and
not by pydantic, which takes 0.1 s to import.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from local_runner.jsontext import as_list, as_object, is_deep, kind
from local_runner.storage.files import read_regular, write_atomically

Shape = Any


class RecordError(ValueError):
    """A file holds no record of that shape, or none at all; the message says where it differs."""


@dataclass(frozen=True)
class Each:
    """An object with any keys, whose values have a shape."""

    shape: Shape


def write_record(path: Path, record: object) -> None:
    """Keep a record (what JSON can hold) in a file, whole or not at all. Raises OSError."""
    write_atomically(path, sealed(json.dumps(record, separators=(",", ":"))))


def read_record(path: Path, shape: Shape) -> Any:
    """The record in a file. Raises RecordError, FileNotFoundError, and OSError where the file cannot be read."""
    return parse_record(unsealed(read_regular(path)), shape)


def sealed(text: str) -> str:
    """The text with its digest before it, as ``unsealed`` takes it."""
    return f"{text_digest(text)}\n{text}"


def unsealed(content: bytes) -> str:
    """The text that was sealed. Raises RecordError where it is no longer the same, or never was sealed."""
    digest, _, text = as_text(content).partition("\n")
    if text_digest(text) != digest:
        raise RecordError("it was changed, or has no digest")
    return text


def text_digest(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def as_text(content: bytes) -> str:
    """What a file holds, as text. Raises RecordError."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RecordError("it is not UTF-8 text") from None


def parse_record(text: str, shape: Shape) -> Any:
    """The record of a text. Raises RecordError.

    Not as strict as :func:`.parse_json`, as names of files may be in records, and those are any bytes.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"it is not valid JSON: {error.msg} at line {error.lineno}") from None
    except (RecursionError, ValueError):  # ValueError: a number of more than 4,300 digits
        raise RecordError("it is no JSON that was written here") from None
    if is_deep(value):
        raise RecordError("it is nested too deeply")
    check(value, shape, "")
    return value


def check(value: Any, shape: Shape, where: str) -> None:
    """Raises RecordError where the value has not that shape."""
    if isinstance(shape, Each):
        for key, item in _object(value, where).items():
            check(item, shape.shape, f"{where}.{key}".lstrip("."))
    elif isinstance(shape, dict):
        found = _object(value, where)
        for key, inner in cast("Mapping[str, Shape]", shape).items():
            at = f"{where}.{key}".lstrip(".")
            if key not in found:
                raise RecordError(f"{at} is missing")
            check(found[key], inner, at)
    elif isinstance(shape, list):
        items = as_list(value)
        if items is None:
            raise RecordError(f"{where or 'it'} is {kind(value)}, and not a list")
        for index, item in enumerate(items):
            check(item, shape[0], f"{where}[{index}]")
    elif not _is(value, shape):
        raise RecordError(f"{where or 'it'} is {kind(value)}")


def _object(value: Any, where: str) -> dict[str, Any]:
    found = as_object(value)
    if found is None:
        raise RecordError(f"{where or 'it'} is {kind(value)}, and not an object")
    return found


def _is(value: Any, types: type | tuple[type, ...]) -> bool:
    # In Python, true is a number; in a record it is none.
    wanted = types if isinstance(types, tuple) else (types,)
    return isinstance(value, wanted) and not (isinstance(value, bool) and bool not in wanted and object not in wanted)
