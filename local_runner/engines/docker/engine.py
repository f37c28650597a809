"""The docker engine: each host of a job is a container, driven through the Engine API. Talks to the engine only.

Inputs are overlay volumes (the sample data below, a scratch directory on top), so they are writable, cost no copy, and
never change. Where the engine cannot mount an overlay of this machine's directories (a remote engine, Docker Desktop,
an overlay upon an overlay), inputs are copied, by reflink where the file system can.

A job is over when its process is: the exit code comes from the engine's events, and its container is removed while the
next one starts (benchmarks/RESULTS.md has what a container costs).

A container gets a network of its own. Joining one that is up already starts in half the time, but the engine then
shares its /etc/hosts and /etc/resolv.conf too, and ports stay taken for a while after their process: a job would see
what an earlier one left.

Containers, their volumes and networks carry labels that name the execution and its state directory, by which
``docker/sweep.py`` removes those whose execution no longer lives.
"""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from local_runner.docker_host.connection import connect
from local_runner.engines import GRACE_SECONDS, STOPS, Capabilities, Grace, OnLine
from local_runner.engines.docker import CAPABILITIES
from local_runner.engines.docker.errors import broke_down, engine_errors, first_line
from local_runner.engines.docker.exits import ContainerExits, not_started
from local_runner.engines.docker.image_notes import image_notes
from local_runner.engines.docker.images import LocalImages
from local_runner.engines.docker.inputs import InputMounts
from local_runner.engines.docker.limits import of_container
from local_runner.engines.docker.network import JobNetwork, create_network
from local_runner.engines.docker.ownership import own
from local_runner.engines.docker.sweep import LABEL_STATE, labels_of, sweep
from local_runner.engines.host_log import HostLog
from local_runner.engines.instances import MOST_PROCESSES, Limits, Machine, limits_of, processors_of
from local_runner.errors import EngineError, Problem
from local_runner.models import HostResult, JobResult, ProcessingJob, StagedHost, StagedJob, StopReason

_POLL_SECONDS = 0.05
_EVENT_SECONDS = 1.0
"""How long the event of a container's end may take, once its output has ended. Then the engine is asked."""


@dataclass
class DockerEngine:
    """Runs jobs in containers. ``resolve_image`` says which local image an image URI of the definition means.

    ``limits`` gives each host the memory and processors of its instance type, no more than ``machine`` has (None: ask
    the engine); ``note`` gets a line where that is something else. ``most_processes`` is the limit of one container,
    and ``grace`` how long one that is stopped has.
    """

    state: Path
    resolve_image: Callable[[str], str]
    name: str = "docker"
    capabilities: Capabilities = CAPABILITIES
    limits: bool = True
    note: Callable[[str], None] = lambda _: None
    machine: Machine | None = None
    most_processes: int = MOST_PROCESSES
    grace: Grace = field(default_factory=lambda: GRACE_SECONDS)
    client: Any = None
    _limits: dict[str, Limits] = field(default_factory=dict[str, Limits])
    _noted: set[str] = field(default_factory=set[str])
    _turns: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.client = self.client or connect()
        self._api: Any = self.client.api
        self.images = LocalImages(self.client, self.resolve_image)
        self._inputs = InputMounts()
        self._exits = ContainerExits(self._api, f"{LABEL_STATE}={self.state}")
        self._removals = ThreadPoolExecutor(1, "remove")
        sweep(self._api, self._quietly)

    # ---------------------------------------------------------------------------------------------- Protocol
    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        """None: what planning lets through, a container can do."""
        return []

    def prepare(self, jobs: Iterable[ProcessingJob]) -> None:
        """Find, build or pull the image of each job. Raises EngineError that lists every image that is not here."""
        self._exits.listen()
        jobs = list(jobs)
        for instance_type in dict.fromkeys(job.instance_type for job in jobs):
            self._limits_of(instance_type)
        self.images.prepare(job.image_uri for job in jobs)
        for note in image_notes(self._api, self.state, ((self.images[job.image_uri], job) for job in jobs)):
            if note not in self._noted:
                self._noted.add(note)
                self.note(note)

    def prepare_for(self, job: ProcessingJob) -> None:
        """Prepare a job whose request was not known before the execution began. Raises EngineError."""
        if job.image_uri not in self.images:
            self.prepare([job])

    def image_and_limits(self, job: ProcessingJob) -> tuple[str, Limits]:
        """The local image of a prepared job, and what its host is limited to."""
        return self.images[job.image_uri], self._limits_of(job.instance_type)

    def processors_of(self, job: ProcessingJob, turn: int) -> list[int]:
        """The processors that a host of a prepared job runs on; none is all."""
        here = self.machine.processors if self.limits and self.machine else ()
        return processors_of(job.instance_type, here, turn)

    def image_id(self, uri: str) -> str | None:
        """The id of the local image that the URI means, which is a digest of its content; None where it is not here."""
        return self.images.id_of(uri)

    def run(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        """One container per host, all at once; see the Protocol."""
        try:
            self.prepare_for(staged.job)
        except EngineError as error:
            return JobResult.lost(staged, error.message)
        started = monotonic()
        finished = threading.Event()
        containers: list[str] = []
        try:
            network = self._create_network(staged)
        except engine_errors() as error:
            return JobResult.lost(staged, broke_down(error))
        stopped: StopReason | Literal[""] = ""
        try:
            with ThreadPoolExecutor(len(staged.hosts) + 1) as threads:
                futures: list[Future[HostResult]] = []
                for host in staged.hosts:
                    futures.append(threads.submit(self._run_host, staged, host, network, containers, on_line))
                for future in futures:
                    future.add_done_callback(lambda _: all(each.done() for each in futures) and finished.set())
                while not finished.wait(_POLL_SECONDS):
                    if not stopped and stop.is_set():
                        stopped = "interrupted"
                    if not stopped and monotonic() - started > staged.job.max_runtime:
                        stopped = "max_runtime"
                    if stopped:
                        # Again until all have ended: a container may have been on its way when the first call was made.
                        self._stop(containers, self.grace[stopped])
                results = tuple(future.result() for future in futures)
        finally:
            self._removals.submit(self._remove_all, containers, network)
        return JobResult(results, stopped)

    def close(self) -> None:
        """Wait until what has ended is removed, and close the connection."""
        self._removals.shutdown()
        self._exits.close()
        self.client.close()

    # ------------------------------------------------------------------------------------------------- one host
    def _run_host(
        self, staged: StagedJob, host: StagedHost, network: JobNetwork | None, containers: list[str], on_line: OnLine
    ) -> HostResult:
        container = ""
        try:
            with closing(HostLog(host.log, lambda line: on_line(host.name, line), staged.secrets)) as log:
                for attempt in range(2):
                    container = self._create(staged, host, network)
                    containers.append(container)
                    stream = self._api.attach(container, stream=True, demux=True, logs=False)
                    error = self._start(container)
                    if error is None:
                        for stdout, stderr in stream:
                            log.write(stdout or b"")
                            log.write(stderr or b"", source=1)
                        return self._ended(staged, host, container, log)
                    if attempt or not self._inputs.refused(error):
                        return not_started(host, error, log)
                    self._remove(container)
            raise AssertionError("unreachable")
        except engine_errors() as error:
            return HostResult(host.name, None, broke_down(error))
        except subprocess.CalledProcessError as error:
            message = first_line(error.stderr.decode(errors="replace"))
            return HostResult(host.name, None, f"its inputs could not be copied ({message})")
        finally:
            self._own(staged, host)

    def _create(self, staged: StagedJob, host: StagedHost, network: JobNetwork | None) -> str:
        from docker.types import Mount

        job = staged.job
        # The engine itself adds the container's own name, except where it has no network.
        others = {name: address for name, address in network.addresses.items() if name != host.name} if network else {}
        limits = self._limits_of(job.instance_type)
        config = self._api.create_host_config(
            mounts=[
                *(self._inputs.mount(mount, labels_of(self.state, staged.run_id)) for mount in host.inputs),
                *(Mount(bind.local_path, str(bind.source), type="bind") for bind in host.binds),
            ],
            network_mode="none" if job.network_isolation else network.id if network else "bridge",
            log_config={"Type": "none"},
            **of_container(limits, self.processors_of(job, next(self._turns)), self.most_processes),
            extra_hosts=dict.fromkeys(job.hosts, "127.0.0.1") if job.network_isolation else others,
        )
        networking = None
        if network:
            endpoint = self._api.create_endpoint_config(ipv4_address=network.addresses[host.name])
            networking = self._api.create_networking_config({network.id: endpoint})
        created = self._api.create_container(
            self.images[job.image_uri],
            command=None if job.arguments is None else list(job.arguments),
            entrypoint=None if job.entrypoint is None else list(job.entrypoint),
            environment=dict(job.environment),
            hostname=host.name,
            stop_signal=STOPS["Processing"].signal.name,
            name=f"local-runner-{staged.run_id}-{staged.step}-{host.name}",
            labels=labels_of(self.state, staged.run_id),
            host_config=config,
            networking_config=networking,
            # The proxies of ~/.docker/config.json are this machine's and not the cloud's.
            use_config_proxy=False,
        )
        return str(created["Id"])

    def _start(self, container: str) -> str | None:
        """Start the container; what the engine says where it cannot."""
        from docker.errors import APIError

        try:
            self._api.start(container)
        except APIError as error:
            return str(error.explanation or error)
        return None

    def _ended(self, staged: StagedJob, host: StagedHost, container: str, log: HostLog) -> HostResult:
        code = self._exits.code(container, _EVENT_SECONDS)
        if code is None:
            code = int(self._api.wait(container)["StatusCode"])
        # The engine's flag is also set where it was a child of the entrypoint that the kernel killed.
        if code and self._api.inspect_container(container)["State"].get("OOMKilled"):
            memory = self.memory_reason(staged.job.instance_type)
            return HostResult(host.name, code, log.error, out_of_memory=memory, errors=tuple(log.errors))
        return HostResult(host.name, code, log.error, errors=tuple(log.errors))

    def memory_reason(self, instance_type: str) -> str:
        """How much memory a host had that the kernel killed for want of more."""
        return self._limits_of(instance_type).reason or "the machine's memory is used up"

    def _limits_of(self, instance_type: str) -> Limits:
        """The limits of the type, found out and noted once."""
        if not self.limits:
            return Limits()
        if instance_type not in self._limits:
            self.machine = self.machine or Machine.of_engine(self._api.info())
            self._limits[instance_type] = limits_of(instance_type, self.machine)
            if note := self._limits[instance_type].note:
                self.note(note)
        return self._limits[instance_type]

    def _stop(self, containers: Sequence[str], grace: float) -> None:
        """The stop signal, the grace period, SIGKILL; all hosts at once."""
        with ThreadPoolExecutor(max(1, len(containers))) as threads:
            for container in list(containers):
                threads.submit(self._quietly, self._api.stop, container, timeout=int(grace))

    def _own(self, staged: StagedJob, host: StagedHost) -> None:
        """Give the files the container made as root to the user who runs this."""
        roots = [bind.source for bind in host.binds] + [mount.scratch for mount in host.inputs]
        image = self.images[staged.job.image_uri]
        self._quietly(own, self.client, image, roots, labels_of(self.state, staged.run_id))

    # -------------------------------------------------------------------------------------- sweeping
    def _create_network(self, staged: StagedJob) -> JobNetwork | None:
        """The network of a job whose hosts have to find each other."""
        if len(staged.hosts) == 1 or staged.job.network_isolation:
            return None
        name = f"local-runner-{staged.run_id}-{staged.step}"
        return create_network(self._api, name, staged.job.hosts, labels_of(self.state, staged.run_id))

    def _remove_all(self, containers: Sequence[str], network: JobNetwork | None) -> None:
        for container in containers:
            self._remove(container)
        if network:
            self._quietly(self._api.remove_network, network.id)

    def _remove(self, container: str) -> None:
        self._quietly(self._api.remove_container, container, force=True, v=True)

    def _quietly(self, call: Callable[..., object], *arguments: object, **options: object) -> None:
        """Clean up; what is gone already, or cannot be reached, is the next sweep's."""
        try:
            call(*arguments, **options)
        except engine_errors():
            return
