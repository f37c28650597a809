"""Two requests of the same kind -> the fields in which they differ, each by its dotted path. No I/O.

Requests are compared leaf by leaf. A list whose items carry a name (parameters, tags, the statements of a policy) is
looked at as a table of those names; times are compared as points in time, JSON texts as what they say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from local_runner.cloud.change.models import FieldChange
from local_runner.jsondiff import ABSENT, JsonDifference, Members, json_differences
from local_runner.secrets import Secrets

Leaves = dict[tuple[str, ...], Any]
"""A request, flat: path -> value that is no table."""

_NAMES = ("Name", "Key", "Sid")


def leaves(value: Mapping[str, Any], whole: frozenset[str] = frozenset()) -> Leaves:
    """The leaves of a request. Keys in ``whole`` are leaves whatever they hold; None is "not there"."""
    found: Leaves = {}
    for key, item in value.items():
        table = None if key in whole else _table(item)
        if table is not None:
            found.update({(key, *path): leaf for path, leaf in leaves(table, whole).items()})
        elif item is not None:
            found[(key,)] = item
    return found


def nested(flat: Leaves, named_lists: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The opposite of ``leaves``; ``named_lists`` says which keys are lists of ``{<Name>: key, <...>: value}``."""
    made: dict[str, Any] = {}
    for path, leaf in flat.items():
        place = made
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = leaf
    return _listed(made, named_lists or {})


def field_changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> tuple[FieldChange, ...]:
    """What differs, in the order of ``after``; what is only in ``before`` stands last."""
    found = changed_fields(json_differences(before, after, members=_members, same=same))
    return tuple(FieldChange(prefix + change.path, change.before, change.after) for change in found)


def changed_fields(found: Iterable[JsonDifference]) -> list[FieldChange]:
    """Differences as fields: None is "not there", and what is there no more stands last."""
    changes = [
        FieldChange(each.path, *(None if it is ABSENT else it for it in (each.before, each.after))) for each in found
    ]
    changes = [change for change in changes if change.before is not None or change.after is not None]
    return sorted(changes, key=lambda change: change.after is None)


def shown(changes: Iterable[FieldChange], secrets: Secrets) -> tuple[FieldChange, ...]:
    """The changes with keyed hashes for secrets: a field that has a secret name in its path, and values in texts."""

    def hidden(path: str, value: Any) -> Any:
        parts = [part for part in re.split(r"[.\[\]]+", path) if part]
        if isinstance(value, str | int | float):
            named = any(part in secrets.names for part in parts)
            return secrets.hashed(value) if named else secrets.hidden(value)
        # What is secret in a table depends on what it is the value of (an Environment).
        return secrets.hidden({parts[-1]: value})[parts[-1]] if isinstance(value, dict) else secrets.hidden(value)

    return tuple(
        FieldChange(item.path, hidden(item.path, item.before), hidden(item.path, item.after)) for item in changes
    )


def same(one: Any, other: Any) -> bool:
    """Whether two leaves say the same."""
    return comparable(one) == comparable(other)


def comparable(value: Any) -> Any:
    """A leaf in the form in which two that say the same are equal."""
    match value:
        case datetime():
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
        case str() if value[:1] in ("{", "["):
            try:
                return comparable(json.loads(value))
            except ValueError:
                return value
        case str() if len(value) >= len("2026-01-01T00:00") and value[4:5] == "-" and value[10:11] == "T":
            try:
                return comparable(datetime.fromisoformat(value))
            except ValueError:
                return value
        case Mapping():
            return {key: comparable(item) for key, item in cast("Mapping[str, Any]", value).items()}
        case list() | tuple():
            return [comparable(item) for item in cast("Sequence[Any]", value)]
        case _:
            return value


def _members(before: Any, after: Any) -> Members:
    """The members of two values that are tables; all of one where the other is not there."""
    old, new = (_table({} if value is ABSENT or value is None else value) for value in (before, after))
    return None if old is None or new is None else (old, new)


def _table(value: Any) -> Mapping[str, Any] | None:
    """The value as a table, if it is one, or a list of named items."""
    if isinstance(value, Mapping):
        return cast("Mapping[str, Any]", value)
    if not isinstance(value, list):
        return None
    items = cast("list[Any]", value)
    if not items:
        return {}  # as one that is not there: services answer with either
    for name in _NAMES:
        if all(isinstance(item, Mapping) and name in item for item in items):
            return {str(item[name]): _without(item, name) for item in items}
    return None


def _without(item: Mapping[str, Any], name: str) -> Any:
    """The rest of a named item: of ``{Name, Value}`` the value."""
    rest = {key: value for key, value in item.items() if key != name}
    return rest["Value"] if rest.keys() == {"Value"} else rest


def _listed(value: dict[str, Any], named_lists: Mapping[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, item in value.items():
        if key in named_lists:
            made[key] = [{named_lists[key]: name, "Value": leaf} for name, leaf in item.items()]
        else:
            made[key] = _listed(cast("dict[str, Any]", item), named_lists) if isinstance(item, dict) else item
    return made
