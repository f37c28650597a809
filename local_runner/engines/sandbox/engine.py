"""The sandbox engine: jobs in Linux namespaces of their own, with the processing environment and no Docker.

Starts processes, writes the jobs' logs, and makes and removes one scratch directory for each job. No network.

A host of a job is a process in new user, mount, pid, UTS and IPC namespaces; neither root nor a daemon is
needed. ``view.py`` says what it sees, ``launch.py`` starts and follows it,
``program/init.py`` is its first process. What differs from Docker is in ``DIFFERENCES``; above all, the hosts
of a job share this machine's network, in which algo-1 is 127.0.0.1 and algo-2 127.0.0.2, so that two hosts
that listen on every address cannot use one port. (With network isolation they share a network of their own,
with nothing else in it.) Jobs have no limit on memory: only root, or a user to whom cgroups are delegated, could set
one, and a sandbox that behaves one way for root and another for others would be worse.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from local_runner.engines import GRACE_SECONDS, Grace, OnLine
from local_runner.engines.following import Ending
from local_runner.engines.instances import own_processors, processors_of
from local_runner.engines.sandbox import CAPABILITIES
from local_runner.engines.sandbox.launch import run_launcher
from local_runner.engines.sandbox.view import HostView
from local_runner.errors import EngineError, Problem
from local_runner.models import HostResult, JobResult, ProcessingJob, StagedHost, StagedJob

DIFFERENCES = (
    "Jobs use this machine's system packages and the project's processing environment, not the image.",
    "The image's ENTRYPOINT, ENV, WORKDIR and USER are not applied.",
    "Jobs see this machine's /usr, /etc and /opt (read-only).",
    "The hosts of a job share this machine's network (algo-1 is 127.0.0.1, algo-2 is 127.0.0.2, ...).",
    "Jobs have no limit on memory, and those of root one on processes only where a cgroup can be made.",
)
"""What would be different on Docker, a sentence each."""

_SWITCHES = (
    ("user/max_user_namespaces", "0", "15000"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
)


class SandboxEngine:
    """Runs processing jobs in namespaces. Implements :class:`local_runner.engines.Engine`.

    ``environment`` is the processing venv, whose bin directory comes first on the jobs' PATH. ``hidden`` are
    directories that jobs must not see even if they lie below /usr or /opt (the project; the home directory is hidden
    anyway). ``limits`` lets each host run on as many processors as its instance type has. ``grace`` is how long a job
    that is stopped has.
    """

    name = "sandbox"
    capabilities = CAPABILITIES

    def __init__(
        self, environment: Path, *, hidden: Sequence[Path] = (), limits: bool = True, grace: Grace = GRACE_SECONDS
    ) -> None:
        self._environment = environment
        self._hidden = hidden
        self._limits = limits
        self._turns = itertools.count()
        self.grace = grace

    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        """Jobs without an entrypoint: only Docker has the image's."""
        return [
            Problem(
                where=f"{path}.Arguments.AppSpecification",
                what="has no ContainerEntrypoint, so it needs the image's ENTRYPOINT, which only docker has.",
                remedy="Give the step an entrypoint, or use --engine docker.",
                local=True,
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
        """Run every host of the job to its end, at the same time; see :class:`.Engine`."""
        if not staged.job.entrypoint:  # never the first argument as a command
            text = "the job has no entrypoint, and the sandbox has no image to take one from"
            return JobResult.lost(staged, text)
        here = own_processors() if self._limits else ()
        processors = [processors_of(staged.job.instance_type, here, next(self._turns)) for _ in staged.hosts]
        ending = Ending(staged.job.max_runtime, stop, self.grace)
        return run_launcher(staged, self._view, processors, on_line, ending)

    def close(self) -> None:
        """Nothing is kept between jobs."""

    @cached_property
    def _view(self) -> HostView:
        return HostView(self._environment, self._hidden)


def available(*, network_isolation: bool = False) -> str | None:
    """None where sandboxed jobs (with network isolation) can run on this machine; otherwise why not, and what to do.

    Finds out by running one, which takes about 30 ms.
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
        network_isolation=network_isolation,
        request={},
    )
    host = StagedHost(name="algo-1", inputs=(), binds=(), log=Path(os.devnull))
    with tempfile.TemporaryDirectory() as work:
        staged = StagedJob(job=job, run_id="probe", step="probe", work=Path(work), hosts=(host,))
        result = SandboxEngine(Path("/usr")).run(staged, _ignore_line, threading.Event())
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
