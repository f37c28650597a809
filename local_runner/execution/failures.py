"""Why a job failed, as a text for people. Reads the ends of logs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from local_runner.models import HostResult

_LAST_LINES = 10
_MOST_LINES = 50
_READ_BYTES = 32768
_TRACEBACKS = ("Traceback (most recent call last):", "  + Exception Group Traceback (most recent call last):")
_CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_KILLED = 137  # 128 + SIGKILL


def failure_reason(hosts: Iterable[tuple[Path, HostResult]], message: str | None) -> str:
    """The job's own ``message``, which host failed, with which exit code, and the last lines of its log.

    A host that failed for another's sake is not hidden.
    """
    parts = [message] if message else []
    for log, ended in hosts:
        if ended.exit_code == 0:
            continue
        parts.append(_host_failure(ended))
        tail = last_lines(log, ended.errors)
        if tail:
            parts.append("Its last lines:")
            parts += [f"  {line}" for line in tail]
    return "\n".join(parts)


def _host_failure(ended: HostResult) -> str:
    if ended.exit_code is None:
        return f"{ended.host} did not end by itself: {ended.error or 'the engine lost it'}"
    if ended.out_of_memory and ended.exit_code == _KILLED:
        return f"{ended.host} was killed: out of memory; {ended.out_of_memory}."
    if ended.out_of_memory:
        what = "a process of it was killed, out of memory"
        return f"{ended.host} exited with code {ended.exit_code}: {what}; {ended.out_of_memory}."
    meaning = {
        126: " (the entrypoint cannot be executed)",
        127: " (the entrypoint was not found)",
        _KILLED: " (killed: out of memory, or SIGKILL)",
        130: " (SIGINT)",
        143: " (SIGTERM)",
    }.get(ended.exit_code, "")
    extra = f": {ended.error}" if ended.error else ""
    return f"{ended.host} exited with code {ended.exit_code}{meaning}{extra}."


def last_lines(log: Path, errors: Sequence[str] = ()) -> list[str]:
    """The last lines of a log that say anything; a traceback of Python's that is there stands last, and whole.

    ``errors`` are the last lines of stderr: in the log those of stdout may stand between them, or behind.
    """
    lines = _read_end(log)
    traceback = _last_traceback(errors) or _last_traceback(lines)
    left = Counter(traceback)
    others: list[str] = []
    for line in reversed(lines[-_LAST_LINES:]):
        if left[line]:
            left[line] -= 1
        else:
            others.insert(0, line)
    return others + traceback


def _last_traceback(lines: Sequence[str]) -> list[str]:
    """From the beginning of the last traceback on, with those of the exceptions that led to it.

    [] where there is none, and where so much was said after it that it is not what the program ended with.
    """
    lines = [line for line in lines if line.strip()]
    begins = [number for number, line in enumerate(lines) if line in _TRACEBACKS]
    if not begins:
        return []
    after = [not line.startswith(" ") for line in lines[begins[-1] + 1 :]]  # its message, and what came behind it
    if any(after) and len(after) - after.index(True) > _LAST_LINES:
        return []
    while len(begins) > 1 and lines[begins[-1] - 1] in _CHAINED:
        begins.pop()
    return lines[begins[-1] :][-_MOST_LINES:]


def _read_end(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _READ_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line[:500] for line in lines if line.strip()][-_MOST_LINES:]
