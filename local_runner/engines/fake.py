"""An engine without processes, for tests and benchmarks: each step is a Python function over the staged directories.

    engine = FakeEngine({"Fit": lambda host: host.write("model", "m.txt", "weights")})

A function may return an exit code (None is 0), or raise Breakdown where the engine itself is to fail. Steps without
one succeed and leave their outputs empty.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from local_runner.engines import Capabilities, OnLine
from local_runner.engines.host_log import HostLog
from local_runner.errors import Problem
from local_runner.models import HostResult, JobResult, ProcessingJob, StagedHost, StagedJob


class Breakdown(Exception):  # noqa: N818 (no error of a caller's: an event to play)
    """The engine loses the host; the message says how."""


@dataclass(frozen=True)
class FakeHost:
    """What a function sees of its host: names instead of mounts, as there is no /opt/ml."""

    staged: StagedJob
    host: StagedHost
    print: Callable[[str], None]
    stop: threading.Event

    def input(self, name: str) -> tuple[Path, ...]:
        """The layers of an input."""
        path = next(item.local_path for item in self.staged.job.inputs if item.name == name)
        return next(mount.layers for mount in self.host.inputs if mount.local_path == path)

    def write(self, output: str, file: str, text: str) -> None:
        """Write a file into an output."""
        path = next(item.local_path for item in self.staged.job.outputs if item.name == output)
        self.write_at(path, file, text)

    def write_at(self, local_path: str, file: str, text: str) -> None:
        """Write a file below a mounted LocalPath, such as ``/opt/ml/output``."""
        place = next(bind.source for bind in self.host.binds if bind.local_path == local_path) / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


@dataclass
class FakeEngine:
    """Runs ``steps[name](host)`` for each host of a job, in turn; ``ran`` lists the steps in order of their start.

    ``images`` says what is in an image, by URI; what is not there has its URI for content.
    """

    steps: Mapping[str, Callable[[FakeHost], int | None]] = field(
        default_factory=dict[str, Callable[[FakeHost], int | None]]
    )
    name: str = "fake"
    capabilities: Capabilities = field(default_factory=Capabilities)
    ran: list[str] = field(default_factory=list[str])
    images: Mapping[str, str] = field(default_factory=dict[str, str])

    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        """None."""
        return []

    def prepare(self, jobs: Iterable[ProcessingJob]) -> None:
        """Nothing to make ready."""

    def image_id(self, uri: str) -> str | None:
        """What ``images`` says."""
        return self.images.get(uri, uri)

    def run(self, staged: StagedJob, on_line: OnLine, stop: threading.Event) -> JobResult:
        """Call the step's function once per host."""
        self.ran.append(staged.step)
        results: list[HostResult] = []
        for host in staged.hosts:
            hear = partial(on_line, host.name)
            with closing(HostLog(host.log, hear, staged.secrets)) as log:
                function = self.steps.get(staged.step, lambda _: 0)
                try:
                    code = function(FakeHost(staged, host, lambda text: log.write(f"{text}\n".encode()), stop))
                    results.append(HostResult(host.name, code or 0))
                except Breakdown as breakdown:
                    results.append(HostResult(host.name, None, str(breakdown)))
        return JobResult(tuple(results), "interrupted" if stop.is_set() else "")

    def close(self) -> None:
        """Nothing is kept."""
