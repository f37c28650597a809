"""Lambda, Callback and EMR steps: the Python function that stands in for the other service.

It runs in a process of its own (:mod:`local_runner.execution.functions.process`), which writes the step's log.
"""

from __future__ import annotations

import json
from typing import Any

from local_runner.definition.expressions import resolve
from local_runner.errors import DataError
from local_runner.execution.attempt import Attempt
from local_runner.execution.ended import Ended
from local_runner.execution.functions import process
from local_runner.execution.functions.outputs import declared_outputs, describe
from local_runner.models import StepExecution
from local_runner.sagemaker_api.processing import first_deferred


def run(attempt: Attempt) -> Ended:
    """Call the function with the step's resolved arguments. Raises ExpressionError, DataError, OSError."""
    attempt.announce()
    step, stand_in, secrets = attempt.step, attempt.planned.stand_in, attempt.secrets
    assert stand_in is not None  # planning sees to it
    event = resolve(dict(step.arguments), attempt.scope)
    unknown = first_deferred(event)
    if unknown is not None:
        raise DataError(f"A value of its Arguments is not known: {unknown.reason}.")
    secrets.learn_named(event)
    secrets.learn_from(event)
    resources = attempt.resources
    places = process.Places(attempt.work, attempt.logs / "function.log", resources.storage.root)

    def on_line(text: str) -> None:
        attempt.on_line("function", text)

    returned = process.run(process.Call(stand_in, step, event), places, on_line, resources.stop, secrets)
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
