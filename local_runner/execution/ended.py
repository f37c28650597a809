"""How one step ends. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from local_runner.models import PlannedStep, ServiceException, StepExecution


@dataclass(frozen=True)
class Ended:
    """What a step hands back: the record, and what other steps may ask of it (its Describe response).

    ``exception`` is the service's own, where it was one that ended the step: what retry policies go by.
    ``fails_execution`` is whether the step ends the execution: nothing new is started after it.
    """

    step: StepExecution
    describe: dict[str, Any] = field(default_factory=dict[str, Any])
    exception: ServiceException | None = None
    fails_execution: bool = False


def failed(planned: PlannedStep, reason: str, exception: ServiceException | None = None) -> Ended:
    """The end of a step that failed before it had anything else to hand back."""
    step = StepExecution(planned.step.name, planned.step.type, "Failed", failure_reason=reason)
    return Ended(step, exception=exception)
