"""What an image does here and would not do in the cloud, as notes. Talks to the Docker engine; starts nothing.

Both rules are the Guide's, page "How Amazon SageMaker Processing Runs Your Processing Container Image": an ENTRYPOINT
in exec form gets the signals that stop a job, and /opt/ml is reserved. What an image has there is remembered in
``<state>/cache/images``, as an image of one id never changes.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from io import RawIOBase
from pathlib import Path, PurePosixPath
from typing import Any

from local_runner.engines.docker.errors import engine_errors
from local_runner.engines.docker.sweep import labels_of
from local_runner.models import ProcessingJob
from local_runner.storage.files import write_atomically

RESERVED = "/opt/ml"
_SHELLS = ("sh", "bash", "dash", "ash")
_SHELL_FORM = 3
_CHUNK_BYTES = 1 << 14


def image_notes(api: Any, state: Path, used: Iterable[tuple[str, ProcessingJob]]) -> list[str]:
    """The notes on local images, each given with a job that runs in it; none on one that cannot be looked at."""
    notes: dict[str, None] = {}
    files: dict[str, str] = {}
    for image, job in used:
        with suppress(*engine_errors(), tarfile.TarError):
            found = api.inspect_image(image)
            if _has_shell_form(found["Config"] or {}, job):
                what = f"The command of image {job.image_uri} is in shell form, so that its program gets no signal when"
                notes[f'{what} a job is stopped. Write ENTRYPOINT ["program", "argument"] in its Dockerfile.'] = None
            if found["Id"] not in files:
                files[found["Id"]] = _reserved_file(api, found["Id"], state)
            if file := files[found["Id"]]:
                what = (
                    f"Image {job.image_uri} has files under {RESERVED} ({file}), which SageMaker reserves: a job in the"
                )
                notes[f"{what} cloud may not see them. Put them elsewhere in the image."] = None
    return list(notes)


def _has_shell_form(config: Mapping[str, Any], job: ProcessingJob) -> bool:
    """Whether the image's own command, which the job runs, is a text for a shell that stays its parent."""
    if job.entrypoint is not None:
        return False
    command: list[str] = config.get("Entrypoint") or (config.get("Cmd") if job.arguments is None else None) or []
    # SHELL ["/bin/bash", "-eux", "-o", "pipefail", "-c"] puts more between the shell and its text.
    shell = len(command) >= _SHELL_FORM and PurePosixPath(command[0]).name in _SHELLS
    return shell and command[-2].startswith("-") and command[-2].endswith("c") and not command[-1].startswith("exec ")


def _reserved_file(api: Any, image_id: str, state: Path) -> str:
    """The first file that the image has under RESERVED, or nothing."""
    known = state / "cache" / "images" / image_id.rpartition(":")[2]
    with suppress(OSError, UnicodeError):
        return known.read_text(encoding="utf-8")
    # A container of it, which is never started; should this process be killed, the next run's sweep removes it.
    container = api.create_container(image_id, command=["-"], labels=labels_of(state, "image"))["Id"]
    try:
        file = _first_file(api, container)
    finally:
        api.remove_container(container, force=True, v=True)
    with suppress(OSError):
        write_atomically(known, file)
    return file


def _first_file(api: Any, container: str) -> str:
    from docker.errors import NotFound

    try:
        stream, _ = api.get_archive(container, RESERVED)
    except NotFound:
        return ""
    with closing(stream), tarfile.open(fileobj=_Stream(stream), mode="r|", bufsize=_CHUNK_BYTES) as archive:
        return next((str(PurePosixPath(RESERVED).parent / each.name) for each in archive if not each.isdir()), "")


class _Stream(RawIOBase):
    """The chunks of an answer as a file, so that no more is read of it than is looked at."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._chunks, b"")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
