"""Executions of small pipelines on the engine without processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from local_runner.engines.fake import FakeEngine, FakeHost
from local_runner.events import Silent
from local_runner.models import Execution
from local_runner.project import Project as OpenProject
from local_runner.run.pipeline import run_pipeline
from local_runner.run.request import RunRequest
from support.definitions import Json, output_of, pipeline, processing, s3_input, write

Functions = Mapping[str, Callable[[FakeHost], int | None]]
"""What the job of each step does, by the step's name."""


def chained(name: str, reads: Sequence[str] = (), count: int = 1, **step: Any) -> Json:
    """A Processing step with one output ``out``. Its inputs in-0, in-1 ... are the ``out`` of other steps, or URIs."""
    distribution = "ShardedByS3Key" if count > 1 else "FullyReplicated"
    inputs = [
        s3_input(
            f"in-{number}",
            read if read.startswith("s3://") else output_of(read),
            S3DataDistributionType=distribution,
        )
        for number, read in enumerate(reads)
    ]
    return processing(name, inputs=inputs, outputs={"out": f"s3://b/out/{name}"}, instances=count, **step)


class Project:
    """A directory with a definition in it, run on the fake engine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / ".local_runner"
        self.engine = FakeEngine()

    def run(self, steps: Sequence[Json], functions: Functions | None = None, /, **request: Any) -> Execution:
        """Run a pipeline of these steps."""
        document = pipeline(*steps, parameters=request.pop("Parameters", []))
        return self.run_document(document, functions, **request)

    def run_document(self, document: Any, functions: Functions | None = None, /, **request: Any) -> Execution:
        """Run what a definition file holds. ``listener`` may be given as well; local_runner.toml counts if there."""
        listener = request.pop("listener", Silent())
        file = write(self.root / "definition.json", document)
        self.engine = FakeEngine(functions or {})
        wanted = RunRequest(target=str(file), **request)
        return run_pipeline(OpenProject.at(self.root, self.state, listener.note), wanted, listener, self.engine)[1]


def statuses(execution: Execution) -> dict[str, str]:
    """The status of each step that started."""
    return {step.name: step.status for step in execution.steps}
