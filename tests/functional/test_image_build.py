"""Real builds of a small image, and what is said where one cannot be made."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_runner.docker_host.connection import connect
from local_runner.errors import EngineError
from local_runner.image.base import ensure_base_image, has_image
from local_runner.image.build import ensure_image
from local_runner.image.sandbox_packages import ensure_environment
from local_runner.image.source import read_image_source
from local_runner.image.tag import image_tag
from local_runner.project import Project as OpenProject
from local_runner.settings import Settings

DOCKERFILE = """\
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
COPY requirements.txt wheels* /wheels/
RUN ls /wheels && python3 -m zipfile -e /wheels/threadpoolctl-*.whl /opt/packages
"""
REQUIREMENT = "threadpoolctl==3.8.0\n"


class Project:
    """A project with a small image, and the lines its builds reported."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(root=root)
        self.state = root / ".local_runner"
        self.processing = root / "processing"
        self.processing.mkdir(parents=True)
        (self.processing / "requirements.txt").write_text(REQUIREMENT)
        (self.processing / "Dockerfile").write_text(DOCKERFILE)
        (self.processing / ".dockerignore").write_text("*.py\n")
        self.said: list[str] = []

    @property
    def tag(self) -> str:
        return image_tag(self.settings, read_image_source(self.settings))

    def build(self) -> str:
        self.said.clear()
        return ensure_image(OpenProject(self.settings, self.state, self.said.append))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    root = tmp_path / f"image-test-{uuid.uuid4().hex[:12]}"  # its tags are nobody else's, and not of a killed test
    yield (made := Project(root))
    client = connect()
    repository = made.tag.partition(":")[0]
    for image in client.images.list(name=repository):
        for tag in image.tags:  # the names and not the image, which another test may be using
            if tag.startswith(f"{repository}:"):
                client.images.remove(tag, force=True)


@pytest.mark.docker
def test_an_image_is_built_once_per_content(project: Project) -> None:
    tag = project.build()
    assert tag == project.tag
    assert project.said[0] == "Fetching wheels for 1 package."
    assert project.said[-1] == f"Building the image {tag}."
    client = connect()
    command = [
        "python3",
        "-c",
        "import sys; sys.path.append('/opt/packages'); import threadpoolctl as t; print(t.__version__)",
    ]
    assert client.containers.run(tag, command, remove=True, network_mode="none").decode().strip() == "3.8.0"

    (project.processing / "script.py").write_text("print()")
    started = time.monotonic()
    assert project.build() == tag
    assert project.said == []
    assert time.monotonic() - started < 1

    (project.processing / "Dockerfile").write_text(DOCKERFILE + "LABEL changed=yes\n")
    assert project.build() != tag
    assert project.said == [f"Building the image {project.tag}."], "wheels and base are reused"


@pytest.mark.docker
def test_a_failing_step_is_shown(project: Project) -> None:
    with (project.processing / "Dockerfile").open("a") as file:
        file.write("RUN echo looking; echo not there >&2; exit 7\n")
    with pytest.raises(EngineError) as raised:
        project.build()
    message = raised.value.message
    assert f"{project.processing}/Dockerfile failed at 'Step 5/5 : RUN echo looking" in message
    assert {"  looking", "  not there", "  exit code 7"} < set(message.splitlines())
    assert not has_image(connect(), project.tag)


@pytest.mark.docker
def test_a_dockerfile_that_cannot_be_parsed(project: Project) -> None:
    with (project.processing / "Dockerfile").open("a") as file:
        file.write("INSTAL pandas\n")
    with pytest.raises(EngineError, match=r"(?s)Dockerfile failed before its first step.*INSTAL"):
        project.build()


@pytest.mark.docker
def test_a_package_without_a_wheel_is_named(project: Project) -> None:
    (project.processing / "requirements.txt").write_text(f"{REQUIREMENT}threadpoolctl-is-not-this==99.1\n")
    with pytest.raises(EngineError) as raised:
        project.build()
    named = "requirements.txt: there is no wheel of threadpoolctl-is-not-this==99.1 for Python 3.11 on Linux"
    assert f"{project.processing}/{named}" in raised.value.message
    assert f"put a wheel that you built into {project.processing}/wheels" in raised.value.message
    assert list((project.state / "cache" / "wheels").iterdir()) == []


@pytest.mark.docker
def test_two_builds_at_once(project: Project) -> None:
    tags: list[str] = []
    builds = [threading.Thread(target=lambda: tags.append(project.build())) for _ in range(2)]
    for build in builds:
        build.start()
    for build in builds:
        build.join()
    assert tags == [project.tag] * 2
    assert sum(line.startswith("Building") for line in project.said) == 1


@pytest.mark.docker
def test_a_killed_build_leaves_nothing_that_is_trusted(project: Project) -> None:
    with (project.processing / "Dockerfile").open("a") as file:
        file.write("RUN sleep 2\n")
    program = (
        "import sys; from pathlib import Path; from local_runner.image.build import ensure_image; "
        "from local_runner.project import Project; from local_runner.settings import Settings; "
        "root = Path(sys.argv[1]); "
        "ensure_image(Project(Settings(root=root), root / '.local_runner', lambda line: print(line, flush=True)))"
    )
    command = [sys.executable, "-c", program, str(project.settings.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Building"):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
    assert not has_image(connect(), project.tag)
    assert project.build() == project.tag


@pytest.mark.docker
def test_a_base_image_that_cannot_be_had(project: Project) -> None:
    with pytest.raises(EngineError, match=r"base image registry\.invalid/base:1 cannot be pulled \(.+\)\. Load it"):
        ensure_base_image(connect(), "registry.invalid/base:1", project.said.append)


def test_no_engine(project_without_engine: Project) -> None:
    with pytest.raises(EngineError, match=r"No Docker engine answers at unix:///nowhere .* use --engine sandbox"):
        project_without_engine.build()


@pytest.fixture
def project_without_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    return Project(tmp_path / "project")


def test_the_sandbox_gets_an_environment_with_the_packages(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    environment = ensure_environment(OpenProject(project.settings, project.state, project.said.append))
    assert project.said[-1] == "Making the sandbox's Python environment."
    command = [environment / "bin/python3", "-c", "import threadpoolctl as t; print(t.__version__)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "3.8.0"

    project.said.clear()
    assert ensure_environment(OpenProject(project.settings, project.state, project.said.append)) == environment
    assert project.said == []

    (environment / "complete").unlink()  # as a killed run leaves it
    assert ensure_environment(OpenProject(project.settings, project.state, project.said.append)) == environment
    assert project.said == ["Making the sandbox's Python environment."]


def test_the_sandbox_gets_a_wheel_that_only_the_project_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_NO_INDEX", "1")
    project = Project(tmp_path / "project")
    (project.processing / "requirements.txt").write_text("our-own==1.0\n")
    (project.processing / "wheels").mkdir()
    with zipfile.ZipFile(project.processing / "wheels" / "our_own-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("our_own.py", "NAME = 'ours'\n")
        wheel.writestr("our_own-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: our-own\nVersion: 1.0\n")
        wheel.writestr("our_own-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("our_own-1.0.dist-info/RECORD", "")
    environment = ensure_environment(OpenProject(project.settings, project.state, project.said.append))
    command = [environment / "bin/python3", "-c", "import our_own; print(our_own.NAME)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "ours"


def test_an_environment_that_cannot_be_made(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    (project.processing / "requirements.txt").write_text("threadpoolctl==0.0.0.1\n")
    with pytest.raises(EngineError, match=r"(?s)could not be installed for the sandbox.*threadpoolctl==0\.0\.0\.1"):
        ensure_environment(OpenProject(project.settings, project.state, project.said.append))
