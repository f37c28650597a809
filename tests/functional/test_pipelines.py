"""Each directory of ``tests/pipelines`` is a scenario that runs on each engine. A new behaviour is a new directory.

``definition.json`` is the pipeline; ``data/BUCKET/KEY`` are the objects that it finds (each bucket is mapped, and must
be unchanged afterwards). ``expected.json`` says what comes of it:

- ``arguments``: more for the command line; ``exit_code``;
- ``steps``: the status of each step that started; ``order``: the names in the order in which they ended;
- ``outputs``: for ``Step.Output`` its whole content, text by path; ``absent``: what is not in the local S3;
- ``exit_messages`` by step; ``logs``: by step, lines that its log has;
- ``reasons``: by step, and ``failure_reason``: texts that occur there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import PROJECT, local_runner

CASES = sorted(path.parent for path in (PROJECT / "tests/pipelines").glob("*/definition.json"))


def files(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_scenario(case: Path, engine: str, state: Path):
    expected: dict[str, Any] = json.loads((case / "expected.json").read_text())
    data = case / "data"
    before = files(data)
    maps = [f"--map=s3://{bucket.name}={bucket}" for bucket in data.iterdir()] if data.is_dir() else []
    arguments = [*maps, *expected.pop("arguments", ())]
    hosts_own = {"AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": "secret", "MY_SECRET": "secret"}
    done = local_runner(
        *("run", case / "definition.json", *arguments, "--json", "--engine", engine, "--state", state),
        changes=hosts_own,
    )
    assert done.stdout, done.stderr
    record = json.loads(done.stdout)
    steps = {step["name"]: step for step in record["steps"]}

    assert {name: step["status"] for name, step in steps.items()} == expected.pop("steps"), done.stderr
    assert done.returncode == expected.pop("exit_code"), done.stderr
    order = expected.pop("order", None)
    assert order is None or list(steps) == order
    for name, content in expected.pop("outputs", {}).items():
        step, _, output = name.partition(".")
        assert files(Path(steps[step]["outputs"][output])) == content
    for key in expected.pop("absent", ()):
        assert not (state / "s3" / key).exists()
    for name, message in expected.pop("exit_messages", {}).items():
        assert steps[name]["exit_message"] == message
    for name, lines in expected.pop("logs", {}).items():
        log = Path(steps[name]["log"]).read_text().splitlines()
        assert set(lines) <= set(log), log
    for name, texts in expected.pop("reasons", {}).items():
        assert all(text in steps[name]["failure_reason"] for text in texts), steps[name]["failure_reason"]
    for text in expected.pop("failure_reason", ()):
        assert text in record["failure_reason"]
    assert not expected, "expected.json says what this test does not know"
    assert files(data) == before
    assert not list((state / "runs").glob("*/work"))
