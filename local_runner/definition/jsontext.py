"""JSON text -> Python values, strictly, and the checks that narrow them. No I/O.

Strict: NaN and Infinity (which Python reads, and no service does) and lone surrogates (which no terminal or file
can take) are refused.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, cast

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError with a sentence that says where the text breaks."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise ValueError("is nested too deeply to be read.") from None
    if _ESCAPED_SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("has half of a surrogate pair (\\ud800 to \\udfff), which is no character.") from None
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"is not valid JSON: {constant} is no JSON number.")


def as_object(value: object) -> dict[str, Any] | None:
    """The value, if it is a JSON object."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Any] | None:
    """The value, if it is a JSON array."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def as_tuple(value: object) -> tuple[Any, ...]:
    """The value, if it is a tuple (parsed conditions are); else an empty one."""
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()


def kind(value: object) -> str:
    """What a JSON value is, for messages: ``an object``, ``a list``, ``the number 3``, ``the text 'x'``."""
    match value:
        case None:
            return "null"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {shorten(value)!r}"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"


def shorten(text: str, limit: int = 80) -> str:
    """The text, cut in its middle where it is too long for a message."""
    return text if len(text) <= limit else f"{text[: limit // 2]}...{text[-limit // 4 :]}"
