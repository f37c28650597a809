"""The Python that compiles: this one, or another whose environment has the SDK. Starts that one to ask it who it is.

Another is for pipelines that are written for version 2 of the SDK: the two cannot be in one environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_runner.errors import CompileError

_OLDEST = (3, 9)
# Without the directory it is started in, the project's: a json.py there is not to be run outside of the namespaces.
_ASK = (
    "import sys; sys.path = [p for p in sys.path if p]; import json; "
    "print(json.dumps([sys.version, sys.version_info[:2], sys.path, sys.executable]))"
)
_ANSWER_SECONDS = 20


@dataclass(frozen=True)
class Interpreter:
    """A Python: its program, its version as it says it, and where it looks for modules."""

    program: str
    version: str
    path: tuple[str, ...]

    def sdk_versions(self) -> list[str]:
        """The SDK's installed distributions, by directory names: importlib.metadata takes longer."""
        found: set[str] = set()
        for directory in self.path:
            try:
                names = [path.name for path in Path(directory).iterdir()]
            except OSError:
                continue
            found.update(name for name in names if name.startswith("sagemaker") and name.endswith(".dist-info"))
        return sorted(found)

    def has_sdk(self) -> bool:
        """Whether the SDK is there, by its distribution or its package; nothing is imported."""
        return bool(self.sdk_versions()) or any(Path(directory, "sagemaker").is_dir() for directory in self.path)

    def sdk_has_bytecode(self) -> bool:
        """Whether the SDK's modules were compiled to bytecode when it was installed, or since."""
        packages = [Path(directory, "sagemaker") for directory in self.path]
        return any((place / "__pycache__").is_dir() for package in packages for place in (package, package / "core"))


def find_interpreter(python: Path | None, environment: Mapping[str, str]) -> Interpreter:
    """The Python that is meant: None is this one; else a program, the directory of an environment, or a name on PATH.

    Raises CompileError where there is none, or where it is too old to compile.
    """
    if python is None:
        return Interpreter(sys.executable, sys.version, tuple(sys.path))
    program = _program(python)
    if program is None:
        raise CompileError(f"There is no Python at {python}. Give --python a Python program, or an environment of it.")
    try:
        done = subprocess.run(
            [program, "-c", _ASK],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
        )
        version, numbers, path, program = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError):
        raise CompileError(f"{program} does not answer as a Python does. Give --python a Python program.") from None
    if tuple(numbers) < _OLDEST:
        raise CompileError(f"{program} is Python {numbers[0]}.{numbers[1]}, and at least 3.9 is needed to compile.")
    # As it names itself: what a version manager puts on PATH is a script that starts another program.
    return Interpreter(program, version, tuple(path))


def _program(python: Path) -> str | None:
    """The program's absolute path. A link stays a link: an environment is known by where its program lies."""
    if python.is_dir():
        python = python / "bin" / "python"
    if len(python.parts) == 1 and not python.exists():
        return shutil.which(str(python))
    return str(python.absolute()) if python.is_file() and os.access(python, os.X_OK) else None
