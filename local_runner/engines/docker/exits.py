"""How containers ended, from the engine's events. Talks to the engine only.

The engine answers ``wait`` when it has taken down the container's network, 50 to 100 ms after the process ended; its
``die`` event comes at once and has the exit code.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from local_runner.engines.docker.errors import first_line
from local_runner.engines.host_log import HostLog
from local_runner.models import HostResult, StagedHost

_CLOCK_DIFFERENCE = 60
"""Seconds that the engine's clock may be behind this machine's; events since then are asked for."""


@dataclass
class ContainerExits:
    """Listens from ``listen`` to ``close``. ``label`` (NAME=VALUE) is what the containers carry."""

    api: Any
    label: str
    _codes: dict[str, int] = field(default_factory=dict[str, int])
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stream: Any = None
    _listening: bool = False

    def listen(self) -> None:
        """Begin to listen, once; returns at once."""
        if not self._listening:
            self._listening = True
            threading.Thread(target=self._follow, daemon=True, name="container exits").start()

    def code(self, container: str, patience: float) -> int | None:
        """The exit code of a container that has ended; None where no event had it after ``patience`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: container in self._codes or not self._listening, patience)
            return self._codes.pop(container, None)

    def close(self) -> None:
        """Stop listening."""
        self._listening = False
        if self._stream is not None:
            self._stream.close()

    def _follow(self) -> None:
        filters = {"event": "die", "label": self.label}
        try:
            self._stream = self.api.events(decode=True, since=int(time.time()) - _CLOCK_DIFFERENCE, filters=filters)
            for event in self._stream:
                with self._changed:
                    self._codes[event["id"]] = int(event["Actor"]["Attributes"]["exitCode"])
                    self._changed.notify_all()
        except Exception:
            pass  # whatever it was: the engine is asked about each container instead
        with self._changed:
            self._listening = False
            self._changed.notify_all()


def not_started(host: StagedHost, error: str, log: HostLog) -> HostResult:
    """What Docker's command line makes of a container that cannot start: 127 not found, 126 cannot be executed."""
    # "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process:"
    reason = first_line(error).rpartition("container process: ")[2].removesuffix(": unknown")
    log.write((reason + "\n").encode())
    if "not found" in error or "no such file" in error:
        return HostResult(host.name, 127, log.error)
    if "permission denied" in error:
        return HostResult(host.name, 126, log.error)
    return HostResult(host.name, None, f"the container could not be started ({reason})")
