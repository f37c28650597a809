"""The way to the Docker engine. Reads the environment and the docker CLI's context; speaks to the engine.

``docker`` here is the docker package, loaded so that it starts quickly: take it from here, do not import it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from local_runner.errors import EngineError

ANSWER_SECONDS = 3.0
"""How long an engine may take to say its version; one that hangs is as good as none."""

_CALL_SECONDS = 60.0
_DEFAULT_ADDRESS = "unix:///var/run/docker.sock"


def _endpoint() -> dict[str, str]:
    """The environment that says where the engine is: DOCKER_HOST, else what the CLI's context stands for."""
    environment = dict(os.environ)
    config = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    if environment.get("DOCKER_HOST"):
        return environment
    name = environment.get("DOCKER_CONTEXT") or _read_json(config / "config.json").get("currentContext")
    if not name or name == "default":
        return environment
    # The docker package reads contexts as well, but whether it needs paramiko depends on the host.
    identity = hashlib.sha256(str(name).encode()).hexdigest()
    endpoint = _read_json(config / "contexts/meta" / identity / "meta.json").get("Endpoints", {}).get("docker", {})
    if not endpoint.get("Host"):
        raise EngineError(
            f"The docker context '{name}' is not in {config}. Choose one with 'docker context use', or set DOCKER_HOST."
        )
    environment["DOCKER_HOST"] = str(endpoint["Host"])
    certificates = config / "contexts/tls" / identity / "docker"
    if certificates.is_dir():
        environment["DOCKER_CERT_PATH"] = str(certificates)
        environment["DOCKER_TLS_VERIFY"] = "" if endpoint.get("SkipTLSVerify") else "1"
    return environment


def engine_address() -> str:
    """Where the docker CLI would look for the engine. EngineError where its context is not there."""
    return _endpoint().get("DOCKER_HOST") or _DEFAULT_ADDRESS


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _load_docker() -> Any:
    # Half of the 0.3 s that the docker package takes to load is paramiko, which only ssh:// hosts need. The
    # package does without it where it cannot be imported.
    try:
        ssh = _endpoint().get("DOCKER_HOST", "").startswith("ssh://")
    except EngineError:
        ssh = False
    hide = not ssh and "paramiko" not in sys.modules
    if hide:
        sys.modules["paramiko"] = None  # pyright: ignore[reportArgumentType]
    try:
        return importlib.import_module("docker")
    finally:
        if hide:
            del sys.modules["paramiko"]


docker: Any = _load_docker()


def connect(answer_seconds: float = ANSWER_SECONDS) -> Any:
    """A ``docker.DockerClient`` of the engine that the docker CLI would use, its API version negotiated.

    Raises EngineError where none answers within ``answer_seconds``; it says where and why not.
    """
    environment = _endpoint()
    host = environment.get("DOCKER_HOST") or _DEFAULT_ADDRESS
    ssh = host.startswith("ssh://")
    try:
        client = docker.from_env(
            version="auto",
            timeout=10 * answer_seconds if ssh else answer_seconds,
            environment=environment,
            use_ssh_client=ssh,
        )
    except (docker.errors.DockerException, OSError, ValueError) as error:
        cause = root_cause(error)
        remedy = "Start Docker, set DOCKER_HOST to an engine, or use --engine sandbox."
        if isinstance(cause, PermissionError):
            remedy = "Add your user to the group that owns the socket (docker), or use --engine sandbox."
        reason = (isinstance(cause, OSError) and cause.strerror) or str(cause)
        raise EngineError(f"No Docker engine answers at {host} ({reason}). {remedy}") from None
    client.api.timeout = _CALL_SECONDS
    return client


def root_cause(error: BaseException) -> BaseException:
    """The exception that started the chain; requests and urllib3 carry theirs as arguments, not as causes."""
    while True:
        inner = [item for item in error.args if isinstance(item, BaseException)]
        deeper = error.__cause__ or (inner[-1] if inner else None) or error.__context__
        if deeper is None:
            return error
        error = deeper
