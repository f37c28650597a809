"""Two definitions -> what differs, for people: steps added, removed, changed field by field. No I/O of its own.

Hashes and digests are noise: a step whose code lies elsewhere is shown as changed code, with the lines that were added
and taken away, and the image is shown once for all steps.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, cast

from local_runner.cloud.change.fields import changed_fields
from local_runner.cloud.change.models import FieldChange
from local_runner.jsondiff import ABSENT, Members, json_differences
from local_runner.jsontext import as_list, as_object

Json = dict[str, Any]

Content = Callable[[str], "bytes | None"]
"""The content of a code object by its S3 URI; None where it cannot be had."""

CODE = "code of "
_NAMES = ("Name", "InputName", "OutputName", "PropertyFileName", "Key")
_CODE_URI = re.compile(r"(.+/code/)[0-9a-f]{64}(?=/|$)")
_BRANCHES = ("IfSteps", "ElseSteps")


def definition_changes(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], content: Content
) -> tuple[FieldChange, ...]:
    """The differences; ``before`` is None where there is no pipeline yet."""
    changes: list[FieldChange] = []
    old = {str(step["Name"]): step for step in steps_of(before or {})}
    new = {str(step["Name"]): step for step in steps_of(after)}
    images: dict[tuple[str, str], None] = {}
    for name in (*new, *(name for name in old if name not in new)):
        if name not in old:
            changes.append(FieldChange(f"step {name}", None, f"{new[name].get('Type')} added"))
        elif name not in new:
            changes.append(FieldChange(f"step {name}", f"{old[name].get('Type')} removed", None))
        else:
            changes += _of_step(name, old[name], new[name], content, images)
    changes += [FieldChange("image", one, other) for one, other in images]
    if before is not None:
        changes += _fields(_without_steps(before), _without_steps(after))
    return tuple(changes)


def _of_step(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any], content: Content, images: dict[tuple[str, str], None]
) -> Iterator[FieldChange]:
    seen: set[tuple[str, str]] = set()
    for change in _fields(_without_branches(old), _without_branches(new)):
        one, other = change.before, change.after
        if change.path.endswith("ImageUri") and isinstance(one, str) and isinstance(other, str):
            images[(one, other)] = None
        elif isinstance(one, str) and isinstance(other, str) and _CODE_URI.search(one) and _CODE_URI.search(other):
            if (one, other) not in seen:
                seen.add((one, other))
                yield FieldChange(f"{CODE}{name}", one, code_summary(one, other, content))
        else:
            yield FieldChange(f"{name}.{change.path}", one, other)


def code_summary(one: str, other: str, content: Content) -> str:
    """``transform.py +12 -3``, or only the name where the content is no text or not to be had."""
    name = other.rstrip("/").rpartition("/")[2]
    before, after = content(one), content(other)
    if before is None or after is None:
        return name
    try:
        lines = [text.decode().splitlines() for text in (before, after)]
    except UnicodeDecodeError:
        return f"{name} {len(before)} -> {len(after)} bytes"
    added = removed = 0
    for kind, first, last, new_first, new_last in difflib.SequenceMatcher(None, lines[0], lines[1]).get_opcodes():
        if kind != "equal":
            added += new_last - new_first
            removed += last - first
    return f"{name} +{added} -{removed}"


def _without_steps(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "Steps"}


def _without_branches(step: Mapping[str, Any]) -> dict[str, Any]:
    """The step with the names of its branches' steps in place of the steps."""
    table = as_object(step.get("Arguments"))
    if step.get("Type") != "Condition" or table is None:
        return dict(step)
    branches = {
        key: [(as_object(inner) or {}).get("Name") for inner in as_list(table.get(key)) or ()] for key in _BRANCHES
    }
    return {**step, "Arguments": {**table, **branches}}


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[FieldChange]:
    return changed_fields(json_differences(old, new, members=_members))


def _members(before: Any, after: Any) -> Members:
    """The members of two values; all of one where the other is not there. Other values are compared as a whole."""
    old, new = ({} if value is ABSENT else _table(value) for value in (before, after))
    return None if old is None or new is None else (old, new)


def _table(value: Any) -> dict[str, Any] | None:
    """The members; items of lists by their names, where they have any. An expression is a value of its own."""
    table, items = as_object(value), as_list(value)
    if table and not _is_expression(table):
        return table
    if items and all(isinstance(item, Mapping) for item in items):
        return {
            f"[{next((item[key] for key in _NAMES if key in item), index)}]": item for index, item in enumerate(items)
        }
    return None


def _is_expression(table: Mapping[str, Any]) -> bool:
    return len(table) == 1 and next(iter(table)).startswith(("Get", "Std:"))


def steps_of(document: Mapping[str, Any]) -> Generator[Json]:
    """Every step, those in the branches of Condition steps included, in the order of the document."""
    for step in cast("list[Json]", document.get("Steps") or []):
        yield step
        arguments: Mapping[str, Any] = step.get("Arguments") or {}
        for branch in ("IfSteps", "ElseSteps"):
            yield from steps_of({"Steps": arguments.get(branch)})


def replaced(value: Any, texts: Mapping[str, str]) -> Any:
    """The JSON value with other texts for those that are in ``texts``, as a whole."""
    if isinstance(value, str):
        return texts.get(value, value)
    if (table := as_object(value)) is not None:
        return {key: replaced(item, texts) for key, item in table.items()}
    if (items := as_list(value)) is not None:
        return [replaced(item, texts) for item in items]
    return value
