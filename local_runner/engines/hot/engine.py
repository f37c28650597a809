"""Hot jobs: ``python3 SCRIPT`` in a worker that has the imports done, instead of in a container of its own.

Wraps the docker engine, which runs what cannot be run hot; each reason is reported once. Talks to the Docker engine and
to the workers (``worker.py``). A hot job sees what a cold one sees; what differs is in docs/ARCHITECTURE.md. A hot run
is marked as such in its record, and does not count where a full run is asked for.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from local_runner.engines import Capabilities, Engine, OnLine
from local_runner.engines.docker import CAPABILITIES
from local_runner.engines.docker.engine import DockerEngine
from local_runner.engines.following import Ending
from local_runner.engines.host_log import HostLog
from local_runner.engines.hot.call import NotRunHotError, WorkerLostError, run_job
from local_runner.engines.hot.imports import imports_of
from local_runner.engines.hot.worker import WorkerKind, end_when_idle, ensure_worker, kill_worker
from local_runner.errors import EngineError, Problem
from local_runner.models import HostResult, JobResult, ProcessingJob, StagedHost, StagedJob
from local_runner.names import is_relative_path

_PYTHON = ("python3", "python", "/usr/bin/python3", "/usr/local/bin/python3")
_MOST_OPTIONS = 3000
"""Characters of a mount's options; the kernel takes a page."""


@dataclass
class HotEngine:
    """Runs jobs hot where it can. ``roots`` are the directories outside the state that hold inputs.

    ``keep`` leaves the workers up at ``close``, for the next run. With ``at_once`` a stopped job is killed without the
    grace period of a cold one.
    """

    cold: DockerEngine
    roots: Sequence[Path]
    note: Callable[[str], None]
    keep: bool = True
    at_once: bool = False
    name: str = "docker"
    capabilities: Capabilities = CAPABILITIES
    _noted: set[str] = field(default_factory=set[str])
    _broken: set[str] = field(default_factory=set[str])
    _users: dict[str, str] = field(default_factory=dict[str, str])
    _used: set[WorkerKind] = field(default_factory=set[WorkerKind])
    _starting: list[threading.Thread] = field(default_factory=list[threading.Thread])

    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        """As docker."""
        return self.cold.problems(jobs)

    def prepare(self, jobs: Iterable[ProcessingJob]) -> None:
        """As docker; and the workers of these jobs begin to start."""
        jobs = list(jobs)
        self.cold.prepare(jobs)
        for kind in dict.fromkeys(self._kind(job) for job in jobs if not _needs_cold(job)):
            if self._user_of(kind.image):
                continue
            thread = threading.Thread(target=self._warm, args=(kind,), daemon=True, name="hot worker")
            thread.start()
            self._starting.append(thread)

    def image_id(self, uri: str) -> str | None:
        """As docker."""
        return self.cold.image_id(uri)

    def run(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        """Run the job hot, else cold."""
        try:
            if reason := _needs_cold(staged.job):
                raise NotRunHotError(reason)
            return self._run_hot(staged, on_line, stop)
        except NotRunHotError as error:
            self._note_once(f"Step {staged.step} runs cold: {error}.")
            return self.cold.run(staged, on_line, stop)

    def close(self) -> None:
        """End the workers unless they are to be kept, and close the docker engine."""
        for thread in self._starting:
            thread.join()
        for kind in () if self.keep else self._used:
            end_when_idle(kind)
        self.cold.close()

    # -------------------------------------------------------------------------------------------------- one job
    def _run_hot(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        job, (host,) = staged.job, staged.hosts
        try:
            self.cold.prepare_for(job)
        except EngineError as error:
            return JobResult.lost(staged, error.message)
        kind = self._kind(job)
        if user := self._user_of(kind.image):
            raise NotRunHotError(f"its image has USER {user}, and a hot worker's jobs are root")
        script = _script_of(job, host)
        request = {
            "program": kind.program,
            "script": job.command[1],
            "arguments": job.command[2:],
            "mounts": _mounts(host, kind),
            "preload": imports_of(script),
            "owner": [os.getuid(), os.getgid()] if os.getuid() else None,
        }
        if kind.key in self._broken:
            raise NotRunHotError("its hot worker did not start")
        try:
            ensure_worker(self.cold.client.api, kind)
        except NotRunHotError:
            self._broken.add(kind.key)
            raise
        grace = dict(self.cold.grace)
        if self.at_once:
            grace["interrupted"] = 0.0
        with closing(HostLog(host.log, lambda line: on_line(host.name, line), staged.secrets)) as log:
            try:
                ended = run_job(kind.directory, request, log, Ending(job.max_runtime, stop, grace))
            except WorkerLostError as error:
                kill_worker(self.cold.client.api, kind)
                return JobResult.lost(staged, str(error), hot=True)
            memory = self.cold.memory_reason(job.instance_type) if ended.out_of_memory else None
            errors = tuple(log.errors)
            result = HostResult(host.name, ended.exit_code, log.error, out_of_memory=memory, errors=errors)
        return JobResult((result,), ended.stopped, hot=True)

    def _kind(self, job: ProcessingJob) -> WorkerKind:
        image, limits = self.cold.image_and_limits(job)
        turn = zlib.crc32(repr([image, sorted(job.environment.items()), job.instance_type]).encode())  # always the same
        kind = WorkerKind(
            image=image,
            program=(job.entrypoint or ("",))[0],
            environment=tuple(sorted(job.environment.items())),
            roots=(self.cold.state, *self.roots),
            limits=limits,
            processors=tuple(self.cold.processors_of(job, turn)),
            most_processes=self.cold.most_processes,
        )
        self._used.add(kind)
        return kind

    def _user_of(self, image: str) -> str:
        """The image's USER where that is not root, else nothing."""
        if image not in self._users:
            user = str(self.cold.client.api.inspect_image(image)["Config"].get("User") or "")
            self._users[image] = "" if user.partition(":")[0] in ("", "0", "root") else user
        return self._users[image]

    def _warm(self, kind: WorkerKind) -> None:
        try:
            ensure_worker(self.cold.client.api, kind)
        except (NotRunHotError, OSError):
            return  # the first job finds out, and says so

    def _note_once(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self.note(text)


def hot_engine(
    engine: Engine, roots: Iterable[Path], note: Callable[[str], None], *, watching: bool = False
) -> HotEngine:
    """The docker engine, with hot workers, which go with it when ``watching``. ``roots`` hold what jobs read."""
    assert isinstance(engine, DockerEngine)
    outside = {path.absolute() for path in roots if path.is_dir()}
    roots = sorted(path for path in outside if not path.is_relative_to(engine.state))
    return HotEngine(engine, roots, note, keep=not watching, at_once=watching)


def _needs_cold(job: ProcessingJob) -> str | None:
    """Why a job of that kind is never run hot; None where it may be."""
    command = job.command
    if job.instance_count > 1:
        return f"it has {job.instance_count} instances, and a hot worker is one host"
    if job.network_isolation:
        return "it has no network, and a hot worker has one"
    if any(".local-runner" in f"{name}={value}" for name, value in job.environment.items()):
        # The worker starts with the job's environment, as imports go by it; nothing in it may lead to what is its own.
        return "its environment names a directory of hot workers"
    if any(item.input_mode == "Pipe" for item in job.inputs):
        return "it has an input of mode Pipe"
    if (
        not job.entrypoint
        or len(command) < 2
        or command[0] not in _PYTHON
        or not command[1].startswith("/")
        or not command[1].endswith(".py")
    ):
        return "its entrypoint is not python3 with a script's path"
    return None


def _script_of(job: ProcessingJob, host: StagedHost) -> Path:
    """The script's file on this machine. Raises NotRunHotError where no input has it."""
    name = job.command[1]
    for mount in host.inputs:
        start = mount.local_path.rstrip("/") + "/"
        below = name.removeprefix(start)
        if name.startswith(start) and is_relative_path(below):  # "..", where it leads in the job, is not followed here
            for layer in mount.layers:
                path = layer / below
                if path.is_file():
                    return path
    raise NotRunHotError(f"its script {name} is in none of its inputs")


def _mounts(host: StagedHost, kind: WorkerKind) -> list[dict[str, object]]:
    """The job's mounts as the worker makes them, parents first."""
    made: list[dict[str, object]] = []
    for mount in host.inputs:
        made.append({"target": _target(mount.local_path), "layers": [_inside(kind, path) for path in mount.layers]})
        if sum(len(_inside(kind, path)) + 1 for path in mount.layers) > _MOST_OPTIONS:
            raise NotRunHotError(f"its input at {mount.local_path} is joined from too many directories")
    for bind in host.binds:
        made.append({"target": _target(bind.local_path), "source": _inside(kind, bind.source)})
    return sorted(made, key=lambda mount: str(mount["target"]).count("/"))


def _inside(kind: WorkerKind, path: Path) -> str:
    inside = kind.inside(path)
    if inside is None:
        raise NotRunHotError(f"its hot worker does not see {path}")
    return inside


def _target(local_path: str) -> str:
    return "/" + os.path.normpath(local_path).lstrip("/")
