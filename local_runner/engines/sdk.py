"""The sdk engine: each job goes to the SageMaker SDK's stock local mode, docker compose. The reference of the others.

Talks to the Docker engine, and starts the process that holds the SDK (``sdk_process.py``); copies inputs into the job's
own directory. Stock local mode itself is not touched. Its requests differ from the definition's in three things: the
image is the local one; the S3Uris are ``file://`` directories, with what the local S3 holds for an input, and where an
output is collected from; and labels are put on the containers, through the SDK's own configuration.

What stock local mode refuses is found before anything runs; what it ignores is noted (``sdk_request.py`` lists both).
It ignores MaxRuntimeInSeconds, and so does this engine. Exit codes are the containers', as Docker knows them.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import selectors
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from local_runner.engines import GRACE_SECONDS, OnLine
from local_runner.engines.connection import connect, docker
from local_runner.engines.docker import LABEL_MACHINE, LABEL_RUN, LABEL_STATE, DockerEngine
from local_runner.engines.host_log import HostLog
from local_runner.engines.ownership import own
from local_runner.engines.sdk_containers import Ended, JobContainers, quietly
from local_runner.engines.sdk_output import ComposeOutput
from local_runner.engines.sdk_process import LABEL, SdkProcess
from local_runner.engines.sdk_request import ignored, refused, stock_request
from local_runner.errors import EngineError, Problem
from local_runner.models import HostResult, InputMount, JobResult, ProcessingJob, StagedHost, StagedJob

LABEL_STEP = "local-runner.step"
NETWORK = "sagemaker-local"
"""The network that stock local mode puts every job of a machine into, and never removes."""

_POLL_SECONDS = 0.05
_STOP_SECONDS = 5.0
_CHUNK_BYTES = 64 * 1024
_SAID_LINES = 8
_TAKEN_FOR_SUCCESS = 130


@dataclass
class SdkEngine:
    """Runs jobs in stock local mode. Implements :class:`local_runner.engines.Engine`.

    ``resolve_image`` says which local image an image URI means; ``note`` gets what stock local mode ignores.
    """

    state: Path
    resolve_image: Callable[[str], str]
    note: Callable[[str], None]
    region: str = "us-east-1"
    name: str = "sdk"
    client: Any = None
    _images: dict[str, str] = field(default_factory=dict[str, str])
    _sdk: SdkProcess | None = None

    def __post_init__(self) -> None:
        # It finds images, and removes what killed runs left behind: containers have the same labels here.
        self.client = self.client or connect()
        self._docker = DockerEngine(self.state, self._image, client=self.client)
        self._starting = threading.Lock()
        self._numbers = itertools.count(1)

    # ------------------------------------------------------------------------------------------------- Protocol
    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        """What stock local mode refuses. What it ignores is noted, with the places that ask for it."""
        problems: list[Problem] = []
        places: dict[str, list[str]] = {}
        for path, job in jobs:
            problems += refused(path, job)
            for difference in ignored(path, job):
                places.setdefault(difference.what, []).append(difference.where)
        for what, where in places.items() if not problems else ():
            self.note(f"In the SDK's local mode, {what} ({', '.join(where)})")
        return problems

    def prepare(self, jobs: Iterable[ProcessingJob]) -> None:
        """Find, build or pull the images, and load the SDK. Raises EngineError with what is missing."""
        _require_compose()
        with self._starting:
            starts = self._sdk is None
            if self._sdk is None:
                self._sdk = SdkProcess(self.region, self._ready_network)
            self._docker.prepare(jobs)
            if starts:
                self._sdk.wait_ready()

    def run(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        """Hand the job over, follow what docker compose says, and remove what it leaves; see the Protocol."""
        if staged.job.image_uri not in self._images or self._sdk is None:
            # A job whose request was not known before the execution began.
            try:
                self.prepare([staged.job])
            except EngineError as error:
                return _nowhere(staged, error.message)
        if problems := refused(staged.step, staged.job):
            return _nowhere(staged, " ".join(map(str, problems)))
        labels = {LABEL_RUN: staged.run_id, LABEL_STEP: staged.step}
        containers = JobContainers(self.client, labels)
        try:
            return self._run(staged, labels, containers, on_line, stop)
        except (docker.errors.DockerException, OSError, subprocess.CalledProcessError) as error:
            return _nowhere(staged, f"stock local mode could not be followed ({error})")
        finally:
            containers.remove()
            with quietly():
                image = self._images[staged.job.image_uri]
                own(self.client, image, [staged.work], {**labels, LABEL_STATE: str(self.state)})

    def close(self) -> None:
        """End the process that holds the SDK, which removes the network if no other run has one."""
        if self._sdk is not None:
            self._sdk.close()
            self._sdk = None
        self._docker.close()
        self.client.close()

    # -------------------------------------------------------------------------------------------------- one job
    def _run(
        self,
        staged: StagedJob,
        labels: Mapping[str, str],
        containers: JobContainers,
        on_line: OnLine,
        stop: threading.Event,
    ) -> JobResult:
        assert self._sdk is not None
        links = self._sdk.directory / f"job-{next(self._numbers)}"
        links.mkdir()
        job = self._write_job(staged, labels, links)
        output = ComposeOutput()
        with _logs(staged, on_line) as logs:
            pid, descriptor = self._sdk.start(job)
            stopped = _follow(pid, descriptor, containers, output, logs, stop)
            error = _error(links)
            results = _results(staged, containers.ended(), error, output.said)
            for result in results:
                if result.error and not stopped:
                    logs[result.host].write(f"{result.error}\n".encode())
            results = tuple(replace(each, error=each.error or logs[each.host].error) for each in results)
        return JobResult(results, stopped)

    def _write_job(self, staged: StagedJob, labels: Mapping[str, str], links: Path) -> Path:
        """The file that the SDK's process runs, with links to the job's directories beside it.

        Every host sees the first one's inputs and outputs, as stock local mode has one set of directories for all.
        """
        host = staged.hosts[0]
        request = stock_request(staged.job)
        request["AppSpecification"]["ImageUri"] = self._images[staged.job.image_uri]
        merged = {mount.local_path: _merge(mount) for mount in host.inputs}
        binds = {bind.local_path: bind.source for bind in host.binds}
        for number, item in enumerate(request["ProcessingInputs"]):
            _link(item["S3Input"], links / f"input-{number}", merged)
        for number, item in enumerate(request["ProcessingOutputConfig"]["Outputs"]):
            _link(item["S3Output"], links / f"output-{number}", binds)
        temporary = staged.work / "sdk"
        temporary.mkdir()
        (links / "temporary").symlink_to(temporary)
        every = {**labels, **self._labels(), **(self._sdk.label if self._sdk else {})}
        file = links / "job.json"
        job = {
            "request": request,
            # docker compose takes these for templates, too.
            "labels": {name: value.replace("$", "$$") for name, value in every.items()},
            "temporary": str(links / "temporary"),
            "errors": str(links / "errors.log"),
            "result": str(links / "result.json"),
        }
        file.write_text(json.dumps(job), encoding="utf-8")
        return file

    # -------------------------------------------------------------------------------------- images and networks
    def _image(self, uri: str) -> str:
        self._images[uri] = self.resolve_image(uri)
        return self._images[uri]

    def _labels(self) -> dict[str, str]:
        return {LABEL_STATE: str(self.state), LABEL_MACHINE: platform.node()}

    def _ready_network(self, alone: bool) -> None:
        """Make the network before any job does: of two jobs that start at once each would make one, and both fail.

        The label of docker compose's own is what its version 2 looks for. A network of killed runs is removed first,
        if there is no other run (``alone``); one that somebody else made is taken as it is.
        """
        networks = self.client.networks
        for network in networks.list(filters={"label": LABEL}) if alone else ():
            with quietly():  # the engine keeps one that is in use
                network.remove()
        if not any(network.name == NETWORK for network in networks.list(names=[NETWORK])):
            labels = {LABEL: "network", "com.docker.compose.network": NETWORK}
            networks.create(NETWORK, driver="bridge", check_duplicate=True, labels=labels)


def _follow(
    pid: int,
    descriptor: int,
    containers: JobContainers,
    output: ComposeOutput,
    logs: Mapping[str, HostLog],
    stop: threading.Event,
) -> Literal["", "interrupted"]:
    """Pass on the job's output until its process has ended; stop the job when asked to."""
    ended = threading.Event()
    stopped: Literal["", "interrupted"] = ""
    with (
        os.fdopen(descriptor, "rb", 0) as pipe,
        selectors.DefaultSelector() as readable,
        ThreadPoolExecutor(1) as aside,
    ):
        readable.register(pipe, selectors.EVENT_READ)
        try:
            data = b"..."
            while data:
                if stop.is_set() and not stopped:
                    stopped = "interrupted"
                    aside.submit(_stop, containers, pid, ended)
                if readable.select(_POLL_SECONDS):
                    data = pipe.read(_CHUNK_BYTES)
                    for host, line in output.feed(data):
                        logs[host].write(line + b"\n")
        finally:
            ended.set()
    return stopped


def _stop(containers: JobContainers, pid: int, ended: threading.Event) -> None:
    """Stop the containers, after which docker compose ends by itself; again and again, as more may be on their way."""
    grace = GRACE_SECONDS["interrupted"]
    deadline = monotonic() + grace + _STOP_SECONDS
    while not ended.wait(_POLL_SECONDS):
        with quietly():
            if containers.stop(grace) and monotonic() < deadline:
                continue
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _merge(mount: InputMount) -> Path:
    """A copy of an input: stock local mode mounts a directory as it is, and a job may write into its inputs."""
    merged = mount.scratch / "merged"
    merged.mkdir()
    for layer in reversed(mount.layers):
        command = ["cp", "-R", "--reflink=auto", "--", f"{layer}/.", str(merged)]
        subprocess.run(command, check=True, capture_output=True)
    merged.chmod(0o777)
    return merged


def _link(s3: dict[str, Any], link: Path, directories: Mapping[str, Path]) -> None:
    link.symlink_to(directories[s3["LocalPath"]])
    s3["S3Uri"] = f"file://{link}"


@contextmanager
def _logs(staged: StagedJob, on_line: OnLine) -> Generator[dict[str, HostLog]]:
    def hear(host: StagedHost) -> Callable[[str], None]:
        return lambda line: on_line(host.name, line)

    with ExitStack() as stack:
        yield {host.name: stack.enter_context(closing(HostLog(host.log, hear(host)))) for host in staged.hosts}


# ------------------------------------------------------------------------------------------------------------ endings
def _error(links: Path) -> str:
    """What stock local mode raised, or nothing."""
    try:
        return str(json.loads((links / "result.json").read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError):
        return "its process was killed"


def _results(staged: StagedJob, ended: Mapping[str, Ended], error: str, said: list[str]) -> tuple[HostResult, ...]:
    """How each host ended. An error that no exit code shows is the first host's."""
    told = next((line for line in said if line.startswith("ERROR") or "Error response" in line), "")
    if error and not told:
        told = "\n  ".join([error, *said[-_SAID_LINES:]])
    results = [_result(host.name, ended.get(host.name), told, len(staged.hosts)) for host in staged.hosts]
    if error and all(result.exit_code == 0 for result in results):
        results[0] = HostResult(results[0].host, None, f"stock local mode failed: {error}")
    return tuple(results)


def _result(host: str, ended: Ended | None, error: str, hosts: int) -> HostResult:
    code = ended.exit_code if ended else None
    if code is None:
        return HostResult(host, None, f"stock local mode failed: {error}" if error else "it never started")
    if ended and ended.out_of_memory:
        return HostResult(host, code, "the kernel killed it, out of memory")
    if code == _TAKEN_FOR_SUCCESS:
        return HostResult(host, code, "stock local mode takes this for success")
    if code in (126, 127) and error.startswith("ERROR"):
        return HostResult(host, code, error)
    if hosts > 1 and code in (137, 143):
        return HostResult(host, code, "stock local mode stops all hosts when the first one ends")
    return HostResult(host, code)


def _nowhere(staged: StagedJob, error: str) -> JobResult:
    return JobResult(tuple(HostResult(host.name, None, error) for host in staged.hosts))


def _require_compose() -> None:
    """Raises EngineError where the SDK would not find docker compose, which it looks for in this way."""
    if not shutil.which("docker"):
        raise EngineError("The SDK's local mode runs the docker command, which is not on PATH. Install the Docker CLI.")
    asked = subprocess.run(["docker", "compose", "version"], stdin=subprocess.DEVNULL, capture_output=True)
    if asked.returncode and not shutil.which("docker-compose"):
        raise EngineError(
            "The SDK's local mode needs docker compose, and there is none. Install it "
            "(Debian, Ubuntu: sudo apt-get install docker-compose), or use --engine docker."
        )
