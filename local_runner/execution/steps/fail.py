"""Fail steps: they end the execution, with the message that the definition gives."""

from __future__ import annotations

from dataclasses import replace

from local_runner.definition.expressions import ExpressionError, resolve
from local_runner.execution.attempt import Attempt
from local_runner.execution.ended import Ended, failed


def run(attempt: Attempt) -> Ended:
    """Fail, with what can be made of the ErrorMessage."""
    attempt.announce()
    try:
        message = str(resolve(attempt.step.arguments.get("ErrorMessage", ""), attempt.scope))
    except ExpressionError as error:
        message = str(error)
    return replace(failed(attempt.planned, message), fails_execution=True)
