"""Files and directories that several processes share: written, linked and exchanged whole or not at all; and locks."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

SETTLED_NS = 20_000_000
"""How long after its last change a file can be remembered: two ticks of the slowest kernel clock (100 Hz)."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_atomically(path: Path, text: str) -> None:
    """Write a text file (UTF-8) whole or not at all, and its directory where there is none. Raises OSError."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and its directory where there is none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def open_regular(path: str | Path) -> int:
    """A descriptor to read a regular file by. Raises OSError, also of devices, and of FIFOs, which would not let go."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is no regular file", str(path))
    return descriptor


def read_regular(path: Path) -> bytes:
    """The content of a regular file. Raises OSError as :func:`open_regular` does."""
    with os.fdopen(open_regular(path), "rb") as file:
        return file.read()


@contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Generator[int]:
    """Hold the lock of ``path``, which the kernel gives back however this process ends.

    Calls ``on_wait`` once if another process holds it, then waits for as long as that takes. A child process that gets
    the descriptor holds the lock as well, until it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


_FOLDERS = ("s3", "opening", "runs", "steps", "hot", "compiled", "cache")
_FILES = ("secret.key", "opening.lock", "watch.lock")


def keep_private(state: Path) -> None:
    """See to it that what a state directory holds is its user's alone: data, logs and records are nobody else's.

    The directory gets mode 0700. One that holds other things as well keeps its mode, and the folders of the state in
    it are made with mode 0700 instead. Does nothing where it may not write.
    """
    with suppress(OSError):
        state.mkdir(0o700, parents=True)
    with suppress(OSError):
        found = state.stat()
        if not found.st_mode & 0o077 or found.st_uid != os.geteuid():
            return
        if {entry.name for entry in state.iterdir()} <= {*_FOLDERS, *_FILES}:
            state.chmod(0o700)
            return
        for folder in (state / name for name in _FOLDERS):
            folder.mkdir(0o700, exist_ok=True)
            if stat.S_ISDIR(folder.lstat().st_mode):  # no link, which leads to what somebody else keeps
                folder.chmod(0o700)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A hard link, or a copy where there can be none. Raises OSError."""
    if os.path.islink(source):  # noqa: PTH114 (texts: there may be a million)
        source = os.path.realpath(source)
    try:
        os.link(source, target)
    except OSError as error:
        # Another file system, or a file of somebody else (fs.protected_hardlinks).
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP):
            raise
        shutil.copy2(source, target)


def exchange(first: Path, second: Path) -> None:
    """Swap two directories, atomically where the kernel can (renameat2, Linux), else in two renames."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None and not renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    ):
        return
    aside = first.with_name(first.name + ".old")
    second.rename(aside)
    first.rename(second)
    aside.rename(first)
