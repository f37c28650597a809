"""The command line: the real program as a process of its own or in this one, and a state directory for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from local_runner.cli.local import cli
from support.project import PROJECT

PROGRAM = (sys.executable, "-m", "local_runner")

Finished = subprocess.CompletedProcess[str]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with changes; ``python -m local_runner`` finds the package from anywhere."""
    return {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1", **changes}


def local_runner(
    *arguments: str | Path,
    cwd: Path = PROJECT,
    changes: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Finished:
    """Run the command line to its end. ``changes`` are to the environment, ``prefix`` a command to run it with."""
    done = subprocess.run(
        [*prefix, *PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=environment(**(changes or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert not re.search("^Traceback", done.stderr, re.MULTILINE), (
        done.stderr
    )  # a job's own comes after its host's name
    assert "a defect" not in done.stderr, done.stderr
    return done


def in_process(*arguments: str | Path, cwd: Path = PROJECT, changes: Mapping[str, str] | None = None) -> Finished:
    """What ``local_runner`` comes to, in this process: for the many cases of what a command says and refuses.

    That the program as a whole does so is tried once for each command, with ``local_runner``.
    """
    with chdir(cwd):
        done = CliRunner().invoke(cli, [*map(str, arguments)], prog_name="local-runner", env=changes)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


class Running:
    """The command line as a process that goes on while the test does something to it; its output goes to a file."""

    def __init__(self, directory: Path, *arguments: str | Path, changes: Mapping[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.out, self.err = directory / "stdout", directory / "stderr"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*PROGRAM, *map(str, arguments)],
                cwd=PROJECT,
                env=environment(**(changes or {})),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until the program has said ``text``."""
        self._wait(lambda: text in self.said, seconds, f"it did not say {text!r}")

    def end(self, seconds: float = 60) -> int:
        """Until the program has ended; its exit code."""
        return self.process.wait(seconds)

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self.out.read_text() + self.err.read_text()

    @property
    def record(self) -> dict[str, Any]:
        """The object that --json printed."""
        return json.loads(self.out.read_text())

    def _wait(self, condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"{otherwise}:\n{self.said}"
            assert self.process.poll() is None, f"it ended before {otherwise}:\n{self.said}"
            time.sleep(0.05)
