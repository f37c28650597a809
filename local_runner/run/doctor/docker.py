"""The Docker engine: whether it answers, what it can limit, which images it has. Speaks to the engine only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_runner.errors import EngineError, LocalRunnerError
from local_runner.image.source import ImageSource
from local_runner.run.doctor.check import (
    ANSWER_SECONDS,
    Check,
    disk_space,
    first_line_of,
    install,
    sudo,
    without_secrets,
)
from local_runner.settings import Settings

ENGINE = "Docker engine"


def engine(settings: Settings, source: ImageSource | None) -> list[Check]:
    """The engine, what it can limit, its images and its disk; the engine alone where none answers."""
    from local_runner.docker_host.address import engine_address
    from local_runner.docker_host.connection import connect, docker

    address = ""
    try:
        address = engine_address()
        client = connect(ANSWER_SECONDS)
    except EngineError as error:
        return [Check(ENGINE, "gap", without_secrets(error.message), _engine_fix(address))]
    try:
        info: dict[str, Any] = client.api.info()
        rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
        parts = [
            str(info.get("ServerVersion")),
            f"API {client.api.api_version}",
            str(info.get("Driver")),
            *(["rootless"] if rootless else []),
            f"at {without_secrets(address)}",
        ]
        found = [Check(ENGINE, "ok", ", ".join(parts)), _limits(info)]
        if source and not source.plain:
            found += _images(client, settings, source)
        store = Path(str(info.get("DockerRootDir")))
        return [*found, *([disk_space("Docker's disk", store, "docker system prune")] if store.is_dir() else [])]
    except (LocalRunnerError, docker.errors.DockerException, OSError) as error:
        return [Check(ENGINE, "gap", without_secrets(str(error)))]
    finally:
        client.close()


def _engine_fix(address: str) -> str:
    """What would make an engine answer at the address."""
    if os.environ.get("DOCKER_HOST"):
        return "unset DOCKER_HOST"
    if address != "unix:///var/run/docker.sock":
        return "docker context use default"
    if Path("/var/run/docker.sock").exists() and not os.access("/var/run/docker.sock", os.W_OK):
        return f"{sudo()}usermod -aG docker $USER"
    return f"{sudo()}service docker start" if shutil.which("dockerd") else install("docker.io")


def _limits(info: Mapping[str, Any]) -> Check:
    from local_runner.engines.instances import GIB, Machine

    machine = Machine.of_engine(info)
    size = f"{machine.memory / GIB:.1f} GiB and {machine.cpus} processors"
    if machine.limits_memory:
        return Check("Instance limits", "ok", f"as the instance type has, up to {size}")
    return Check("Instance limits", "none", f"this engine cannot limit jobs (cgroups): all of {size}")


def _images(client: Any, settings: Settings, source: ImageSource) -> list[Check]:
    from local_runner.image.base import base_image_here, has_image, is_replaceable
    from local_runner.image.tag import image_tag

    tag = image_tag(settings, source)
    built = has_image(client, tag)
    image = Check("Processing image", "ok", tag)
    if not built:
        image = Check("Processing image", "none", f"{tag} is not built; a run builds it", "local-runner image")
    if source.base_image is None:
        return [image]
    present = base_image_here(client, source.base_image)
    if present or built:
        base = Check("Base image", "ok", present or f"{source.base_image}, not needed: the image is built")
    elif not is_replaceable(source.base_image):
        base = Check("Base image", "none", "not here", f"docker pull {source.base_image}")
    elif shutil.which("mmdebstrap"):
        base = Check("Base image", "none", "not here; a build pulls it, or makes it with mmdebstrap")
    else:
        what = "not here, nor is mmdebstrap, with which a build makes it where no registry has it"
        base = Check("Base image", "none", what, install("mmdebstrap"))
    return [base, image]


def compose() -> Check:
    """Whether there is a compose, found as the SDK finds it: the plugin, else the command of old."""
    found = first_line_of("docker", "compose", "version") or shutil.which("docker-compose")
    if found:
        return Check("Docker compose", "ok", found)
    return Check("Docker compose", "none", "not found; only --engine sdk needs it", install("docker-compose"))
