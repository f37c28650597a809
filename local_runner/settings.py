"""local_runner.toml -> Settings. Reads that one file; no Docker, no network.

Every default is usable: a project without the file runs ``pipeline.py:build`` with the image of ``processing/``.
The values are checked here and not by pydantic: every command reads them, and it takes 0.1 s to import.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from local_runner.errors import SettingsError
from local_runner.jsontext import shorten
from local_runner.secrets import DEFAULT_NAMES, DEFAULT_PATTERNS, SecretNames
from local_runner.storage.s3_uri import s3_problem

LOCAL_ACCOUNT = "000000000000"
"""The account of what runs on this machine: one that AWS gives nobody."""

SETTINGS_FILE = "local_runner.toml"
_WHOLE = 2**63
_LONGEST_GRACE = 3600


# -------------------------------------------------------------------------------------------------- one value
_Check = Callable[[Any], Any]
"""Turns what TOML has into the setting's value. Raises ValueError whose text says what is expected, or where."""


def _text(pattern: str, expected: str) -> _Check:
    def check(value: Any) -> str:
        if isinstance(value, str) and "\0" not in value and re.fullmatch(pattern, value):
            return value
        raise ValueError(f"{_shown(value)} is not {expected}.")

    return check


def _path(value: Any) -> Path:
    if isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError(f"{_shown(value)} is not a path.")


def _s3_uri(value: Any) -> str:
    problem = s3_problem(value)
    if problem:
        raise ValueError(f"{problem} Write it as s3://BUCKET/KEY.")
    return str(value)


def _parameter(value: Any) -> str | int | float | bool:
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{_shown(value)} holds a NUL, which no program can be given.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number to the service, which takes finite ones.")
    if isinstance(value, int) and not -_WHOLE <= value < _WHOLE:
        raise ValueError("it is a number of more than 64 bits, and TOML's have 64.")
    if isinstance(value, str | int | float):
        return value
    raise ValueError(f"{_shown(value)} is not text, a number, true or false. (A date is text: put it in quotes.)")


def _shown(value: Any) -> str:
    """A value of the file in a message: numbers may have more digits, and lists be nested deeper, than can be shown."""
    try:
        return shorten(repr(value) if isinstance(value, str) else str(value))
    except (ValueError, RecursionError):
        return "what stands there"


_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def age(value: Any) -> int:
    """Seconds of ``7d``, ``12h``. Raises ValueError."""
    return _measured(value, _AGES, "an age such as 7d or 12h")


def size(value: Any) -> int:
    """Bytes of ``5GB``, ``500MB``. Raises ValueError."""
    return _measured(value, _SIZES, "a size such as 5GB or 500MB")


def _log_size(value: Any) -> int:
    if (found := size(value)) < _SIZES["MB"]:
        raise ValueError(f"{value!r} is less than 1MB.")
    return found


def _grace(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LONGEST_GRACE:
        return value
    raise ValueError(f"{_shown(value)} is not a whole number of seconds, 0 to {_LONGEST_GRACE}.")


def _measured(value: Any, units: Mapping[str, int], expected: str) -> int:
    match = re.fullmatch(r"(\d{1,12})\s*([A-Za-z]+)", value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{_shown(value)} is not {expected}.")
    return int(match[1]) * units[match[2]]


def _secret_names(value: Any) -> SecretNames:
    items = cast("list[Any]", value) if isinstance(value, list) else [None]
    patterns = [item for item in items if isinstance(item, str) and item.removeprefix("!")]
    if len(patterns) < len(items):
        raise ValueError(f'{value!r} is not a list of names or patterns, such as ["DbUser", "*PIN", "!MaxTokens"].')
    return SecretNames((*DEFAULT_PATTERNS, *patterns))


def _paths(value: Any) -> tuple[Path, ...]:
    if not isinstance(value, list):
        raise ValueError(f'{_shown(value)} is not a list of paths, such as ["../shared"].')
    return tuple(_path(item) for item in cast("list[Any]", value))


def _table_of(check: _Check, key: _Check = str) -> _Check:
    def check_all(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"{_shown(value)} is not a table of NAME = VALUE.")
        checked: dict[str, Any] = {}
        wrong: list[str] = []
        for name, item in cast("dict[str, Any]", value).items():
            try:
                checked[key(name)] = check(item)
            except ValueError as error:
                wrong.append(f"{name}: {error}")
        if wrong:
            raise ValueError(" ".join(wrong))
        return checked

    return check_all


_function = _text(r"[^:]+\.py:[A-Za-z_]\w*", "FILE.py:FUNCTION")


def _setting(default: Any, check: _Check, name: str | None = None) -> Any:
    """A setting; ``name`` is what the file calls it, where that is no name for Python."""
    return field(default_factory=lambda: default, metadata={"check": check, "name": name})


# ------------------------------------------------------------------------------------------------- the tables
DEFAULT_IMAGE_DIRECTORY = Path("processing")


@dataclass(frozen=True)
class PipelineSettings:
    """``[pipeline]``: ``entry`` is FILE:FUNCTION, where FUNCTION(session, settings) returns the Pipeline.

    ``also_reads`` are files and directories outside of the project that pipeline.py reads, relative to the project: a
    compile that is isolated sees no others. ``secret`` says which names are secret, of parameters and of environment
    variables: the patterns of the file after those that hold for every project.
    """

    entry: str = _setting("pipeline.py:build", _text(r"[^:]+\.py(:[A-Za-z_]\w*)?", "FILE.py or FILE.py:FUNCTION"))
    secret: SecretNames = field(
        default=DEFAULT_NAMES,
        metadata={"check": _secret_names},
    )
    also_reads: tuple[Path, ...] = _setting((), _paths)


@dataclass(frozen=True)
class ImageSettings:
    """``[image]``: the directory with the Dockerfile and requirements.txt of the processing image.

    ``requirements`` is a file of packages for the sandbox, for projects without an image directory.
    """

    directory: Path = field(default=DEFAULT_IMAGE_DIRECTORY, metadata={"check": _path})
    requirements: Path | None = field(default=None, metadata={"check": _path})


@dataclass(frozen=True)
class LocalSettings:
    """``[local]``: what a local run uses in place of the cloud's.

    ``data`` maps S3 URIs to files or directories of this machine; ``parameters`` are values for parameters that the
    pipeline has and the command line does not give; ``date_parameter`` is what ``--date`` sets. ``log_size`` (bytes;
    in the file ``"64MB"``) is how much of each host's output is kept. ``stop_grace_seconds`` is how long a job that is
    stopped, by whomever, has until it is killed (None: as long as the engines say). ``lambda`` maps
    Lambda functions (a step's name, the function's name or its ARN) and ``stand_ins`` Callback, EMR and EMRServerless
    steps to FILE.py:FUNCTION.
    """

    bucket: str = _setting(
        "sagemaker-local",
        _text(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of a bucket (3 to 63 of a-z, 0-9, '.' and '-')"),
    )
    region: str = _setting("us-east-1", _text(r"[a-z]{2}(-[a-z]+)+-\d", "a region such as eu-west-1"))
    role_arn: str = _setting(f"arn:aws:iam::{LOCAL_ACCOUNT}:role/local-runner", _text(r".+", "the ARN of a role"))
    date_parameter: str = _setting("ProcessingDate", _text(r".+", "the name of a parameter"))
    parameters: Mapping[str, str | int | float | bool] = _setting({}, _table_of(_parameter))
    data: Mapping[str, Path] = _setting({}, _table_of(_path, _s3_uri))
    log_size: int = _setting(64 * 10**6, _log_size)
    stop_grace_seconds: int | None = _setting(None, _grace)
    lambda_functions: Mapping[str, str] = _setting({}, _table_of(_function), name="lambda")
    stand_ins: Mapping[str, str] = _setting({}, _table_of(_function))


@dataclass(frozen=True)
class CacheSettings:
    """``[cache]``: how long (seconds) an entry of the step cache is kept unused, and how large (bytes) all may be.

    The file has them as ``max_age = "30d"`` and ``max_size = "10GB"``.
    """

    max_age: int = _setting(30 * 86_400, age)
    max_size: int = _setting(10 * 10**9, size)


@dataclass(frozen=True)
class Settings:
    """The whole file, with ``root``: the project's directory, which every relative path starts from."""

    root: Path
    pipeline: PipelineSettings = field(default_factory=PipelineSettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)


_TABLES: dict[str, type[Any]] = {
    "pipeline": PipelineSettings,
    "image": ImageSettings,
    "local": LocalSettings,
    "cache": CacheSettings,
}


# ---------------------------------------------------------------------------------------------------- reading
def load_settings(root: Path) -> Settings:
    """The settings of the project in ``root``. Raises SettingsError with every problem of the file, where it stands."""
    root = root.resolve()
    path = root / SETTINGS_FILE
    tables = read_tables(path)
    problems: list[str] = []
    known = {name: _read(name, tables.get(name, {}), problems) for name in _TABLES}
    # The environments are read by the commands that speak to AWS: local_runner.cloud.target.load.
    unknown = tables.keys() - known - {"environments"}
    problems += [f"{name}: there is no such table. Tables: {', '.join(_TABLES)}, environments." for name in unknown]
    if problems:
        lines = "\n".join(f"  {problem}" for problem in sorted(problems))
        raise SettingsError(f"{path} has {len(problems)} problem(s):\n{lines}")
    return Settings(root, **known)


def read_tables(path: Path) -> dict[str, Any]:
    """What a TOML file holds; an empty one where there is none. Raises SettingsError where it cannot be read.

    A byte order mark, which editors on Windows write, is skipped.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else {}
    except RecursionError:
        raise SettingsError(f"{path} is not valid TOML for this: it is nested too deeply.") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: it is not UTF-8 text ({error}).") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    except ValueError:  # Python's own, on whole numbers of more than 4,300 digits
        raise SettingsError(f"{path} is not valid TOML: a number has more than 64 bits.") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from None


def _read(name: str, table: Any, problems: list[str]) -> Any:
    """One table of the file; what is wrong with it is added to ``problems``."""
    made = _TABLES[name]
    settings = {item.metadata.get("name") or item.name: item for item in fields(made)}
    if not isinstance(table, dict):
        problems.append(f"{name}: {_shown(table)} is not a table. Write [{name}].")
        return made()
    values: dict[str, Any] = {}
    for key, value in cast("dict[str, Any]", table).items():
        if key not in settings:
            problems.append(f"{name}.{key}: there is no such setting. Settings of [{name}]: {', '.join(settings)}.")
            continue
        try:
            values[settings[key].name] = settings[key].metadata["check"](value)
        except ValueError as error:
            problems.append(f"{name}.{key}: {error}")
    return made(**values)
