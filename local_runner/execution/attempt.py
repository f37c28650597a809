"""What the steps of an execution have in common to run with, and one attempt at one step. No I/O of its own."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from local_runner.definition.expressions import Scope
from local_runner.engines import Engine
from local_runner.events import Listener
from local_runner.models import Plan, PlannedStep, Step
from local_runner.secrets import Secrets
from local_runner.storage.local_s3 import Storage
from local_runner.storage.runs import Run

if TYPE_CHECKING:
    from local_runner.engines.sdk.engine import SdkEngine
    from local_runner.step_cache.steps import StepCache


@dataclass(frozen=True)
class Resources:
    """What the steps of one execution run with.

    ``cache_dir`` keeps the limits of botocore's service model. ``stock`` runs the jobs of stock local mode; a plan that
    has none needs none. ``reuse`` is the step cache, None where every step runs. ``stop`` ends the execution in good
    order.
    """

    engine: Engine
    storage: Storage
    run: Run
    listener: Listener
    cache_dir: Path
    stock: SdkEngine | None = None
    reuse: StepCache | None = None
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Attempt:
    """One attempt at a step of ``plan``: the first one has ``number`` 1. ``scope`` is what its expressions see."""

    plan: Plan
    planned: PlannedStep
    scope: Scope
    number: int
    resources: Resources

    @property
    def step(self) -> Step:
        """The step, as the plan has it."""
        return self.planned.step

    @property
    def secrets(self) -> Secrets:
        """The secret values that are known so far."""
        return self.plan.secrets

    @property
    def work(self) -> Path:
        """Scratch space, which has nothing of the attempts before it."""
        return self.resources.run.work / self.step.name / self._again

    @property
    def logs(self) -> Path:
        """The directory for its logs, which has none of the attempts before it."""
        return self.resources.run.logs(self.step.name) / self._again

    @property
    def _again(self) -> str:
        return f"attempt-{self.number}" if self.number > 1 else ""

    def announce(self) -> None:
        """Tell the listener that the step begins. A step that is taken from the cache does not."""
        self.resources.listener.step_started(self.step.name)

    def on_line(self, host: str, text: str) -> None:
        """Tell the listener of a line that the step printed."""
        self.resources.listener.line(self.step.name, host, text)
