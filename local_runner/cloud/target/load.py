"""``[environments.NAME]`` of a project's local_runner.toml, read and checked. Reads that one file; no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from local_runner.cloud.target.environment import (
    AlertSettings,
    Environment,
    NetworkSettings,
    ScheduleSettings,
    StatementSettings,
)
from local_runner.definition.references import did_you_mean
from local_runner.errors import SettingsError
from local_runner.settings import SETTINGS_FILE, read_tables

_TABLES: Mapping[str, type[BaseModel]] = {
    "": Environment,
    "alerts": AlertSettings,
    "network": NetworkSettings,
    "policy_statements": StatementSettings,
    "schedule": ScheduleSettings,
}
"""The tables of an environment, by their path below it."""


def load_environment(root: Path, name: str) -> Environment:
    """The environment of that name; ``dev`` may be left out of the file. Raises SettingsError with every problem."""
    path = root / SETTINGS_FILE
    environments = read_tables(path).get("environments", {})
    if not isinstance(environments, dict):
        raise SettingsError(f"{path}: environments is not a table. Write [environments.{name}].")
    environments = cast("dict[str, Any]", environments)
    if name not in environments and name != "dev":
        known = ", ".join(sorted({"dev", *environments}))
        raise SettingsError(f"{path} has no [environments.{name}]. Environments: {known}.")
    try:
        table = environments.get(name, {})
        if not isinstance(table, dict):
            raise SettingsError(f"{path}: environments.{name} is not a table. Write [environments.{name}].")
        return Environment.model_validate({**cast("dict[str, Any]", table), "name": name})
    except ValidationError as error:
        lines = [f"  environments.{name}.{_where(item['loc'])}: {_what(item)}" for item in error.errors()]
        raise SettingsError(f"{path} has {len(lines)} problem(s):\n" + "\n".join(sorted(lines))) from None


def _what(error: ErrorDetails) -> str:
    """What is wrong with a setting; of one that there is not, which ones there are."""
    if error["type"] != "extra_forbidden":
        return f"{error['msg']}."
    *path, key = error["loc"]
    table = _TABLES[".".join(part for part in path if isinstance(part, str))]  # without the number of one of several
    known = [name for name in table.model_fields if name != "name"]
    return f"there is no such setting. {did_you_mean(str(key), known) or 'There are ' + ', '.join(known) + '.'}"


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))
