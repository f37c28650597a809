"""The processing image, built where no image has the tag of its content.

Reads the image directory; speaks to the engine; what it fetches lies under the state directory's ``cache/``.
The tag is a hash of everything the build reads: an image that has it is current, no build is repeated.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from local_runner.docker_host.connection import connect, docker
from local_runner.errors import EngineError
from local_runner.image import wheels
from local_runner.image.base import ensure_base_image, has_image
from local_runner.image.source import ImageSource, read_image_source
from local_runner.image.tag import build_context, current_tag
from local_runner.project import Project
from local_runner.storage.files import locked

_SHOWN_LINES = 12
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # the engine paints what a step writes to stderr


def ensure_image(project: Project, client: Any = None) -> str:
    """The tag of the image whose content is current, built first if the engine has none of that tag.

    The project's ``note`` gets one line per phase, and none if nothing is to be done; ``client`` is what ``connect()``
    gave, if there is one. Raises SettingsError where the image directory is not usable, EngineError where the build
    fails or no engine answers.
    """
    progress = project.note
    tag = current_tag(project)
    client = client or connect()
    if has_image(client, tag):
        return tag
    cache = project.state / "cache"
    with locked(cache / "image.lock", lambda: progress("Waiting for another build of the image to end.")):
        if not has_image(client, tag):
            _make(client, read_image_source(project.settings), tag, cache / "wheels", progress)
    return tag


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
        for member, content in build_context(source):
            tar.addfile(member, BytesIO(content))
        own = {member.name for member in tar.getmembers()}
        for wheel in sorted(wheel_directory.glob("*.whl")):
            member = tarfile.TarInfo(f"wheels/{wheel.name}")
            member.size = wheel.stat().st_size
            if member.name not in own:
                with wheel.open("rb") as file:
                    tar.addfile(member, file)
    archive.seek(0)


def _build(client: Any, source: ImageSource, archive: IO[bytes], tag: str, arguments: dict[str, str]) -> None:
    """Let the engine build the archive. It sets the tag last, so a build that is cut off leaves none."""
    step, output = "", ""
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
                raise EngineError(_failure(source, step, output, str(event["error"])))
            text = str(event.get("stream", ""))
            if re.match(r"Step \d+/\d+ :", text):
                step, output = text.strip(), ""
            else:
                output += text
    except (docker.errors.DockerException, OSError) as error:
        reason = getattr(error, "explanation", None) or error
        raise EngineError(_failure(source, step, output, str(reason))) from None
    if not has_image(client, tag):
        raise EngineError(_failure(source, step, output, "the build ended without an image"))


def _failure(source: ImageSource, step: str, output: str, reason: str) -> str:
    # The engine echoes the failing command in full, which a long RUN makes unreadable.
    code = re.search(r"returned a non-zero code: (\d+)", reason)
    lines = [line.rstrip() for line in _COLOUR.sub("", output).splitlines()]
    lines = [line for line in lines if line and not line.startswith((" --->", "Removing intermediate container"))]
    lines = [*lines[-_SHOWN_LINES:], f"exit code {code[1]}" if code else reason.strip()]
    where = f"at '{step}'" if step else "before its first step"
    shown = "\n".join(f"  {line}" for line in lines)
    return f"Building {source.dockerfile} failed {where}:\n{shown}\nCorrect it, then run again."
