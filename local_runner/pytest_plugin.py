"""The pytest plugin for pipelines: the fixture ``local_run`` runs the pipeline, or some of its steps, in a test.

    def test_transform(local_run, tmp_path):
        execution = local_run(steps=["Transform"], data={"Validate.clean": tmp_path / "clean", ...})
        assert execution.status == "Succeeded", execution.failure_reason
        train = execution.step("Transform").outputs["train"]

Each call has a local S3 of its own that nothing else writes to; the image, the sandbox's environment and the compiled
definition are the project's, so that only the first test pays for them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from local_runner.models import Execution, ParameterValue


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--local-run-engine``: the engine of every ``local_run`` that names none."""
    parser.getgroup("local-runner").addoption(
        "--local-run-engine",
        choices=("auto", "docker", "sandbox", "sdk"),
        default="auto",
        help="engine for the local_run fixture (default: docker where an engine answers, else the sandbox)",
    )


@dataclass
class LocalRun:
    """Runs the pipeline of ``project`` in a state directory of the test's own; see ``__call__``."""

    project: Path
    directory: Path
    engine: str
    _calls: int = 0

    def __call__(
        self,
        target: str | None = None,
        *,
        parameters: Mapping[str, ParameterValue] | None = None,
        date: str | None = None,
        data: Mapping[str, str | Path] | None = None,
        steps: Sequence[str] = (),
        faults: Mapping[str, str] | None = None,
        engine: str | None = None,
        limits: bool = True,
    ) -> Execution:
        """Run and return the Execution, whether it succeeded or failed; its progress goes to the captured stdout.

        ``data`` maps S3 URIs, or outputs of steps that are not run (``"Validate.clean"``), to files or directories;
        ``steps`` are the steps to run (default: all); ``faults`` are exceptions of the service that the first attempts
        at a step end in (``{"Fit": "SageMaker.CAPACITY_ERROR"}``, or ``"SageMaker.CAPACITY_ERROR:2"`` for two);
        ``limits=False`` lets jobs have more memory and processors than their instance type has. Raises the errors of
        the command line, with all problems of the pipeline, where it cannot run.
        """
        from local_runner.jsontext import value_text
        from local_runner.planning.faults import parse_fault
        from local_runner.project import STATE_DIRECTORY, Project
        from local_runner.report.plain import PlainListener
        from local_runner.run.pipeline import run_pipeline
        from local_runner.run.request import RunRequest
        from local_runner.settings import load_settings

        self._calls += 1
        state = self.directory / f"local-run-{self._calls}"
        state.mkdir()
        for shared in ("cache", "compiled"):
            of_project = self.project / STATE_DIRECTORY / shared
            of_project.mkdir(parents=True, exist_ok=True)
            (state / shared).symlink_to(of_project)
        request = RunRequest(
            target=target,
            parameters={name: value_text(value) for name, value in (parameters or {}).items()},
            date=date,
            engine=engine or self.engine,
            data={uri: Path(path) for uri, path in (data or {}).items()},
            steps=steps,
            limits=limits,
            faults=[parse_fault(f"{step}={fault}") for step, fault in (faults or {}).items()],
        )
        shown = PlainListener(sys.stdout)
        _, execution = run_pipeline(Project(load_settings(self.project), state, shown.note), request, shown)
        return execution


def _local_run(request: pytest.FixtureRequest, directory: Path) -> LocalRun:
    return LocalRun(request.config.rootpath, directory, str(request.config.getoption("--local-run-engine")))


@pytest.fixture
def local_run(request: pytest.FixtureRequest, tmp_path: Path) -> LocalRun:
    """Call it to run the pipeline of the project that pytest was started for (its rootdir)."""
    return _local_run(request, tmp_path)


@pytest.fixture(scope="module")
def local_run_module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    """``local_run`` for fixtures of module scope: one run that several tests look at."""
    return _local_run(request, tmp_path_factory.mktemp("local_run"))
