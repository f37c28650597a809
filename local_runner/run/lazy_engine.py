"""What would run a job, told without asking an engine where that can be. Reads the image directory and a small file.

An engine takes a third of the time that a wholly cached run may take, so it is made when the first job has to run.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from local_runner.engines import Capabilities, Engine, OnLine
from local_runner.errors import LocalRunnerError, Problem
from local_runner.image.source import read_image_source, read_sandbox_source
from local_runner.models import JobResult, ProcessingJob, StagedJob
from local_runner.run.engine import CAPABILITIES, PROJECT_IMAGE
from local_runner.settings import Settings
from local_runner.step_cache.digests import SETTLED_NS
from local_runner.storage.files import write_atomically
from local_runner.storage.records import RecordError, read_record


@runtime_checkable
class KnowsImages(Protocol):
    """An engine whose jobs can be cached: it can tell what is in an image."""

    def image_id(self, uri: str) -> str | None:
        """What identifies the content of the image that the URI means; None where that is not known."""
        ...


def image_of(
    uri: str, engine: Engine, settings: Settings, state: Path, images: Mapping[str, str], *, given: bool = False
) -> str | None:
    """What identifies the content of an image; None where its jobs are not to be cached.

    ``given`` engines (those of tests) are asked; of the others only about images that are not the project's.
    """
    in_image = engine.capabilities.runs_image
    if not given and in_image and uri == PROJECT_IMAGE and not (images.get(uri) or images.get("")):
        return project_image(settings, state)
    if not given and not in_image:
        from local_runner.image.sandbox_packages import environment_directory

        return environment_directory(read_sandbox_source(settings), state).name
    return engine.image_id(uri) if isinstance(engine, KnowsImages) else None


def project_image(settings: Settings, state: Path) -> str:
    """The tag of the project's image, which is a hash of all it is built from; remembered while no file changes."""
    source = read_image_source(settings)
    path = state / "steps" / "image.json"
    newest, fingerprint = _fingerprint(source.directory, f"{settings.root}\0{source.base_image}")
    with suppress(OSError, RecordError):
        known = read_record(path, {"fingerprint": object, "tag": str})
        if known["fingerprint"] == fingerprint and newest <= time.time_ns():
            return known["tag"]
    from local_runner.image.build import image_tag  # loads the docker package

    now = time.time_ns()
    tag = image_tag(settings, source)
    if newest + SETTLED_NS <= now and _fingerprint(source.directory, f"{settings.root}\0{source.base_image}") == (
        newest,
        fingerprint,
    ):
        with suppress(OSError):
            write_atomically(path, json.dumps({"fingerprint": fingerprint, "tag": tag}))
    return tag


def _fingerprint(directory: Path, more: str) -> tuple[int, str]:
    """When the newest change below a directory was, and a hash of what ``stat`` says of all that is there."""
    lines: list[str] = []
    newest = 0
    for folder, _, names in os.walk(directory):
        for path in (folder, *(f"{folder}/{name}" for name in names)):
            state = os.lstat(path)
            newest = max(newest, state.st_mtime_ns, state.st_ctime_ns)
            stamp = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_mode)
            lines.append(f"{path}\0{stamp}")
    return newest, hashlib.sha256("\n".join([more, *sorted(lines)]).encode(errors="surrogateescape")).hexdigest()


@dataclass
class LazyEngine:
    """An engine that is made, and made ready for ``jobs``, when the first job has to run or an image has to be known.

    ``make`` raises the errors of the command line; here they fail the step that needed the engine.
    """

    name: str
    capabilities: Capabilities
    make: Callable[[], Engine]
    jobs: Iterable[tuple[str, ProcessingJob]]
    _made: Engine | None = None
    _ready: bool = False
    _error: LocalRunnerError | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        """None that would be known without the engine."""
        return []

    def prepare(self, jobs: Iterable[ProcessingJob]) -> None:
        """Nothing, before a job runs."""

    def image_id(self, uri: str) -> str | None:
        """Ask the engine."""
        engine = self._engine()
        return engine.image_id(uri) if isinstance(engine, KnowsImages) else None

    def run(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        """Run the job on the engine, made now if there is none yet."""
        try:
            engine = self._prepared()
        except LocalRunnerError as error:
            return JobResult.lost(staged, error.message)
        return engine.run(staged, on_line, stop)

    def close(self) -> None:
        """End the engine, if one was made."""
        if self._made is not None:
            self._made.close()

    def _engine(self) -> Engine:
        with self._lock:
            if self._error:
                raise self._error
            try:
                self._made = self._made or self.make()
            except LocalRunnerError as error:
                self._error = error
                raise
            return self._made

    def _prepared(self) -> Engine:
        engine = self._engine()
        with self._lock:
            if not self._ready:
                if problems := engine.problems(self.jobs):
                    raise LocalRunnerError(" ".join(map(str, problems)))
                engine.prepare(job for _, job in self.jobs)
                self._ready = True
        return engine


def late_engine(
    choice: str, make: Callable[[], Engine], jobs: Iterable[tuple[str, ProcessingJob]]
) -> LazyEngine | None:
    """The engine that a choice will come to, made when needed; None where that cannot be told quickly, or where it runs
    every job anyway."""
    name = choice
    if choice == "auto":
        from local_runner.docker_host.address import listens

        if not listens():
            return None
        name = "docker"
    return LazyEngine(name, CAPABILITIES[name], make, jobs) if CAPABILITIES[name].caches else None
