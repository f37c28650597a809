"""Calls to a hot worker's server (``program/server.py``), over its Unix socket. Talks to that socket only."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Any, Literal

from local_runner.engines import STOPS
from local_runner.engines.following import Ending, Followed, StillRunsError, follow
from local_runner.engines.host_log import HostLog
from local_runner.models import StopReason

_KILL_SECONDS = 10.0
"""How long the end of a job may take that was killed. Then its worker is given up."""
_ANSWER_SECONDS = 60.0
"""How long a worker may take to load what it was asked to."""


class NotRunHotError(Exception):
    """The job has not begun; the message says why. It can still be run cold."""


class WorkerLostError(Exception):
    """The worker ended while the job ran."""


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    exit_code: int
    out_of_memory: bool
    stopped: StopReason | Literal[""]


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
    answer = bytearray()
    takers: dict[int, Callable[[bytes], object]] = {connection.fileno(): answer.extend}
    takers |= {output: partial(log.write, source=source) for source, output in enumerate(outputs)}
    job = Followed(
        takers,
        terminate=partial(_send, connection, STOPS["Processing"].signal),
        kill=partial(_send, connection, SIGKILL),
        end=connection.fileno(),
        kill_seconds=_KILL_SECONDS,
    )
    try:
        stopped = follow(job, ending)
    except StillRunsError:
        raise WorkerLostError("its hot worker no longer answers") from None
    return _ended(bytes(answer), stopped)


def _send(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it has just ended by itself
        connection.sendall(bytes([number]))


def _ended(answer: bytes, stopped: StopReason | Literal[""]) -> Ended:
    try:
        ended: dict[str, Any] = json.loads(answer)
    except ValueError:
        raise WorkerLostError("its hot worker ended") from None
    if "cold" in ended:
        raise NotRunHotError(str(ended["cold"]))
    return Ended(int(ended["exit"]), bool(ended["out_of_memory"]), stopped)
