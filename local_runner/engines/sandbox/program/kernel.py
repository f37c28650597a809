"""What the modules of this program have in common: system calls, and their errors as messages. No I/O of its own."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
SIGKILL = 9

OLD = b"/.old"
"""Where the machine's root is found while a job's own is made."""

libc = ctypes.CDLL(None, use_errno=True)
libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
libc.sethostname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


class SetupError(OSError):
    """A system call that failed; ``filename`` is what it was to do, as in "cannot ..."."""


def call(what: str, result: int) -> None:
    """Raise SetupError where a C function, called just before, returned -1."""
    if result < 0:
        number = ctypes.get_errno()
        raise SetupError(number, os.strerror(number), what)


def unshare(flags: int, what: str) -> None:
    """Make new namespaces. Raises SetupError."""
    call(f"make a new {what} namespace", libc.unshare(flags))


def mount(source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None = None) -> None:
    """Mount as mount(2) does. Raises SetupError."""
    what = f"mount {os.fsdecode(kind or source.removeprefix(OLD))} on {os.fsdecode(target)}"
    call(what, libc.mount(source, target, kind, flags, data))


def describe(error: Exception) -> str:
    """The error in one line."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SetupError):
        text = f"cannot {error.filename}: {error.strerror}"
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename).removeprefix(os.fsdecode(OLD))}: {error.strerror}"
    return text.replace("\n", "?")[:2000]
