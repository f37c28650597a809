"""The Python environment of sandbox jobs: the image's packages, installed on this machine. Runs uv (network),
writes under the state directory's ``cache/venv``.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from local_runner.errors import EngineError, says_no_room
from local_runner.image.source import ImageSource, read_sandbox_source
from local_runner.project import Project
from local_runner.settings import Settings
from local_runner.storage.files import locked
from local_runner.storage.marks import is_marked, mark

_FORMAT = "2"
_UV_INDEX_VARIABLES = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    *("UV_NO_INDEX", "UV_FIND_LINKS", "UV_CONFIG_FILE"),
)


def ensure_environment(project: Project) -> Path:
    """The virtual environment with the packages of requirements.txt; its ``bin/python3`` runs the jobs.

    The environment is made once per content of requirements.txt, state of
    ``wheels`` and Python version; one that was changed since is made anew. Raises EngineError where uv fails.
    """
    settings, progress = project.settings, project.note
    source = read_sandbox_source(settings)
    if source.plain:
        installed = f"the packages of {source.packages}" if source.packages else "no packages"
        progress(
            f"There is no {settings.image.directory}/: the sandbox runs on this Python, {platform.python_version()}, "
            f"with {installed} ('requirements' under [image] in local_runner.toml)."
        )
    directory = environment_directory(source, project.state)
    if is_complete(directory):
        return directory
    waiting = "Waiting for another run that makes the sandbox's Python environment."
    with locked(directory.with_suffix(".lock"), lambda: progress(waiting)) as lock:
        if not is_complete(directory):
            _make(settings, source, directory, progress, lock)
    return directory


def environment_directory(source: ImageSource, state: Path) -> Path:
    """Where the environment of this image is, or will be."""
    # The key has the Python that is asked for, not the one that uv finds: asking uv takes longer than all
    # else here. One that has since been removed shows in the link bin/python3.
    wanted = f"{_FORMAT}\0{source.python_version}\0{sys.version}\0{platform.machine()}\0"
    for wheel in sorted(source.wheels.glob("*.whl")):  # not their bytes, which may be many
        wanted += f"{wheel.name}\0{wheel.stat().st_size}\0{wheel.stat().st_mtime_ns}\0"
    key = hashlib.sha256(wanted.encode() + source.requirements.read_bytes()).hexdigest()[:16]
    return state.resolve() / "cache" / "venv" / key


def is_complete(directory: Path) -> bool:
    """Whether an environment is there and whole."""
    return (directory / "bin/python3").exists() and is_marked(directory)


def _make(settings: Settings, source: ImageSource, directory: Path, progress: Callable[[str], None], lock: int) -> None:
    """Make it. uv holds the lock, too: when this process is killed, uv goes on, and the next run waits for its end."""
    uv = find_uv()
    if not uv:
        raise EngineError(
            "uv, which makes the sandbox's Python environment, is not on PATH. Install it: pip install uv"
        )
    environment = {
        **os.environ,
        **_index_settings(settings.root),
        "UV_SYSTEM_CERTS": "1",
        "UV_NATIVE_TLS": "1",
    }
    environment.pop("VIRTUAL_ENV", None)
    python = _interpreter(uv, source.python_version, environment)
    if python is None:
        running = platform.python_version()
        progress(
            f"Python {source.python_version}, the image's, is not on this machine: the sandbox uses "
            f"{running}, so results may differ from the image's."
        )
    progress("Making the sandbox's Python environment.")
    if directory.exists():
        shutil.rmtree(directory)
    offline = [
        uv,
        "venv",
        "--quiet",
        "--no-python-downloads",
        "--python",
        python or sys.executable,
        str(directory),
    ]
    _run(offline, source, environment, directory, lock)
    # Compiled now: jobs see the environment read-only, so they could never keep what they compile. Copied from uv's own
    # cache: a file that is changed here is not changed there, and so can be made anew.
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--compile-bytecode",
        "--link-mode=copy",
        "--python",
        str(directory / "bin/python3"),
        *([f"--find-links={source.wheels}"] if source.wheels.is_dir() else []),
    ]
    if not source.plain or source.packages:
        _run([*install, "--requirement", str(source.requirements)], source, environment, directory, lock)
    mark(directory)


def find_uv() -> str | None:
    """The uv on PATH, else the one that was installed with this program."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def _interpreter(uv: str, version: str, environment: dict[str, str]) -> str | None:
    """A Python of that version (major.minor) that is on this machine already; None where there is none."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    find = [uv, "python", "find", "--quiet", "--no-python-downloads", "--no-project", version]
    found = subprocess.run(find, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return found.stdout.strip() or None if found.returncode == 0 else None


def _run(command: list[str], source: ImageSource, environment: dict[str, str], directory: Path, lock: int) -> None:
    done = subprocess.run(
        command,
        cwd=source.directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        pass_fds=(lock,),
    )
    if done.returncode:
        output = "\n".join(f"  {line}" for line in done.stderr.strip().splitlines()[-12:])
        if says_no_room(done.stderr):
            raise EngineError(
                f"The sandbox's Python environment cannot be made: a disk is full. uv printed:\n{output}\nFree space "
                f"at {directory.parent}, or keep the state elsewhere: --state DIR."
            )
        raise EngineError(
            f"The packages of {source.requirements} could not be installed for the sandbox; uv printed:"
            f"\n{output}\nCorrect that file, or set the index for uv (UV_DEFAULT_INDEX) or pip "
            "(pip config), then run again."
        )


def _index_settings(root: Path) -> dict[str, str]:
    """pip's index, certificate and wheel directories as uv's variables, where uv has none of its own."""
    if own_index(root):
        return {}
    pip = pip_settings()
    found: dict[str, str] = {}
    for setting, variable, separator in (
        ("index-url", "UV_DEFAULT_INDEX", " "),
        ("extra-index-url", "UV_INDEX", " "),
        ("find-links", "UV_FIND_LINKS", ","),
        ("no-index", "UV_NO_INDEX", " "),
        ("trusted-host", "UV_INSECURE_HOST", " "),
        ("cert", "SSL_CERT_FILE", " "),
        ("client-cert", "SSL_CLIENT_CERT", " "),
    ):
        values = pip.get(setting, "").split()
        if setting == "find-links":  # pip only warns of a directory that is not there; uv stops
            values = [value for value in values if "://" in value or Path(value).exists()]
        if values and not (variable == "SSL_CERT_FILE" and os.environ.get(variable)):
            found[variable] = separator.join(values)
    return found


def own_index(root: Path) -> str:
    """The variable or file that gives uv an index of its own; "" where nothing does."""
    homes = (Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "uv", Path("/etc/uv"), root)
    variable = next((name for name in _UV_INDEX_VARIABLES if os.environ.get(name)), "")
    return variable or next((str(home / "uv.toml") for home in homes if _names_index(home)), "")


def _names_index(directory: Path) -> bool:
    try:
        return "index" in (directory / "uv.toml").read_text(encoding="utf-8")
    except OSError:
        return False


def pip_settings() -> dict[str, str]:
    """``pip config list``, the value that counts for each name: environment over command over file."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    values: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                values[name.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    return values
