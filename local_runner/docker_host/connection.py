"""The way to the Docker engine. Speaks to it; where it is, :mod:`local_runner.docker_host.address` reads.

``docker`` here is the docker package, loaded so that it starts quickly: take it from here, do not import it.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from local_runner.docker_host.address import DEFAULT_ADDRESS, endpoint
from local_runner.errors import EngineError

ANSWER_SECONDS = 3.0
"""How long an engine may take to say its version; one that hangs is as good as none."""

_CALL_SECONDS = 60.0


def _load_docker() -> Any:
    # Half of the 0.3 s that the docker package takes to load is paramiko, which only ssh:// hosts need. The
    # package does without it where it cannot be imported.
    try:
        ssh = endpoint().get("DOCKER_HOST", "").startswith("ssh://")
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
    environment = endpoint()
    host = environment.get("DOCKER_HOST") or DEFAULT_ADDRESS
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
