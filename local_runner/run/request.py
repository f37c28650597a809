"""What is to be run, as a command, a test or a notebook asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local_runner.models import Fault
from local_runner.planning.selection import Selection


@dataclass(frozen=True)
class RunRequest:
    """What is to be run.

    ``target`` is ``pipeline.py``, ``pipeline.py:function`` or a definition JSON; None is the project's own pipeline.
    ``parameters`` are text, as StartPipelineExecution takes them. ``data`` maps S3 URIs to files or directories,
    over the mappings of local_runner.toml. ``images`` maps image URIs to local tags, the key ``""`` every URI.
    ``steps`` selects (empty: all), and so does ``selection``, which also looks for an execution to continue.
    ``max_parallel`` defaults to the machine's cores; a pipeline's own
    MaxParallelExecutionSteps goes before a larger one. ``limits`` is whether jobs get no more memory and processors
    than their instance type has, where the engine can limit them. ``faults`` are exceptions
    of the service that steps are to end in.
    ``python`` is the Python that compiles, or its environment (None: this one). ``cache`` is whether steps may be taken
    from the step cache, and are kept in it; those of ``refresh`` run anyway. ``hot`` lets hot workers run
    jobs.
    """

    target: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    date: str | None = None
    engine: str = "auto"
    data: Mapping[str, Path] = field(default_factory=dict[str, Path])
    images: Mapping[str, str] = field(default_factory=dict[str, str])
    steps: Sequence[str] = ()
    max_parallel: int | None = None
    limits: bool = True
    faults: Sequence[Fault] = ()
    python: Path | None = None
    hot: bool = False
    selection: Selection = field(default_factory=Selection)
    cache: bool = False
    refresh: Sequence[str] = ()
