"""What can go wrong with a call to the Docker engine, and the message for it. No I/O."""

from __future__ import annotations

import errno

from local_runner.docker_host.connection import root_cause
from local_runner.errors import system_trouble


def engine_errors() -> tuple[type[Exception], ...]:
    """What a call to the engine can raise, this machine's own trouble (a full disk) among it."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    return (DockerException, RequestException, OSError)


def first_line(error: object) -> str:
    """The first line of what it says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def broke_down(error: Exception) -> str:
    """Why a host was lost, as a message."""
    from docker.errors import APIError

    if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
        return system_trouble(error).rstrip(".")
    if isinstance(error, APIError) and error.is_client_error():
        return f"the Docker engine refused it: {first_line(error.explanation or error)}"
    return (
        f"the Docker engine stopped answering ({first_line(root_cause(error))}). "
        "See that it runs (docker info), then run again"
    )
