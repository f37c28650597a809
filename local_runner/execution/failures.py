"""Why a job failed, as a text for people. Reads the ends of logs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from local_runner.models import HostResult

_LAST_LINES = 10
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
        tail = last_lines(log)
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


def last_lines(log: Path) -> list[str]:
    """The last lines of a log that say anything."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    return [line[:500] for line in lines if line.strip()][-_LAST_LINES:]
