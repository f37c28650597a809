"""The sandbox engine: jobs in Linux namespaces of their own, with the processing environment and no Docker.

Starts processes, writes the jobs' logs, and makes and removes one scratch directory for each job. No network.

A host of a job is a process in new user, mount, pid, UTS and IPC namespaces; neither root nor a daemon is needed.
``sandbox_view.py`` says what it sees, ``sandbox_init.py`` is its first process. What differs from Docker is in
``DIFFERENCES``; above all, the hosts of a job share this machine's network, in which algo-1 is 127.0.0.1 and algo-2
127.0.0.2, so that two hosts that listen on every address cannot use one port.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.abc import InspectLoader
from importlib.util import MAGIC_NUMBER, find_spec
from pathlib import Path
from typing import Literal

from local_runner.engines import OnLine
from local_runner.engines.sandbox_log import HostLog
from local_runner.engines.sandbox_view import HostView, hosts_file
from local_runner.errors import EngineError, Problem
from local_runner.models import HostResult, JobResult, ProcessingJob, StagedHost, StagedJob

DIFFERENCES = (
    "Jobs use this machine's system packages and the project's processing environment, not the image; the image's "
    "ENTRYPOINT, ENV, WORKDIR and USER are not applied.",
    "Jobs see this machine's /usr, /etc and /opt, read-only, and its time zone; its other files are not there.",
    "The hosts of a job share this machine's network (algo-1 is 127.0.0.1, algo-2 is 127.0.0.2, ...).",
    "Jobs have no limits on memory or processors.",
)
"""What would be different on Docker, a sentence each."""

_POLL_SECONDS = 0.1
_SWITCHES = (
    ("user/max_user_namespaces", "0", "15000"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
)


class SandboxEngine:
    """Runs processing jobs in namespaces. Implements :class:`local_runner.engines.Engine`.

    ``environment`` is the processing venv, whose bin directory comes first on the jobs' PATH. ``scratch`` is where the
    root directories of running jobs are made (default: the system's temporary directory), ``hidden`` are directories
    that jobs must not see even if they lie below /usr or /opt (the project), ``grace`` the seconds between SIGTERM
    and SIGKILL.
    """

    name = "sandbox"

    def __init__(
        self, environment: Path | None, *, scratch: Path | None = None, hidden: Sequence[Path] = (), grace: float = 10.0
    ) -> None:
        self._environment = environment
        self._scratch = scratch
        self._hidden = (Path.home(), *hidden)
        self._grace = grace

    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        """Jobs without an entrypoint: only Docker has the image's."""
        return [
            Problem(
                where=f"{path}.Arguments.AppSpecification",
                what="has no ContainerEntrypoint, so it needs the image's ENTRYPOINT, which only docker has.",
                remedy="Give the step an entrypoint, or use --engine docker.",
            )
            for path, job in jobs
            if not job.entrypoint
        ]

    def prepare(self, jobs: Iterable[ProcessingJob]) -> None:
        """Check that the processing environment is there. Raises EngineError."""
        program = self._environment / "bin" / "python"
        if not program.exists():
            raise EngineError(
                f"The sandbox needs the processing environment {self._environment}, which has no bin/python. "
                "Make it from the requirements of the processing image, or use --engine docker."
            )

    def run(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        """Run every host of the job to its end, at the same time; see :class:`local_runner.engines.Engine`."""
        try:
            with contextlib.ExitStack() as stack:
                logs = {host.name: _open_log(stack, host, on_line) for host in staged.hosts}
                base = stack.enter_context(_scratch_directory(f"sandbox-{staged.run_id}-", self._scratch))
                launcher = stack.enter_context(_launched(self._view, staged, base))
                stopped = _follow(launcher, logs, _Ending(staged.job.max_runtime, self._grace, stop))
        except OSError as error:
            text = f"the sandbox could not start: {error}"
            return JobResult(hosts=tuple(HostResult(host.name, None, text) for host in staged.hosts))
        return JobResult(hosts=_results(staged, launcher.report, logs), stopped=stopped)

    def close(self) -> None:
        """Nothing is kept between jobs."""

    @cached_property
    def _view(self) -> HostView:
        return HostView(self._environment, self._hidden)


def available() -> str | None:
    """None where sandboxed jobs can run on this machine; otherwise why not and what to do, in a sentence or two.

    Finds out by running one: about as long as a job takes.
    """
    if sys.platform != "linux":
        return "The sandbox needs Linux. Install Docker, or run inside a Linux virtual machine."
    job = ProcessingJob(
        name="probe",
        image_uri="",
        entrypoint=("true",),
        arguments=None,
        environment={},
        inputs=(),
        outputs=(),
        instance_count=1,
        instance_type="",
        max_runtime=10,
        network_isolation=False,
        request={},
    )
    host = StagedHost(name="algo-1", inputs=(), binds=(), log=Path(os.devnull))
    result = SandboxEngine(None).run(StagedJob(job, "probe", "probe", (host,)), _ignore_line, threading.Event())
    return None if result.succeeded else _advice(result.hosts[0])


def _ignore_line(host: str, line: str) -> None:
    """Whoever asks whether jobs can run does not follow what the probe says."""


def _advice(result: HostResult) -> str:
    reason = result.error or f"a probe ended with exit code {result.exit_code}"
    for name, closed, remedy in _SWITCHES:
        with contextlib.suppress(OSError):
            if Path("/proc/sys", name).read_text(encoding="ascii").strip() == closed:
                setting = name.replace("/", ".")
                return f"User namespaces are switched off here ({reason}). As root: sysctl -w {setting}={remedy}"
    return (
        f"This machine does not let processes make namespaces ({reason}). "
        "Inside a container, start that container with --privileged, or use Docker."
    )


# ----------------------------------------------------------------------------------------------- one running job
@dataclass
class _Launcher:
    """The process that starts the hosts. ``outputs`` are the hosts' outputs by file descriptor, ``report`` its own."""

    process: subprocess.Popen[bytes]
    outputs: dict[int, str]
    report: bytearray = field(default_factory=bytearray)

    def command(self, command: bytes) -> None:
        """Send ``T`` (SIGTERM to the jobs) or ``K`` (kill everything)."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has just ended by itself
            self.process.stdin.write(command)


@dataclass(frozen=True)
class _Ending:
    """When a job is ended from outside: ``max_runtime`` and ``grace`` in seconds, ``stop`` the caller's event."""

    max_runtime: float
    grace: float
    stop: threading.Event


def _open_log(stack: contextlib.ExitStack, host: StagedHost, on_line: OnLine) -> HostLog:
    return stack.enter_context(contextlib.closing(HostLog(host.log, lambda line: on_line(host.name, line))))


@contextlib.contextmanager
def _scratch_directory(prefix: str, parent: Path | None) -> Iterator[Path]:
    """A directory for the roots of a job's hosts. The launcher removes it, even after the runner's death; or else we."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _launched(view: HostView, staged: StagedJob, base: Path) -> Iterator[_Launcher]:
    """The launcher, running the job. Leaving the context kills what is left of the job and waits for that."""
    names = [host.name for host in staged.hosts]
    for name in names:
        (base / name).mkdir()
    (base / "hosts").write_text(hosts_file(names), encoding="ascii")
    program = base / "launcher.pyc"
    program.write_bytes(_launcher_program())
    pipes = [os.pipe() for _ in names]
    try:
        try:
            launcher = _Launcher(
                subprocess.Popen(
                    [os.path.realpath(sys.executable), "-I", "-S", str(program)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    bufsize=0,
                    cwd="/",
                    env={},  # whatever the runner's environment holds, no job can read it from its init
                    pass_fds=[writer for _, writer in pipes],
                    start_new_session=True,  # Ctrl-C is the runner's to handle
                ),
                {reader: name for (reader, _), name in zip(pipes, names, strict=True)},
            )
        finally:
            for _, writer in pipes:
                os.close(writer)
        with launcher.process:
            specification = marshal.dumps(view.job(staged, base, [writer for _, writer in pipes]))
            launcher.command(len(specification).to_bytes(8, "little") + specification)
            yield launcher
    finally:
        for reader, _ in pipes:
            os.close(reader)


@cache
def _launcher_program() -> bytes:
    """sandbox_init.py compiled, in the format of a .pyc file: compiling takes longer than all else the launcher does."""
    name = "local_runner.engines.sandbox_init"
    spec = find_spec(name)
    assert spec
    assert isinstance(spec.loader, InspectLoader)
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(spec.loader.get_code(name))


def _follow(
    launcher: _Launcher, logs: Mapping[str, HostLog], ending: _Ending
) -> Literal["", "interrupted", "max_runtime"]:
    """Pass on what the job says until it has ended; end it when it is to stop, and return why it was."""
    stopped: Literal["", "interrupted", "max_runtime"] = ""
    deadline = time.monotonic() + ending.max_runtime
    assert launcher.process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(launcher.process.stdout.fileno(), selectors.EVENT_READ, launcher.report.extend)
        for output, name in launcher.outputs.items():
            selector.register(output, selectors.EVENT_READ, logs[name].write)
        while selector.get_map():
            for key, _ in selector.select(_POLL_SECONDS):
                data = os.read(key.fd, 1 << 16)
                key.data(data)
                if not data:
                    selector.unregister(key.fd)
            now = time.monotonic()
            if now >= deadline and stopped:
                launcher.command(b"K")
                deadline = float("inf")
            elif not stopped and (ending.stop.is_set() or now >= deadline):
                stopped = "interrupted" if ending.stop.is_set() else "max_runtime"
                launcher.command(b"T")
                deadline = now + ending.grace
    return stopped


def _results(staged: StagedJob, report: bytes, logs: Mapping[str, HostLog]) -> tuple[HostResult, ...]:
    """What the launcher reported, host by host; whatever else it printed is how it broke down."""
    told: dict[str, tuple[str, str]] = {}
    rest: list[str] = []
    for line in report.decode("utf-8", "replace").splitlines():
        what, _, value = line.partition(" ")
        number, _, text = value.partition(" ")
        if what in ("exit", "error") and number.isdecimal():
            told[staged.hosts[int(number)].name] = (what, text)
        else:
            rest.append(line)
    lost = ("error", "\n".join(rest[-5:]) or "its launcher was killed")
    results: list[HostResult] = []
    for host in staged.hosts:
        what, text = told.get(host.name, lost)
        if what == "exit":
            results.append(HostResult(host.name, int(text), logs[host.name].error))
        else:
            results.append(HostResult(host.name, None, f"the sandbox broke down: {text}"))
    return tuple(results)
