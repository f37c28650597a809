"""One job in stock local mode: hands the SDK's calls over, follows what docker compose says, stops it when asked to.

Writes a directory of links and the file that ``program.py`` reads; talks to the Docker engine about the job's
containers. Knows nothing of what kind of job it is.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from local_runner.engines import Grace, Stop
from local_runner.engines.following import Ending, Followed, follow
from local_runner.engines.host_log import HostLog
from local_runner.engines.instances import MOST_PROCESSES, SHM_SIZE, ULIMITS
from local_runner.engines.sdk.containers import Ended, JobContainers, quietly
from local_runner.engines.sdk.output import ComposeOutput
from local_runner.engines.sdk.process import SdkProcess

Call = tuple[str, dict[str, Any]]
"""A method of ``LocalSagemakerClient``, and its arguments."""

_POLL_SECONDS = 0.05
_STOP_SECONDS = 5.0
_OWN_LINES = 8


@dataclass(frozen=True)
class SdkEnd:
    """How it ended: what stock local mode raised (empty: nothing), each host's container, and who stopped it.

    ``trouble`` says more than ``error`` does where docker compose printed more.
    """

    error: str
    trouble: str
    containers: Mapping[str, Ended]
    stopped: Literal["", "interrupted"]


class SdkJob:
    """A job to be: ``links`` is an empty directory of its own below the SDK process's, ``temporary`` one with room.

    docker compose cannot mount a path with a colon and the SDK refuses any below /root, so that what it is given are
    links to where the data is. ``grace`` is how long one that is stopped has.
    """

    def __init__(self, sdk: SdkProcess, containers: JobContainers, links: Path, temporary: Path, grace: Grace) -> None:
        self._sdk = sdk
        self._containers = containers
        self._grace = grace["interrupted"]
        self._links = links
        links.mkdir()
        (links / "temporary").symlink_to(temporary)

    def uri(self, directory: Path) -> str:
        """The file:// URI by which stock local mode gets a directory."""
        link = self._links / f"data-{len(list(self._links.iterdir()))}"
        link.symlink_to(directory)
        return f"file://{link}"

    def run(
        self,
        calls: Sequence[Call],
        labels: Mapping[str, str],
        logs: Mapping[str, HostLog],
        stop: threading.Event,
        how: Stop,
    ) -> SdkEnd:
        """Make the calls, one after the other, to the end. ``labels`` go to the containers; logs are by host.

        When ``stop`` is set, the containers are stopped as ``how`` says.

        Raises OSError where the process that holds the SDK is gone.
        """
        file = self._links / "job.json"
        job = {
            "calls": calls,
            # docker compose takes these for templates, too.
            "labels": {name: value.replace("$", "$$") for name, value in labels.items()},
            "instance": {"pids_limit": MOST_PROCESSES, "shm_size": SHM_SIZE, "ulimits": dict(ULIMITS)},
            "temporary": str(self._links / "temporary"),
            "errors": str(self._links / "errors.log"),
            "result": str(self._links / "result.json"),
            "serving_port": _free_port(),
        }
        file.write_text(json.dumps(job), encoding="utf-8")
        output = ComposeOutput()
        pid, descriptor = self._sdk.start(file)

        def take(data: bytes) -> None:
            for host, line in output.feed(data):
                logs[host].write(line + b"\n")

        stopped = _follow(descriptor, partial(_stop, self._containers, how, self._grace, pid), take, stop)
        take(b"")  # what is left of a last line
        error = _error(self._links)
        message = next((line for line in output.own_lines if line.startswith("ERROR") or "Error response" in line), "")
        trouble = message or ("\n  ".join([error, *output.own_lines[-_OWN_LINES:]]) if error else "")
        return SdkEnd(error, trouble, self._containers.ended(), stopped)


def _free_port() -> int:
    """A port of this machine for a model server to be reached at; nobody else has it at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _follow(
    descriptor: int,
    terminate: Callable[[threading.Event], object],
    take: Callable[[bytes], object],
    stop: threading.Event,
) -> Literal["", "interrupted"]:
    """Pass on the job's output until its process has ended; stop the job when asked to."""
    ended = threading.Event()
    with os.fdopen(descriptor, "rb", 0) as pipe, ThreadPoolExecutor(1) as aside:
        # The grace period is Docker's to keep, and nothing limits the job's time.
        job = Followed({pipe.fileno(): take}, lambda: aside.submit(terminate, ended), kill=lambda: None)
        try:
            return "interrupted" if follow(job, Ending(inf, stop, {"interrupted": inf})) else ""
        finally:
            ended.set()


def _stop(containers: JobContainers, how: Stop, grace: float, pid: int, ended: threading.Event) -> None:
    """Stop the containers, after which docker compose ends by itself; again and again, as more may be on their way."""
    deadline = monotonic() + grace + _STOP_SECONDS
    while not ended.wait(_POLL_SECONDS):
        with quietly():
            if containers.stop(how.signal.name, grace) and monotonic() < deadline:
                continue
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _error(links: Path) -> str:
    """What stock local mode raised, or nothing."""
    try:
        return str(json.loads((links / "result.json").read_text(encoding="utf-8"))["error"])
    except (OSError, ValueError):
        return "its process was killed"
