"""Which engine a run uses, and why, in one line. Asks the machine what it has; builds the image or environment.

``auto`` is docker where an engine answers, else the sandbox. ``sdk`` is never chosen by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runner.engines import Capabilities, Engine
from local_runner.engines.docker import CAPABILITIES as DOCKER
from local_runner.engines.sandbox import CAPABILITIES as SANDBOX
from local_runner.engines.sdk import CAPABILITIES as SDK
from local_runner.errors import EngineError, without_sdk
from local_runner.settings import Settings

if TYPE_CHECKING:
    from local_runner.engines.sdk.engine import SdkEngine

CAPABILITIES: Mapping[str, Capabilities] = {"docker": DOCKER, "sandbox": SANDBOX, "sdk": SDK}
"""What the engines can do, by the names by which they are chosen."""

ENGINE_CHOICES = ("auto", *CAPABILITIES)

PROJECT_IMAGE = "local/processing"
"""The image URI that ``settings.image_uri`` is in a local compile: whatever processing/ builds, unnamed, so that a new
image does not change the definition."""

Note = Callable[[str], None]


def select_engine(
    choice: str, settings: Settings, state: Path, images: Mapping[str, str], note: Note, *, limits: bool = True
) -> Engine:
    """The engine of that choice. ``images`` maps image URIs to local tags; the key ``""`` stands for every URI.

    ``limits`` is whether jobs get no more memory and processors than their instance has (docker only).
    Raises EngineError that says what to install where there is none.
    """
    if choice == "sandbox":
        return _sandbox(settings, state, note)
    if choice == "sdk":
        return stock_engine(settings, state, images, note)
    try:
        engine = _docker(settings, state, images, note, limits)
    except EngineError as error:
        if choice == "docker":
            raise
        return _sandbox_instead(settings, state, error, note)
    return engine


def _docker(settings: Settings, state: Path, images: Mapping[str, str], note: Note, limits: bool) -> Engine:
    from local_runner.docker_host.connection import connect
    from local_runner.engines.docker.engine import DockerEngine

    client = connect()
    resolve_image = _image_resolver(settings, state, images, note, client)
    return DockerEngine(state, resolve_image, limits=limits, note=note, client=client)


def stock_engine(settings: Settings, state: Path, images: Mapping[str, str], note: Note) -> SdkEngine:
    """The SDK's stock local mode, also for the types of jobs that no other engine runs. Raises EngineError."""
    from importlib.util import find_spec

    if find_spec("sagemaker") is None:
        raise EngineError(without_sdk("Stock local mode (--engine sdk, and Training, Transform and Model steps)"))
    from local_runner.docker_host.connection import connect
    from local_runner.engines.sdk.engine import SdkEngine

    client = connect()
    resolve_image = _image_resolver(settings, state, images, note, client)
    return SdkEngine(state, resolve_image, note, settings.local.region, client=client)


def _image_resolver(
    settings: Settings, state: Path, images: Mapping[str, str], note: Note, client: Any
) -> Callable[[str], str]:
    def resolve_image(uri: str) -> str:
        chosen = images.get(uri) or images.get("")
        if chosen or uri != PROJECT_IMAGE:
            return chosen or uri
        from local_runner.image.build import ensure_image

        return ensure_image(settings, state, note, client)

    return resolve_image


def _sandbox(settings: Settings, state: Path, note: Note) -> Engine:
    from local_runner.engines.sandbox import engine as sandbox

    reason = sandbox.available()
    if reason:
        raise EngineError(f"The sandbox engine cannot run here: {reason}")
    from local_runner.image.sandbox_packages import ensure_environment

    return sandbox.SandboxEngine(ensure_environment(settings, state, note), hidden=(settings.root,))


def _sandbox_instead(settings: Settings, state: Path, why: EngineError, note: Note) -> Engine:
    """The sandbox, for want of docker; says so, and what would be different."""
    from local_runner.engines.sandbox import engine as sandbox

    reason = sandbox.available()
    if reason:
        raise EngineError(
            "No engine can run the pipeline here.\n"
            f"  docker: {why.message}\n"
            f"  sandbox: {reason}\n"
            "Install a Docker engine (Debian, Ubuntu: sudo apt-get install docker.io) and start it, "
            "or allow user namespaces."
        )
    note(f"Engine: sandbox. {why.message}")
    note("On docker it would be different:")
    for difference in sandbox.DIFFERENCES:
        note(f"  - {difference}")
    return _sandbox(settings, state, note)
