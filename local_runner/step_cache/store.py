"""Entries of the step cache: ``<state>/steps/entries/<key>/``, each a manifest and the files that it names.

Reads and writes that directory. The files are hard links of the published outputs and logs (copies where there can be
none), so that they cost no space while both are there. An entry is made aside and renamed into place whole; whatever
does not agree with its manifest afterwards is found when it is read, and the entry is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_runner.names import is_relative_path
from local_runner.step_cache.digests import Digested, FileDigests
from local_runner.step_cache.key import SIGNATURE, Signature, signature_from
from local_runner.storage.files import read_regular
from local_runner.storage.local_s3 import link_or_copy
from local_runner.storage.records import Each, RecordError, parse_record, read_record, sealed, unsealed, write_record

_MANIFEST = "manifest.json"


class CorruptError(Exception):
    """An entry is not what its manifest says, or has none; the message says what is wrong."""


@dataclass(frozen=True)
class StoredFile:
    """A file of an entry: its path below the output, its content, and the name it has in the entry."""

    path: str
    size: int
    sha256: str
    stored: str


@dataclass(frozen=True)
class Manifest:
    """What a job that succeeded left. ``seconds`` is how long it took, ``created`` seconds since the epoch."""

    key: str
    step: str
    execution: str
    created: float
    seconds: float
    exit_code: int | None
    exit_message: str | None
    outputs: Mapping[str, tuple[StoredFile, ...]]
    logs: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for files in (*self.outputs.values(), self.logs) for file in files)


@dataclass(frozen=True)
class StepStore:
    """The entries and signatures of one state directory; ``directory`` is ``<state>/steps``."""

    directory: Path

    @property
    def entries(self) -> Path:
        """One directory for each key."""
        return self.directory / "entries"

    def path(self, key: str) -> Path:
        """The directory of an entry."""
        return self.entries / key

    def manifest(self, key: str) -> Manifest | None:
        """The manifest of an entry; None where there is no entry. Raises CorruptError, OSError."""
        directory = self.path(key)
        try:
            body = unsealed(read_regular(directory / _MANIFEST))
        except FileNotFoundError:
            if directory.exists():
                raise CorruptError("it has no manifest") from None
            return None
        except RecordError:
            raise CorruptError("its manifest was changed") from None
        manifest = _manifest_from(body)
        if manifest.key != key:
            raise CorruptError("its manifest is of another entry")
        return manifest

    def files(self, manifest: Manifest, digests: FileDigests) -> dict[str, tuple[Path, Digested]]:
        """The files of an entry by their stored names, all of them verified. Raises CorruptError, OSError."""
        wanted = [file for files in (*manifest.outputs.values(), manifest.logs) for file in files]
        directory = self.path(manifest.key)
        paths = [f"{directory}/{file.stored}" for file in wanted]
        try:
            found = digests.of(paths)
        except FileNotFoundError as error:
            raise CorruptError(f"{error.filename} is missing") from None
        for file, path, each in zip(wanted, paths, found, strict=True):
            if tuple(each.content) != (file.size, file.sha256):
                raise CorruptError(f"{path} was changed")
        return {file.stored: (Path(path), each) for file, path, each in zip(wanted, paths, found, strict=True)}

    def used(self, key: str) -> None:
        """Note that an entry was used: pruning goes by it."""
        with suppress(OSError):
            os.utime(self.path(key))

    def add(self, draft: Path, manifest: Manifest) -> None:
        """Put what lies in ``draft`` in place as the entry of that key, in place of one there is. Raises OSError."""
        # Not asdict, which copies every value of a hundred thousand files.
        outputs = {name: [vars(file) for file in files] for name, files in manifest.outputs.items()}
        document = {**vars(manifest), "outputs": outputs, "logs": [vars(file) for file in manifest.logs]}
        body = json.dumps(document, separators=(",", ":"))
        (draft / _MANIFEST).write_text(sealed(body), encoding="utf-8")
        self.entries.mkdir(parents=True, exist_ok=True)
        self.drop(manifest.key)
        try:
            draft.rename(self.path(manifest.key))
        except OSError:
            if not self.path(manifest.key).exists():
                raise
            shutil.rmtree(draft)  # another run was first, with the same

    def drop(self, key: str) -> None:
        """Remove an entry, if there is one. Nobody sees half of it."""
        aside = self.directory / f"removed-{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            self.path(key).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    # ------------------------------------------------------------------------------------------- signatures
    def keep_signature(self, key: str, signature: Signature) -> None:
        """Keep what a key stands for, for ``why``. Raises OSError."""
        path = self._signature(key)
        if self.signature(key) is None:
            write_record(path, signature.record())

    def signature(self, key: str) -> Signature | None:
        """What a key stands for; None where that was not kept, or is not whole."""
        try:
            found = signature_from(read_record(self._signature(key), SIGNATURE))
        except (OSError, RecordError):
            return None
        return found if found.key == key else None

    def keep_last(self, pipeline: str, keys: Mapping[str, str]) -> None:
        """Keep which key each step of a pipeline had when it was last looked at. Raises OSError."""
        path = self._last(pipeline)
        known = self.last(pipeline)
        if {**known, **keys} != known:
            write_record(path, {**known, **keys})

    def last(self, pipeline: str) -> dict[str, str]:
        """The key that each step of a pipeline had when it was last looked at."""
        try:
            return read_record(self._last(pipeline), Each(str))
        except (OSError, RecordError):
            return {}

    def all_last(self) -> set[str]:
        """The keys that steps of any pipeline had when they were last looked at."""
        found: set[str] = set()
        for path in (self.directory / "last").glob("*.json"):
            with suppress(OSError, RecordError):
                found |= set(read_record(path, Each(str)).values())
        return found

    def _signature(self, key: str) -> Path:
        return self.directory / "signatures" / f"{key}.json"

    def _last(self, pipeline: str) -> Path:
        name = hashlib.sha256(pipeline.encode()).hexdigest()[:16]
        return self.directory / "last" / f"{name}.json"


_FILES = [{"path": str, "size": int, "sha256": str, "stored": str}]
_MANIFEST_SHAPE = {
    "key": str,
    "step": str,
    "execution": str,
    "created": (int, float),
    "seconds": (int, float),
    "exit_code": (int, type(None)),
    "exit_message": (str, type(None)),
    "outputs": Each(_FILES),
    "logs": _FILES,
}


def _manifest_from(text: str) -> Manifest:
    """Raises CorruptError, also where a file of it would lie elsewhere than in the entry or the output."""
    try:
        document = parse_record(text, _MANIFEST_SHAPE)
    except RecordError as error:
        raise CorruptError(f"its manifest is of another form: {error}") from None
    outputs = {name: _files(files) for name, files in document["outputs"].items()}
    rest = {name: document[name] for name in _MANIFEST_SHAPE if name not in ("outputs", "logs")}
    return Manifest(outputs=outputs, logs=_files(document["logs"]), **rest)


def _files(found: list[dict[str, Any]]) -> tuple[StoredFile, ...]:
    files = tuple(StoredFile(**{name: file[name] for name in _FILES[0]}) for file in found)
    for file in files:
        # Names of files are bytes here: what a job wrote may be no UTF-8.
        if not all(is_relative_path(os.fsencode(name).decode(errors="replace")) for name in (file.path, file.stored)):
            raise CorruptError(f"its manifest names {file.path!r}, which is no path inside it")
    return files


@dataclass
class Draft:
    """An entry in the making, in scratch space of the run: files are linked and hashed one output at a time."""

    directory: Path
    digests: FileDigests
    count: int = 0

    def take(self, source: Path) -> tuple[StoredFile, ...]:
        """Take every file below a directory. Raises OSError, UnstableError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        names = sorted(_paths_below(source))
        found = self.digests.of([f"{source}/{name}" for name in names])
        taken: list[StoredFile] = []
        for name, each in zip(names, found, strict=True):
            stored = str(self.count)
            self.count += 1
            link_or_copy(f"{source}/{name}", f"{self.directory}/{stored}")
            self.digests.linked(f"{source}/{name}", each)
            taken.append(StoredFile(name, *each.content, stored))
        return tuple(taken)


def _paths_below(directory: Path) -> Iterator[str]:
    top = os.fspath(directory)
    for folder, _, names in os.walk(top):
        below = folder[len(top) + 1 :]
        yield from (f"{below}/{name}" if below else name for name in names)


def step_store(state: Path) -> StepStore:
    """The entries of a state directory."""
    return StepStore(state / "steps")
