"""Hot workers: containers that stay up, one for each image, environment and instance type. Talks to the engine.

A worker's directory ``<state>/hot/<key>`` has its socket and its log. Whoever connects to the socket has found a worker
that lives; nothing else needs to be asked. The engine removes the container when its server ends, which it does by
itself (``program/server.py``), so a runner that is killed leaves nothing for good.

It has CAP_SYS_ADMIN, to make mounts, and gives it up before a job's code begins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from local_runner.engines.docker.limits import of_container
from local_runner.engines.docker.sweep import LABEL_HOT
from local_runner.engines.hot.call import NotRunHotError, ask
from local_runner.engines.instances import Limits
from local_runner.storage import job_tree
from local_runner.storage.files import locked

IDLE_SECONDS = 600.0
"""How long a worker stays up with nothing to do."""

OWN = "/.local-runner"
PROGRAM = Path(__file__).with_name("program")
_SECCOMP = Path(__file__).parents[1] / "sandbox" / "program" / "seccomp.py"
_PARTS = (*sorted(PROGRAM.glob("*.py")), _SECCOMP, Path(job_tree.__file__))
_MOST_WORKERS = 4
_START_SECONDS = 30.0


@dataclass(frozen=True)
class WorkerKind:
    """What jobs have to share to be run by one worker.

    ``roots`` are the directories that hold what jobs read, the state directory, which is written to, first. ``limits``,
    ``processors`` (those it runs on; none is all) and ``most_processes`` are the container's, and so of all jobs that
    it runs at a time together.
    """

    image: str
    program: str
    environment: tuple[tuple[str, str], ...]
    roots: tuple[Path, ...]
    limits: Limits
    processors: tuple[int, ...]
    most_processes: int

    @property
    def key(self) -> str:
        limits = of_container(self.limits, self.processors, self.most_processes)
        parts = [self.image, self.program, self.environment, [*map(str, self.roots)], limits, _program_version()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def state(self) -> Path:
        return self.roots[0]

    @property
    def directory(self) -> Path:
        return self.state / "hot" / self.key

    def inside(self, path: Path) -> str | None:
        """Where the worker sees a path of this machine; None where it does not."""
        real = Path(os.path.realpath(path))
        for number, root in enumerate(self.roots):
            if real.is_relative_to(os.path.realpath(root)):
                return os.path.normpath(f"{OWN}/{number}/{real.relative_to(os.path.realpath(root))}")
        return None


@cache
def _program_version() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in _PARTS)).hexdigest()


def ensure_worker(api: Any, kind: WorkerKind, preload: Sequence[str] = ()) -> None:
    """See to it that a worker of that kind is up and has loaded ``preload``. Raises NotRunHotError."""
    if _is_up(kind.directory, preload):
        return
    kind.directory.mkdir(parents=True, exist_ok=True)
    with locked(kind.directory / "lock", lambda: None):
        if _is_up(kind.directory, preload):
            return
        _make_room(kind.state)
        _start(api, kind)
        until = time.monotonic() + _START_SECONDS
        while not _is_up(kind.directory, preload):
            if time.monotonic() > until or not _runs(api, kind):
                raise NotRunHotError(f"its hot worker did not start{_last_output(kind.directory)}")
            time.sleep(0.01)


def _is_up(directory: Path, preload: Sequence[str]) -> bool:
    try:
        return bool(ask(directory, {"preload": list(preload)}))
    except (OSError, ValueError):
        return False


def _start(api: Any, kind: WorkerKind) -> None:
    from docker.errors import DockerException
    from docker.types import Mount

    with contextlib.suppress(FileNotFoundError):
        (kind.directory / "socket").unlink()
    labels = {LABEL_HOT: str(kind.state)}
    mounts = [Mount(f"{OWN}/{number}", str(root), type="bind", read_only=bool(number))
              for number, root in enumerate(kind.roots)]  # fmt: skip
    mounts += [Mount(f"{OWN}/program/{path.name}", str(path), type="bind", read_only=True) for path in _PARTS]
    mounts += [Mount(f"{OWN}/scratch", None, type="volume", labels=labels)]  # removed with the container
    config = api.create_host_config(
        mounts=mounts,
        auto_remove=True,
        cap_add=["SYS_ADMIN"],
        security_opt=["apparmor=unconfined"],
        log_config={"Type": "none"},
        **of_container(kind.limits, kind.processors, kind.most_processes),
    )
    name = _container(kind)
    try:
        with contextlib.suppress(DockerException):
            api.remove_container(name, force=True, v=True)  # one that no longer answers
        created = api.create_container(
            kind.image,
            entrypoint=[kind.program, f"{OWN}/program/server.py"],
            command=[f"{OWN}/0/hot/{kind.key}", str(IDLE_SECONDS)],
            environment=dict(kind.environment),
            hostname="algo-1",
            name=name,
            labels=labels,
            host_config=config,
            use_config_proxy=False,
        )
        api.start(created["Id"])
    except DockerException as error:
        with contextlib.suppress(DockerException):
            api.remove_container(name, force=True, v=True)
        reason = str(getattr(error, "explanation", None) or error).strip().splitlines()[0]
        raise NotRunHotError(f"its hot worker could not be started ({reason})") from None


def _container(kind: WorkerKind) -> str:
    where = hashlib.sha256(str(kind.state).encode()).hexdigest()[:8]
    return f"local-runner-hot-{where}-{kind.key}"


def _runs(api: Any, kind: WorkerKind) -> bool:
    from docker.errors import DockerException

    try:
        return bool(api.inspect_container(_container(kind))["State"]["Running"])
    except DockerException:
        return False


def _last_output(directory: Path) -> str:
    """The last line of the server's own output, as an appendix."""
    try:
        lines = (directory / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return f" ({lines[-1]})" if lines else ""


def kill_worker(api: Any, kind: WorkerKind) -> None:
    """End a worker that no longer answers."""
    from docker.errors import DockerException

    with contextlib.suppress(DockerException):
        api.remove_container(_container(kind), force=True, v=True)


def end_when_idle(kind: WorkerKind) -> None:
    """End a worker as soon as it runs no job, that of another runner among them."""
    _quit(kind.directory, {"quit": True})
    shutil.rmtree(kind.directory, ignore_errors=True)


def _make_room(state: Path) -> None:
    """Let the workers that were started first end, where there are as many as there may be; forget dead ones."""
    found = sorted((state / "hot").iterdir(), key=lambda path: path.stat().st_mtime)
    up = [directory for directory in found if (directory / "socket").exists()]
    for directory in up[: max(0, len(up) - _MOST_WORKERS + 1)]:
        _quit(directory, {"quit": True})


def end_workers(state: Path) -> int:
    """End every worker of a state directory, with what it runs, and return how many there were."""
    directories = list((state / "hot").iterdir()) if (state / "hot").is_dir() else []
    ended = [_quit(directory, {"quit": True, "now": True}) for directory in directories]
    shutil.rmtree(state / "hot", ignore_errors=True)
    return sum(ended)


def _quit(directory: Path, request: Mapping[str, Any]) -> bool:
    try:
        return bool(ask(directory, request))
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            (directory / "socket").unlink()  # of one that was killed
        return False
