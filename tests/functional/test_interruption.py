"""Runs that are interrupted or killed, two at once, an ordinary user's: what is left, and what the next run does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import Running, local_runner
from support.definitions import pipeline, processing, write

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root may")

FIRST = processing("First", "echo 1 > out/o/f", outputs={"o": "s3://b/first"})


def long(state: Path, instances: int = 2) -> Path:
    """A pipeline whose second step is at work, with half an output, until it is stopped."""
    # The marker is in the job's command, so that its processes can be found on this machine.
    script = f"echo half > out/o/f; echo at work; sleep 61 # {state}"
    raw = {"raw": "s3://b/first"}
    second = processing(
        "Second", script, inputs=raw, outputs={"o": "s3://b/second"}, instances=instances, DependsOn=["First"]
    )
    return write(state.parent / "long.json", pipeline(FIRST, second))


def started(engine: str, state: Path) -> Running:
    arguments = ("--json", "--engine", engine, "--state", state)
    run = Running(state.parent / "long", "run", long(state), *arguments)
    run.wait_for("algo-1 | at work")
    run.wait_for("algo-2 | at work")
    return run


def left_behind(state: Path) -> dict[str, list[str]]:
    """What there is of the runs of a state directory outside of its s3, records and logs."""
    label = f"label=local-runner.state={state}"
    found = {
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if str(state) in line],
        "work": [str(path) for path in (state / "runs").glob("*/work")],
        "processes": processes(state),
    }
    if docker := shutil.which("docker"):
        for what, listing in (("containers", ["ps", "-aq"]), ("networks", ["network", "ls", "-q"])):
            command = [docker, *listing, "--filter", label]
            found[what] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {what: items for what, items in found.items() if items}


def processes(state: Path) -> list[str]:
    """The jobs' processes that run on this machine, in containers or sandboxes."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"sleep 61 # {state}" in command:
            found.append(f"{path}: {command}")
    return found


def nothing_is_left(state: Path, seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while left_behind(state) and time.monotonic() < until:
        time.sleep(0.1)
    assert not left_behind(state)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_the_run_in_good_order(engine: str, state: Path, number: signal.Signals):
    run = started(engine, state)
    run.process.send_signal(number)
    asked = time.monotonic()
    assert run.end(20) == 130
    assert time.monotonic() - asked < 10
    assert nothing_is_left(state)
    record = run.record
    assert record["status"] == "Stopped"
    assert {step["name"]: step["status"] for step in record["steps"]} == {"First": "Succeeded", "Second": "Stopped"}
    assert json.loads((state / "runs" / record["id"] / "execution.json").read_text()) == record
    assert (state / "s3/b/first/f").read_text() == "1\n"
    assert not (state / "s3/b/second").exists()


def test_a_killed_run_is_swept_by_the_next(engine: str, tmp_path: Path, state: Path):
    run = started(engine, state)
    run.process.kill()
    run.end()
    if engine == "docker":
        assert len(left_behind(state)["containers"]) == 2
        assert left_behind(state)["networks"]
    assert left_behind(state)["work"]
    assert not (state / "s3/b/second").exists()
    again = write(tmp_path / "again.json", pipeline(FIRST))
    done = local_runner("run", again, "--engine", engine, "--state", state)
    assert done.returncode == 0, done.stdout + done.stderr
    assert nothing_is_left(state)
    assert not (state / "s3/b/second").exists()
    assert (state / "s3/b/first/f").read_text() == "1\n"


@pytest.mark.docker
@pytest.mark.sandbox
@pytest.mark.usefixtures("environment", "processing_image")
def test_what_a_killed_run_left_in_docker_is_swept_by_the_sandbox(tmp_path: Path, state: Path):
    run = started("docker", state)
    run.process.kill()
    run.end()
    assert len(left_behind(state)["containers"]) == 2
    done = local_runner("run", write(tmp_path / "p.json", pipeline(FIRST)), "--engine", "sandbox", "--state", state)
    assert done.returncode == 0, done.stdout + done.stderr
    assert nothing_is_left(state)


def test_a_run_that_is_interrupted_before_anything_runs(state: Path, tmp_path: Path):
    (tmp_path / "pipeline.py").write_text("import time\ntime.sleep(60)\n")
    run = Running(tmp_path / "run", "run", tmp_path / "pipeline.py", "--state", state)
    run.wait_for("compiling")
    time.sleep(0.5)
    run.process.send_signal(signal.SIGINT)
    assert run.end(10) == 130
    assert "Interrupted." in run.said
    assert "Traceback" not in run.said
    assert not (state / "runs").exists()


def test_two_runs_at_once_on_one_state_directory(engine: str, tmp_path: Path, state: Path):
    """Neither sweeps what the other has, and what both write to one place is whole."""
    runs: list[Running] = []
    for number in (1, 2):
        script = f"sleep 1; echo {number} > out/o/own-{number}; echo {number} > out/o/both"
        first = processing("First", script, outputs={"o": "s3://b/both"}, instances=2)
        check = "test -s in/x/both && test -s in/x/own-" + str(number)
        second = processing("Second", check, inputs={"x": "s3://b/both"}, DependsOn=["First"])
        target = write(tmp_path / f"{number}.json", pipeline(first, second, first | {"Name": "Third"}))
        runs.append(Running(tmp_path / f"run-{number}", "run", target, "--json", "--engine", engine, "--state", state))
    # A third one comes and goes, and so sweeps, while they are at work.
    for run in runs:
        run.wait_for("Executing")
    done = local_runner("run", write(tmp_path / "3.json", pipeline(FIRST)), "--engine", engine, "--state", state)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [run.end() for run in runs] == [0, 0], runs[0].said + runs[1].said
    assert {run.record["status"] for run in runs} == {"Succeeded"}
    assert sorted(path.name for path in (state / "s3/b/both").iterdir()) == ["both", "own-1", "own-2"]
    assert nothing_is_left(state)


# ----------------------------------------------------------------------------------------------- an ordinary user
@pytest.fixture
def ordinary_home() -> Iterator[Path]:
    """A directory that an ordinary user owns and reaches; pytest's own are closed to others."""
    home = Path(tempfile.mkdtemp(prefix="ordinary-", dir="/tmp"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home, ignore_errors=True)


@root_only
@pytest.mark.docker
@pytest.mark.programs("setpriv")
def test_an_ordinary_user_owns_all_that_a_run_leaves(processing_image: str, ordinary_home: Path):
    user = 65534
    socket = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--groups", str(socket.stat().st_gid)]
    # This environment may lie where the user cannot go . The right to read everything hides nothing here: it
    # lets nobody change or remove another's files.
    reads_all = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    script = "umask 77; mkdir out/o/d in/raw/new; echo 1 > out/o/d/f; cp in/raw/a in/raw/new; echo 2 >> in/raw/a"
    step = processing("A", script, inputs={"raw": "s3://b/raw"}, outputs={"o": "s3://b/o"}, instances=2)
    (ordinary_home / "raw").mkdir()
    (ordinary_home / "raw/a").write_text("1\n")
    write(ordinary_home / "a.json", pipeline(step))
    state = ordinary_home / "state"
    for path in (ordinary_home, *ordinary_home.rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)
    for _ in range(2):
        done = local_runner(
            *("run", "a.json", "--engine", "docker", "--state", state),
            *("--image", processing_image, "--map", "s3://b/raw=raw"),
            cwd=ordinary_home,
            prefix=[*become, *reads_all],
            changes={"HOME": str(ordinary_home)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert {path for path in ordinary_home.rglob("*") if path.lstat().st_uid != user} == set()
        assert not list((state / "runs").glob("*/work"))
    read = subprocess.run([*become, "cat", state / "s3/b/o/d/f"], capture_output=True, text=True)
    assert read.stdout == "1\n"
    assert (ordinary_home / "raw/a").read_text() == "1\n"
    subprocess.run([*become, "rm", "-r", state], check=True)
    assert not state.exists()
