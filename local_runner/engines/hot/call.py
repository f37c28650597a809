"""Calls to a hot worker's server (``program/server.py``), over its Unix socket. Talks to that socket only."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal

from local_runner.engines.host_log import HostLog

_POLL_SECONDS = 0.05
_KILL_SECONDS = 10.0
"""How long the end of a job may take that was killed. Then its worker counts as lost."""
_ANSWER_SECONDS = 60.0
"""How long a worker may take to load what it was asked to."""
_LAST_OUTPUT_SECONDS = 2.0
"""How long the output of a job that has ended may take to arrive."""


class NotRunHotError(Exception):
    """The job has not begun; the message says why. It can still be run cold."""


class WorkerLostError(Exception):
    """The worker ended while the job ran."""


@dataclass(frozen=True)
class Ending:
    """When a job is ended from outside: seconds until SIGTERM, and by reason from there to SIGKILL."""

    max_runtime: float
    stop: Event
    grace: Mapping[Literal["interrupted", "max_runtime"], float]


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    exit_code: int
    out_of_memory: bool
    stopped: Literal["", "interrupted", "max_runtime"]


def connect(directory: Path) -> socket.socket:
    """A connection to the worker whose directory that is. Raises OSError where none answers."""
    connection = socket.socket(socket.AF_UNIX)
    # A socket's address holds no more than 107 bytes, and a state directory may lie deep.
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}/socket")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection


def ask(directory: Path, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Send a request that is no job, and return the answer. Raises OSError, ValueError where none comes."""
    with contextlib.closing(connect(directory)) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as file:
            return json.loads(file.readline())


def run_job(directory: Path, request: Mapping[str, Any], log: HostLog, ending: Ending) -> Ended:
    """Run a job to its end. Raises NotRunHotError where it has not begun, WorkerLostError where the worker is gone."""
    pipes = [os.pipe(), os.pipe()]
    try:
        try:
            connection = connect(directory)
            line = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(connection, [line], [writer for _, writer in pipes])
            connection.sendall(line[sent:])
        except OSError as error:
            raise NotRunHotError(f"the hot worker does not answer ({error.strerror})") from None
        finally:
            for _, writer in pipes:
                os.close(writer)
        with connection:
            return _follow(connection, [reader for reader, _ in pipes], log, ending)
    finally:
        for reader, _ in pipes:
            os.close(reader)


def _follow(connection: socket.socket, outputs: Sequence[int], log: HostLog, ending: Ending) -> Ended:
    stopped: Literal["", "interrupted", "max_runtime"] = ""
    deadline = time.monotonic() + ending.max_runtime
    answer = b""
    answered = killed = False
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        for source, output in enumerate(outputs):
            selector.register(output, selectors.EVENT_READ, source)
        while selector.get_map():
            for key, _ in selector.select(_POLL_SECONDS):
                data = _read(key.fd)
                if not data:
                    selector.unregister(key.fileobj)
                if key.fileobj is connection:
                    answer += data
                else:
                    log.write(data, source=key.data)
            now = time.monotonic()
            if not answered and connection not in selector.get_map():
                answered, deadline = True, now + _LAST_OUTPUT_SECONDS
            if answered:
                if now > deadline:
                    break
            elif not stopped and (ending.stop.is_set() or now >= deadline):
                stopped = "interrupted" if ending.stop.is_set() else "max_runtime"
                _command(connection, b"T" if ending.grace[stopped] else b"K")
                killed = not ending.grace[stopped]
                deadline = now + (ending.grace[stopped] or _KILL_SECONDS)
            elif stopped and now >= deadline:
                if killed:
                    raise WorkerLostError("its hot worker does what it is told no more")
                _command(connection, b"K")
                killed, deadline = True, now + _KILL_SECONDS
    return _ended(answer, stopped)


def _read(descriptor: int) -> bytes:
    """What there is, or nothing at the end."""
    try:
        return os.read(descriptor, 1 << 16)
    except ConnectionResetError:
        return b""  # the worker closed before it had read the last command; its answer came before this


def _command(connection: socket.socket, command: bytes) -> None:
    with contextlib.suppress(OSError):  # it has just ended by itself
        connection.sendall(command)


def _ended(answer: bytes, stopped: Literal["", "interrupted", "max_runtime"]) -> Ended:
    try:
        told: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise WorkerLostError("its hot worker ended") from None
    if "cold" in told:
        raise NotRunHotError(str(told["cold"]))
    return Ended(int(told["exit"]), bool(told["out_of_memory"]), stopped)
