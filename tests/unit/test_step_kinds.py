"""The tables of the kinds of steps agree: what planning lets through can be run, and what can be run is let through."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from local_runner.definition.step_types import STEP_TYPES
from local_runner.execution.steps import RUNS, runner_of
from local_runner.sagemaker_api.job_types import STEP_KINDS


def test_every_type_that_planning_supports_is_run_and_the_reverse() -> None:
    assert STEP_KINDS.keys() == RUNS.keys()


def test_every_type_that_runs_here_is_one_of_the_service_whose_keys_are_known() -> None:
    assert all(STEP_TYPES[type_].keys for type_ in STEP_KINDS)


def test_every_type_has_a_module_that_runs_it() -> None:
    assert all(callable(runner_of(type_)) for type_ in RUNS)


def test_no_type_of_step_is_unknown_that_the_installed_botocore_or_sdk_knows() -> None:
    from botocore.session import get_session

    metadata = get_session().get_service_model("sagemaker").shape_for("PipelineExecutionStepMetadata")
    members = metadata.members  # type: ignore[attr-defined]
    named = {"TrainingJob", "ProcessingJob", "TransformJob", "TuningJob", "AutoMLJob"}  # Training, and so on
    types = {name.removesuffix("Job") if name in named else name for name in members}
    sdk = find_spec("sagemaker")
    assert sdk is not None
    source = Path(*(sdk.submodule_search_locations or ())) / "mlops/workflow/steps.py"  # slow to import
    enum = source.read_text().partition("class StepTypeEnum")[2].partition("\nclass ")[0]
    written = set(re.findall(r'= "(\w+)"', enum))
    assert {"Processing", "EMRServerless"} <= types & written
    assert types | written <= STEP_TYPES.keys()
