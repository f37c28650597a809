"""The logs of an execution's jobs, step by step or as they come. Reads only; hands lines to whoever prints them."""

from __future__ import annotations

from collections.abc import Callable

from local_runner.cloud.aws import Aws, AwsError, CloudError
from local_runner.cloud.executions import CloudExecution, describe_execution, execution_steps
from local_runner.cloud.following import Pace
from local_runner.cloud.job_logs import JobLog
from local_runner.models import PipelineDefinition
from local_runner.report.text import printable


def print_logs(
    aws: Aws,
    execution: CloudExecution,
    definition: PipelineDefinition,
    show: Callable[[str], None],
    note: Callable[[str], None],
    *,
    step: str | None = None,
    follows: bool = False,
    tail: int | None = None,
    pace: Pace | None = None,
) -> None:
    """Give ``show`` each line as ``Step/host | text``, in the order in which the steps began.

    ``follows``: until the execution is over. ``tail``: only the last lines of each host's past. ``note`` is told what
    has no log. Raises CloudError where the definition has no such step, and AwsError.
    """
    types = {item.name: item.type for item in definition.steps}
    if step is not None and types and step not in types:
        raise CloudError(f"The pipeline has no step '{step}'. Its steps: {', '.join(types)}.")
    pace, logs, shown = pace or Pace(), dict[str, JobLog](), False
    while True:
        try:
            execution = describe_execution(aws, execution.arn)
            wanted = [
                item
                for item in execution_steps(aws, execution.arn, types)
                if step in (None, item.name.partition("[")[0])
            ]
            news = False
            for item in wanted:
                if item.job is None:
                    continue
                log = logs.setdefault(item.job.name, JobLog(item.job, tail))
                for line in log.more(aws):
                    show(f"{item.name}/{line.host} | {printable(line.text)}")
                    news = shown = True
        except AwsError as error:
            if not follows or not error.transient:
                raise
            note(f"{error.message} Trying again.")
            news = False
        else:
            if execution.over or not follows:
                break
        pace.wait(changed=news)
    if not shown:
        note("Nothing was logged." if logs else "No job has been started: there is nothing to show.")
