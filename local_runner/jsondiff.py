"""Two JSON values -> where they differ, each place by its path. No I/O.

The walk is here, once; how values are taken apart, and when two of them say the same, is up to whoever compares.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from local_runner.jsontext import as_list, as_object

Members: TypeAlias = "tuple[Mapping[str, Any], Mapping[str, Any]] | None"


class _Absent:
    """The value of a member that one of the two does not have."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = _Absent()


@dataclass(frozen=True)
class JsonDifference:
    """One place. ``before`` or ``after`` is ABSENT where only the other value has it.

    ``path`` is dotted; an item of a list stands in brackets: ``Steps[0].Arguments.Environment.LEVEL``.
    """

    path: str
    before: Any
    after: Any


def members(before: Any, after: Any) -> Members:
    """The members of two values that are compared one by one: of objects by name, of lists by position.

    None where the two are compared as a whole.
    """
    if (old := as_object(before)) is not None and (new := as_object(after)) is not None:
        return old, new
    if (one := as_list(before)) is not None and (other := as_list(after)) is not None:
        return _items(one), _items(other)
    return None


def json_differences(
    before: Any,
    after: Any,
    path: str = "",
    *,
    members: Callable[[Any, Any], Members] = members,
    same: Callable[[Any, Any], bool] = operator.eq,
) -> Iterator[JsonDifference]:
    """Every place where the values differ, in the order of ``after``; what only ``before`` has comes last in its table.

    ``path`` is where the values stand. ``members`` takes two values apart, of which one may be ABSENT; a name in
    brackets is an item of a list. ``same`` is asked of what is not taken apart.
    """
    found = members(before, after)
    if found is None:
        if not same(before, after):
            yield JsonDifference(path, before, after)
        return
    old, new = found
    for name in dict.fromkeys((*new, *old)):
        place = f"{path}{name}" if name.startswith("[") or not path else f"{path}.{name}"
        one, other = old.get(name, ABSENT), new.get(name, ABSENT)
        yield from json_differences(one, other, place, members=members, same=same)


def _items(items: list[Any]) -> dict[str, Any]:
    return {f"[{index}]": item for index, item in enumerate(items)}
