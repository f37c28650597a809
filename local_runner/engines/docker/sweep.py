"""What executions that are over left in the Docker engine: found by its labels, and removed.

Containers, networks and the volumes of inputs carry labels that name the execution, its state directory and the
machine. A connection that was dropped can leave each of them alone: a volume whose container is gone, too.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from local_runner.names import is_file_name
from local_runner.storage import runs

LABEL_RUN = "local-runner.run"
LABEL_STATE = "local-runner.state"
LABEL_MACHINE = "local-runner.machine"
LABEL_HOT = "local-runner.hot"


def labels_of(state: Path, run_id: str) -> dict[str, str]:
    """The labels of everything that an execution has in the engine."""
    return {LABEL_RUN: run_id, LABEL_STATE: str(state), LABEL_MACHINE: platform.node()}


def sweep_quietly(api: Any) -> None:
    """``sweep`` by a command that does not need the engine: what cannot be removed now is the next run's."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    def quietly(call: Callable[..., object], *arguments: object, **options: object) -> None:
        with suppress(DockerException, RequestException):
            call(*arguments, **options)

    with suppress(DockerException, RequestException):
        sweep(api, quietly)


def sweep(api: Any, quietly: Callable[..., None]) -> None:
    """Remove containers, networks and volumes of this machine's executions whose process is gone.

    ``quietly`` makes a call that may fail. A hot worker's volume, which belongs to no execution, goes once no container
    has it; the engine makes a volume and its use by a container in one step.
    """
    mine = [f"{LABEL_MACHINE}={platform.node()}"]
    for container in api.containers(all=True, filters={"label": mine}):
        if _is_left(container["Labels"]):
            quietly(api.remove_container, container["Id"], force=True, v=True)
    for network in api.networks(filters={"label": mine}):
        if _is_left(network["Labels"]):
            quietly(api.remove_network, network["Id"])
    for label in (*mine, LABEL_HOT):
        for volume in api.volumes(filters={"label": [label], "dangling": True})["Volumes"] or ():
            if label == LABEL_HOT or _is_left(volume["Labels"]):
                quietly(api.remove_volume, volume["Name"])


def _is_left(labels: Mapping[str, str]) -> bool:
    """Whether they are those of an execution that no longer lives. An image may bring labels of its own: all count."""
    run, state = labels.get(LABEL_RUN, ""), labels.get(LABEL_STATE, "")
    return bool(is_file_name(run) and state) and not runs.is_live(Path(state), run)
