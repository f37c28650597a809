"""What pipeline.py uploads to S3 while it compiles, and where that is instead. Writes only ``<state>/s3``.

Files of the project stay where they are (``s3://BUCKET/code/<path>``, which the storage maps to the project's
root), so that a run sees them as they are then. Anything else is kept under the hash of its content
(``s3://BUCKET/uploads/<hash>/<name>``): the SDK's own keys hold the time of day, and a definition must not
change because the clock moved.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from local_runner.compile.dependencies import Watch
from local_runner.names import is_file_name, is_relative_path


class Uploads:
    """Takes the uploads of one compile into ``<state>/s3``.

    ``scratch`` is an empty directory on the file system of ``state``.
    """

    def __init__(self, root: Path, state: Path, scratch: Path, watch: Watch) -> None:
        self.kept: list[str] = []
        self._root, self._state, self._scratch, self._watch = root, state, scratch, watch
        self._bodies: dict[str, dict[str, dict[str, bytes]]] = defaultdict(lambda: defaultdict(dict))
        self._moved: dict[str, str] = {}

    def path(self, path: str, bucket: str, prefix: str) -> str:
        """The URI of a file or directory. FileNotFoundError where there is none."""
        local = Path(os.path.abspath(path.removeprefix("file://")))
        if not local.exists():
            raise FileNotFoundError(f"{path} does not exist, so it cannot be uploaded")
        if local == self._root or (self._root in local.parents and self._watch.covers(str(local))):
            self._watch.note_upload(str(local))
            relative = local.relative_to(self._root).as_posix()
            uri = f"s3://{bucket}/code" + ("" if relative == "." else f"/{relative}")
        else:
            files = dict(_files(local))
            for file in files.values():
                self._watch.note_file(str(file))
            uri = self._keep(bucket, files)
            uri += "" if local.is_dir() else f"/{local.name}"
        asked = f"s3://{bucket}/{prefix}" + ("" if local.is_dir() else f"/{local.name}")
        self._moved[asked] = uri
        return uri

    def body(self, body: str | bytes, bucket: str, key: str) -> str:
        """Take an object. Its URI is the one asked for, until ``settle`` puts the lasting one there."""
        prefix, _, name = key.rpartition("/")
        content = body.encode() if isinstance(body, str) else body
        self._bodies[bucket][prefix][name] = _stable(content) if name.endswith(".tar.gz") else content
        return f"s3://{bucket}/{key}"

    def settle(self, definition: Any) -> Any:
        """Keep what was taken, and return the definition with the URIs where it is."""
        for bucket, prefixes in self._bodies.items():
            for prefix, contents in prefixes.items():
                uri = self._keep(bucket, contents)
                asked = f"s3://{bucket}/{prefix}".rstrip("/")
                self._moved.update({f"{asked}/{name}": f"{uri}/{name}" for name in contents})
                if prefix:  # a step may name the directory that it put its files in
                    self._moved.update({asked: uri, f"{asked}/": f"{uri}/"})
        return _replaced(definition, self._moved)

    def _keep(self, bucket: str, contents: Mapping[str, bytes | Path]) -> str:
        """Store objects that belong together, all at once, and return the URI of their directory.

        Raises ValueError for a bucket or a name that no directory can have.
        """
        for name in (bucket, *contents):
            if not is_relative_path(name) or not is_file_name(bucket):
                raise ValueError(f"{name!r} cannot be kept in local S3 (bucket {bucket!r}): it is no plain name")
        digest = hashlib.sha256()
        for name, content in sorted(contents.items()):
            digest.update(f"{name}\0{_sha256(content)}\0".encode())
        key = f"uploads/{digest.hexdigest()[:16]}"
        target = self._state / "s3" / bucket / key
        self.kept.append(f"s3/{bucket}/{key}")
        if not target.exists():
            staged = Path(tempfile.mkdtemp(dir=self._scratch))
            staged.chmod(0o755)
            for name, content in contents.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    (staged / name).write_bytes(content)
                else:
                    shutil.copyfile(content, staged / name)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                staged.rename(target)
            except OSError:  # another compile was quicker; its content has the same hash
                if not target.is_dir():
                    raise
                shutil.rmtree(staged)
        return f"s3://{bucket}/{key}"


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while chunk := file.read(1 << 20):  # Python 3.9 has no file_digest
            digest.update(chunk)
    return digest.hexdigest()


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
    else:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield file.relative_to(path).as_posix(), file


def _stable(archive: bytes) -> bytes:
    """The archive with nothing in it that differs from one packing of the same files to the next."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as source,
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as target,
    ):
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            if "__pycache__" in PurePosixPath(member.name).parts:
                continue
            member.mtime = member.uid = member.gid = 0
            member.uname = member.gname = ""
            target.addfile(member, source.extractfile(member) if member.isreg() else None)
    return packed.getvalue()


def _replaced(value: Any, moved: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return moved.get(value, value)
    if isinstance(value, dict):
        return {key: _replaced(item, moved) for key, item in value.items()}  # type: ignore[misc]
    if isinstance(value, list):
        return [_replaced(item, moved) for item in value]  # type: ignore[misc]
    return value
