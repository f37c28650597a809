"""Fingerprints: the same for every environment, another for every change of what runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_runner.compile.compiler import BuildValues
from local_runner.fingerprint import Fingerprint, differences, fingerprint_of, keep, verified_runs
from local_runner.storage.local_s3 import Source, Storage

LOCAL = BuildValues("local", "us-east-1", "sagemaker-local", "arn:aws:iam::000000000000:role/local-runner")
_REGIONS = st.sampled_from(["eu-west-1", "us-gov-west-1", "ap-southeast-2", "us-east-1"])
_ACCOUNTS = st.from_regex(r"[1-9][0-9]{11}", fullmatch=True)


@st.composite
def environments(draw: st.DrawFn) -> BuildValues:
    """What an environment may decide."""
    account, region = draw(_ACCOUNTS), draw(_REGIONS)
    bucket = draw(
        st.one_of(st.just(f"sagemaker-{region}-{account}"), st.from_regex(r"b[a-z0-9]{3,20}-x", fullmatch=True))
    )
    role = f"arn:aws:iam::{account}:role/{draw(st.from_regex(r'[A-Za-z]{4,20}-dev', fullmatch=True))}"
    return BuildValues(draw(st.sampled_from(["dev", "prod"])), region, bucket, role, account=account)


def compiled(values: BuildValues) -> dict[str, Any]:
    """What pipeline.py would give for these values: everything that an environment decides is in it."""
    return {
        "Version": "2020-12-01",
        "Parameters": [{"Name": "InputData", "DefaultValue": f"s3://{values.bucket}/flights"}],
        "Steps": [
            {
                "Name": "Clean",
                "Arguments": {
                    "RoleArn": values.role_arn,
                    "AppSpecification": {"ImageUri": values.image_uri},
                    "Script": f"s3://{values.bucket}/code/clean.py",
                    "Function": f"arn:aws:lambda:{values.region}:{values.account}:function:told",
                    "Other": f"{values.account}.dkr.ecr.{values.region}.amazonaws.com/sklearn:1.2",
                },
            }
        ],
    }


def fingerprint(root: Path, values: BuildValues, document: Any = None, image: str = "abc") -> Fingerprint:
    storage = Storage(root / "s3", (Source(f"s3://{values.bucket}/code", root, code=True),))
    return fingerprint_of(document or compiled(values), values, storage, image)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "clean.py").write_text("print(1)\n")
    return tmp_path


@given(environments())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_value_of_an_environment_changes_it(project: Path, values: BuildValues) -> None:
    assert fingerprint(project, values).value == fingerprint(project, LOCAL).value


def _paths(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [path for key, item in items for path in _paths(item, (*where, key))]
    return below or [where]


@pytest.mark.parametrize("path", _paths(compiled(LOCAL)), ids=str)
def test_every_change_of_the_definition_changes_it(project: Path, path: tuple[Any, ...]) -> None:
    document: Any = compiled(LOCAL)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "something else"
    changed = fingerprint(project, LOCAL, document)
    assert changed.value != fingerprint(project, LOCAL).value
    assert differences(fingerprint(project, LOCAL), changed)


def test_code_and_image_change_it_and_the_differences_name_them(project: Path) -> None:
    before = fingerprint(project, LOCAL)
    assert fingerprint(project, LOCAL, image="def").value != before.value
    (project / "clean.py").write_text("print(2)\n")
    after = replace(fingerprint(project, LOCAL), image="def")
    assert after.value != before.value
    assert differences(before, after) == ["clean.py changed", "the image changed (content abc -> def)"]


def test_runs_keep_it_and_what_is_damaged_proves_nothing(project: Path) -> None:
    assert verified_runs(project) == []
    for name, ended in (("early", "2026-01-01T00:00:00Z"), ("late", "2026-01-02T00:00:00Z"), ("bad", "2026")):
        keep(project / "runs" / name, fingerprint(project, LOCAL), ended)
    file = project / "runs" / "bad" / "fingerprint.json"
    file.write_text(file.read_text().replace("abc", "xyz"))
    (project / "runs" / "cut").mkdir()
    (project / "runs" / "cut" / "fingerprint.json").write_text("{")
    assert [run.execution_id for run in verified_runs(project)] == ["late", "early"]
    assert verified_runs(project)[0].fingerprint.value == fingerprint(project, LOCAL).value
