"""A job whose processes are read through descriptors: its output is passed on, and it is ended when it is to stop.

Reads the descriptors; how the job is ended is the caller's. The docker engine reads each container in a thread instead.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from threading import Event
from time import monotonic
from typing import Literal

from local_runner.engines import GRACE_SECONDS, Grace
from local_runner.models import StopReason

_POLL_SECONDS = 0.05
_CHUNK_BYTES = 1 << 16
_LAST_OUTPUT_SECONDS = 2.0
"""How long the output of a job that has ended may take to arrive."""


class StillRunsError(Exception):
    """The job was killed, and has not ended."""


@dataclass(frozen=True)
class Ending:
    """When a job is ended from outside: after ``max_runtime`` seconds, or when ``stop`` is set.

    With a ``grace`` of 0 it is killed at once.
    """

    max_runtime: float
    stop: Event
    grace: Grace = field(default_factory=lambda: GRACE_SECONDS)


@dataclass(frozen=True)
class Followed:
    """A job that runs. ``outputs`` says what takes the bytes that come from each descriptor.

    The job has ended when ``end`` (one of the descriptors) is at its end, or all of them where there is none.
    ``terminate`` sends the signal that asks it to end, ``kill`` SIGKILL; ``kill_seconds`` is how long its end may take
    then.
    """

    outputs: Mapping[int, Callable[[bytes], object]]
    terminate: Callable[[], object]
    kill: Callable[[], object]
    end: int | None = None
    kill_seconds: float = inf


def follow(job: Followed, ending: Ending) -> StopReason | Literal[""]:
    """Pass on what the job prints until it has ended, and return what stopped it. Raises StillRunsError."""
    stopped: StopReason | Literal[""] = ""
    ended = killed = False
    deadline = monotonic() + ending.max_runtime
    with selectors.DefaultSelector() as selector:
        for descriptor, take in job.outputs.items():
            selector.register(descriptor, selectors.EVENT_READ, take)
        while selector.get_map():
            for key, _ in selector.select(_POLL_SECONDS):
                if data := _read(key.fd):
                    key.data(data)
                else:
                    selector.unregister(key.fd)
            now = monotonic()
            if ended:
                if now > deadline:
                    break
            elif job.end is not None and job.end not in selector.get_map():
                ended, deadline = True, now + _LAST_OUTPUT_SECONDS
            elif not stopped and (ending.stop.is_set() or now >= deadline):
                stopped = "interrupted" if ending.stop.is_set() else "max_runtime"
                deadline = now + ending.grace[stopped]
                if deadline > now:
                    job.terminate()
            if stopped and not ended and now >= deadline:
                if killed:
                    raise StillRunsError
                job.kill()
                killed, deadline = True, now + job.kill_seconds
    return stopped


def _read(descriptor: int) -> bytes:
    """What there is, or nothing at the end."""
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except ConnectionResetError:
        return b""  # a socket whose other end closed before it had read all: what it sent came before this
