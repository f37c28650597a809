"""The logs of an execution's jobs, step by step or as they come. Reads only; hands lines to whoever prints them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from local_runner.cloud.account.aws import Aws, AwsError, CloudError
from local_runner.cloud.account.polling import Pace
from local_runner.cloud.executions.api import CloudExecution, describe_execution, execution_steps
from local_runner.cloud.executions.job_logs import JobLog
from local_runner.models import PipelineDefinition
from local_runner.report.text import printable


@dataclass(frozen=True)
class LogOptions:
    """Which lines of an execution's jobs. ``step``: those of one step. ``follow``: until the execution is over.

    ``tail``: only so many of the last lines of each host's past (None: all).
    """

    step: str | None = None
    follow: bool = False
    tail: int | None = None


def print_logs(
    aws: Aws,
    execution: CloudExecution,
    definition: PipelineDefinition,
    options: LogOptions,
    show: Callable[[str], None],
    note: Callable[[str], None],
    pace: Pace | None = None,
) -> None:
    """Give ``show`` each line as ``Step/host | text``, in the order in which the steps began.

    ``note`` gets what has no log. Raises CloudError where the definition has no such step, and AwsError.
    """
    step, follow = options.step, options.follow
    types = {item.name: item.type for item in definition.steps}
    if step is not None and types and step not in types:
        raise CloudError(f"The pipeline has no step '{step}'. Its steps: {', '.join(types)}.")
    pace, reading = pace or Pace(), _Reading(aws, execution.arn, types, options, show)
    watched = follow and not execution.over
    while True:
        try:
            over = describe_execution(aws, execution.arn).over
            news = reading.more()
            if over and watched:
                watched = False  # what was printed last may arrive after the end
            elif over or not follow:
                break
        except AwsError as error:
            if not follow or not error.transient:
                raise
            note(f"{error.message} Trying again.")
            news = False
        pace.wait(changed=news)
    if not reading.shown:
        note("Nothing was logged." if reading.logs else "No job has been started: there is nothing to show.")


@dataclass
class _Reading:
    """The logs of an execution's jobs so far, by the jobs' names."""

    aws: Aws
    arn: str
    types: Mapping[str, str]
    options: LogOptions
    show: Callable[[str], None]
    logs: dict[str, JobLog] = field(default_factory=dict[str, JobLog])
    shown: int = 0

    def more(self) -> bool:
        """Show what is new; whether anything was."""
        before = self.shown
        for item in execution_steps(self.aws, self.arn, self.types):
            if item.job is None or self.options.step not in (None, item.name.partition("[")[0]):
                continue
            log = self.logs.setdefault(item.job.name, JobLog(item.job, self.options.tail))
            for line in log.more(self.aws):
                self.show(f"{item.name}/{line.host} | {printable(line.text)}")
                self.shown += 1
        return self.shown > before
