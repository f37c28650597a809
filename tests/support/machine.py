"""What the tests need of the machine: engines and programs. Where one is missing, a test skips; under CI it fails.

A test says which programs it starts: ``@pytest.mark.programs("unshare")``, or, in a fixture,
``needs_program("docker")``, which returns where the program is. One that is started and was not declared is an error of
the test, on every machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

from local_runner.errors import EngineError

TESTS = Path(__file__).resolve().parents[1]

PROGRAMS = {
    "docker": "docker.io",
    "docker compose": "docker-compose",
    "docker-registry": "docker-registry",
    "git": "git",
    "mount": "mount",
    "prlimit": "util-linux",
    "setpriv": "util-linux",
    "umount": "mount",
    "unshare": "util-linux",
}
"""The programs that tests start, and the package of Debian and Ubuntu that brings each."""

EVERYWHERE = {"dd", "nohup", "sh"}
"""What POSIX has, which needs no declaration."""


class UndeclaredProgramError(AssertionError):
    """A test starts a program that not every machine has, and does not say so."""


def cannot(reason: str) -> NoReturn:
    """Skip, or fail where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must run every test: {reason}")
    pytest.skip(reason)


def needs_program(name: str) -> str:
    """The path of one of PROGRAMS (of docker compose: that of docker). Skips the test where this machine has it not."""
    package = PROGRAMS[name]
    found = _compose() if name == "docker compose" else shutil.which(name)
    if not found:
        cannot(f"{name} is not on this machine. Debian, Ubuntu: sudo apt-get install {package}")
    return found


@cache
def _compose() -> str | None:
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return docker if shutil.which("docker-compose") else None
    return docker


@cache
def no_docker() -> str | None:
    """Why no Docker engine can be used, if so."""
    from local_runner.docker_host.connection import connect

    try:
        connect().close()
    except EngineError as error:
        return error.message
    return None


@cache
def no_sandbox() -> str | None:
    """Why there is no sandbox, if so."""
    from local_runner.engines.sandbox.engine import available

    return available()


# --------------------------------------------------------------------------------------- what a test has declared
_declared: set[str] = set()


def set_up(item: pytest.Item) -> None:
    """Skip a test whose engine or program is missing; note what it has declared."""
    for mark, missing in (("docker", no_docker), ("sandbox", no_sandbox)):
        if item.get_closest_marker(mark) and (reason := missing()):
            cannot(reason)
    takes_any = {"local_run", "local_run_module"} & set(getattr(item, "fixturenames", ()))
    if takes_any and (docker := no_docker()) and (sandbox := no_sandbox()):
        cannot(f"No engine. {docker} {sandbox}")
    declared = {name for mark in item.iter_markers("programs") for name in mark.args}
    for name in sorted(declared):
        needs_program(name)
    _declared.clear()
    _declared.update(declared)


def refuse_undeclared(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: refuses a program without a path that a file of these tests starts and that was not declared."""
    if event != "subprocess.Popen":
        return
    program = os.fsdecode(arguments[0])  # type: ignore[arg-type]
    if "/" in program or program in EVERYWHERE | _declared:
        return
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename == subprocess.__file__:
        frame = frame.f_back
    starter = Path(frame.f_code.co_filename)
    if starter.is_relative_to(TESTS):
        raise UndeclaredProgramError(
            f"{starter.name}:{frame.f_lineno} starts {program}, and the test does not say that it needs it: "
            f'@pytest.mark.programs("{program}"), and a line of PROGRAMS in tests/support/machine.py.'
        )
