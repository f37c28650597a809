"""Directories that take long to make and are used again: whole and unchanged by their mark, or made anew.

Reads directories; writes the file ``complete`` into each, last, with a digest of what ``stat`` says of all else there:
names, modes, sizes and when files were last changed. To read all their bytes each time would take a second.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from local_runner.storage.files import write_atomically

_MARK = "complete"


def mark(directory: Path) -> None:
    """Say that a directory is whole as it is now. Raises OSError."""
    write_atomically(directory / _MARK, _digest(directory))


def is_marked(directory: Path) -> bool:
    """Whether a directory is there and what it was when it was marked."""
    with suppress(OSError):
        return (directory / _MARK).read_bytes() == _digest(directory).encode()
    return False


def _digest(directory: Path) -> str:
    """Raises OSError where there is no such directory."""
    digest = hashlib.sha256()
    waiting = [str(directory)]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
                continue
            state = entry.stat(follow_symlinks=False)
            name = entry.path[len(str(directory)) + 1 :]
            if name == _MARK:
                continue
            digest.update(os.fsencode(f"{name}\0{state.st_mode}\0{state.st_size}\0{state.st_mtime_ns}\n"))
    return digest.hexdigest()
