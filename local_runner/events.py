"""What a run tells whoever watches it, while it runs. No I/O: ``local_runner.report`` does the showing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from local_runner.models import Execution, Plan, StepExecution
from local_runner.secrets import Secrets


class Listener(Protocol):
    """Receives what happens in one execution, in the order in which it happens to each step.

    The calls come from several threads at once and must return quickly: a step waits while its line is taken.
    Nothing a listener does may end the run, so an implementation keeps trouble with its own output to itself.
    """

    def started(self, plan: Plan, engine: str) -> None:
        """The execution begins, on the engine of that name. Showing ``plan.notes`` is part of it."""
        ...

    def step_started(self, name: str) -> None:
        """The step begins. A step that is tried again is announced again."""
        ...

    def line(self, step: str, host: str, text: str) -> None:
        """``host`` (``algo-N``, or ``function``) of the step printed ``text``, as it came but without its newline."""
        ...

    def step_ended(self, step: StepExecution) -> None:
        """The step ended. One that is no job, or came from the cache, need not have started."""
        ...

    def note(self, text: str) -> None:
        """Something worth knowing that is not a step's: which engine and why, an image being built."""
        ...

    def ended(self, execution: Execution) -> None:
        """The execution ended, in whichever way. Called once, after every step's end."""
        ...


@dataclass(frozen=True)
class Masked:
    """A listener that gets everything without the secrets in it."""

    listener: Listener
    secrets: Secrets

    def started(self, plan: Plan, engine: str) -> None:
        """Passed on: what is shown of a plan are names, and its notes."""
        self.listener.started(replace(plan, notes=tuple(map(self.secrets.masked, plan.notes))), engine)

    def step_started(self, name: str) -> None:
        """Passed on."""
        self.listener.step_started(name)

    def line(self, step: str, host: str, text: str) -> None:
        """Passed on, masked."""
        self.listener.line(step, host, self.secrets.masked(text))

    def step_ended(self, step: StepExecution) -> None:
        """Passed on, its messages masked."""
        self.listener.step_ended(masked_step(step, self.secrets))

    def note(self, text: str) -> None:
        """Passed on, masked."""
        self.listener.note(self.secrets.masked(text))

    def ended(self, execution: Execution) -> None:
        """Passed on, its messages masked."""
        reason = execution.failure_reason and self.secrets.masked(execution.failure_reason)
        steps = tuple(masked_step(step, self.secrets) for step in execution.steps)
        self.listener.ended(replace(execution, failure_reason=reason, steps=steps))


def masked_step(step: StepExecution, secrets: Secrets) -> StepExecution:
    """The step without the secrets in its messages."""
    return replace(
        step,
        failure_reason=step.failure_reason and secrets.masked(step.failure_reason),
        exit_message=step.exit_message and secrets.masked(step.exit_message),
    )


class Silent:
    """The listener that shows nothing."""

    def started(self, plan: Plan, engine: str) -> None:
        """Nothing."""

    def step_started(self, name: str) -> None:
        """Nothing."""

    def line(self, step: str, host: str, text: str) -> None:
        """Nothing."""

    def step_ended(self, step: StepExecution) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def ended(self, execution: Execution) -> None:
        """Nothing."""
