"""Where the Docker engine is, found as the docker CLI finds it. Reads the environment and the CLI's context.

Apart from :mod:`local_runner.docker_host.connection` so that a run that needs no engine does not load the docker
package.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from local_runner.errors import EngineError

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"


def endpoint() -> dict[str, str]:
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
    return endpoint().get("DOCKER_HOST") or DEFAULT_ADDRESS


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def listens() -> bool | None:
    """Whether something listens where the engine should be; None where only the docker package could tell."""
    try:
        address = engine_address()
    except EngineError:
        return False
    if not address.startswith("unix://"):
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(address.removeprefix("unix://"))
        except OSError:
            return False
    return True
