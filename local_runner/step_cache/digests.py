"""SHA-256 of files, remembered by what ``stat`` says of them. Reads files; writes one small index file.

A digest is remembered for (device, inode) with size, mtime and ctime. Nobody can set a ctime, so that a file with
other bytes shows, also where its size and mtime were put back. What could still lie is left out, as git's index does:
a file that was changed so recently that a further change might get the same time stamp is hashed again each time, and
so is one whose time stamps lie in the future (a clock that jumped).
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from local_runner.storage.files import SETTLED_NS, locked, write_bytes_atomically

_COARSE_NS = 2_000_000_000  # the same on a file system whose time stamps are whole seconds
_ATTEMPTS = 3
_THREADS = min(8, 2 * (os.cpu_count() or 1))
_INLINE_BYTES = 256 * 1024
_KEPT = 400_000
_MAGIC = b"local-runner digests 1\n"
_RECORD = struct.Struct("=QQQqqI32s")
_CHECKSUM = 32


class UnstableError(Exception):
    """A file was changed again and again while it was hashed; the message names it."""


class FileContent(NamedTuple):  # a tuple: there is one for each file of each input
    """What counts of a file: its size in bytes and its SHA-256 in hex. Its mode does not: S3 has none."""

    size: int
    sha256: str


class Digested(NamedTuple):
    """A file's content, and the file that had it: device, inode, mtime."""

    content: FileContent
    identity: tuple[int, int, int]


class _Known(NamedTuple):
    size: int
    mtime: int
    ctime: int
    day: int
    digest: bytes


class FileDigests:
    """The digests of one state directory, for all threads of a run. ``save`` keeps them for the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known = _load(path)
        self._new: dict[tuple[int, int], _Known] = {}
        self._day = int(time.time() // 86_400)
        self.hashed = 0
        """How many files had to be read, for benchmarks and tests."""

    def of(self, paths: Sequence[str | Path]) -> list[Digested]:
        """Each file's content. Raises OSError, and UnstableError where one does not keep still."""
        found: list[Digested | None] = []
        unknown: list[int] = []
        size = 0
        now = time.time_ns()
        for index, path in enumerate(paths):
            state = os.stat(path)
            digest = self._remembered(state, now)
            found.append(None if digest is None else _digested(state, digest))
            if digest is None:
                unknown.append(index)
                size += state.st_size
        if len(unknown) > 1 and size > _INLINE_BYTES:
            with ThreadPoolExecutor(_THREADS, "hash") as threads:
                hashed = list(threads.map(self._hash, [paths[index] for index in unknown]))
        else:
            hashed = [self._hash(paths[index]) for index in unknown]
        for index, digested in zip(unknown, hashed, strict=True):
            found[index] = digested
        return [digested for digested in found if digested is not None]

    def linked(self, path: str | Path, before: Digested) -> None:
        """Tell that this process has just made a hard link of a file, which changes its ctime and nothing else."""
        with suppress(OSError):
            state = os.stat(path)
            same = _identity(state) == before.identity and state.st_size == before.content.size
            if same and state.st_mtime_ns + _margin(state) <= time.time_ns():
                self._remember(state, bytes.fromhex(before.content.sha256))

    def save(self) -> None:
        """Keep what is known, beside what other processes have kept meanwhile. Raises OSError."""
        with self._lock:
            new = dict(self._new)
        if not new:
            return
        with locked(self._path.with_name(f"{self._path.name}.lock"), lambda: None):
            known = {**_load(self._path), **new}
            if len(known) > _KEPT:
                latest = sorted(known.items(), key=lambda item: item[1].day, reverse=True)
                known = dict(latest[:_KEPT])
            content = _MAGIC + b"".join(
                _RECORD.pack(*key, each.size, each.mtime, each.ctime, each.day, each.digest)
                for key, each in known.items()
            )
            write_bytes_atomically(self._path, content + hashlib.sha256(content).digest())

    def _remembered(self, state: os.stat_result, now: int) -> bytes | None:
        known = self._known.get((state.st_dev, state.st_ino))
        if (
            known is None
            or (known.size, known.mtime, known.ctime) != (state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            or max(known.mtime, known.ctime) > now
        ):
            return None
        if known.day != self._day:  # so that what is used stays
            self._remember(state, known.digest)
        return known.digest

    def _remember(self, state: os.stat_result, digest: bytes) -> None:
        known = _Known(state.st_size, state.st_mtime_ns, state.st_ctime_ns, self._day, digest)
        with self._lock:
            self._known[state.st_dev, state.st_ino] = self._new[state.st_dev, state.st_ino] = known

    def _hash(self, path: str | Path) -> Digested:
        for _ in range(_ATTEMPTS):
            now = time.time_ns()
            with open(path, "rb") as file:
                before = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").digest()
                after = os.fstat(file.fileno())
            if _stamp(before) == _stamp(after):
                with self._lock:
                    self.hashed += 1
                if _settled(before, now):
                    self._remember(before, digest)
                return _digested(before, digest)
        raise UnstableError(f"{path} changes while it is read")


def file_listing_digest(files: Iterable[tuple[str, FileContent]]) -> str:
    """One digest for files and their names, in any order."""
    lines = sorted(f"{name}\0{file.size}\0{file.sha256}\n" for name, file in files)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _digested(state: os.stat_result, digest: bytes) -> Digested:
    return Digested(FileContent(state.st_size, digest.hex()), _identity(state))


def _identity(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_dev, state.st_ino, state.st_mtime_ns


def _stamp(state: os.stat_result) -> tuple[int, int, int, int]:
    # Not the ctime: another thread of this run may make a link of the file meanwhile.
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _settled(state: os.stat_result, now: int) -> bool:
    """Whether a change after ``now`` would get other time stamps than the file has."""
    return max(state.st_mtime_ns, state.st_ctime_ns) + _margin(state) <= now


def _margin(state: os.stat_result) -> int:
    return SETTLED_NS if state.st_ctime_ns % 1_000_000_000 else _COARSE_NS


def _load(path: Path) -> dict[tuple[int, int], _Known]:
    """What the file holds; nothing of one that is not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    body, checksum = content[:-_CHECKSUM], content[-_CHECKSUM:]
    records = body[len(_MAGIC) :]
    if not body.startswith(_MAGIC) or len(records) % _RECORD.size or hashlib.sha256(body).digest() != checksum:
        return {}
    return {
        (device, inode): _Known(size, mtime, ctime, day, digest)
        for device, inode, size, mtime, ctime, day, digest in _RECORD.iter_unpack(records)
    }
