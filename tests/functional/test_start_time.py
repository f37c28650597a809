"""What a command must not import, as somebody waits for it: every run pays for an import, and few need it.

Times depend on the machine, so they are in benchmarks/; this is what keeps them from growing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.definitions import pipeline, processing, write
from support.project import PROJECT

STATE = PROJECT / ".local_runner"

SLOW = {"asyncio", "boto3", "botocore", "jinja2", "numpy", "pandas", "paramiko", "pydantic", "rich", "sagemaker"}
NETWORK = {"docker", "requests", "urllib3", "ssl", "http.client"}
STAGES = {"local_runner.run.pipeline", "local_runner.settings", "local_runner.report"}

PIPELINE = """
from sagemaker.core.workflow.conditions import ConditionEquals
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.pipeline import Pipeline

def build(session, settings):
    equal = ConditionStep(name="Equal", conditions=[ConditionEquals(left=1, right=1)], if_steps=[], else_steps=[])
    return Pipeline(name="ConditionOnly", steps=[equal], sagemaker_session=session)
"""


PROGRAM = """
import atexit, sys
from local_runner.__main__ import main
atexit.register(lambda: print("modules:", *(name for name, module in sys.modules.items() if module), file=sys.stderr))
main()
"""


def imports(*arguments: object) -> set[str]:
    """The modules that `local-runner ARGUMENTS` has imported by its end, in this project."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("modules: ")[2].split())


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory in which the pipeline beside it has been compiled; the caches are the project's."""
    directory = tmp_path_factory.mktemp("start")
    (directory / "pipeline.py").write_text(PIPELINE)
    (STATE / "cache").mkdir(parents=True, exist_ok=True)
    (directory / "cache").symlink_to(STATE / "cache")
    imports("compile", directory / "pipeline.py", "--state", directory)
    return directory


def test_help_imports_no_stage() -> None:
    assert imports("--help") & (SLOW | NETWORK | STAGES) == set()


@pytest.mark.parametrize("command", ["compile", "validate"])
def test_an_unchanged_pipeline_is_not_compiled(state: Path, command: str) -> None:
    found = imports(command, state / "pipeline.py", "--state", state)
    assert "local_runner.run.definition" in found
    assert found & (SLOW | NETWORK) == set()


@pytest.mark.sandbox
@pytest.mark.usefixtures("environment")
def test_a_sandbox_run_does_without_docker(state: Path) -> None:
    found = imports("run", state / "pipeline.py", "--state", state, "--engine", "sandbox", "--json")
    assert "local_runner.engines.sandbox.engine" in found
    assert found & (SLOW | NETWORK) == set()


@pytest.mark.docker
@pytest.mark.usefixtures("processing_image")
def test_a_docker_run_imports_the_docker_package_and_nothing_slower(state: Path) -> None:
    found = imports("run", state / "pipeline.py", "--state", state, "--engine", "docker")
    assert "docker" in found
    assert found & SLOW == set()


@pytest.mark.docker
@pytest.mark.usefixtures("processing_image")
def test_a_cached_run_needs_no_engine(state: Path) -> None:
    file = write(state / "one.json", pipeline(processing("Only", "echo", outputs={"out": "s3://b/out"})))
    imports("run", file, "--state", state)
    found = imports("run", file, "--state", state)
    assert "local_runner.step_cache.steps" in found
    assert "botocore.client" not in found  # of botocore only the version is asked
    engines = {"local_runner.engines.docker.engine", "local_runner.docker_host.connection"}
    assert found & ((SLOW - {"botocore"}) | NETWORK | engines) == set()


@pytest.mark.docker
@pytest.mark.usefixtures("processing_image")
def test_looking_up_the_image_imports_nothing_slower() -> None:
    assert imports("image") & SLOW == set()
