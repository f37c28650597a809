"""Whatever is wrong with what the program is given: exit code 2 or 4, nothing runs, all of it is told, no traceback.

What goes wrong while a pipeline runs is exit code 1 and a step whose reason a person understands.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command_line import PROGRAM, Finished, Running, environment, in_process, local_runner
from support.definitions import pipeline, processing, write
from support.machine import needs_program
from support.project import PROJECT, link_caches

from local_runner.errors import EXIT_LACKING, EXIT_USAGE

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, which only root may")

Check = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, state: Path) -> Check:
    """Run a document (or text) as TARGET; it must be refused, and what was said is returned."""

    def check(document: Any, *arguments: str | Path, command: str = "run") -> str:
        if isinstance(document, str | bytes):
            target = tmp_path / "target.json"
            target.write_bytes(document.encode() if isinstance(document, str) else document)
        else:
            target = write(tmp_path / "target.json", document)
        return refusal(in_process(command, target, *arguments, "--state", state, cwd=tmp_path))

    return check


def refusal(done: Finished) -> str:
    assert done.returncode in (EXIT_USAGE, EXIT_LACKING), done
    assert "Executing" not in done.stdout
    return done.stderr


# ------------------------------------------------------------------------------------------------- files and TOML
@pytest.mark.parametrize("command", ["run", "validate", "compile"])
def test_a_target_that_is_no_file(tmp_path: Path, command: str):
    (tmp_path / "directory").mkdir()
    said = refusal(in_process(command, "nowhere.json", cwd=tmp_path))
    assert "nowhere.json cannot be read: No such file" in said
    assert "TARGET is a pipeline.py or a definition JSON file" in said
    assert "directory cannot be read: Is a directory" in refusal(in_process(command, "directory", cwd=tmp_path))
    assert "There is no file nowhere.py" in refusal(in_process(command, "nowhere.py:build", cwd=tmp_path))


def test_no_project_here(tmp_path: Path):
    said = refusal(local_runner("run", cwd=tmp_path))
    assert "There is no file pipeline.py" in said
    assert "project's directory" in said
    assert "TARGET" in said
    assert not (tmp_path / ".local_runner/runs").exists()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[local]\nbucket = \n", ["is not valid TOML", "line 2"]),
        ("[local]\nbucket = 5\n", ["local.bucket", "5 is not the name of a bucket"]),
        ("[lokal]\n[local]\nbukket = 'a'\n", ["2 problem", "lokal", "local.bukket"]),
        (
            "[local.data]\n's3://b/raw' = 'nowhere'\n",
            ["Mapped data is not there", "[local.data] s3://b/raw", "/nowhere"],
        ),
        ("[local.data]\n'b/raw' = '.'\n", ["local.data", "s3://"]),
        ("[pipeline]\nentry = 'pipeline'\n", ["pipeline.entry"]),
        (b"\xff\xfe", ["is not valid TOML"]),
    ],
)
def test_broken_settings(tmp_path: Path, text: str | bytes, wanted: list[str]):
    (tmp_path / "local_runner.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    target = write(tmp_path / "fine.json", pipeline(processing("A")))
    said = refusal(in_process("validate", target, cwd=tmp_path))
    assert all(part in said for part in wanted), said
    assert "Mapped" in said or "local_runner.toml" in said


@pytest.mark.sandbox
def test_files_that_cannot_be_used(tmp_path: Path):
    target = write(tmp_path / "fine.json", pipeline(processing("A")))
    (tmp_path / "local_runner.toml").mkdir()
    assert "local_runner.toml cannot be read" in refusal(local_runner("validate", target, cwd=tmp_path))
    (tmp_path / "local_runner.toml").rmdir()
    (tmp_path / "file").touch()
    assert "'file' is a file" in refusal(local_runner("validate", target, "--state", "file", cwd=tmp_path))
    # /proc takes no files, not even root's.
    said = refusal(local_runner("compile", target, "-o", "/proc/definition.json", cwd=tmp_path))
    assert "/proc" in said
    said = refusal(local_runner("run", target, "--engine", "sandbox", "--state", "/proc/state", cwd=PROJECT))
    assert "/proc/state" in said


@pytest.mark.programs("setpriv")
def test_a_file_that_may_not_be_read(tmp_path: Path):
    target = write(tmp_path / "fine.json", pipeline(processing("A")))
    target.chmod(0)
    # Root reads what is closed to all others, unless it gives that up.
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    said = refusal(local_runner("run", target, cwd=tmp_path, prefix=prefix))
    assert f"{target} cannot be read: Permission denied" in said


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "line 1"),
        ('{"Version": "2020-12-01",\n "Steps": [}', "line 2"),
        ("[]", "a JSON object"),
        ('"text"', "a JSON object"),
        (b"\x00\x01\xff", "not UTF-8"),
        ('{"PipelineDefinition": "{"}', "PipelineDefinition"),
        ("[" * 100_000, "target.json"),
    ],
)
def test_what_is_no_definition(refused: Check, text: str | bytes, wanted: str):
    said = refused(text)
    assert "target.json" in said
    assert wanted in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "Name"],
        ["--map", "s3://b/raw=nowhere"],
        ["--map", "b/raw=."],
        ["--engine", "podman"],
        ["--max-parallel", "0"],
        ["--image", "uri="],
        ["--bogus"],
    ],
)
def test_options_that_make_no_sense(refused: Check, arguments: list[str]):
    said = refused(pipeline(processing("A")), *arguments)
    assert arguments[0] in said
    assert "local-runner run" in said


# --------------------------------------------------------------------------------------------------- definitions
def _step(**changes: Any) -> dict[str, Any]:
    return {**processing("A"), **changes}


def _get(path: str) -> dict[str, str]:
    return {"Get": path}


def _condition(left: Any) -> dict[str, Any]:
    conditions = [{"Type": "Equals", "LeftValue": left, "RightValue": 1}]
    return {"Name": "C", "Type": "Condition", "Arguments": {"Conditions": conditions, "IfSteps": [], "ElseSteps": []}}


def _with_environment(value: Any, name: str = "A") -> dict[str, Any]:
    step = processing(name)
    step["Arguments"]["Environment"] = {"X": value}
    return step


def _with_request(name: str, *path: str | int, value: Any) -> dict[str, Any]:
    step = processing(name, inputs={"raw": "s3://b/raw"}, outputs={"out": "s3://b/out"})
    place: Any = step["Arguments"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return step


_INPUT = ("ProcessingInputs", 0, "S3Input")
_OUTPUT = ("ProcessingOutputConfig", "Outputs", 0, "S3Output")
_PROPERTY = {"Std:JsonGet": {"PropertyFile": {"Get": "Steps.A.PropertyFiles.Report"}, "Path": "x"}}


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([_step(Name=5)], ["Steps[0].Name", "number 5"]),
        ([_step(Arguments="x")], ["Steps[0].Arguments"]),
        ([_step(Kind="x")], ["Steps[0].Kind"]),
        ([processing("A"), processing("A")], ["Steps[1]", "'A'"]),
        ([_with_environment(_get("Parameters.Nope"))], ["Environment.X", "'Nope'"]),
        ([_with_environment(_get("Steps.Nope.ExitMessage"))], ["Environment.X", "'Nope'"]),
        (
            [
                processing("A"),
                _with_environment(_get("Steps.A.ProcessingOutputConfig.Outputs['no'].S3Output.S3Uri"), "B"),
            ],
            ["Environment.X", "'no'"],
        ),
        ([processing("A"), _condition(_PROPERTY)], ["Conditions[0]", "'Report'"]),
        ([_step(DependsOn=["Nope"])], ["DependsOn[0]", "'Nope'"]),
        ([_step(DependsOn=["A"])], ["wait for each other", "A -> A"]),
        (
            [processing("A", DependsOn=["B"]), processing("B", DependsOn=["C"]), processing("C", DependsOn=["A"])],
            ["A -> B -> C -> A"],
        ),
        ([processing("A", inputs={"raw": "s3://b/raw"})], ["s3://b/raw", "--map s3://b/raw=DIR", "[local.data]"]),
        ([_with_request("A", *_INPUT, "S3Uri", value="s3://b/../../etc")], ["S3Input.S3Uri", "'..'"]),
        ([_with_request("A", *_OUTPUT, "S3Uri", value="s3://b/x/../../../etc")], ["S3Output.S3Uri", "'..'"]),
        ([_with_request("A", *_OUTPUT, "S3Uri", value="s3://../x")], ["S3Output.S3Uri", "bucket"]),
        ([_with_request("A", *_OUTPUT, "LocalPath", value="/etc")], ["S3Output.LocalPath", "/opt/ml/processing/"]),
        ([_with_request("A", *_INPUT, "S3CompressionType", value="Gzip")], ["S3CompressionType", "Use Pipe"]),
        ([_with_request("A", *_OUTPUT, "S3UploadMode", value="Often")], ["S3UploadMode", "Continuous, EndOfJob"]),
        (
            [_with_request("A", *_INPUT, "S3DataDistributionType", value="Sharded")],
            ["FullyReplicated", "ShardedByS3Key"],
        ),
        (
            [_with_request("A", "ProcessingResources", "ClusterConfig", "InstanceCount", value=101)],
            ["InstanceCount", "101", "at most 100"],
        ),
        ([processing("A", outputs={f"o{n}": f"s3://b/{n}" for n in range(11)})], ["Outputs", "11 items", "at most 10"]),
        ([_with_environment("x" * 257)], ["Environment.X", "257 characters", "at most 256"]),
        ([processing("x" * 65)], ["Steps[0].Name", "64"]),
        ([_step(Type="Tuning")], ["Steps[0].Type", "Tuning"]),
        ([_step(Type="Procesing")], ["Steps[0].Type", "Procesing"]),
        ([], ["Steps", "no steps"]),
    ],
)
def test_one_fault_is_told_where_it_stands(refused: Check, tmp_path: Path, steps: list[Any], wanted: list[str]):
    said = refused(pipeline(*steps))
    assert all(part in said for part in wanted), said
    assert not (tmp_path / "state/runs").exists()


def test_ten_faults_are_ten_lines(refused: Check):
    broken = pipeline(
        processing("A", inputs={"raw": "s3://b/raw"}),  # nothing provides it
        _with_request("Dots", *_OUTPUT, "S3Uri", value="s3://b/../x"),
        processing("A"),  # a name twice
        {"Name": "T", "Type": "Tuning", "Arguments": {}},
        processing("B", DependsOn=["C"]),  # a cycle
        {**_with_environment(_get("Parameters.Nope"), "C"), "DependsOn": ["B"]},  # a parameter that is not there
        processing("D", DependsOn=["Nobody"]),  # a step that is not there
        processing("E", image="x" * 300),  # a limit of the API
        parameters=[{"Name": "Whole", "Type": "Integer"}],  # no value
    )
    broken["Steps"][1]["Arguments"]["ProcessingInputs"] = []
    said = refused(broken, "-p", "Wohle=1", command="validate")
    assert "target.json has 7 problems:" in said
    assert "target.json has 3 problems on this machine only" in said
    numbered = [line.split(".")[0].strip() for line in said.splitlines() if line.startswith(" ")]
    assert numbered == [str(number) for number in range(1, 11)]
    for part in ("-p Wohle", "'Whole'?", "--map s3://b/raw", "two steps 'A'", "'..'", "Tuning", "B -> C", "'Nope'"):
        assert part in said, said
    assert "'Nobody'" in said
    assert "at most 255" in said


def test_a_day_is_wanted(tmp_path: Path, state: Path):
    target = tmp_path / "flights.json"
    assert in_process("compile", "-o", target, "--state", state).returncode == 0
    data = (
        "--map",
        f"s3://sagemaker-local/flights={PROJECT}/data/sample",
        "--map",
        f"s3://sagemaker-local/code={PROJECT}",
    )
    said = refusal(in_process("run", target, *data, cwd=tmp_path))
    assert "has 1 problem" in said
    assert "parameter 'ProcessingDate' has no value" in said
    assert "-p ProcessingDate=VALUE" in said
    done = in_process("validate", target, *data, "--date", "2013-01-01", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("def build(session, settings)\n    pass\n", ["pipeline.py", "1"]),
    ],
)
def test_a_broken_pipeline_file(tmp_path: Path, text: str, wanted: list[str]):
    (tmp_path / "pipeline.py").write_text(text)
    said = refusal(local_runner("run", "--engine", "sandbox", cwd=tmp_path))
    assert all(part in said for part in wanted), said


def test_debug_shows_the_traceback_of_the_pipeline_file(tmp_path: Path):
    (tmp_path / "pipeline.py").write_text("def inner():\n    raise ValueError('mine')\n\ninner()\n")
    command = [*PROGRAM, "--debug", "compile"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == EXIT_USAGE
    traceback, _, error = done.stderr.partition("\nError: ")
    assert f'File "{tmp_path}/pipeline.py", line 2, in inner' in traceback
    assert "local_runner/" not in traceback.replace(str(tmp_path), "")
    assert error.startswith("pipeline.py cannot be compiled: ValueError: mine")


# ------------------------------------------------------------------------------------------------------- engines
def test_docker_where_none_answers(refused: Check):
    nowhere = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    done = local_runner("run", "--engine", "docker", "--no-cache", changes=nowhere)
    said = refusal(done)
    assert "No Docker engine answers at unix:///nowhere/docker.sock (No such file or directory)" in said
    assert "--engine sandbox" in said


NO_NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'for kind in user mnt; do echo 0 > /proc/sys/user/max_${kind}_namespaces; done; exec "$@"',
    "sh",
)
"""Runs a command where nobody can make a namespace, root of this user namespace included."""


@pytest.mark.sandbox
@pytest.mark.programs("unshare")
def test_the_sandbox_where_namespaces_are_switched_off(state: Path):
    said = refusal(local_runner("run", "--engine", "sandbox", "--state", state, prefix=NO_NAMESPACES))
    assert "The sandbox engine cannot run here: User namespaces are switched off" in said
    assert "sysctl -w user.max_user_namespaces=" in said


@pytest.mark.sandbox
@pytest.mark.programs("unshare")
def test_neither_engine_is_one_error_that_says_what_to_install(state: Path):
    nowhere = {"DOCKER_HOST": "unix:///nowhere"}
    said = refusal(local_runner("run", "--state", state, prefix=NO_NAMESPACES, changes=nowhere))
    assert said.count("Error:") == 1
    assert "docker: No Docker engine answers at unix:///nowhere" in said
    assert "sandbox: User namespaces are switched off" in said
    assert "docker.io" in said


@pytest.mark.sandbox
def test_auto_without_docker_says_what_would_be_different(environment: Path, tmp_path: Path, state: Path):
    target = write(tmp_path / "a.json", pipeline(processing("A", "echo here")))
    done = local_runner("run", target, "--state", state, changes={"DOCKER_HOST": "unix:///nowhere"})
    assert done.returncode == 0, done.stderr
    assert "Engine: sandbox. No Docker engine answers at unix:///nowhere" in done.stdout
    assert "On docker it would be different:" in done.stdout
    assert "A/algo-1 | here" in done.stdout


# ------------------------------------------------------------------------------------------- trouble at run time
def failed(done: Finished) -> dict[str, Any]:
    assert done.returncode == 1, done
    found = json.loads(done.stdout)
    assert found["status"] == "Failed"
    return found


def reason_of(record: dict[str, Any], step: str) -> str:
    (found,) = (entry for entry in record["steps"] if entry["name"] == step)
    assert found["status"] == "Failed"
    assert found["failure_reason"] in record["failure_reason"]
    assert not found["outputs"]
    return found["failure_reason"]


@pytest.fixture
def two_days(tmp_path: Path) -> Path:
    """Flights of a day with a malformed file and of one with no rows."""
    for day in ("2013-02-01", "2013-02-02"):
        shutil.copytree(PROJECT / "data/sample/dt=2013-01-01", tmp_path / f"flights/dt={day}")
    for file in (tmp_path / "flights/dt=2013-02-02").iterdir():
        file.write_text(file.read_text().splitlines()[0] + "\n")
    (tmp_path / "flights/dt=2013-02-01/JFK.csv").write_text('a,b\n"never closed\n')
    return tmp_path / "flights"


@pytest.mark.parametrize(
    ("date", "wanted"),
    [
        ("2013-03-01", "No data for 2013-03-01: there is no dt=2013-03-01/*.csv"),
        ("2013-02-02", "No data for 2013-02-02: its files have headers but not one row."),
        ("2013-02-01", "dt=2013-02-01/JFK.csv is malformed"),
        ("Tuesday", "ProcessingDate 'Tuesday' is not a day."),
    ],
)
@pytest.mark.sandbox
def test_a_day_that_cannot_be_processed(environment: Path, two_days: Path, state: Path, date: str, wanted: str):
    data = ("--map", f"s3://sagemaker-local/flights={two_days}", "--date", date)
    record = failed(local_runner("run", *data, "--json", "--engine", "sandbox", "--state", state))
    assert reason_of(record, "Validate").startswith(f"Exit message: {wanted}")
    assert "Fit" not in {step["name"] for step in record["steps"]}


SCRIPT = "import sys\nprint('line one')\nsys.stdout.flush()\nraise ValueError('the value is 7')\n"


def test_a_script_that_raises(engine: str, tmp_path: Path, state: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    step = processing("A", "python3 in/code/script.py", inputs={"code": "s3://b/script.py"}, instances=2)
    target = write(tmp_path / "a.json", pipeline(step))
    data = ("--map", f"s3://b/script.py={tmp_path}/script.py")
    record = failed(local_runner("run", target, *data, "--json", "--engine", engine, "--state", state))
    reason = reason_of(record, "A").splitlines()
    assert "algo-1 exited with code 1." in reason
    assert "algo-2 exited with code 1." in reason
    assert reason.count("  ValueError: the value is 7") == 2
    assert "Its last lines:" in reason


@pytest.mark.parametrize("program", ["no-such-program", "/opt/ml/no-such-script.sh"])
def test_an_entrypoint_that_is_not_there(engine: str, tmp_path: Path, state: Path, program: str):
    step = processing("A")
    step["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = [program]
    target = write(tmp_path / "a.json", pipeline(step))
    record = failed(local_runner("run", target, "--json", "--engine", engine, "--state", state))
    reason = reason_of(record, "A")
    assert reason.startswith("algo-1 exited with code 127 (the entrypoint was not found)")
    assert program in reason
    assert "shim" not in reason


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount, umount = needs_program("mount"), needs_program("umount")
    subprocess.run([mount, "-t", "tmpfs", "-o", "size=4m", "small", disk], check=True)
    yield disk
    subprocess.run([umount, "-l", disk], check=True)


@root_only
def test_a_full_disk(engine: str, tmp_path: Path, small_disk: Path):
    state = link_caches(small_disk / "state")
    small = processing("Small", "echo 1 > out/o/f", outputs={"o": "s3://b/small"})
    big = processing("Big", "head -c 8000000 /dev/zero > out/o/f", outputs={"o": "s3://b/big"}, DependsOn=["Small"])
    target = write(tmp_path / "a.json", pipeline(small, big))
    done = local_runner("run", target, "--json", "--engine", engine, "--state", state)
    record = failed(done)
    assert "No space left on device" in reason_of(record, "Big")
    assert "Next: free space on the disk that is full" in done.stderr
    assert (state / "s3/b/small/f").read_text() == "1\n"
    assert not (state / "s3/b/big").exists()
    # What was given up leaves room for the next run.
    target = write(tmp_path / "b.json", pipeline(small))
    assert local_runner("run", target, "--engine", engine, "--state", state).returncode == 0


@root_only
def test_a_disk_that_is_full_from_the_start(engine: str, tmp_path: Path, small_disk: Path):
    state = link_caches(small_disk / "state")
    subprocess.run(["dd", "if=/dev/zero", f"of={small_disk}/fill", "bs=4k"], capture_output=True)
    target = write(tmp_path / "a.json", pipeline(processing("A", "echo 1 > out/o/f", outputs={"o": "s3://b/k"})))
    done = local_runner("run", target, "--engine", engine, "--state", state)
    assert done.returncode in (1, 2, 4)
    said = done.stdout + done.stderr
    assert "No space left on device" in said
    assert "--state" in said
    assert "None" not in said


PROXY = """
import socket, sys, threading

def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass

server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(64)
while True:
    near, _ = server.accept()
    far = socket.socket(socket.AF_UNIX)
    far.connect(sys.argv[2])
    for pair in ((near, far), (far, near)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


@pytest.fixture
def mortal_engine(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a Docker engine, and the process whose end is this engine's."""
    socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    address = tmp_path / "engine.sock"
    process = subprocess.Popen([PROGRAM[0], "-c", PROXY, address, socket])
    while not address.exists():
        assert process.poll() is None
    yield f"unix://{address}", process
    process.kill()
    process.wait()


@pytest.mark.docker
@pytest.mark.parametrize("instances", [1, 2])
def test_an_engine_that_dies(
    processing_image: str,
    tmp_path: Path,
    state: Path,
    mortal_engine: tuple[str, subprocess.Popen[bytes]],
    instances: int,
):
    first = processing("First", "echo 1 > out/o/f", outputs={"o": "s3://b/first"})
    script = "echo half > out/o/f; echo at work; sleep 60"
    second = processing("Second", script, outputs={"o": "s3://b/second"}, instances=instances, DependsOn=["First"])
    third = processing("Third", DependsOn=["First"], instances=2)
    target = write(tmp_path / "a.json", pipeline(first, second, third))
    address, process = mortal_engine
    arguments = ("--json", "--engine", "docker", "--max-parallel", "1", "--state", state)
    run = Running(tmp_path / "run", "run", target, *arguments, changes={"DOCKER_HOST": address})
    run.wait_for("at work")
    process.kill()
    assert run.end(30) == 1
    reason = reason_of(run.record, "Second")
    assert "the Docker engine stopped answering" in reason
    assert "docker info" in reason
    assert "('" not in reason
    assert "at work" in reason
    assert "the Docker engine stopped answering" in reason_of(run.record, "Third")
    assert (state / "s3/b/first/f").read_text() == "1\n"
    assert not (state / "s3/b/second").exists()
    # The next run, on the engine as it is again, removes what that one could not.
    again = write(tmp_path / "b.json", pipeline(first))
    assert local_runner("run", again, "--engine", "docker", "--no-cache", "--state", state).returncode == 0
    left = subprocess.run(
        [needs_program("docker"), "ps", "-aq", "--filter", f"label=local-runner.run={run.record['id']}"],
        capture_output=True,
        text=True,
    )
    assert left.stdout == ""
