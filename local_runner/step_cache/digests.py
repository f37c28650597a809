"""SHA-256 of files, remembered by what ``stat`` says of them. Reads files; writes one small database (SQLite).

A digest is remembered for (device, inode) with size, mtime and ctime. Nobody can set a ctime, so that a file with
other bytes shows, also where its size and mtime were put back. What could still lie is left out, as git's index does:
a file that was changed so recently that a further change might get the same time stamp is hashed again each time, and
so is one whose time stamps lie in the future (a clock that jumped).

Of a folder with many files the digest of all of them is remembered too, in parts of 1,000, by all that ``stat`` says
of these: where nothing changed, a file costs one ``stat`` and no look at the database.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from local_runner.storage.files import SETTLED_NS, open_regular

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")

PART = 1000
"""Files whose digests are remembered as one: what bounds the memory that a folder of a million files takes."""

_COARSE_NS = 2_000_000_000  # the same on a file system whose time stamps are whole seconds
_ATTEMPTS = 3
_THREADS = min(8, 2 * (os.cpu_count() or 1))
_LARGE_BYTES = 256 * 1024  # below that, handing a file to another thread costs more than hashing it
_FLUSH = 20_000
_AT_ONCE = 500  # values in a query: SQLite before 3.32 takes 999
_KEPT_DAYS = 60
_WAIT_SECONDS = 30
_STAMP = struct.Struct("=QQQq")
_NAME = struct.Struct(">QQ")  # big-endian: files that were made one after the other lie side by side
_ROW = struct.Struct("=QqqI32s")
_SEAL_BYTES = 8
_TABLES = """
CREATE TABLE IF NOT EXISTS files (name BLOB PRIMARY KEY, day INTEGER, row BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts (name BLOB PRIMARY KEY, day INTEGER, row BLOB) WITHOUT ROWID;
"""


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


class FolderContent(NamedTuple):
    """What counts of the files of a folder: how many objects they are, and a digest of their names and contents.

    ``identity`` stands for which files those were: their devices, inodes and mtimes.
    """

    objects: int
    digest: str
    identity: bytes


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
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._usable = True
        self._files: dict[tuple[int, int], _Known] = {}
        self._parts: dict[bytes, bytes] = {}
        self._linking: list[tuple[int, int]] = []
        self._day = int(time.time() // 86_400)
        self.hashed = 0
        """How many files had to be read, for benchmarks and tests."""
        self.linked_anew = 0
        """How many files had another ctime because this process had made or removed links of them."""

    # ------------------------------------------------------------------------------------------------- single files
    def of(self, paths: Sequence[str | Path]) -> list[Digested]:
        """Each file's content. Raises OSError, and UnstableError where one does not keep still."""
        return self._digested(paths, [os.stat(path) for path in paths])

    def linked(self, path: str | Path, before: Digested) -> None:
        """Tell that this process has just made a hard link of a file, which changes its ctime and nothing else."""
        with suppress(OSError):
            state = os.stat(path)
            same = _identity(state) == before.identity and state.st_size == before.content.size
            if same and state.st_mtime_ns + _margin(state) <= time.time_ns():
                self._remember(state, bytes.fromhex(before.content.sha256))

    @contextmanager
    def linking(self, since: int | None = None) -> Generator[None]:
        """While this process makes or removes links of files whose digests it knows: their ctimes change by that alone.

        ``since`` (ns since the epoch) is when that began, where it was before.
        """
        began = since or time.time_ns()
        try:
            yield
        finally:
            with self._lock:
                self._linking.append((began - SETTLED_NS, time.time_ns()))

    # ------------------------------------------------------------------------------------------------ whole folders
    def folder(self, directory: str, names: Sequence[str], files: Sequence[str] | None = None) -> FolderContent:
        """The content of these files of a directory, under ``names``, which are sorted; in it they may have others.

        Raises OSError, and UnstableError where a file does not keep still.
        """
        files = names if files is None else files
        digest, identity = hashlib.sha256(), hashlib.sha256()
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for first in range(0, len(names), PART):
                part = files[first : first + PART]
                found, which = self._part(directory, descriptor, names[first : first + PART], part)
                digest.update(found)
                identity.update(which)
        finally:
            os.close(descriptor)
        return FolderContent(len(names), digest.hexdigest(), identity.digest())

    def _part(self, directory: str, descriptor: int, names: Sequence[str], files: Sequence[str]) -> tuple[bytes, bytes]:
        """The digest of up to PART files, and what stands for which files those are."""
        states = [os.stat(name, dir_fd=descriptor) for name in files]
        joined = "\0".join(names).encode(errors="surrogateescape")
        stats = b"".join([_STAMP.pack(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in states])
        ctimes = [state.st_ctime_ns for state in states]
        identity = hashlib.sha256(joined + b"\0\0" + stats).digest()
        stamp = hashlib.sha256(identity + struct.pack(f"={len(ctimes)}q", *ctimes)).digest()
        now = time.time_ns()
        latest = max(max(ctimes), max(state.st_mtime_ns for state in states))
        known = self._known_part(stamp) if latest <= now else None
        if known is None:
            contents = self._digested([f"{directory}/{name}" for name in files], states)
            lines = [
                f"{name}\0{content.size}\0{content.sha256}\n"
                for name, (content, _) in zip(names, contents, strict=True)
            ]
            known = hashlib.sha256("".join(lines).encode(errors="surrogateescape")).digest()
            settled = all(_settled(state, now) for state in states)
            same = all(_identity(s) == each.identity for s, each in zip(states, contents, strict=True))
            if settled and same:
                with self._lock:
                    self._parts[stamp] = known
        return known, identity

    def _known_part(self, stamp: bytes) -> bytes | None:
        with self._lock:
            if (new := self._parts.get(stamp)) is not None:
                return new
            row = self._ask("parts", [stamp]).get(stamp)
            if row is not None and row[0] + _KEPT_DAYS // 2 < self._day:  # so that what is used stays
                self._parts[stamp] = row[1]
            return row[1] if row else None

    # ------------------------------------------------------------------------------------------------------ hashing
    def _digested(self, paths: Sequence[str | Path], states: Sequence[os.stat_result]) -> list[Digested]:
        found: list[Digested | None] = []
        unknown: list[int] = []
        large: list[int] = []
        now = time.time_ns()
        stored = self._stored([(state.st_dev, state.st_ino) for state in states])
        for index, state in enumerate(states):
            digest = self._remembered(state, now, stored)
            found.append(None if digest is None else _digested(state, digest))
            if digest is None:
                (large if state.st_size > _LARGE_BYTES else unknown).append(index)
        for index in unknown:
            found[index] = self._hash(paths[index])
        if len(large) > 1:
            with ThreadPoolExecutor(min(_THREADS, len(large)), "hash") as threads:
                for index, each in zip(large, threads.map(self._hash, [paths[i] for i in large]), strict=True):
                    found[index] = each
        elif large:
            found[large[0]] = self._hash(paths[large[0]])
        self._flush(_FLUSH)
        return [digested for digested in found if digested is not None]

    def _hash(self, path: str | Path) -> Digested:
        for _ in range(_ATTEMPTS):
            now = time.time_ns()
            descriptor = open_regular(path)
            try:
                before = os.fstat(descriptor)
                content = os.read(descriptor, _LARGE_BYTES + 1)
                digest, size = hashlib.sha256(content), len(content)
                while content and size != before.st_size:
                    content = os.read(descriptor, 1024 * 1024)
                    digest.update(content)
                    size += len(content)
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            if _same_bytes(before, after):
                with self._lock:
                    self.hashed += 1
                self._remember(before, digest.digest(), settled=_settled(before, now))
                return _digested(before, digest.digest())
        raise UnstableError(f"{path} changes while it is read")

    def _remembered(self, state: os.stat_result, now: int, stored: Mapping[tuple[int, int], _Known]) -> bytes | None:
        key = (state.st_dev, state.st_ino)
        with self._lock:
            known = self._files.get(key) or stored.get(key)
        if (
            known is None
            or (known.size, known.mtime) != (state.st_size, state.st_mtime_ns)
            or max(state.st_mtime_ns, state.st_ctime_ns) > now
        ):
            return None
        if known.ctime != state.st_ctime_ns:
            if not any(began <= state.st_ctime_ns <= ended for began, ended in self._linking):
                return None
            self.linked_anew += 1
            self._remember(state, known.digest)
        elif known.day + _KEPT_DAYS // 2 < self._day:  # so that what is used stays
            self._remember(state, known.digest)
        return known.digest

    def _remember(self, state: os.stat_result, digest: bytes, *, settled: bool = True) -> None:
        """Remember a file's digest; of one that is not settled only in place of an older one that is not true now."""
        ctime = state.st_ctime_ns if settled else 0
        known = _Known(state.st_size, state.st_mtime_ns, ctime, self._day, digest)
        with self._lock:
            self._files[state.st_dev, state.st_ino] = known

    # ---------------------------------------------------------------------------------------------------- database
    def save(self) -> None:
        """Keep what is known, beside what other processes keep. Raises OSError."""
        self._flush(0)
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _flush(self, least: int) -> None:
        """Write what is new, where it is at least so much. Raises OSError where that is all, and cannot be."""
        with self._lock:
            if len(self._files) + len(self._parts) <= least:
                return
            files = [_row(_NAME.pack(*key), self._day, _packed(known)) for key, known in self._files.items()]
            parts = [_row(stamp, self._day, digest) for stamp, digest in self._parts.items()]

            def write(database: sqlite3.Connection) -> None:
                with database:
                    database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", files)
                    database.executemany("INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", parts)
                    if not least:
                        oldest = (self._day - _KEPT_DAYS,)
                        database.execute("DELETE FROM files WHERE day < ?", oldest)
                        database.execute("DELETE FROM parts WHERE day < ?", oldest)

            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._with_database(write, make=True)
            except OSError:
                if least:  # it stays in memory, and is tried again at the end
                    return
                raise
            self._files.clear()
            self._parts.clear()

    def _stored(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], _Known]:
        """What the database has of these files, where nothing newer is known."""
        with self._lock:
            wanted = {_NAME.pack(*key): key for key in keys if key not in self._files}
            found = self._ask("files", list(wanted)).items()
        return {wanted[name]: _Known(*_ROW.unpack(row)) for name, (_, row) in found if len(row) == _ROW.size}

    def _ask(self, table: str, names: Sequence[bytes]) -> dict[bytes, tuple[int, bytes]]:
        """The day and the content of each row that is there, as it was written."""

        def ask(database: sqlite3.Connection) -> list[tuple[Any, Any, Any]]:
            rows: list[tuple[Any, Any, Any]] = []
            for first in range(0, len(names), _AT_ONCE):
                some = names[first : first + _AT_ONCE]
                query = f"SELECT name, day, row FROM {table} WHERE name IN ({','.join('?' * len(some))})"
                rows += database.execute(query, some).fetchall()
            return rows

        try:
            found = self._with_database(ask, make=False) or []
        except OSError:
            return {}
        return {
            name: (day, row[:-_SEAL_BYTES])
            for name, day, row in found
            if isinstance(name, bytes)
            and isinstance(day, int)
            and isinstance(row, bytes)
            and _sealed(name, row[:-_SEAL_BYTES]) == row
        }

    def _with_database(self, use: Callable[[sqlite3.Connection], T], *, make: bool) -> T | None:
        """What ``use`` gives; None where there is no database and none is to be made. Raises OSError.

        One that is no database, or a damaged one, is removed: all that it holds can be had again.
        """
        import sqlite3  # only where there are files to be hashed

        if self._database is None and not make and (not self._usable or not self._path.exists()):
            self._usable = False
            return None
        for attempt in range(2):
            try:
                if self._database is None:
                    self._database = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, check_same_thread=False)
                    self._database.execute("PRAGMA synchronous = OFF")
                    self._database.executescript(_TABLES)
                    self._usable = True
                return use(self._database)
            except sqlite3.OperationalError as error:
                self._usable = False
                self._close()
                raise OSError(errno.EIO, f"{self._path}: {error}") from None
            except (sqlite3.DatabaseError, ValueError, TypeError) as error:
                self._close()
                if attempt:
                    raise OSError(errno.EIO, f"{self._path}: {error}") from None
                self._path.unlink(missing_ok=True)
        return None

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def file_listing_digest(folders: Iterable[tuple[str, FolderContent]]) -> str:
    """One digest for folders by their paths, in any order."""
    lines = sorted(f"{path}\0{folder.objects}\0{folder.digest}\n" for path, folder in folders)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _row(name: bytes, day: int, content: bytes) -> tuple[bytes, int, bytes]:
    return name, day, _sealed(name, content)


def _sealed(name: bytes, content: bytes) -> bytes:
    """The content with a digest of it and its name: a byte that changed on the disk is found."""
    return content + hashlib.blake2b(name + content, digest_size=_SEAL_BYTES).digest()


def _packed(known: _Known) -> bytes:
    return _ROW.pack(*known)


def _digested(state: os.stat_result, digest: bytes) -> Digested:
    return Digested(FileContent(state.st_size, digest.hex()), _identity(state))


def _identity(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_dev, state.st_ino, state.st_mtime_ns


def _same_bytes(before: os.stat_result, after: os.stat_result) -> bool:
    # Not the ctime: another thread of this run may make a link of the file meanwhile.
    return _identity(before) == _identity(after) and before.st_size == after.st_size


def _settled(state: os.stat_result, now: int) -> bool:
    """Whether a change after ``now`` would get other time stamps than the file has."""
    return max(state.st_mtime_ns, state.st_ctime_ns) + _margin(state) <= now


def _margin(state: os.stat_result) -> int:
    return SETTLED_NS if state.st_ctime_ns % 1_000_000_000 else _COARSE_NS
