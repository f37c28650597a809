"""Which engine a run uses, and why, in one line. Asks the machine what it has; builds the image or environment.

``auto`` is docker where an engine answers, else the sandbox. ``sdk`` is never chosen by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from local_runner.compile.compiler import IMAGE_URI
from local_runner.engines import GRACE_SECONDS, Capabilities, Engine, Grace
from local_runner.engines.docker import CAPABILITIES as DOCKER
from local_runner.engines.sandbox import CAPABILITIES as SANDBOX
from local_runner.engines.sdk import CAPABILITIES as SDK
from local_runner.errors import EngineError, LocalRunnerError, without_sdk
from local_runner.models import ProcessingJob
from local_runner.project import Project
from local_runner.run.request import RunRequest
from local_runner.storage.local_s3 import Storage

if TYPE_CHECKING:
    from local_runner.engines.sdk.engine import SdkEngine

CAPABILITIES: Mapping[str, Capabilities] = {"docker": DOCKER, "sandbox": SANDBOX, "sdk": SDK}
"""What the engines can do, by the names by which they are chosen."""

ENGINE_CHOICES = ("auto", *CAPABILITIES)


def open_engine(project: Project, request: RunRequest, storage: Storage, *, watching: bool = False) -> Engine:
    """The engine of a request, with hot workers where it asks for them; those of a watch end with the engine."""
    engine = select_engine(project, request)
    return with_hot_workers(engine, storage, project.note, watching=watching) if request.hot else engine


def select_engine(project: Project, request: RunRequest) -> Engine:
    """The engine that a request chooses. Raises EngineError that says what to install where there is none."""
    if request.engine == "sandbox":
        return _sandbox(project, request)
    if request.engine == "sdk":
        return stock_engine(project, request.images)
    try:
        return _docker(project, request)
    except EngineError as error:
        if request.engine == "docker":
            raise
        return _sandbox_instead(project, request, error)


def sweep_docker() -> None:
    """Remove what killed executions left in the Docker engine, where one answers, for a run that does not use it."""
    from contextlib import closing, suppress

    from local_runner.docker_host.connection import connect
    from local_runner.engines.docker.sweep import sweep_quietly

    with suppress(EngineError), closing(connect()) as client:  # without an engine there is nothing in it
        sweep_quietly(client.api)


def notes_on_images(project: Project, request: RunRequest, jobs: Sequence[tuple[str, ProcessingJob]]) -> list[str]:
    """What the images of these jobs do here and not in the cloud; of those that are on this machine."""
    from local_runner.docker_host.address import listens

    if not jobs or not listens():
        return []
    from contextlib import closing

    from local_runner.docker_host.connection import connect
    from local_runner.engines.docker.image_notes import image_notes
    from local_runner.image.tag import current_tag

    def image_of(uri: str) -> str:
        chosen = request.images.get(uri) or request.images.get("")
        return chosen or (current_tag(project) if uri == IMAGE_URI else uri)

    try:
        with closing(connect()) as client:
            return image_notes(client.api, project.state, ((image_of(job.image_uri), job) for _, job in jobs))
    except LocalRunnerError:
        return []


def with_hot_workers(
    engine: Engine, storage: Storage, note: Callable[[str], None], *, watching: bool = False
) -> Engine:
    """The engine with workers that see what the storage maps in; those of a watch end with it."""
    if engine.capabilities.hot_workers:
        from local_runner.engines.hot.engine import hot_engine

        return hot_engine(
            engine, [source.path for source in storage.sources if not source.code], note, watching=watching
        )
    note(f"Engine {engine.name} has no hot workers: every job runs cold.")
    return engine


def _grace(project: Project) -> Grace:
    seconds = project.settings.local.stop_grace_seconds
    return GRACE_SECONDS if seconds is None else dict.fromkeys(GRACE_SECONDS, float(seconds))


def _docker(project: Project, request: RunRequest) -> Engine:
    from local_runner.docker_host.connection import connect
    from local_runner.engines.docker.engine import DockerEngine

    client = connect()
    resolve_image = _image_resolver(project, request.images, client)
    return DockerEngine(
        project.state, resolve_image, limits=request.limits, note=project.note, grace=_grace(project), client=client
    )


def stock_engine(project: Project, images: Mapping[str, str]) -> SdkEngine:
    """The SDK's stock local mode, also for the types of jobs that no other engine runs. Raises EngineError."""
    from importlib.util import find_spec

    if find_spec("sagemaker") is None:
        raise EngineError(without_sdk("Stock local mode (--engine sdk, and Training, Transform and Model steps)"))
    from local_runner.docker_host.connection import connect
    from local_runner.engines.sdk.engine import SdkEngine

    client = connect()
    resolve_image = _image_resolver(project, images, client)
    region = project.settings.local.region
    return SdkEngine(project.state, resolve_image, project.note, region, grace=_grace(project), client=client)


def _image_resolver(project: Project, images: Mapping[str, str], client: Any) -> Callable[[str], str]:
    def resolve_image(uri: str) -> str:
        chosen = images.get(uri) or images.get("")
        if chosen or uri != IMAGE_URI:
            return chosen or uri
        from local_runner.image.build import ensure_image

        return ensure_image(project, client)

    return resolve_image


def _sandbox(project: Project, request: RunRequest) -> Engine:
    from local_runner.engines.sandbox import engine as sandbox

    reason = sandbox.available()
    if reason:
        raise EngineError(f"The sandbox engine cannot run here: {reason}")
    from local_runner.image.sandbox_packages import ensure_environment

    hidden = (project.settings.root,)
    environment = ensure_environment(project)
    return sandbox.SandboxEngine(environment, hidden=hidden, limits=request.limits, grace=_grace(project))


def _sandbox_instead(project: Project, request: RunRequest, why: EngineError) -> Engine:
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
    project.note(f"Engine: sandbox. {why.message}")
    project.note("On docker it would be different:")
    for difference in sandbox.DIFFERENCES:
        project.note(f"  - {difference}")
    return _sandbox(project, request)
