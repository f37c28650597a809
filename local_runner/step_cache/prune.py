"""What is thrown away: entries of the step cache by age and size, and records of executions. Files only.

An entry's age is counted from when it was last used. Sizes are those of its files; what local S3 holds as well (they
are hard links) takes room until that is gone, too.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

from local_runner.step_cache.store import StepStore, step_store
from local_runner.storage import job_tree, runs

_LEFT_OVER_SECONDS = 3600.0


@dataclass(frozen=True)
class Pruned:
    """How many directories went (or would), of how many, and the bytes of their files."""

    removed: int
    of: int
    size: int


def prune_steps(
    state: Path, *, max_age: float | None, max_size: int | None, dry_run: bool = False, now: Callable[[], float] = time
) -> Pruned:
    """Remove entries unused for ``max_age`` seconds, then the least recently used beyond ``max_size`` bytes.

    Raises OSError.
    """
    store = step_store(state)
    found = sorted(_entries(store.entries), key=lambda item: item[0], reverse=True)
    kept = removed = freed = 0
    for used, size, path in found:
        too_old = max_age is not None and now() - used > max_age
        if too_old or (max_size is not None and kept + size > max_size):
            removed += 1
            freed += size
            if not dry_run:
                store.drop(path.name)
        else:
            kept += size
    if not dry_run:
        _drop_left_over(store, now())
    return Pruned(removed, len(found), freed)


def prune_runs(state: Path, *, max_age: float | None, dry_run: bool = False) -> Pruned:
    """Remove records, logs and code of executions that ended more than ``max_age`` seconds ago (None: all of them)."""
    removed = freed = of = 0
    for directory in sorted((state / "runs").glob("*")):
        if not directory.is_dir() or runs.is_live(state, directory.name):
            continue
        of += 1
        if max_age is None or time() - runs.modified(directory) > max_age:
            removed += 1
            freed += _size(directory)
            if not dry_run:
                job_tree.remove(directory)
    return Pruned(removed, of, freed)


def _entries(directory: Path) -> list[tuple[float, int, Path]]:
    """When each entry was last used, its size, and where it is."""
    found: list[tuple[float, int, Path]] = []
    for path in directory.glob("*"):
        with suppress(OSError):
            found.append((path.stat().st_mtime, _size(path), path))
    return found


def _size(directory: Path) -> int:
    """Bytes of the files below a directory; what another process removes meanwhile does not count."""
    with suppress(OSError):
        return sum(state.st_size for *_, state in job_tree.entries(directory) if stat.S_ISREG(state.st_mode))
    return 0


def _drop_left_over(store: StepStore, now: float) -> None:
    """What a killed process was about to remove, and signatures that no entry and no step's last run has."""
    for path in store.directory.glob("removed-*"):
        shutil.rmtree(path, ignore_errors=True)
    wanted = {path.name for path in store.entries.glob("*")} | store.all_last()
    for path in (store.directory / "signatures").glob("*.json"):
        with suppress(OSError):
            if path.stem not in wanted and now - path.stat().st_mtime > _LEFT_OVER_SECONDS:
                path.unlink()
