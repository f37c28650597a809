"""What the harness's own tests share. What this machine lacks skips on a laptop, and fails under CI (machine.py)."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.machine import cannot, no_sandbox, refuse_undeclared, set_up
from support.project import PROJECT

from local_runner.engines import Engine
from local_runner.errors import EngineError
from local_runner.project import Project

STATE = PROJECT / ".local_runner"

# No deadlines, which a busy machine and coverage break. The first draw in a fresh clone makes hypothesis's tables of
# characters, which takes seconds.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


sys.addaudithook(refuse_undeclared)

# A shell starts what runs in its background with SIGINT ignored, nohup with SIGHUP; the programs that tests start would
# inherit that, and tests send these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture is made."""
    set_up(item)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest row that one worker has to itself goes first. While it builds the image, the others need none."""
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    group = item.get_closest_marker("xdist_group")
    if group and group.args == ("sdk",):
        return 0
    return 2 if item.get_closest_marker("docker") else 1


@pytest.fixture(scope="session")
def processing_image() -> str:
    """The tag of the project's own image, built if it has to be."""
    from local_runner.image.build import ensure_image

    try:
        return ensure_image(Project.at(PROJECT, STATE, print))
    except EngineError as error:
        cannot(error.message)


@pytest.fixture(scope="session")
def environment() -> Path:
    """The sandbox's virtual environment, made if it has to be."""
    from local_runner.image.sandbox_packages import ensure_environment

    if reason := no_sandbox():
        cannot(reason)
    return ensure_environment(Project.at(PROJECT, STATE, print))


@pytest.fixture(
    params=[pytest.param("docker", marks=pytest.mark.docker), pytest.param("sandbox", marks=pytest.mark.sandbox)]
)
def make_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Engine]]:
    """Makes the engine under test, ready for jobs with the image ``local/processing``; both engines in turn."""
    made: list[Engine] = []

    def make() -> Engine:
        if request.param == "docker":
            from local_runner.engines.docker.engine import DockerEngine

            tag = request.getfixturevalue("processing_image")
            engine: Engine = DockerEngine(tmp_path / "state", lambda _: tag)
        else:
            from local_runner.engines.sandbox.engine import SandboxEngine

            engine = SandboxEngine(request.getfixturevalue("environment"))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()
