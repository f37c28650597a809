"""The kinds of steps, a module for each: what runs one attempt at a step, from its Arguments to its end.

Each ``run`` announces the attempt when it begins, which one that is taken from the cache does not. It may raise
DataError, ExpressionError and OSError, which fail the step. What the modules read and write stands at the top of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from local_runner.execution.attempt import Attempt
from local_runner.execution.ended import Ended

RUNS: Mapping[str, str] = {
    "Processing": "processing",
    "Training": "training",
    "Transform": "transform",
    "Model": "model",
    "Lambda": "function",
    "Callback": "function",
    "EMR": "function",
    "EMRServerless": "function",
    "Condition": "condition",
    "Fail": "fail",
}
"""The module whose ``run`` runs a step of each type of ``local_runner.sagemaker_api.job_types.STEP_KINDS``."""


def runner_of(step_type: str) -> Callable[[Attempt], Ended]:
    """What runs an attempt at a step of that type. Its module is imported when the first such step runs: a pipeline has
    few of the types, and starting is part of every run."""
    return import_module(f"{__name__}.{RUNS[step_type]}").run
