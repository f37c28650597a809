"""What a compile read, and whether that is still the same. Reads files and directories, writes nothing.

Two processes use it: the one that compiles notes what it reads (``Watch``, an audit hook), the one that looks
into the cache compares (``unchanged``). It imports only the standard library: any interpreter can load it.

Seen are files that are opened, directories that are listed, modules that are imported, and the environment
variables that the project's own code reads. Not seen is a bare ``exists()``, which reads no content.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

_STANDARD_LIBRARY = os.path.dirname(threading.__file__) + os.sep
_NEVER = frozenset({"__pycache__", "site-packages", ".git"})
_METADATA = re.compile(r"importlib[_/\\]metadata")
_PROGRAM_EVENTS = frozenset({"subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.exec"})


class Dependency(NamedTuple):
    """Something that was read: ``kind`` is file, directory, modules or variable.

    ``name`` is a path relative to the project's root (absolute outside of it) or a variable's name;
    ``fingerprint`` is a SHA-256 in hex, empty for what was not there.
    """

    kind: str
    name: str
    fingerprint: str


def fingerprint(kind: str, name: str, root: Path, environment: Mapping[str, str]) -> str:
    """The fingerprint that this dependency has now. ValueError for a kind that there is not."""
    try:
        if kind == "file":
            return _sha256((root / name).read_bytes())
        if kind == "directory":
            return _sha256("\0".join(sorted(_visible(root / name))).encode(errors="surrogateescape"))
        if kind == "modules":
            return _sha256("\0".join(sorted(_importable(root / name))).encode(errors="surrogateescape"))
    except OSError:
        return ""
    if kind == "variable":
        value = environment.get(name)
        return "" if value is None else _sha256(value.encode(errors="surrogateescape"))
    raise ValueError(f"no dependency is of the kind {kind!r}")


def unchanged(dependencies: Iterable[Dependency], root: Path, environment: Mapping[str, str]) -> bool:
    """Whether every dependency has the fingerprint that it had when it was read."""
    return all(fingerprint(kind, name, root, environment) == then for kind, name, then in dependencies)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _visible(directory: Path) -> list[str]:
    """The entries of a directory, without the hidden ones: tools keep theirs there (.pytest_cache)."""
    names = [path.name for path in directory.iterdir()]
    return [name for name in names if not name.startswith(".") and name != "__pycache__"]


def _importable(directory: Path) -> list[str]:
    """The entries that an import could find: a new one may take the place of what was imported."""
    return [
        path.name for path in directory.iterdir() if path.suffix in (".py", ".so") or (path / "__init__.py").exists()
    ]


class Watch:
    """Notes what is read under ``roots`` (the first one is the project's) from ``start`` on.

    ``ignored`` are directories within them that are not the project: its virtual environment, the state.
    Fingerprints are taken when a file is first opened: one that changes during the compile no longer matches.
    ``programs`` are those that the project's code started; what they answer has no fingerprint.
    """

    def __init__(self, roots: Sequence[Path], ignored: Iterable[Path] = ()) -> None:
        self.programs: list[str] = []
        self._root = roots[0]
        self._roots = tuple(f"{root}{os.sep}".replace("//", "/") for root in roots)
        inside = [path for path in ignored if any(root in path.parents for root in roots)]
        self._ignored = tuple(f"{path}{os.sep}" for path in inside)
        self._read: dict[tuple[str, str], str] = {}
        self._hashed: dict[tuple[str, str], str] = {}
        self._uploads: list[str] = []
        self._busy = threading.local()

    def covers(self, path: str) -> bool:
        """Whether an absolute path is the project's own."""
        path += os.sep
        inside = path.startswith(self._roots) and not path.startswith(self._ignored)
        return inside and _NEVER.isdisjoint(Path(path).parts)

    def start(self) -> None:
        """Begin to watch. There is no end: an audit hook cannot be taken back."""
        sys.addaudithook(self._on_event)
        watch = self

        class WatchedEnvironment(type(os.environ)):
            def __getitem__(self, key: str) -> str:
                watch.note_variable(key)
                return super().__getitem__(key)

            def __contains__(self, key: object) -> bool:
                if isinstance(key, str):
                    watch.note_variable(key)
                return super().__contains__(key)

        os.environ.__class__ = WatchedEnvironment

    def note_variable(self, name: str) -> None:
        """Note an environment variable, if it is the project's code that reads it and not a library."""
        if self._asked_by_project():
            self._note(self._read, "variable", name)

    def note_file(self, path: str) -> None:
        """Note a file, wherever it is."""
        self._note(self._read, "file", self._name(path))

    def note_upload(self, path: str) -> None:
        """Say that the content of this file or directory is resolved at run time.

        That the SDK hashes it does not make the definition depend on it.
        """
        self._uploads.append(path + os.sep)

    def dependencies(self) -> list[Dependency]:
        """What was read so far. A file elsewhere that is gone by now was somebody's temporary one."""
        hashed = {
            key: value
            for key, value in self._hashed.items()
            if not f"{self._root / key[1]}{os.sep}".startswith(tuple(self._uploads))
        }
        return [
            Dependency(kind, name, then)
            for (kind, name), then in (hashed | self._read).items()
            if kind != "file" or not os.path.isabs(name) or self.covers(name) or os.path.exists(name)
        ]

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & os.O_ACCMODE == os.O_RDONLY:
                self._on_path("file", path)
        elif event in ("os.listdir", "os.scandir"):
            self._on_path("directory", arguments[0])
        elif event in _PROGRAM_EVENTS and self._asked_by_project():
            self.programs.append(str(arguments[0]) if arguments else event)

    def _on_path(self, kind: str, path: object) -> None:
        if getattr(self._busy, "now", False) or isinstance(path, int):
            return
        name = os.path.abspath("." if path is None else os.fsdecode(path))  # type: ignore[arg-type]
        if not self.covers(name):
            return
        frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        if kind == "directory" and frame.f_code.co_filename.startswith("<frozen importlib"):
            kind = "modules"
        elif _METADATA.search(frame.f_code.co_filename):
            return  # which distributions are installed is in the cache's key
        where = self._hashed if _within(frame, "get_code_hash") else self._read
        self._note(where, kind, self._name(name))

    def _note(self, where: dict[tuple[str, str], str], kind: str, name: str) -> None:
        if (kind, name) in where:
            return
        self._busy.now = True
        try:
            where[kind, name] = fingerprint(kind, name, self._root, os.environ)
        finally:
            self._busy.now = False

    def _name(self, path: str) -> str:
        root = self._roots[0]
        return path[len(root) :] if path.startswith(root) else ("." if path + os.sep == root else path)

    def _asked_by_project(self) -> bool:
        """Whether the code that asked, the standard library aside, is the project's."""
        if getattr(self._busy, "now", False):
            return False
        frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        while frame is not None:
            file = frame.f_code.co_filename
            library = file.startswith(("<frozen", _STANDARD_LIBRARY)) and "site-packages" not in file
            if not library and file != __file__:
                return self.covers(file)
            frame = frame.f_back
        return False


def _within(frame: FrameType | None, function: str) -> bool:
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back
    return False
