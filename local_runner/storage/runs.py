"""The executions of one state directory: ``runs/<id>/`` with its lock, record, logs and scratch space. Files only.

An execution holds a lock on its directory for as long as its process lives, however that ends; that is how the next
run tells what a killed one left behind, and what still belongs to one that runs beside it.
"""

from __future__ import annotations

import fcntl
import json
import secrets
import string
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from local_runner.storage import job_tree
from local_runner.storage.files import locked, read_regular, write_atomically
from local_runner.storage.records import RecordError, Shape, as_text, parse_record, text_digest

RECORD = "execution.json"
DESCRIBED = "described.json"
KEPT_RUNS = 50
OPENING = "opening"


def new_execution_id() -> str:
    """Twelve characters of [a-z0-9], as the service makes them."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))


@dataclass
class Run:
    """The directory of one execution, locked until ``close``. ``work`` is scratch space and gone afterwards."""

    id: str
    directory: Path
    _lock: TextIO

    @property
    def work(self) -> Path:
        """Where jobs are laid out; removed at the end."""
        return self.directory / "work"

    def logs(self, step: str) -> Path:
        """The directory of a step's logs, one file per host."""
        return self.directory / "logs" / step

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Keep what ``--json`` prints as ``execution.json``."""
        self._keep(RECORD, json.dumps(record, indent=1))

    def write_described(self, steps: Mapping[str, Any]) -> None:
        """Keep what Describe says of each step that succeeded, for an execution that continues this one."""
        self._keep(DESCRIBED, json.dumps(steps, separators=(",", ":"), default=str))

    def _keep(self, name: str, text: str) -> None:
        """Write a record that stays plain JSON, which people read; its digest is in the lock file."""
        with suppress(OSError):  # no room: the record is then taken as it is
            self._lock.write(f"{text_digest(text)} {name}\n")
            self._lock.flush()
        write_atomically(self.directory / name, text)

    def close(self) -> None:
        """Remove the scratch space and unlock it."""
        job_tree.remove(self.work)
        self._lock.close()


def read_kept(directory: Path, name: str, shape: Shape) -> Any:
    """A record of an execution. Raises RecordError, FileNotFoundError, OSError.

    One from before records had digests is taken as it is: an execution cannot be made anew.
    """
    text = as_text(read_regular(directory / name))
    record = parse_record(text, shape)
    kept: list[str] = []
    with suppress(FileNotFoundError):
        kept = (directory / "lock").read_text(encoding="utf-8", errors="replace").splitlines()
    if kept and f"{text_digest(text)} {name}" not in kept:
        raise RecordError("it was changed since it was written")
    return record


def open_run(state: Path, execution_id: str) -> Run:
    """Make and lock the directory of a new execution.

    It is made aside and moved to ``runs/`` with its lock held: whoever finds it there without one may remove it.
    """
    directory, aside = state / "runs" / execution_id, state / OPENING / execution_id
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _opening(state):
        aside.mkdir(parents=True)
        lock = (aside / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        aside.rename(directory)
    return Run(execution_id, directory, lock)


def _opening(state: Path) -> AbstractContextManager[int]:
    """Held while a directory is made aside: what lies there when nobody holds it was left by a killed process."""
    return locked(state / f"{OPENING}.lock", lambda: None)


def is_live(state: Path, execution_id: str) -> bool:
    """Whether the process of that execution is still there, in whatever process it runs."""
    try:
        with (state / "runs" / execution_id / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def killed_one(state: Path) -> bool:
    """Whether an execution was killed and left its scratch space, and with it perhaps containers."""
    left = [path.parent.name for path in (state / "runs").glob("*/work")]
    return any(not is_live(state, name) for name in left)


def sweep(state: Path) -> bool:
    """Remove the scratch space of killed executions and the oldest records beyond KEPT_RUNS.

    Returns whether no other execution is live, that is, whether nobody reads a replaced directory of the local S3.
    """
    runs = state / "runs"
    if (state / OPENING).is_dir():
        with _opening(state):
            for left in (state / OPENING).iterdir():
                job_tree.remove(left)
    if not runs.is_dir():
        return True
    directories = [entry for entry in runs.iterdir() if entry.is_dir()]
    dead = [directory for directory in directories if not is_live(state, directory.name)]
    for directory in dead:
        job_tree.remove(directory / "work")
    dead.sort(key=modified, reverse=True)
    for directory in dead[KEPT_RUNS:]:
        job_tree.remove(directory)
    return len(dead) == len(directories)


def modified(directory: Path) -> float:
    """When it last changed, seconds since 1970; 0 where another process has removed it meanwhile."""
    try:
        return directory.stat().st_mtime
    except FileNotFoundError:
        return 0.0
