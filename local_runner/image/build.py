"""The processing image: its content's tag, and the build where no image has that tag.

Reads the image directory; speaks to the engine; what it fetches lies under the state directory's ``cache/``.
The tag is a hash of everything the build reads: an image that has it is current, no build is repeated.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from local_runner.docker_host.connection import connect, docker
from local_runner.errors import EngineError, SettingsError
from local_runner.image import wheels
from local_runner.image.base import ensure_base_image, has_image
from local_runner.image.source import ImageSource, read_image_source
from local_runner.settings import Settings
from local_runner.storage.files import locked

_FORMAT = "1"
"""Changes when the same files would make another image."""

_SHOWN_LINES = 12
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # the engine paints what a step writes to stderr


def ensure_image(settings: Settings, state: Path, progress: Callable[[str], None], client: Any = None) -> str:
    """The tag of the image whose content is current, built first if the engine has none of that tag.

    ``state`` is the state directory; ``progress`` gets one line per phase, and none if nothing is to be done;
    ``client`` is what ``connect()`` gave, if there is one. Raises SettingsError where the image directory is
    not usable, EngineError where the build fails or no engine answers.
    """
    source = read_image_source(settings)
    tag = image_tag(settings, source)
    client = client or connect()
    if has_image(client, tag):
        return tag
    cache = state / "cache"
    with locked(cache / "image.lock", lambda: progress("Waiting for another build of the image to end.")):
        if not has_image(client, tag):
            _make(client, source, tag, cache / "wheels", progress)
    return tag


def image_tag(settings: Settings, source: ImageSource) -> str:
    """``local-runner/<project>:<12 hex>``: what the image of these files is called, built or not.

    The hash covers the files of the build context (those that .dockerignore leaves): names, contents, whether
    they may be executed; and the base image's name. Other mode bits and times differ between clones and do
    not count.
    """
    digest = hashlib.sha256(f"{_FORMAT}\0{source.base_image or ''}\0".encode())
    for member, content in _context(source):
        digest.update(f"{member.name}\0{member.type!r}\0{member.mode:o}\0{member.linkname}\0{member.size}\0".encode())
        digest.update(content)
    project = re.sub(r"[^a-z0-9]+", "-", settings.root.name.lower()).strip("-") or "project"
    return f"local-runner/{project}:{digest.hexdigest()[:12]}"


def _context(source: ImageSource) -> Iterable[tuple[tarfile.TarInfo, bytes]]:
    """The files the build gets, sorted by name, as archive members that are the same on every machine."""
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


def _make(client: Any, source: ImageSource, tag: str, cache: Path, progress: Callable[[str], None]) -> None:
    architecture = str(client.version()["Arch"])
    with wheels.fetching(source, architecture, cache, progress) as fetched:
        base = ensure_base_image(client, source.base_image, progress) if source.base_image else None
        directory = fetched()
    progress(f"Building the image {tag}.")
    with tempfile.TemporaryFile(dir=cache) as archive:
        _pack(source, directory, archive)
        _build(client, source, archive, tag, {"BASE_IMAGE": base} if base else {})
    for outdated in cache.iterdir():
        if outdated != directory:
            shutil.rmtree(outdated, ignore_errors=True)


def _pack(source: ImageSource, wheel_directory: Path, archive: IO[bytes]) -> None:
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for member, content in _context(source):
            tar.addfile(member, BytesIO(content))
        own = {member.name for member in tar.getmembers()}
        for wheel in sorted(wheel_directory.iterdir()):
            member = tarfile.TarInfo(f"wheels/{wheel.name}")
            member.size = wheel.stat().st_size
            if member.name not in own:
                with wheel.open("rb") as file:
                    tar.addfile(member, file)
    archive.seek(0)


def _build(client: Any, source: ImageSource, archive: IO[bytes], tag: str, arguments: dict[str, str]) -> None:
    """Let the engine build the archive. It sets the tag last, so a build that is cut off leaves none."""
    step, said = "", ""
    try:
        for event in client.api.build(
            fileobj=archive,
            custom_context=True,
            tag=tag,
            buildargs=arguments,
            rm=True,
            forcerm=True,
            decode=True,
        ):
            if "error" in event:
                raise EngineError(_failure(source, step, said, str(event["error"])))
            text = str(event.get("stream", ""))
            if re.match(r"Step \d+/\d+ :", text):
                step, said = text.strip(), ""
            else:
                said += text
    except (docker.errors.DockerException, OSError) as error:
        reason = getattr(error, "explanation", None) or error
        raise EngineError(_failure(source, step, said, str(reason))) from None
    if not has_image(client, tag):
        raise EngineError(_failure(source, step, said, "the build ended without an image"))


def _failure(source: ImageSource, step: str, said: str, reason: str) -> str:
    # The engine echoes the failing command in full, which a long RUN makes unreadable.
    code = re.search(r"returned a non-zero code: (\d+)", reason)
    lines = [line.rstrip() for line in _COLOUR.sub("", said).splitlines()]
    lines = [line for line in lines if line and not line.startswith((" --->", "Removing intermediate container"))]
    lines = [*lines[-_SHOWN_LINES:], f"exit code {code[1]}" if code else reason.strip()]
    where = f"at '{step}'" if step else "before its first step"
    shown = "\n".join(f"  {line}" for line in lines)
    return f"Building {source.dockerfile} failed {where}:\n{shown}\nCorrect it, then run again."
