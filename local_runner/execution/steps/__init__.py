"""The kinds of steps, a module for each: what runs one attempt at a step, from its Arguments to its end.

Each ``run`` announces the attempt when it begins. It may raise DataError, ExpressionError and OSError, which fail the
step. What the modules read and write stands at the top of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from local_runner.execution.attempt import Attempt
from local_runner.execution.ended import Ended
from local_runner.execution.steps import condition, fail, function, model, processing, training, transform

RUNS: Mapping[str, Callable[[Attempt], Ended]] = {
    "Processing": processing.run,
    "Training": training.run,
    "Transform": transform.run,
    "Model": model.run,
    "Lambda": function.run,
    "Callback": function.run,
    "EMR": function.run,
    "EMRServerless": function.run,
    "Condition": condition.run,
    "Fail": fail.run,
}
"""What runs a step of each type of ``local_runner.sagemaker_api.job_types.STEP_KINDS``."""
