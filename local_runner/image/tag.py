"""The identity of the project's processing image: a tag that is a hash of all that it is built from. Reads the image
directory; remembers the tag in ``<state>/steps/image.json`` while no file there changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from local_runner.errors import SettingsError
from local_runner.image.source import ImageSource, read_image_source
from local_runner.project import Project
from local_runner.settings import Settings
from local_runner.storage.files import SETTLED_NS
from local_runner.storage.records import RecordError, read_record, write_record

if TYPE_CHECKING:
    import tarfile

_FORMAT = "1"
"""Changes when the same files would make another image."""


def current_tag(project: Project) -> str:
    """:func:`image_tag` of the project as it is now, which costs little where nothing changed since the last call.

    Raises SettingsError where the image directory is not usable.
    """
    source = read_image_source(project.settings)
    path = project.state / "steps" / "image.json"
    newest, stamp = _stamp(source, project.settings)
    with suppress(OSError, RecordError):
        known = read_record(path, {"fingerprint": object, "tag": str})
        if known["fingerprint"] == stamp and newest <= time.time_ns():
            return known["tag"]
    now = time.time_ns()
    tag = image_tag(project.settings, source)
    if newest + SETTLED_NS <= now and _stamp(source, project.settings) == (newest, stamp):
        with suppress(OSError):
            write_record(path, {"fingerprint": stamp, "tag": tag})
    return tag


def content_of(tag: str) -> str:
    """What a tag says of the image's content, whatever the project is called: 12 hexadecimal digits."""
    return tag.rpartition(":")[2]


def image_tag(settings: Settings, source: ImageSource) -> str:
    """``local-runner/<project>:<12 hex>``: what the image of these files is called, built or not.

    The hash covers the files of the build context (those that .dockerignore leaves): names, contents, whether
    they may be executed; and the base image's name. Other mode bits and times differ between clones and do
    not count.
    """
    digest = hashlib.sha256(f"{_FORMAT}\0{source.base_image or ''}\0".encode())
    for member, content in build_context(source):
        digest.update(f"{member.name}\0{member.type!r}\0{member.mode:o}\0{member.linkname}\0{member.size}\0".encode())
        digest.update(content)
    project = re.sub(r"[^a-z0-9]+", "-", settings.root.name.lower()).strip("-") or "project"
    return f"local-runner/{project}:{digest.hexdigest()[:12]}"


def build_context(source: ImageSource) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The files the build gets, sorted by name, as archive members that are the same on every machine."""
    import tarfile  # slow to import

    from local_runner.docker_host.connection import docker  # loads the docker package, which knows .dockerignore

    ignore = source.directory / ".dockerignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for name in sorted(docker.utils.build.exclude_paths(str(source.directory), patterns)):
        path = source.directory / name
        member = tarfile.TarInfo(Path(name).as_posix())
        try:
            if path.is_symlink():
                member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
                content = b""
            elif path.is_dir():
                member.type, member.mode, content = tarfile.DIRTYPE, 0o755, b""
            elif path.is_file():
                content = path.read_bytes()
                member.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                member.size = len(content)
            else:
                continue
        except OSError as error:
            raise SettingsError(f"{path} belongs to the image and cannot be read: {error.strerror}.") from None
        yield member, content


def _stamp(source: ImageSource, settings: Settings) -> tuple[int, str]:
    """When the newest change of the image directory was, and a hash of what ``stat`` says of all that is there."""
    lines: list[str] = []
    newest = 0
    for folder, _, names in os.walk(source.directory):
        for path in (folder, *(f"{folder}/{name}" for name in names)):
            state = os.lstat(path)
            newest = max(newest, state.st_mtime_ns, state.st_ctime_ns)
            stamp = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_mode)
            lines.append(f"{path}\0{stamp}")
    text = "\n".join([f"{settings.root}\0{source.base_image}", *sorted(lines)])
    return newest, hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
