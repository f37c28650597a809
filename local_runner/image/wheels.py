"""The wheels of the image's packages, fetched on this machine. Runs pip (network), writes under the cache.

pip runs on the host so that its settings are the host's: indexes, proxies, certificates. The image is then
built without network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from local_runner.errors import EngineError, says_no_room
from local_runner.image.source import ImageSource
from local_runner.storage.marks import is_marked, mark

_FORMAT = "1"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# The C library of Debian bookworm is 2.36. pip prefers the platforms given first: the most portable ones.
_GLIBC_MINORS = range(17, 37)
_TEMPORARY = ".tmp-"


@contextmanager
def fetching(
    source: ImageSource, architecture: str, cache: Path, progress: Callable[[str], None]
) -> Generator[Callable[[], Path]]:
    """Fetch what requirements.txt names, in the background; yields a function that waits for the directory.

    ``architecture`` is the engine's (amd64, arm64). A directory under ``cache`` is whole or not there. The
    caller holds a lock: only one process may do this. The function raises EngineError, with what is missing.
    """
    requirements = source.requirements.read_bytes()
    machine = _MACHINES.get(architecture, architecture)
    key = hashlib.sha256(b"\0".join([_FORMAT.encode(), source.python_version.encode(), machine.encode(), requirements]))
    finished = cache / key.hexdigest()[:16]
    count = sum(bool(re.match(r"\s*[A-Za-z0-9]", line)) for line in requirements.decode(errors="replace").splitlines())
    if is_marked(finished):
        yield lambda: finished
        return
    cache.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(finished, ignore_errors=True)
    for abandoned in cache.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    if not count:
        finished.mkdir()
        mark(finished)
        yield lambda: finished
        return
    progress(f"Fetching wheels for {count} package{'' if count == 1 else 's'}.")
    temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=cache))
    wheels, log = temporary / "wheels", temporary / "pip.log"
    with log.open("wb") as output:
        pip = subprocess.Popen(
            _command(source, machine, wheels),
            cwd=source.directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def wait() -> Path:
        if pip.wait():
            raise EngineError(_failure(source, machine, log.read_text(errors="replace")))
        wheels.mkdir(exist_ok=True)
        wheels.replace(finished)
        mark(finished)
        return finished

    try:
        yield wait
    finally:
        if pip.poll() is None:
            pip.terminate()
            pip.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def _command(source: ImageSource, machine: str, destination: Path) -> list[str]:
    platforms = [f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS)]
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--only-binary=:all:", "--implementation=cp", f"--python-version={source.python_version}"),
        *(f"--platform={platform}" for platform in platforms),
        *([f"--find-links={source.wheels}"] if source.wheels.is_dir() else []),
        *(f"--dest={destination}", f"--requirement={source.requirements}"),
    ]


def _failure(source: ImageSource, machine: str, output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    missing = re.findall(r"No matching distribution found for (.+)", output)
    shown = "\n".join(f"  {line}" for line in lines[-6:])
    if says_no_room(output):
        return f"The packages of {source.requirements} cannot be fetched: a disk is full.\n{shown}\nFree space there."
    if "No module named pip" in output:
        return f"{sys.executable} has no pip, which fetches the image's packages. Install it: uv pip install pip"
    if "onnection" in output or "SSLError" in output or "ProxyError" in output:
        return (
            f"The packages of {source.requirements} cannot be fetched: the package index does not answer.\n"
            f"{shown}\nSet the index, proxy or certificate for pip on this machine (pip config, "
            "PIP_* variables), then run again."
        )
    if missing:
        name = missing[0].strip()
        return (
            f"{source.requirements}: there is no wheel of {name} for Python {source.python_version} on Linux "
            f"{machine}.\n{shown}\nChoose a version that has one, or put a wheel that you built into "
            f"{source.wheels}."
        )
    return f"pip could not fetch the packages of {source.requirements}:\n{shown}"
