"""How a user tests the pipeline: the whole of it, its branches, and one step alone (test_scripts.py: a script alone).

``local_run`` comes from the pytest plugin of local_runner; these tests know only the pipeline.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest


def rows(directory: Path) -> pd.DataFrame:
    """All rows below a directory, in an order that does not depend on the files they are in."""
    frame = pd.concat(pd.read_parquet(file) for file in sorted(directory.rglob("*.parquet")))
    return frame.sort_values(list(frame.columns), ignore_index=True)


@pytest.fixture(scope="module")
def the_day(local_run_module):
    """One run of the whole pipeline, which several tests look at."""
    return local_run_module(date="2013-01-01")


def test_the_day_runs(the_day):
    assert the_day.status == "Succeeded", the_day.failure_reason
    assert [step.name for step in the_day.steps if step.status != "Succeeded"] == []


def test_every_good_row_ends_up_in_train_or_test(the_day):
    report = json.loads((the_day.step("Validate").outputs["quality"] / "quality.json").read_text())
    outputs = the_day.step("Transform").outputs
    assert len(rows(outputs["train"])) + len(rows(outputs["test"])) == report["rows"] - report["bad_rows"]


def test_a_timestamp_means_its_day(local_run):
    execution = local_run(date="2013-01-02T06:00:00Z", steps=["Validate"])
    assert execution.status == "Succeeded", execution.failure_reason
    assert [folder.name for folder in execution.step("Validate").outputs["clean"].iterdir()] == ["dt=2013-01-02"]


def test_too_many_bad_rows_stop_the_day_with_the_numbers(local_run):
    execution = local_run(date="2013-01-02", parameters={"MaxBadRatio": 0.001})
    assert execution.status == "Failed"
    assert "15 of 943 rows are bad" in execution.failure_reason
    assert "Transform" not in [step.name for step in execution.steps]


def test_a_missing_day_says_so(local_run):
    execution = local_run(date="2013-02-01", steps=["Validate"])
    assert execution.status == "Failed"
    assert "2013-02-01" in execution.step("Validate").exit_message


def test_transform_alone_gives_the_same_rows_on_any_number_of_instances(local_run, the_day):
    given = {
        "Validate.clean": the_day.step("Validate").outputs["clean"],
        "Fit.model": the_day.step("Fit").outputs["model"],
    }
    execution = local_run(steps=["Transform"], data=given, parameters={"ProcessingInstanceCount": 2})
    assert execution.status == "Succeeded", execution.failure_reason
    for name in ("train", "test"):
        pd.testing.assert_frame_equal(
            rows(execution.step("Transform").outputs[name]), rows(the_day.step("Transform").outputs[name])
        )
