"""The containers that stock local mode makes for one job, found by their labels. Talks to the Docker engine."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from local_runner.docker_host.connection import docker

_SERVICE = re.compile(r"(algo-\d+)-")
_STOPPING_THREADS = 16


@dataclass(frozen=True)
class Ended:
    """How a container ended; ``exit_code`` is None for one that has not, or never began."""

    exit_code: int | None
    out_of_memory: bool


@contextmanager
def quietly() -> Generator[None]:
    """For cleaning up: what is gone already, or cannot be reached, is the next sweep's."""
    with suppress(docker.errors.DockerException, OSError):  # requests' errors are OSErrors
        yield


class JobContainers:
    """The containers with these labels; the SDK leaves them behind when they have ended."""

    def __init__(self, client: Any, labels: Mapping[str, str]) -> None:
        self._api = client.api
        self._filters = {"label": [f"{name}={value}" for name, value in labels.items()]}

    def ended(self) -> dict[str, Ended]:
        """How each host ended, by its name (algo-1)."""
        found: dict[str, Ended] = {}
        for container in self._all():
            service = _SERVICE.match(container["Labels"].get("com.docker.compose.service", ""))
            state = self._api.inspect_container(container["Id"])["State"]
            code = state["ExitCode"] if state["Status"] == "exited" else None
            if state["Status"] == "created":
                code = state["ExitCode"] or None  # 126 and 127 where the entrypoint could not be started
            if service:
                found[service[1]] = Ended(code, bool(state.get("OOMKilled")))
        return found

    def stop(self, signal: str, grace: float) -> bool:
        """The signal of that name, the grace period (in seconds), SIGKILL, for all at once; whether there were any.

        Not by the images' STOPSIGNAL, as the engine would do, and docker compose does when the first host ends.
        """
        containers = self._all()

        def stop(container: str) -> None:
            with quietly():
                self._api.kill(container, signal)
            with quietly():
                self._api.wait(container, timeout=grace or 0.01)
            with quietly():
                self._api.kill(container)

        with ThreadPoolExecutor(_STOPPING_THREADS) as threads:
            threads.map(stop, [container["Id"] for container in containers])
        return bool(containers)

    def remove(self) -> None:
        """Remove them, whatever their state."""
        with quietly():
            for container in self._all():
                with quietly():
                    self._api.remove_container(container["Id"], force=True, v=True)

    def _all(self) -> list[dict[str, Any]]:
        return self._api.containers(all=True, filters=self._filters)
