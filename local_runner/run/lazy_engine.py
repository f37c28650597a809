"""What would run a job, found without an engine where that is possible. Reads the image directory and a small file.

An engine takes a third of the time that a wholly cached run may take, so it is made when the first job has to run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from local_runner.compile.compiler import IMAGE_URI
from local_runner.engines import Capabilities, Engine, KnowsImages, OnLine
from local_runner.errors import LocalRunnerError, Problem
from local_runner.image.source import read_sandbox_source
from local_runner.image.tag import current_tag
from local_runner.models import JobResult, ProcessingJob, StagedJob
from local_runner.project import Project
from local_runner.run.engine import CAPABILITIES, open_engine
from local_runner.run.planned import PlannedRun


def engine_name(choice: str) -> str | None:
    """The name of the engine that a choice means here, if that can be found quickly."""
    if choice != "auto":
        return choice
    from local_runner.docker_host.address import listens

    return "docker" if listens() else None


def image_of(
    uri: str, engine: Engine, project: Project, images: Mapping[str, str], *, given: bool = False
) -> str | None:
    """What identifies the content of an image; None where its jobs are not to be cached.

    ``given`` engines (those of tests) are asked; of the others only about images that are not the project's.
    """
    in_image = engine.capabilities.runs_image
    if not given and in_image and uri == IMAGE_URI and not (images.get(uri) or images.get("")):
        return current_tag(project)
    if not given and not in_image:
        from local_runner.image.sandbox_packages import environment_directory

        return environment_directory(read_sandbox_source(project.settings), project.state).name
    return engine.image_id(uri) if isinstance(engine, KnowsImages) else None


def lazy_engine(project: Project, planned: PlannedRun) -> Engine:
    """The engine of a request, made when it is needed, where steps are cached on it and its name can be found without
    it; else made now."""

    def make() -> Engine:
        return open_engine(project, planned.request, planned.storage)

    name = engine_name(planned.request.engine)
    if name is None or not CAPABILITIES[name].caches:
        return make()
    return LazyEngine(name, CAPABILITIES[name], make, planned.jobs)


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
