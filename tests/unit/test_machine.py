"""What a test does where a program is missing, and that none is started which the test did not declare."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.machine import PROGRAMS, UndeclaredProgramError
from support.project import PROJECT

ESSENTIAL = {"mount", "util-linux"}
"""Packages that every installation of Debian and Ubuntu has."""


@pytest.mark.programs("unshare")
def test_a_declared_program_is_started() -> None:
    assert subprocess.run(["unshare", "--version"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("program", sorted(name for name in PROGRAMS if " " not in name))
def test_an_undeclared_program_is_refused_whether_it_is_here_or_not(program: str) -> None:
    with pytest.raises(UndeclaredProgramError, match=rf"test_machine.py:\d+ starts {program}, and the test"):
        subprocess.run([program, "--version"], capture_output=True, check=False)


def test_what_posix_has_and_what_has_a_path_needs_no_declaration() -> None:
    for command in (["sh", "-c", "exit 3"], [sys.executable, "-c", "raise SystemExit(3)"]):
        assert subprocess.run(command, check=False).returncode == 3


@pytest.mark.slow
@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_where_a_program_is_missing(ci: str, outcome: str, tmp_path: Path) -> None:
    """The tests of this file again, on a PATH with nothing on it."""
    test = f"{Path(__file__).name}::{test_a_declared_program_is_started.__name__}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rsE", "-n0", "-p", "no:cacheprovider", test],
        cwd=Path(__file__).parent,
        env={**os.environ, "PATH": str(tmp_path), "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout.splitlines()[-1], done.stdout
    assert "unshare is not on this machine. Debian, Ubuntu: sudo apt-get install util-linux" in done.stdout


def test_ci_installs_every_program() -> None:
    ci = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
    installed = {word for line in re.findall(r"\bneed ([a-z].+)$", ci, re.MULTILINE) for word in line.split()[1:]}
    assert set(PROGRAMS.values()) - ESSENTIAL - installed == set()
