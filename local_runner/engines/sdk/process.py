"""The process that holds the SageMaker SDK, from outside: starts it, asks it to run jobs, ends it.

Starts ``program.py``, once for each engine: importing the SDK takes 2 s and 300 MB. Writes a directory below the
system's temporary one, which is where the SDK puts data for containers as well (it refuses any below /root or /etc, and
docker compose cannot mount a path with a colon): links lead from there to where the data is.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from local_runner.engines.sdk.program import READY, Settings
from local_runner.errors import EngineError

LABEL = "local-runner.sdk"
"""On containers: the process that they belong to; on the network: that it is this project's to remove."""

_PREFIX = "local-runner-sdk-"
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")
_CLOSE_SECONDS = 10.0


class SdkProcess:
    """One running ``program.py``. ``directory`` is its own.

    ``begin`` is called while no other can start or end, with whether there is no other now. Each holds a shared lock
    for as long as it lives, and whoever starts or ends holds another one, alone, for that moment. Each holds a lock on
    its directory as well: those of killed runners are removed, also while other runners live.
    """

    def __init__(self, region: str, begin: Callable[[bool], None]) -> None:
        base = Path(tempfile.gettempdir())
        lock, turn = (base / f"{_PREFIX}{os.getuid()}.{kind}" for kind in ("lock", "turn"))
        self._lock = lock.open("ab")
        with turn.open("ab") as in_turn:
            fcntl.flock(in_turn, fcntl.LOCK_EX)
            for left in base.glob(f"{_PREFIX}*/"):
                _remove_ownerless(left)
            begin(_is_alone(self._lock))
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            self._owned = os.open(self.directory, os.O_RDONLY)
            fcntl.flock(self._owned, fcntl.LOCK_EX)
        self.label = {LABEL: self.directory.name}
        self._asking = threading.Lock()
        self._ready = False
        self._control, theirs = socket.socketpair()
        settings = Settings(
            f"{LABEL}={self.directory.name}", LABEL, str(lock), str(turn), str(self.directory), sys.path
        )
        with theirs, self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("program.py")), json.dumps(vars(settings))],
                cwd=self.directory,
                env=_environment(self.directory, region),
                stdin=theirs.fileno(),
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is this process's to act on
            )

    @property
    def errors(self) -> Path:
        """What the process says itself."""
        return self.directory / "errors.log"

    def wait_ready(self) -> None:
        """Wait until the SDK is imported, about 2 s after the start. Raises EngineError where it cannot be."""
        if self._ready:
            return
        printed = self._answer()
        self._ready = printed == READY
        if not self._ready:
            raise EngineError(
                f"The SageMaker Python SDK's local mode cannot be loaded by {sys.executable}:"
                f" {printed.decode().strip()}\n"
                "Install it there: make setup, or pip install 'local-runner[compile]'."
            )

    def start(self, job: Path) -> tuple[int, int]:
        """Run a job (the path of its JSON file); its process id, and a descriptor that its output is read from.

        Raises OSError where the process is gone.
        """
        output, theirs = os.pipe()
        try:
            with self._asking:
                socket.send_fds(self._control, [os.fsencode(job)], [theirs])
                answer = self._answer()
            return int(answer), output
        except (OSError, ValueError):
            os.close(output)
            raise OSError(None, "the process that holds the SageMaker SDK has ended", str(self.errors)) from None
        finally:
            os.close(theirs)

    def close(self) -> None:
        """End the process, which removes what it left behind."""
        self._lock.close()  # first: it removes the network only if nobody holds the lock
        self._control.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._owned)

    def _answer(self) -> bytes:
        """One line."""
        answer = b""
        while not answer.endswith(b"\n"):
            data = self._control.recv(1)
            if not data:
                return answer or self.errors.read_bytes()[-2000:] or b"it ended without a message"
            answer += data
        return answer


def _remove_ownerless(directory: Path) -> None:
    """Remove the directory of a process whose runner is dead: nobody holds its lock. Another user's is left alone."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def _is_alone(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _environment(directory: Path, region: str) -> dict[str, str]:
    """Nothing of AWS, nothing of the user's configuration for the SDK, and no proxies: stock local mode hands on
    credentials that it finds, and docker those proxies."""
    home, config = directory / "home", directory / "docker"
    home.mkdir()
    config.mkdir()
    own = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    for name in ("contexts", "cli-plugins"):
        if (own / name).exists():
            (config / name).symlink_to(own / name)
    (config / "config.json").write_text(json.dumps(_docker_settings(own)), encoding="utf-8")
    passed = {name: value for name in _PASSED_ON if (value := os.environ.get(name))}
    docker = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
    return {
        **passed,
        **docker,
        "HOME": str(home),
        "TMPDIR": str(directory),
        "DOCKER_CONFIG": str(config),
        "PYTHONUTF8": "1",
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": os.devnull,
        "SAGEMAKER_USER_CONFIG_OVERRIDE": os.devnull,
    }


def _docker_settings(own: Path) -> dict[str, Any]:
    """What of the docker CLI's settings says where the engine and compose are."""
    try:
        settings: dict[str, Any] = json.loads((own / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in settings.items() if name in ("currentContext", "cliPluginsExtraDirs")}
