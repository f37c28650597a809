"""How commands end, and what they leave: signals, `clean` beside runs, disks that are read-only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.command_line import PROGRAM, Running, environment, local_runner
from support.definitions import pipeline, processing, write
from support.project import PROJECT, link_caches

from local_runner.storage import runs

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, which only root may")
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
ONE = processing("First", "echo 1 > out/o/f", outputs={"o": "s3://b/first"})

# A module that the command line imports, and which tells when it is.
SLOW = "import os, sys, time\nos.write(2, b'importing\\n')\ntime.sleep(60)\n"


def slow_import(directory: Path, module: str) -> dict[str, str]:
    write_text = directory / f"{module}.py"
    write_text.parent.mkdir(parents=True, exist_ok=True)
    write_text.write_text(SLOW)
    return {"PYTHONPATH": f"{directory}{os.pathsep}{PROJECT}"}


def compiling(tmp_path: Path) -> Running:
    (tmp_path / "pipeline.py").write_text("import time\ntime.sleep(60)\n")
    run = Running(tmp_path / "run", "run", tmp_path / "pipeline.py", "--state", tmp_path / "state")
    run.wait_for("compiling")
    return run


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_the_program_is_imported(tmp_path: Path, number: signal.Signals):
    run = Running(tmp_path / "run", "--help", changes=slow_import(tmp_path / "lib", "click"))
    run.wait_for("importing")
    run.process.send_signal(number)
    assert run.end(10) == 130
    assert run.said.split() == ["importing", "Interrupted."]


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_before_the_execution(tmp_path: Path, number: signal.Signals):
    run = compiling(tmp_path)
    run.process.send_signal(number)
    assert run.end(20) == 130
    assert "Interrupted." in run.said
    assert "Traceback" not in run.said


@pytest.mark.sandbox
def test_a_signal_in_the_middle_of_an_exec_of_text(tmp_path: Path):
    """As dataclasses use it. Python would end itself by SIGINT, however the exception was handled."""
    write(tmp_path / "p.json", pipeline(ONE))
    library = tmp_path / "lib"
    library.mkdir()
    text = "import os, time\nos.write(2, b'importing\\n')\ntime.sleep(60)"
    # Imported by the command when its own handlers are in place.
    (library / "difflib.py").write_text(f"exec({text!r})\n")
    changes = {"PYTHONPATH": f"{library}{os.pathsep}{PROJECT}"}
    run = Running(tmp_path / "run", "run", tmp_path / "p.json", "--state", tmp_path / "state", changes=changes)
    run.wait_for("importing")
    run.process.send_signal(signal.SIGHUP)
    assert run.end(20) == 130


@pytest.mark.sandbox
@pytest.mark.usefixtures("environment")
def test_nohup_goes_on(tmp_path: Path, state: Path):
    path = write(
        tmp_path / "p.json", pipeline(processing("First", "sleep 2; echo 1 > out/o/f", outputs={"o": "s3://b/f"}))
    )
    command = ["nohup", *PROGRAM, "run", str(path), "--engine", "sandbox", "--state", str(state)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not list((state / "runs").glob("*/work/First")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0


IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.sandbox
@pytest.mark.usefixtures("environment")
def test_a_terminal_that_is_closed_stops_the_run_in_good_order(tmp_path: Path, state: Path):
    path = write(tmp_path / "p.json", pipeline(processing("First", "echo begun; sleep 60")))
    outside, inside = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *PROGRAM, "run", str(path), "--engine", "sandbox", "--state", str(state)],
        env={**environment(), "TERM": "xterm"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    try:
        shown = b""
        while b"begun" not in shown and (data := os.read(outside, 1 << 16)):
            shown += data
        os.close(outside)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    (run,) = (state / "runs").iterdir()
    assert json.loads((run / "execution.json").read_text())["status"] == "Stopped"
    assert not (run / "work").exists()


OPEN = """
import sys
from pathlib import Path
from local_runner.storage import runs
state = Path(sys.argv[1])
for _ in range(300):
    run = runs.open_run(state, runs.new_execution_id())
    assert (run.directory / "lock").exists() and runs.is_live(state, run.id), run.id
    run.close()
"""
CLEAN = """
import sys
from pathlib import Path
from local_runner.storage import runs
from local_runner.step_cache.prune import prune_runs
state = Path(sys.argv[1])
while True:
    prune_runs(state, max_age=None)
    runs.sweep(state)
"""


def test_clean_beside_runs_that_start(tmp_path: Path):
    def start(program: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, str(tmp_path)]
        return subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)

    cleaners = [start(CLEAN) for _ in range(2)]
    openers = [start(OPEN) for _ in range(4)]
    try:
        for opener in openers:
            _, said = opener.communicate(timeout=120)
            assert opener.returncode == 0, said
        assert [cleaner.poll() for cleaner in cleaners] == [None, None]
    finally:
        for process in (*cleaners, *openers):
            process.kill()
            process.communicate()


def test_what_a_killed_open_left_is_swept(tmp_path: Path):
    (tmp_path / "opening/abc").mkdir(parents=True)
    (tmp_path / "opening/abc/lock").touch()
    runs.sweep(tmp_path)
    assert not list((tmp_path / "opening").iterdir())


def test_a_directory_in_the_place_of_a_lock(tmp_path: Path):
    path = write(tmp_path / "p.json", pipeline(ONE))
    (tmp_path / "state/runs/abc/lock").mkdir(parents=True)
    for command in (("run", path, "--engine", "sandbox"), ("clean",)):
        done = local_runner(*command, "--state", tmp_path / "state")
        assert done.returncode == 2
        assert "runs/abc/lock: Is a directory. A directory has the name of a file here" in done.stderr


@pytest.mark.sandbox
def test_a_directory_in_the_place_of_any_lock_of_the_state(tmp_path: Path):
    """Every lock that a run makes, whichever there are: what is told names it, or the run does without it."""
    path = write(tmp_path / "p.json", pipeline(ONE))
    state = link_caches(tmp_path / "state")
    command = ("run", path, "--engine", "sandbox", "--state", state)
    assert local_runner(*command).returncode == 0
    locks = [lock for lock in sorted(state.rglob("*lock*")) if lock.is_file() and "runs" not in lock.parts]
    assert {lock.name for lock in locks} >= {".lock", "opening.lock"}
    for lock in [*locks, state / "steps/digests.sqlite"]:  # a database, which has its locks inside
        lock.unlink()
        lock.mkdir()
        done = local_runner(*command, "--refresh", "First")
        assert "Traceback" not in done.stderr
        if done.returncode:
            said = done.stdout + done.stderr
            assert str(lock.relative_to(state)) in said, said
            assert "A directory has the name of a file here: remove or rename it" in said
        lock.rmdir()
    assert local_runner(*command).returncode == 0


@root_only
@pytest.mark.sandbox
@pytest.mark.programs("unshare")
@pytest.mark.parametrize("command", [("why", "First"), ("clean", "--dry-run"), ("clean",)], ids=" ".join)
@pytest.mark.usefixtures("environment")
def test_a_state_directory_that_is_read_only(tmp_path: Path, command: tuple[str, ...]):
    path, state = write(tmp_path / "p.json", pipeline(ONE)), link_caches(tmp_path / "state", "cache/venv")
    assert local_runner("run", path, "--engine", "sandbox", "--state", state).returncode == 0
    arguments = (*command, *((path, "--engine", "sandbox") if command[0] == "why" else ()), "--state", state)
    mounted = f'mount --bind {state} {state} && mount -o remount,ro,bind {state} && exec "$@"'
    done = local_runner(*arguments, prefix=("unshare", "-m", "sh", "-c", mounted, "sh"))
    if command == ("clean",):
        assert (done.returncode, "Read-only file system" in done.stderr, "--state DIR" in done.stderr) == (
            2,
            True,
            True,
        )
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.docker
def test_a_volume_that_lost_its_container_is_swept(tmp_path: Path):
    import docker

    from local_runner.engines.docker.sweep import labels_of, sweep_quietly

    with closing(docker.from_env()) as client:
        run = runs.open_run(tmp_path, runs.new_execution_id())
        live = client.volumes.create(labels=labels_of(tmp_path, run.id))
        dead = client.volumes.create(labels=labels_of(tmp_path, "gone"))
        try:
            sweep_quietly(client.api)
            there = {volume.name for volume in client.volumes.list()}
            assert live.name in there
            assert dead.name not in there
        finally:
            run.close()
            live.remove()


@pytest.mark.parametrize("command", [("validate",), ("why", "Nowhere"), ("run", "--only", "Nowhere")])
def test_a_closed_output_is_no_fault(state: Path, command: tuple[str, ...]):
    line = f'"$0" -m local_runner {" ".join(command)} --state "$1" >&- 2>&-'
    done = subprocess.run(["sh", "-c", line, sys.executable, state], cwd=PROJECT, env=environment())
    assert done.returncode == (2 if "Nowhere" in command else 0)
