"""Each directory of ``tests/pipelines`` is a scenario (``tests/support/scenario.py``) that runs on each engine.

A new behaviour is a new directory. What AWS promises is in ``tests/conformance``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import local_runner
from support.project import PROJECT
from support.scenario import buckets, differences, expectation, files

CASES = sorted(path.parent for path in (PROJECT / "tests/pipelines").glob("*/definition.json"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_scenario(case: Path, engine: str, state: Path):
    expected = expectation(case / "expected.json")
    before = files(case / "data")
    maps = [f"--map={uri}={directory}" for uri, directory in buckets(case / "data").items()]
    arguments = [*maps, *expected.get("arguments", ())]
    hosts_own = {"AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": "secret", "MY_SECRET": "secret"}
    done = local_runner(
        *("run", case / "definition.json", *arguments, "--json", "--engine", engine, "--state", state),
        changes=hosts_own,
    )
    assert done.stdout, done.stderr
    assert differences(expected, json.loads(done.stdout), done.returncode, state / "s3") == [], done.stderr
    assert files(case / "data") == before
    assert not list((state / "runs").glob("*/work"))
