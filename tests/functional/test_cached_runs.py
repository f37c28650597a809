"""The step cache through the command line, on both engines, and with runs that are killed or run side by side."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from support.command_line import Running, local_runner
from support.definitions import pipeline, processing, write

SCRIPT = "cat in/data/* > out/out/all; echo $LEVEL >> out/out/all; echo said; echo done > /opt/ml/output/message"


def cat_of_data(tmp_path: Path, script: str = SCRIPT) -> Path:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data/a").write_text("one")
    step = processing("Only", script, inputs={"data": "s3://in"}, outputs={"out": "s3://b/out"})
    return write(tmp_path / "p.json", pipeline(step))


def arguments(tmp_path: Path, file: Path, state: Path, engine: str) -> list[str]:
    return ["run", str(file), "--state", str(state), "--engine", engine, "--map", f"s3://in={tmp_path / 'data'}"]


def test_the_second_run_is_cached_and_the_same(tmp_path: Path, state: Path, engine: str) -> None:
    file = cat_of_data(tmp_path)
    command = [*arguments(tmp_path, file, state, engine), "--json"]
    (first,), (again,) = (json.loads(local_runner(*command).stdout)["steps"] for _ in range(2))
    assert (first["cached"], again["cached"]) == (False, True)
    for key in ("status", "exit_code", "exit_message", "outputs"):
        assert first[key] == again[key]
    assert Path(again["log"]).read_text() == Path(first["log"]).read_text() == "said\n"
    assert Path(again["outputs"]["out"], "all").read_text() == "one\n"
    (tmp_path / "data/a").write_text("two")
    why = local_runner("why", "Only", *command[1:-1], "--json")
    explained = json.loads(why.stdout)
    assert (explained["verdict"], [change["what"] for change in explained["changes"]]) == ("miss", ["inputs.data/a"])
    changed = json.loads(local_runner(*command).stdout)["steps"][0]
    assert not changed["cached"]
    assert Path(changed["outputs"]["out"], "all").read_text() == "two\n"
    assert "2 of 2 entries removed" in local_runner("clean", "--cache", "--state", state).stdout
    assert not json.loads(local_runner(*command).stdout)["steps"][0]["cached"]


@pytest.mark.sandbox
@pytest.mark.usefixtures("environment")
def test_a_killed_run_leaves_no_entry_and_two_runs_at_once_agree(tmp_path: Path, state: Path) -> None:
    file = cat_of_data(tmp_path, f"{SCRIPT}; sleep 1")
    command = [*arguments(tmp_path, file, state, "sandbox"), "--json"]
    killed = Running(tmp_path / "killed", *command)
    killed.wait_for("Executing")
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    assert not (state / "steps/entries").exists()
    both = [Running(tmp_path / name, *command) for name in ("one", "two")]
    assert [each.end() for each in both] == [0, 0]
    assert json.loads(local_runner(*command).stdout)["steps"][0]["cached"]
    assert (state / "s3/b/out/all").read_text() == "one\n"


@pytest.mark.docker
@pytest.mark.usefixtures("processing_image")
def test_another_image_is_another_key(tmp_path: Path, state: Path, processing_image: str) -> None:
    file = cat_of_data(tmp_path)
    command = [*arguments(tmp_path, file, state, "docker"), "--json"]
    assert not json.loads(local_runner(*command).stdout)["steps"][0]["cached"]
    named = json.loads(local_runner(*command, "--image", processing_image).stdout)["steps"][0]
    assert not named["cached"]  # by its id, as nothing is known of what a tag was built from
    assert json.loads(local_runner(*command, "--image", processing_image).stdout)["steps"][0]["cached"]
