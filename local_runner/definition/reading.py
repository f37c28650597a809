"""The checks that every part of a definition is read with; what is wrong becomes a Problem. No I/O."""

from __future__ import annotations

import re
from typing import Any

from local_runner.definition.references import did_you_mean
from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object, kind


class Reading:
    """One reading of one document: the problems so far."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, where: str, what: str, remedy: str = "") -> None:
        self.problems.append(Problem(where, what, remedy))

    def known_keys(self, mapping: dict[str, Any], known: tuple[str, ...], where: str) -> None:
        for key in mapping:
            if key not in known:
                remedy = did_you_mean(key, known) or f"Known are {', '.join(known)}."
                self.problem(f"{where}.{key}" if where else key, f"'{key}' is not known here.", remedy)

    def objects(self, value: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
        """The objects of a list, each with its path; nothing where the value is missing or null."""
        if value is None:
            return []
        items = as_list(value)
        if items is None:
            self.problem(where, f"a list is wanted, and this is {kind(value)}.")
        found: list[tuple[str, dict[str, Any]]] = []
        for index, item in enumerate(items or ()):
            mapping = as_object(item)
            if mapping is None:
                self.problem(f"{where}[{index}]", f"an object is wanted, and this is {kind(item)}.")
            else:
                found.append((f"{where}[{index}]", mapping))
        return found

    def text(self, mapping: dict[str, Any], key: str, where: str) -> str | None:
        value = mapping.get(key)
        if isinstance(value, str) and value:
            return value
        what = f"{key} is missing." if value is None else f"{key} is {kind(value)}."
        self.problem(f"{where}.{key}", what, f"Give {key} as a text.")
        return None

    def name(self, mapping: dict[str, Any], pattern: re.Pattern[str], limit: int, where: str) -> str | None:
        name = self.text(mapping, "Name", where)
        if name is not None and not pattern.fullmatch(name):
            what = f"{kind(name)} cannot be a name."
            remedy = f"Names have 1 to {limit} of the characters A-Z, a-z, 0-9, '-' and '_'."
            self.problem(f"{where}.Name", what, remedy)
        return name

    def number(
        self, mapping: dict[str, Any], key: str, where: str, least: int, most: int | None, whole: bool = True
    ) -> int | float | None:
        """A number of that range; None where it is missing, null, or a problem."""
        value = mapping.get(key)
        if value is None:
            return None
        wanted = "a whole number" if whole else "a number"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            self.problem(f"{where}.{key}", f"{wanted} is wanted, and this is {kind(value)}.")
            return None
        if value < least or (most is not None and value > most):
            span = f"from {least} to {most}" if most is not None else f"of at least {least}"
            self.problem(f"{where}.{key}", f"it is {value}, and the service takes {wanted} {span}.")
            return None
        return value
