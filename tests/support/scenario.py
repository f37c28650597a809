"""A scenario is a directory with a pipeline, the objects that it finds, and what must come of a run of it.

``definition.json`` is the pipeline; ``data/BUCKET/KEY`` are the objects (each bucket is mapped, and must be unchanged
afterwards). ``expected.json`` says what comes of it:

- ``arguments``: more for the command line; ``exit_code``;
- ``steps``: the status of each step that started; ``order``: the names in the order in which they ended;
- ``outputs``: for ``Step.Output`` its whole content by path: a text, ``{"base64": ...}``, or ``{"archive": {...}}``
  for the texts of a tar archive's files by path;
- ``absent``: what is not in the local S3;
- ``exit_messages`` by step; ``logs``: by step, lines that its log has;
- ``reasons``: by step, and ``failure_reason``: texts that occur there.

Reads the files of a scenario and of a finished run. Runs nothing.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from support.values import there


def files(directory: Path) -> dict[str, bytes]:
    """The content of every file below a directory, by path."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def expectation(file: Path) -> dict[str, Any]:
    """An ``expected.json``."""
    return json.loads(file.read_text(encoding="utf-8"))


def buckets(data: Path) -> dict[str, Path]:
    """The directory of each bucket of a scenario's ``data``, by its S3 URI."""
    return {f"s3://{bucket.name}": bucket for bucket in sorted(data.iterdir())} if data.is_dir() else {}


def differences(expected: Mapping[str, Any], record: Mapping[str, Any], exit_code: int, s3: Path) -> list[str]:
    """What of ``expected`` a run did not come to: a sentence each. ``record`` is what ``--json`` prints."""
    return list(_differences(dict(expected), record, exit_code, s3))


def _differences(expected: dict[str, Any], record: Mapping[str, Any], exit_code: int, s3: Path) -> Iterator[str]:
    steps: dict[str, Any] = {step["name"]: step for step in record["steps"]}
    expected.pop("arguments", None)

    def differ(what: str, wanted: Any, found: Any) -> Iterator[str]:
        if wanted != found:
            yield f"{what}: expected {wanted!r}, found {found!r}"

    def of(step: str) -> dict[str, Any]:
        return steps.get(step) or {"outputs": {}, "exit_message": None, "failure_reason": None, "log": None}

    found = {name: step["status"] for name, step in steps.items()}
    yield from differ("steps", expected.pop("steps"), found)
    yield from differ("exit code", expected.pop("exit_code"), exit_code)
    yield from differ("order", expected.pop("order", list(steps)), list(steps))
    for name, content in expected.pop("outputs", {}).items():
        step, _, output = name.partition(".")
        place = of(step)["outputs"].get(output)
        wanted = {path: _wanted(value) for path, value in content.items()}
        found_files: dict[str, Any] | None = dict(files(Path(place))) if place else None
        for path, value in wanted.items():
            if isinstance(value, Mapping) and found_files and path in found_files:
                found_files[path] = _unpacked(found_files[path])
        yield from differ(name, wanted, found_files)
    for key in expected.pop("absent", ()):
        if (s3 / key).exists():
            yield f"{key} is in the local S3"
    for name, message in expected.pop("exit_messages", {}).items():
        yield from differ(f"exit message of {name}", message, of(name)["exit_message"])
    for name, lines in expected.pop("logs", {}).items():
        place = of(name)["log"]
        log = Path(place).read_text(encoding="utf-8").splitlines() if place else []
        if missing := set(lines) - set(log):
            yield f"log of {name}: {missing} not in {log}"
    for name, texts in expected.pop("reasons", {}).items():
        reason = of(name)["failure_reason"] or ""
        yield from (f"reason of {name}: {text!r} not in {reason!r}" for text in texts if text not in reason)
    for text in expected.pop("failure_reason", ()):
        if text not in (record["failure_reason"] or ""):
            yield f"reason of the execution: {text!r} not in {record['failure_reason']!r}"
    assert not expected, f"expected.json says what is not known here: {list(expected)}"


def _wanted(value: str | Mapping[str, Any]) -> bytes | Mapping[str, str]:
    if isinstance(value, str):
        return value.encode()
    return value["archive"] if "archive" in value else base64.b64decode(value["base64"])


def _unpacked(archive: bytes) -> dict[str, str]:
    """The texts of the files in a tar archive; its own bytes hold the time of day."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {file.name: there(tar.extractfile(file)).read().decode() for file in tar if file.isfile()}
