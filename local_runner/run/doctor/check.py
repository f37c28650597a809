"""One answer of the doctor, and what all of its questions share. Starts programs to ask for their versions.

Passwords, tokens and credentials are never part of an answer.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ANSWER_SECONDS = 1.0
"""How long anything that is asked may take to answer. A run is more patient."""

_LITTLE_SPACE = 3 << 30  # bytes; the image, its wheels and the sandbox's packages take about 2 GiB together
_SECRETS = re.compile(r"(?<=://)\S*@|(?<=\S)\?\S*")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    ``state``: it is as it should be (ok), something cannot work without it (gap), or it is not there and nothing is
    missed (none). ``fix`` is the command that brings it, or "".
    """

    name: str
    state: Literal["ok", "gap", "none"]
    detail: str
    fix: str = ""


def without_secrets(text: str) -> str:
    """The text with no user, password or query in its URLs."""
    return _SECRETS.sub("", text)


def disk_space(name: str, directory: Path, fix: str) -> Check:
    """Whether the file system that has the directory, or will have it, has room."""
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / (1 << 30):.1f} GiB free for {directory}"
    return Check(name, "gap", detail, fix) if free < _LITTLE_SPACE else Check(name, "ok", detail)


def first_line_of(*command: str) -> str:
    """The first line that a program prints; "" where it fails or takes too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(done.stdout.splitlines()), "")


def sudo() -> str:
    """What a command for root starts with."""
    return "" if os.geteuid() == 0 else "sudo "


def install(package: str) -> str:
    """The command that installs a Debian package, or what to look for where there is no apt."""
    return f"{sudo()}apt-get install {package}" if shutil.which("apt-get") else f"install {package}"
