"""JSON text -> Python values, strictly, and the checks that narrow them. No I/O.

Strict: NaN and Infinity (which Python reads, and no service does), numbers that Python takes for infinite or cannot
write, lone surrogates (which no terminal or file can take) and values nested deeper than NESTING are refused. Jobs
write such texts, too: what gets through can be walked by recursion and written again.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn, cast

NESTING = 200
"""How deep lists and objects may lie in each other: functions that walk a value stay within Python's own limit."""

_TOO_DEEP = "is nested too deeply to be read."
_DIGITS = 1000  # more are no number to any service, and Python refuses to read or write more than 4,300
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError with a sentence that says where the text breaks."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if text.count("[") + text.count("{") > NESTING and is_deep(value):
        raise ValueError(_TOO_DEEP)
    if _ESCAPED_SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("has half of a surrogate pair (\\ud800 to \\udfff), which is no character.") from None
    return value


def is_deep(value: Any) -> bool:
    """Whether lists and objects lie deeper in each other than NESTING; found without recursion."""
    level: list[Any] = [value]
    for _ in range(NESTING + 1):
        below: list[Any] = []
        for item in level:
            below += (as_object(item) or {}).values()
            below += as_list(item) or ()
        if not below:
            return False
        level = below
    return True


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"has the number {shorten(digits, 40)}, which is too large to be read.")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"has a number of {len(digits)} digits, which is too large to be read.")
    return int(digits)


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
            return f"the boolean {value_text(value)}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {shorten(value)!r}"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"


def value_text(value: Any) -> str:
    """A text, number or boolean as SageMaker writes it where texts are wanted: of a parameter, an output, in a Join.

    Numbers stand as in JSON, booleans are ``true`` and ``false`` (API shape Parameter: every value is a text).
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def shorten(text: str, limit: int = 80) -> str:
    """The text, cut in its middle where it is too long for a message."""
    return text if len(text) <= limit else f"{text[: limit // 2]}...{text[-limit // 4 :]}"
