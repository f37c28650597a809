"""The program that holds the SageMaker SDK for the sdk engine: imports it once, then forks a process for each job.

    python -P program.py REQUEST     (a JSON object, see ``Settings``; stdin is a Unix socket)

Over the socket comes, for each job, the path of a JSON file (see ``Job``) with the descriptor that the job's output
goes to; the answer is the process id, which is that of a process group as well. A job's process makes the calls to
``LocalSagemakerClient`` as they are, and writes how that ended to ``Job.result``. When the other end of the socket is
closed, however that came about, what still runs is removed.

Reads and writes the files that a job names; reaches the Docker engine through the SDK, which runs docker and docker
compose. Sockets to other machines are refused. Beside the SDK it needs only the standard library.
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
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

TELEMETRY_OFF = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
READY = b"ready\n"
_MESSAGE_BYTES = 4096
_GRACE_PERIOD = "2s"
_WATCH_SECONDS = 0.2
_LAST_SECONDS = 2.0
_HTTP_OK = 200
_ANSWER_BYTES = 500
_SERVER = "_HostingContainer"
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


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
    """``calls`` are methods with their arguments. ``temporary`` is where the SDK makes its directories.

    ``errors`` takes what it logs, ``instance`` what docker compose says of each container.
    Model servers are reached at ``serving_port``.
    """

    calls: list[tuple[str, dict[str, Any]]]
    labels: dict[str, str]
    instance: dict[str, Any]
    temporary: str
    errors: str
    result: str
    serving_port: int


def main(settings: Settings) -> None:
    """Serve until the other end is closed, then clean up."""
    control = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.path += [entry for entry in settings.path if entry and entry not in sys.path]
    sys.addaudithook(_refuse_network)
    gc.disable()  # collecting costs half of the SDK's import
    try:
        from sagemaker.core.local import image, utils
        from sagemaker.core.local.local_session import LocalSession

        utils.recursive_copy = _copy_objects
        image.custom_extractall_tarfile = _extract_files
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
        # Line by line, so that lines are seen when they are printed.
        sys.stdout = open(1, "w", encoding="utf-8", buffering=1, newline="\n", closefd=False)  # noqa: SIM115
        tempfile.tempdir = os.environ["TMPDIR"] = job.temporary
        container: dict[str, Any] = {**job.instance, "labels": job.labels}
        if any(method == "create_transform_job" for method, _ in job.calls):
            container["stop_grace_period"] = _GRACE_PERIOD  # a server that ignores SIGTERM would get ten seconds
            threading.Thread(target=_watch_server, args=[job], daemon=True).start()
            _check_answers(session.sagemaker_runtime_client)
        session.config = {"local": {"container_config": container, "serving_port": job.serving_port}}
        for method, arguments in job.calls:
            getattr(session.sagemaker_client, method)(**arguments)
        error = ""
    except BaseException as raised:  # whatever it is, it is how the job ended
        error = f"{type(raised).__name__}: {raised}"
    _end(job, error)


def _copy_objects(source: str, destination: str) -> None:
    """Copy what a job left, in place of the SDK's own, which follows the job's links to any file of this machine."""
    from local_runner.storage import job_tree  # on the path by now, and of the standard library only

    if not Path(source).is_dir():
        return
    for path, _, _, state in job_tree.entries(source):
        job_tree.check_key(path)
        if stat.S_ISREG(state.st_mode):
            place = Path(destination, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(job_tree.open_file(source, path), "rb") as file, place.open("wb") as kept:
                shutil.copyfileobj(file, kept)
            place.chmod(stat.S_IMODE(state.st_mode) & 0o777)


def _extract_files(archive: tarfile.TarFile, directory: str) -> None:
    """Unpack a model's archive, in place of the SDK's own, whose filter some versions of Python can be led around.

    A job may have written it. Only regular files are made, each by a path of plain names, in folders made here: no
    link is, so that no name can lead out of the directory.
    """
    for member in archive:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if not member.isreg() or not parts:
            continue
        if ".." in parts:
            raise ValueError(f"the model's archive has a file named {member.name!r}, which leads out of it")
        place = Path(directory, *parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        content = archive.extractfile(member)
        if content is not None:
            with content, place.open("wb") as kept:
                shutil.copyfileobj(content, kept)
            place.chmod(member.mode & 0o755 | 0o600)


def _end(job: Job, error: str) -> NoReturn:
    with contextlib.suppress(OSError):
        Path(job.result).write_text(json.dumps({"error": error}), encoding="utf-8")
        sys.stdout.flush()
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _check_answers(client: Any) -> None:
    """Stock local mode takes the text of an error for the model's answer; the service fails the job."""
    invoke = client.invoke_endpoint

    def invoke_checked(*arguments: Any, **more: Any) -> Any:
        response = invoke(*arguments, **more)
        status = response["ResponseMetadata"]["HTTPStatusCode"]
        if status != _HTTP_OK:
            answer = response["Body"].read(_ANSWER_BYTES).decode(errors="replace").strip()
            raise RuntimeError(f"the model server answered a request with the status {status}: {answer}")
        return response

    client.invoke_endpoint = invoke_checked


def _watch_server(job: Job) -> None:
    """End the job when its model server has ended: stock local mode would go on asking for two minutes.

    The server's docker compose is a thread of the SDK's own; that it ends is as it should be once the SDK stops it.
    """
    server = None
    main = threading.main_thread()
    while server is None or server.is_alive():
        time.sleep(_WATCH_SECONDS)
        server = server or next((one for one in threading.enumerate() if type(one).__name__ == _SERVER), None)
    frame = sys._current_frames().get(main.ident or 0)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_code.co_name == "stop_serving":
            return
        frame = frame.f_back
    time.sleep(_LAST_SECONDS)  # the job may be over: the SDK stopped the server, and this process ends any moment now
    answer = _last_output(server)
    _end(
        job,
        f"RuntimeError: the model server ended before it had answered every request{f' ({answer})' if answer else ''}",
    )


def _last_output(server: Any) -> str:
    """What docker compose printed last of why it ended (a port that is taken, say): the SDK keeps that unread."""
    errors = server.process.stderr
    os.set_blocking(errors.fileno(), False)
    lines = (errors.read() or b"").decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if "ERROR" in line or "Error" in line), "")


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Nothing here is to be asked of AWS. Sockets of this machine (a path, or a model server's) may be used."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in _THIS_MACHINE:
            raise RuntimeError(f"the SDK connects to {address[0]}, and a local run does not leave this machine")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and arguments[0] not in _THIS_MACHINE:
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
