"""The program that holds the SageMaker SDK for the sdk engine: imports it once, then forks a process for each job.

    python -P sdk_program.py REQUEST     (a JSON object, see ``Settings``; stdin is a Unix socket)

Over the socket comes, for each job, the path of a JSON file (see ``Job``) with the descriptor that the job's output
goes to; the answer is the process id, which is that of a process group as well. A job's process hands the request to
``LocalSagemakerClient.create_processing_job`` as it is, and writes how that ended to ``Job.result``. When the other
end of the socket is closed, however that came about, what still runs is removed.

Reads and writes the files that a job names; reaches the Docker engine through the SDK, which runs docker and docker
compose. Sockets to anywhere else are refused. Beside the SDK it needs only the standard library.
"""

# The SDK ships no types, so what comes out of it is unknown to the type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

TELEMETRY_OFF = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
READY = b"ready\n"
_MESSAGE_BYTES = 4096


@dataclass(frozen=True)
class Settings:
    """``containers`` and ``network`` are the labels of what is to be removed at the end, ``directory`` is so itself.

    The network is for whoever can hold ``lock`` alone to remove, in ``turn``. ``path`` is where modules are looked for
    (no PYTHONPATH: docker compose may be a Python program with modules of its own).
    """

    containers: str
    network: str
    lock: str
    turn: str
    directory: str
    path: list[str]


@dataclass(frozen=True)
class Job:
    """``temporary`` is where the SDK makes its directories; ``errors`` takes what it logs."""

    request: dict[str, Any]
    labels: dict[str, str]
    temporary: str
    errors: str
    result: str


def main(settings: Settings) -> None:
    """Serve until the other end is closed, then clean up."""
    control = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.path += [entry for entry in settings.path if entry and entry not in sys.path]
    sys.addaudithook(_refuse_network)
    gc.disable()  # collecting costs half of the SDK's import
    try:
        from sagemaker.core.local.local_session import LocalSession

        session: Any = LocalSession(sagemaker_config=TELEMETRY_OFF)
    except Exception as error:  # shown to the user by the other end
        control.sendall(f"{type(error).__name__}: {error}\n".encode())
        return
    gc.freeze()
    control.sendall(READY)
    running: set[int] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
        if not message:
            break
        running = {pid for pid in running if os.waitpid(pid, os.WNOHANG) == (0, 0)}
        pid = os.fork()
        if not pid:
            control.close()
            _run(Job(**json.loads(Path(os.fsdecode(message)).read_text(encoding="utf-8"))), descriptors[0], session)
        os.close(descriptors[0])
        with contextlib.suppress(OSError):  # the child does the same; whoever is first
            os.setpgid(pid, pid)
        running.add(pid)
        control.sendall(f"{pid}\n".encode())
    _clean_up(settings, running)


def _run(job: Job, output: int, session: Any) -> NoReturn:
    """The job's process: the leader of a group that ends with it, docker compose included."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    try:
        os.dup2(output, 1)
        with Path(job.errors).open("ab") as errors:
            os.dup2(errors.fileno(), 2)
        # Line by line, so that lines are seen when they are said.
        sys.stdout = open(1, "w", encoding="utf-8", buffering=1, newline="\n", closefd=False)  # noqa: SIM115
        tempfile.tempdir = os.environ["TMPDIR"] = job.temporary
        session.config = {"local": {"container_config": {"labels": job.labels}}}
        session.sagemaker_client.create_processing_job(**job.request)
        error = ""
    except BaseException as raised:  # whatever it is, it is how the job ended
        error = f"{type(raised).__name__}: {raised}"
    with contextlib.suppress(OSError):
        Path(job.result).write_text(json.dumps({"error": error}), encoding="utf-8")
        sys.stdout.flush()
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Nothing here is to be asked of AWS. Sockets of this machine (a path) may be used."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if isinstance(address, tuple):
            raise RuntimeError(f"the SDK connects to {address[0]}, and a local run does not leave this machine")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"the SDK looks up the host {arguments[0]}, and a local run does not leave this machine")


def _clean_up(settings: Settings, running: set[int]) -> None:
    """Remove what a killed runner left running, and the network that the SDK never removes."""
    alive = [pid for pid in running if os.waitpid(pid, os.WNOHANG) == (0, 0)]
    for pid in alive:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    if alive:
        _remove(["rm", "--force", "--volumes"], ["ps", "--all"], settings.containers)
    shutil.rmtree(settings.directory, ignore_errors=True)
    with Path(settings.turn).open("ab") as turn, Path(settings.lock).open("ab") as lock:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(["network", "rm"], ["network", "ls"], settings.network)


def _remove(remove: list[str], find: list[str], label: str) -> None:
    found = _docker(*find, "--quiet", "--filter", f"label={label}").split()
    if found:
        _docker(*remove, *found)


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])))
    os._exit(0)  # the SDK's own tidying up takes longer than a second
