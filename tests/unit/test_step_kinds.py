"""The tables of the kinds of steps agree: what planning lets through can be run, and what can be run is let through."""

from __future__ import annotations

from local_runner.definition.step_types import STEP_TYPES
from local_runner.execution.steps import RUNS, runner_of
from local_runner.sagemaker_api.job_types import STEP_KINDS


def test_every_type_that_planning_supports_is_run_and_the_reverse() -> None:
    assert STEP_KINDS.keys() == RUNS.keys()


def test_every_type_that_runs_here_is_one_of_the_service_whose_keys_are_known() -> None:
    assert all(STEP_TYPES[type_].keys for type_ in STEP_KINDS)


def test_every_type_has_a_module_that_runs_it() -> None:
    assert all(callable(runner_of(type_)) for type_ in RUNS)
