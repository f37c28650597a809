"""The sdk engine: each job goes to the SageMaker SDK's stock local mode, docker compose. The reference of the others.

Talks to the Docker engine, and starts the process that holds the SDK (``process.py``); copies inputs into the job's
own directory. Stock local mode itself is not touched. Its requests differ from the definition's in three things: the
image is the local one; the S3Uris are ``file://`` directories, with what the local S3 holds for an input, and where an
output is collected from; and labels are put on the containers, through the SDK's own configuration.

What stock local mode refuses is found before anything runs; what it ignores is noted (``request.py`` lists both).
It ignores MaxRuntimeInSeconds, and so does this engine. Exit codes are the containers', as Docker knows them.
"""

from __future__ import annotations

import itertools
import platform
import shutil
import subprocess
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local_runner.docker_host.connection import connect, docker
from local_runner.engines import GRACE_SECONDS, STOPS, Capabilities, Grace, OnLine
from local_runner.engines.docker.engine import DockerEngine
from local_runner.engines.docker.ownership import own
from local_runner.engines.docker.sweep import LABEL_MACHINE, LABEL_RUN, LABEL_STATE
from local_runner.engines.sdk import CAPABILITIES
from local_runner.engines.sdk.containers import JobContainers, quietly
from local_runner.engines.sdk.hosts import host_logs, host_results
from local_runner.engines.sdk.job import SdkJob
from local_runner.engines.sdk.process import LABEL, SdkProcess
from local_runner.engines.sdk.request import ignored, refused, stock_request
from local_runner.errors import EngineError, Problem
from local_runner.models import InputMount, JobResult, ProcessingJob, StagedJob
from local_runner.storage.uniform import make_uniform

LABEL_STEP = "local-runner.step"
NETWORK = "sagemaker-local"
"""The network that stock local mode puts every job of a machine into, and never removes."""


@dataclass(frozen=True)
class OpenJob:
    """A job that can be run, and the labels of its containers."""

    job: SdkJob
    labels: Mapping[str, str]


@dataclass
class SdkEngine:
    """Runs jobs in stock local mode. Implements :class:`local_runner.engines.Engine`.

    ``resolve_image`` says which local image an image URI means; ``note`` gets what stock local mode ignores.
    ``grace`` is how long a job that is stopped has.
    """

    state: Path
    resolve_image: Callable[[str], str]
    note: Callable[[str], None]
    region: str = "us-east-1"
    name: str = "sdk"
    capabilities: Capabilities = CAPABILITIES
    grace: Grace = field(default_factory=lambda: GRACE_SECONDS)
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
        self.begin()
        self._docker.prepare(jobs)
        self._loaded()

    def begin(self) -> None:
        """Start to load the SDK, which takes 2 s, without waiting for it. Raises EngineError without docker compose."""
        _require_compose()
        with self._starting:
            if self._sdk is None:
                self._sdk = SdkProcess(self.region, self._ready_network)

    def _loaded(self) -> SdkProcess:
        self.begin()
        with self._starting:
            assert self._sdk is not None
            self._sdk.wait_ready()
            return self._sdk

    def run(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        """Hand the job over, follow what docker compose says, and remove what it leaves; see the Protocol."""
        if staged.job.image_uri not in self._images or self._sdk is None:
            # A job whose request was not known before the execution began.
            try:
                self.prepare([staged.job])
            except EngineError as error:
                return JobResult.lost(staged, error.message)
        if problems := refused(staged.step, staged.job):
            return JobResult.lost(staged, " ".join(map(str, problems)))
        try:
            with self.job(staged.run_id, staged.step, staged.work, self._images[staged.job.image_uri]) as job:
                return self._run(staged, job, on_line, stop)
        except (docker.errors.DockerException, OSError, subprocess.CalledProcessError) as error:
            return JobResult.lost(staged, f"stock local mode could not be followed ({error})")

    @contextmanager
    def job(self, run_id: str, step: str, work: Path, image: str) -> Generator[OpenJob]:
        """A job of a step, whose containers are removed at the end; what they left in ``work`` is then the user's.

        ``image`` is a local one in which that can be done. Raises EngineError where the SDK cannot be had.
        """
        sdk = self._loaded()
        labels = {LABEL_RUN: run_id, LABEL_STEP: step}
        containers = JobContainers(self.client, labels)
        temporary = work / "sdk"
        temporary.mkdir(parents=True)
        every = {**labels, LABEL_STATE: str(self.state), LABEL_MACHINE: platform.node(), **sdk.label}
        try:
            links = sdk.directory / f"job-{next(self._numbers)}"
            yield OpenJob(SdkJob(sdk, containers, links, temporary, self.grace), every)
        finally:
            containers.remove()
            with quietly():
                own(self.client, image, [work], {**labels, LABEL_STATE: str(self.state)})

    def image(self, uri: str) -> str:
        """The local image that an image URI means, built or pulled first if need be. Raises EngineError."""
        if uri not in self._images:
            self._docker.images.prepare([uri])
        return self._images[uri]

    def close(self) -> None:
        """End the process that holds the SDK, which removes the network if no other run has one."""
        if self._sdk is not None:
            self._sdk.close()
            self._sdk = None
        self._docker.close()
        self.client.close()

    # -------------------------------------------------------------------------------------------------- one job
    def _run(self, staged: StagedJob, opened: OpenJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        request = self._request(staged, opened.job)
        with host_logs({host.name: host.log for host in staged.hosts}, on_line, staged.secrets) as logs:
            calls = [("create_processing_job", request)]
            end = opened.job.run(calls, opened.labels, logs, stop, STOPS["Processing"])
            results = host_results([host.name for host in staged.hosts], end)
            for result in results:
                if result.error and not end.stopped:
                    logs[result.host].write(f"{result.error}\n".encode())
            results = tuple(replace(each, error=each.error or logs[each.host].error) for each in results)
        return JobResult(results, end.stopped)

    def _request(self, staged: StagedJob, job: SdkJob) -> dict[str, Any]:
        """The request with directories of this machine.

        Every host sees the first one's inputs and outputs, as stock local mode has one set of directories for all.
        """
        host = staged.hosts[0]
        request = stock_request(staged.job)
        request["AppSpecification"]["ImageUri"] = self._images[staged.job.image_uri]
        directories = {mount.local_path: _merge(mount) for mount in host.inputs}
        directories |= {bind.local_path: bind.source for bind in host.binds}
        inputs = [item["S3Input"] for item in request["ProcessingInputs"]]
        outputs = [item["S3Output"] for item in request["ProcessingOutputConfig"]["Outputs"]]
        for s3 in (*inputs, *outputs):
            s3["S3Uri"] = job.uri(directories[s3["LocalPath"]])
        return request

    # -------------------------------------------------------------------------------------- images and networks
    def _image(self, uri: str) -> str:
        self._images[uri] = self.resolve_image(uri)
        return self._images[uri]

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


def _merge(mount: InputMount) -> Path:
    """A copy of an input: stock local mode mounts a directory as it is, and a job may write into its inputs."""
    merged = mount.scratch / "merged"
    merged.mkdir()
    for layer in reversed(mount.layers):
        command = ["cp", "-R", "--reflink=auto", "--", f"{layer}/.", str(merged)]
        subprocess.run(command, check=True, capture_output=True)
    make_uniform(merged)
    return merged


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
