"""The exceptions of the service that steps are to end in (``--inject-fault``), held against the steps. No I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import repeat

from local_runner.definition.references import did_you_mean
from local_runner.definition.step_fields import EXCEPTIONS
from local_runner.errors import Problem
from local_runner.jsontext import shorten
from local_runner.models import Fault, ServiceException, Step
from local_runner.sagemaker_api.job_types import AT_ONCE_TYPES, FUNCTION_KINDS


def parse_fault(text: str) -> Fault:
    """``STEP=EXCEPTION`` or ``STEP=EXCEPTION:COUNT``. Raises ValueError with a sentence."""
    step, separator, rest = text.partition("=")
    exception, _, count = rest.partition(":")
    if not separator or not step:
        raise ValueError(f"{text!r} is not of the form STEP=EXCEPTION[:COUNT].")
    if exception not in EXCEPTIONS:
        remedy = did_you_mean(exception, EXCEPTIONS) or f"There are {', '.join(EXCEPTIONS)}."
        raise ValueError(f"there is no exception {exception!r}. {remedy}")
    if rest != exception and not re.fullmatch(r"[1-9]\d{0,3}", count, re.ASCII):
        raise ValueError(f"{count!r} is no number of attempts. Give one from 1 to 9999.")
    return Fault(step, EXCEPTIONS[EXCEPTIONS.index(exception)], int(count or 1))


def faults_by_step(
    faults: Sequence[Fault], steps: Mapping[str, Step], selected: Collection[str], problems: list[Problem]
) -> dict[str, tuple[ServiceException, ...]]:
    """The exceptions that the first attempts of each step end in; several faults of a step come one after the other.

    Faults that cannot happen are added to ``problems``.
    """
    found: dict[str, tuple[ServiceException, ...]] = {}
    for fault in faults:
        problem = _problem(fault, steps, selected)
        if problem is not None:
            problems.append(problem)
        else:
            found[fault.step] = (*found.get(fault.step, ()), *repeat(fault.exception, fault.count))
    return found


def _problem(fault: Fault, steps: Mapping[str, Step], selected: Collection[str]) -> Problem | None:
    where = f"--inject-fault {shorten(fault.step)}"
    step = steps.get(fault.step)
    if step is None:
        remedy = did_you_mean(fault.step, steps) or f"There are {', '.join(list(steps)[:10])}."
        return Problem(where, f"there is no step '{shorten(fault.step)}'.", remedy)
    if step.name not in selected:
        return Problem(where, f"step '{step.name}' is not selected.", "Select it too.")
    if step.type in AT_ONCE_TYPES:
        what = f"a {step.type} step calls no service, so that it cannot meet {fault.exception}."
        return Problem(where, what, "Name another step.")
    if step.type in FUNCTION_KINDS and not fault.exception.startswith("Step."):
        what = f"a step of type {step.type} starts no SageMaker job, so that it cannot meet {fault.exception}."
        return Problem(where, what, "Take Step.SERVICE_FAULT or Step.THROTTLING.")
    return None
