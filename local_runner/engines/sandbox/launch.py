"""Starts the launcher of a sandboxed job (``program/launcher.py``), follows what the job says, and ends it.

Starts one process for each job, which starts all others. Writes the logs and a scratch directory.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from signal import SIGKILL
from typing import Any, cast

from local_runner.engines import STOPS, OnLine
from local_runner.engines.following import Ending, Followed, follow
from local_runner.engines.host_log import HostLog
from local_runner.engines.sandbox.view import HostView, Specification, hosts_file
from local_runner.models import HostResult, JobResult, StagedHost, StagedJob
from local_runner.storage import job_tree

_PARTS = ("launcher", "init", "filesystem", "kernel", "processes", "seccomp")
_PROGRAM = (*(Path(__file__).parent / "program" / f"{name}.py" for name in _PARTS), Path(job_tree.__file__))


@dataclass
class _Launcher:
    """The process that starts the hosts.

    ``outputs`` maps the descriptors on which the hosts' outputs are read to the hosts; ``report`` is what the
    launcher itself printed so far.
    """

    process: subprocess.Popen[bytes]
    outputs: dict[int, str]
    report: bytearray = field(default_factory=bytearray)

    def send(self, data: bytes) -> None:
        """Send the specification, or the number of a signal."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has just ended by itself
            left = memoryview(data)
            while left:
                left = left[self.process.stdin.write(left) :]

    def followed(self, logs: Mapping[str, HostLog]) -> Followed:
        """The job, whose hosts write to ``logs``."""
        assert self.process.stdout
        outputs: dict[int, Callable[[bytes], object]] = {self.process.stdout.fileno(): self.report.extend}
        outputs |= {output: logs[name].write for output, name in self.outputs.items()}
        stop = bytes([STOPS["Processing"].signal])
        return Followed(outputs, partial(self.send, stop), partial(self.send, bytes([SIGKILL])))


def run_launcher(
    staged: StagedJob, view: HostView, processors: Sequence[Sequence[int]], on_line: OnLine, ending: Ending
) -> JobResult:
    """Run the job to its end; the hosts' own /tmp, /var, ... are made in ``staged.work``.

    ``processors`` are those that each host runs on.
    """
    with contextlib.ExitStack() as stack:
        try:
            logs = {host.name: _open_log(stack, staged, host, on_line) for host in staged.hosts}
            base = stack.enter_context(_scratch_directory("sandbox-", staged.work))
            launcher = stack.enter_context(_launched(view, staged, base, processors))
        except OSError as error:
            return JobResult.lost(staged, f"the sandbox could not start: {error}")
        stopped = follow(launcher.followed(logs), ending)
    return JobResult(hosts=_results(staged, bytes(launcher.report), logs), stopped=stopped)


def _open_log(stack: contextlib.ExitStack, staged: StagedJob, host: StagedHost, on_line: OnLine) -> HostLog:
    log = HostLog(host.log, lambda line: on_line(host.name, line), staged.secrets)
    return stack.enter_context(contextlib.closing(log))


@contextlib.contextmanager
def _scratch_directory(prefix: str, parent: Path) -> Generator[Path]:
    """A directory for the hosts' own files. The launcher removes it, since the runner may be killed."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
    try:
        yield path
    finally:
        job_tree.remove(path)


@contextlib.contextmanager
def _launched(
    view: HostView, staged: StagedJob, base: Path, processors: Sequence[Sequence[int]]
) -> Generator[_Launcher]:
    """The launcher, running the job. Leaving the context kills what is left of the job and waits for that."""
    names = [host.name for host in staged.hosts]
    for name in names:
        (base / name).mkdir()
    (base / "hosts").write_text(hosts_file(names), encoding="ascii")
    pipes = [os.pipe() for _ in names]
    try:
        try:
            launcher = _Launcher(
                start(base, [writer for _, writer in pipes]),
                {reader: name for (reader, _), name in zip(pipes, names, strict=True)},
            )
        finally:
            for _, writer in pipes:
                os.close(writer)
        with launcher.process:
            job = view.job(staged, base, [writer for _, writer in pipes], processors)
            launcher.send(message(job))
            yield launcher
    finally:
        for reader, _ in pipes:
            os.close(reader)


def start(base: Path, descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start the launcher, whose program goes into ``base``. It waits for a :func:`message` on its standard input."""
    for part in _PROGRAM:
        (base / f"{part.stem}.pyc").write_bytes(_compiled(part))
    return subprocess.Popen(
        [os.path.realpath(sys.executable), "-I", "-S", str(base / "launcher.pyc")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        cwd="/",
        env={},  # whatever the runner's environment holds, no job can read it from its init
        pass_fds=descriptors,
        start_new_session=True,  # Ctrl-C is the runner's to handle
    )


def message(job: Specification) -> bytes:
    """The specification as the launcher reads it."""
    content = marshal.dumps(cast(Any, job))  # a TypedDict of what marshal takes
    return len(content).to_bytes(8, "little") + content


@cache
def _compiled(path: Path) -> bytes:
    """A part of the launcher's program as the content of a .pyc file: compiling takes as long as all else it does."""
    # Through the plain loader: under pytest, the module's own would rewrite the assertions in it.
    code = SourceFileLoader(path.stem, str(path)).get_code(path.stem)
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def _results(staged: StagedJob, report: bytes, logs: Mapping[str, HostLog]) -> tuple[HostResult, ...]:
    """What the launcher reported, host by host; whatever else it printed is how it broke down."""
    reported: dict[str, tuple[str, str]] = {}
    rest: list[str] = []
    for line in report.decode("utf-8", "replace").splitlines():
        what, _, value = line.partition(" ")
        number, _, text = value.partition(" ")
        if what in ("exit", "error") and number.isdecimal():
            reported[staged.hosts[int(number)].name] = (what, text)
        else:
            rest.append(line)
    failure = ("error", "\n".join(rest[-5:]) or "its launcher was killed")
    results: list[HostResult] = []
    for host in staged.hosts:
        what, text = reported.get(host.name, failure)
        if what == "exit":
            results.append(HostResult(host.name, int(text), logs[host.name].error))
        else:
            results.append(HostResult(host.name, None, f"the sandbox broke down: {text}"))
    return tuple(results)
