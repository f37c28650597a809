"""An execution in the account, watched until it is over: asks the account again and again, and reports to a Listener.

Reads only, through Aws. The listener is that of a local run, so that both look the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from local_runner.cloud.account.aws import Aws, AwsError
from local_runner.cloud.account.polling import Pace
from local_runner.cloud.executions.api import (
    CloudExecution,
    CloudStep,
    describe_execution,
    execution_steps,
    with_job_message,
)
from local_runner.cloud.executions.job_logs import last_lines
from local_runner.events import Listener
from local_runner.models import Execution, PipelineDefinition, Plan, PlannedStep
from local_runner.planning.order import dependencies

_UNREACHABLE_SECONDS = 600.0  # a network that is away for this long does not come back by itself
_LAST_LINES = 20


def plan_of(definition: PipelineDefinition, execution: CloudExecution, parameters: Mapping[str, str]) -> Plan:
    """The execution as a Plan, which is what a report knows the steps from."""
    steps = tuple(PlannedStep(step, tuple(dependencies(step, definition))) for step in definition.steps)
    return Plan(
        execution_id=execution.id,
        pipeline=definition,
        parameters=dict(parameters),
        steps=steps,
        started=execution.started.isoformat(),
        region=execution.arn.split(":")[3],
    )


def follow(
    aws: Aws,
    arn: str,
    plan: Plan,
    listener: Listener,
    pace: Pace | None = None,
    on_interrupt: Callable[[], None] | None = None,
) -> Execution:
    """Watch an execution until it is over; what it came to, each failed job with its last lines.

    ``listener.started`` and ``ended`` are called here. ``on_interrupt`` is called at the first Ctrl-C, and the watching
    goes on; without it, and at the next one, KeyboardInterrupt is raised. Raises AwsError where the account does not
    answer any more: at once if it refuses, and after ten minutes if it is out of reach. The execution goes on all the
    same.
    """
    watch = _Watch(aws, arn, plan, listener)
    pace = pace or Pace()
    listener.started(plan, f"SageMaker ({aws.region})")
    while True:
        try:
            changed = watch.look()
            if watch.result:
                listener.ended(watch.result)
                return watch.result
            pace.wait(changed=changed)
        except KeyboardInterrupt:
            if on_interrupt is None:
                raise
            on_interrupt()
            on_interrupt = None


@dataclass
class _Watch:
    """One execution, and what of it the listener has. ``result`` is what it came to, once it is over."""

    aws: Aws
    arn: str
    plan: Plan
    listener: Listener
    result: Execution | None = None
    _shown: dict[str, tuple[bool, int]] = field(default_factory=dict[str, tuple[bool, int]])
    _ended: dict[str, CloudStep] = field(default_factory=dict[str, CloudStep])
    _unreachable_since: float | None = None

    def look(self) -> bool:
        """Ask the account once and pass on what is new; whether anything was. Raises AwsError."""
        types = {step.step.name: step.step.type for step in self.plan.steps}
        try:
            # In this order: what is over here has all its steps there.
            execution = describe_execution(self.aws, self.arn)
            steps = execution_steps(self.aws, self.arn, types)
        except AwsError as error:
            self._unreachable_since = self._unreachable_since or time.monotonic()
            if not error.transient or time.monotonic() - self._unreachable_since > _UNREACHABLE_SECONDS:
                raise
            self.listener.note(f"{error.message} Trying again.")
            return False
        self._unreachable_since = None
        news = [step for step in steps if self._shown.get(step.name) != (step.over, step.attempt)]
        for step in news:
            self._show(step)
        if execution.over:
            ended = [self._ended[step.name] for step in steps if step.name in self._ended]
            self.result = _finished(self.plan, execution, ended, self.aws.region)
        return bool(news)

    def _show(self, step: CloudStep) -> None:
        _, attempt = self._shown.get(step.name, (False, 0))
        if attempt != step.attempt:
            self.listener.step_started(step.name)
        if step.over:
            self._ended[step.name] = _with_job_details(self.aws, step)
            self.listener.step_ended(self._ended[step.name].result)
        self._shown[step.name] = (step.over, step.attempt)


def _finished(plan: Plan, execution: CloudExecution, steps: list[CloudStep], region: str) -> Execution:
    """What an execution has come to, as the report of a local run takes it."""
    return Execution(
        id=execution.id,
        pipeline=plan.pipeline.name,
        status=execution.reported_status,
        engine=f"SageMaker ({region})",
        failure_reason=execution.failure_reason,
        parameters=plan.parameters,
        started=plan.started,
        ended=execution.ended.isoformat() if execution.ended else "",
        seconds=execution.seconds,
        steps=tuple(step.result for step in steps),
    )


def _with_job_details(aws: Aws, step: CloudStep) -> CloudStep:
    """A step that ended, with what its job reported: its exit message; after a failure, its last lines as well."""
    step = with_job_message(aws, step)
    if step.result.status != "Failed" or step.job is None:
        return step
    reasons = [step.result.failure_reason or ""]
    try:
        lines = last_lines(aws, step.job, _LAST_LINES)
    except AwsError as error:
        reasons.append(f"Its log cannot be read. {error.message}")
        lines = []
    host = ""
    for line in lines:
        if line.host != host:
            host = line.host
            reasons.append(f"The last lines of {host}:")
        reasons.append(f"  {line.text}")
    result = replace(step.result, failure_reason="\n".join(filter(None, reasons)))
    return replace(step, result=result)
