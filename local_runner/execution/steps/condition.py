"""Condition steps: which branch is taken. Reads the files that the conditions ask for (``Std:JsonGet``)."""

from __future__ import annotations

from local_runner.definition.expressions import condition_result, evaluate
from local_runner.execution.attempt import Attempt
from local_runner.execution.ended import Ended
from local_runner.models import StepExecution


def run(attempt: Attempt) -> Ended:
    """Evaluate the conditions. Raises ExpressionError."""
    attempt.announce()
    step = attempt.step
    outcome = evaluate(step.arguments["Conditions"], attempt.scope)
    return Ended(StepExecution(step.name, step.type, "Succeeded", outcome=outcome), condition_result(outcome))
