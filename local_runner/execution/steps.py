"""How one step ends, and the steps that are no jobs: Condition, Fail, and functions that stand in for other services.

Functions run through :mod:`local_runner.execution.functions.process`; nothing else here touches the machine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_runner.definition.expressions import ExpressionError, Scope, condition_result, evaluate, resolve
from local_runner.execution.functions import process
from local_runner.execution.functions.outputs import declared_outputs, describe
from local_runner.models import PlannedStep, ServiceException, StandIn, StepExecution
from local_runner.sagemaker_api.processing import first_deferred
from local_runner.secrets import Secrets


@dataclass(frozen=True)
class Ended:
    """What a step hands back: the record, and what other steps may ask of it (its Describe response).

    ``exception`` is the service's own, where it was one that ended the step: what retry policies go by.
    """

    step: StepExecution
    describe: dict[str, Any] = field(default_factory=dict[str, Any])
    exception: ServiceException | None = None


def failed(planned: PlannedStep, reason: str, exception: ServiceException | None = None) -> Ended:
    """The end of a step that failed before it had anything else to tell."""
    step = StepExecution(planned.step.name, planned.step.type, "Failed", failure_reason=reason)
    return Ended(step, exception=exception)


# ------------------------------------------------------------------------------------------- ended on the spot
def _condition(planned: PlannedStep, scope: Scope) -> Ended:
    step = planned.step
    try:
        outcome = evaluate(step.arguments["Conditions"], scope)
    except ExpressionError as error:
        return failed(planned, str(error))
    ended = StepExecution(step.name, step.type, "Succeeded", outcome=outcome)
    return Ended(ended, condition_result(outcome))


def _fail(planned: PlannedStep, scope: Scope) -> Ended:
    try:
        message = str(resolve(planned.step.arguments.get("ErrorMessage", ""), scope))
    except ExpressionError as error:
        message = str(error)
    return failed(planned, message)


AT_ONCE: dict[str, Callable[[PlannedStep, Scope], Ended]] = {"Condition": _condition, "Fail": _fail}
"""The types of steps that end as soon as they start, and what they come to."""


# --------------------------------------------------------------------------------------------------- functions
@dataclass(frozen=True)
class Places:
    """Where a function's process finds and leaves things: scratch space, the log, the tree of the local S3."""

    work: Path
    log: Path
    s3: Path


def run_function(
    planned: PlannedStep,
    stand_in: StandIn,
    scope: Scope,
    places: Places,
    on_line: Callable[[str], None],
    stop: threading.Event,
    secrets: Secrets,
) -> Ended:
    """Run what stands in for the step, with the step's resolved arguments. Raises ExpressionError, OSError."""
    step = planned.step
    event = resolve(dict(step.arguments), scope)
    unknown = first_deferred(event)
    if unknown is not None:
        return failed(planned, f"A value of its Arguments is not known: {unknown.reason}.")
    secrets.learn_named(event)
    secrets.learn_from(event)
    returned = process.run(
        stand_in,
        step,
        event,
        work=places.work,
        s3=places.s3,
        log=places.log,
        on_line=on_line,
        stop=stop,
        secrets=secrets,
    )
    reason = returned.failure_reason
    described: dict[str, Any] = {}
    if reason is None:
        values, faults = declared_outputs(step.output_parameters, returned.value)
        described = describe(step, event, returned.value, values)
        if faults:
            reason, described = f"{stand_in.entry}: {' '.join(faults)}", {}
        elif values:
            secrets.learn_named(values)
            on_line(f"OutputParameters {json.dumps(secrets.hidden_named(values), ensure_ascii=False)}")
    status = "Stopped" if returned.stopped else "Failed" if reason else "Succeeded"
    ended = StepExecution(
        step.name, step.type, status, exit_code=returned.exit_code, failure_reason=reason, log=places.log
    )
    return Ended(ended, described)
