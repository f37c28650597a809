"""The command line as somebody types it: the real program, real engines, nothing patched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from support.command_line import PROGRAM, environment, in_process, local_runner
from support.definitions import pipeline, processing, write
from support.project import PROJECT, link_caches

KEYS = [
    *("id", "pipeline", "status", "engine", "hot", "failure_reason"),
    *("parameters", "started", "ended", "seconds", "steps"),
]
STEP_KEYS = [
    *("name", "type", "status", "cached", "hot", "seconds", "exit_code"),
    *("exit_message", "failure_reason", "outputs", "log"),
]
COMMANDS = (
    *("compile", "validate", "image", "run", "why", "clean", "doctor", "watch"),
    *("plan", "promote", "bootstrap", "export"),
    *("status", "trigger", "logs", "pause", "resume", "releases", "rollback", "retire"),
)
THEIR_IMAGE = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/proc:3"


def record(text: str) -> dict[str, Any]:
    """stdout of --json: exactly one object with exactly the keys promised."""
    assert text.endswith("\n")
    assert text.count("\n") == 1
    found = json.loads(text)
    assert list(found) == KEYS
    assert all(list(step) == STEP_KEYS for step in found["steps"])
    return found


def failing(tmp_path: Path) -> Path:
    return write(tmp_path / "fails.json", pipeline(processing("Good"), processing("Bad", "echo oh no >&2; exit 3")))


# ------------------------------------------------------------------------------------------------- what is shown
@pytest.mark.parametrize("arguments", [("validate",), ("run", "-p", "\x1b[5mX\u202e=\x9b31m"), ("compile",)])
def test_no_control_character_reaches_the_terminal(tmp_path: Path, state: Path, arguments: tuple[str, ...]) -> None:
    """Not of a file's name, nor of what the file or the command line says."""
    steps = [processing("Bad\x1b[2J", DependsOn=["\x1b]0;title\x07"]), {"Name": "\x9b", "Type": "\u202e\r"}]
    file = write(tmp_path / "a\x1b]0;t\x07\u200f.json", pipeline(*steps))
    done = local_runner(*arguments, file, "--state", state)
    assert done.returncode == 2
    assert "Steps[0].Name" in done.stderr
    shown = set(done.stdout + done.stderr) - {"\n"}
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cf")]


# ------------------------------------------------------------------------------------------------------ --json
@pytest.mark.docker
def test_the_example_runs_and_json_is_all_that_stdout_has(processing_image: str, state: Path):
    done = local_runner("run", "--json", "--date", "2013-01-02T06:00:00Z", "--engine", "docker", "--state", state)
    found = record(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (found["status"], found["engine"], found["failure_reason"]) == ("Succeeded", "docker", None)
    assert found["parameters"]["ProcessingDate"] == "2013-01-02T06:00:00Z"
    assert re.fullmatch("[a-z0-9]{12}", found["id"])
    steps = {step["name"]: step for step in found["steps"]}
    assert list(steps) == sorted(steps, key=list(steps).index)
    assert set(steps) == {"Validate", "Profile", "CheckQuality", "Fit", "Transform"}
    assert steps["Validate"]["exit_message"].startswith("2013-01-02: ")
    for step in found["steps"]:
        for directory in step["outputs"].values():
            assert Path(directory).is_absolute()
            assert any(Path(directory).iterdir())
        assert step["type"] != "Processing" or Path(step["log"]).read_text()
    assert json.loads((state / "runs" / found["id"] / "execution.json").read_text()) == found
    assert "Transform" in done.stderr


def test_a_step_that_fails_is_exit_code_1(engine: str, tmp_path: Path, state: Path):
    done = local_runner("run", failing(tmp_path), "--json", "--engine", engine, "--state", state)
    found = record(done.stdout)
    assert done.returncode == 1
    assert found["status"] == "Failed"
    steps = {step["name"]: step for step in found["steps"]}
    assert steps["Good"]["status"] == "Succeeded"
    assert (steps["Bad"]["status"], steps["Bad"]["exit_code"]) == ("Failed", 3)
    assert "algo-1 exited with code 3" in steps["Bad"]["failure_reason"]
    assert "oh no" in found["failure_reason"]
    assert Path(steps["Bad"]["log"]).read_text() == "oh no\n"


@pytest.mark.docker
def test_a_fail_step_is_exit_code_1_with_its_message(processing_image: str, state: Path):
    done = local_runner("run", "--json", "-p", "MaxBadRatio=0.001", "--engine", "docker", "--state", state)
    found = record(done.stdout)
    assert done.returncode == 1
    assert found["parameters"]["MaxBadRatio"] == 0.001
    assert found["failure_reason"].startswith("Step 'QualityTooLow': 11 of 842 rows are bad")
    assert "Fit" not in [step["name"] for step in found["steps"]]


def test_quiet_says_the_failures_and_the_last_line_only(engine: str, tmp_path: Path, state: Path):
    done = local_runner("run", failing(tmp_path), "--quiet", "--engine", engine, "--state", state)
    assert done.returncode == 1
    assert "Bad failed" in done.stdout
    assert "Good" not in done.stdout
    fine = write(tmp_path / "fine.json", pipeline(processing("Good", "echo much to say")))
    done = local_runner("run", fine, "--quiet", "--engine", engine, "--state", state)
    assert done.returncode == 0
    assert len(done.stdout.strip().splitlines()) == 1
    assert "Succeeded" in done.stdout


def test_plain_lines_and_table_on_stdout(engine: str, tmp_path: Path, state: Path):
    done = local_runner("run", failing(tmp_path), "--engine", engine, "--state", state)
    assert done.returncode == 1
    assert "Bad/algo-1 | oh no" in done.stdout
    assert f"on {engine}" in done.stdout
    assert "\x1b" not in done.stdout
    assert not done.stderr


# --------------------------------------------------------------------------------------------------- parameters
def typed(tmp_path: Path) -> Path:
    parameters = [
        {"Name": "Text", "Type": "String", "DefaultValue": "a", "EnumValues": ["a", "b=c"]},
        {"Name": "Whole", "Type": "Integer", "DefaultValue": 1},
        {"Name": "Number", "Type": "Float", "DefaultValue": 0.5},
        {"Name": "Truth", "Type": "Boolean", "DefaultValue": False},
    ]
    step = processing("Say", 'echo "$ALL"')
    names = [parameter["Name"] for parameter in parameters]
    joined = {"Std:Join": {"On": "|", "Values": [{"Get": f"Parameters.{name}"} for name in names]}}
    step["Arguments"]["Environment"] = {"ALL": joined}
    return write(tmp_path / "typed.json", pipeline(step, parameters=parameters))


def test_parameters_reach_the_job_with_their_types(engine: str, tmp_path: Path, state: Path):
    given = ("-p", "Text=b=c", "--param", "Whole=-7", "-p", "Number=1e3", "-p", "Truth=TRUE")
    done = local_runner("run", typed(tmp_path), *given, "--json", "--engine", engine, "--state", state)
    assert done.returncode == 0, done.stderr
    found = record(done.stdout)
    assert found["parameters"] == {"Text": "b=c", "Whole": -7, "Number": 1000.0, "Truth": True}
    assert Path(found["steps"][0]["log"]).read_text() == "b=c|-7|1000.0|true\n"


def test_parameters_of_a_wrong_type_or_name_are_told_together(tmp_path: Path, state: Path):
    given = ("-p", "Text=d", "-p", "Whole=1.5", "-p", "Number=x", "-p", "Truth=2", "-p", "Txet=a")
    done = in_process("validate", typed(tmp_path), *given, "--state", state)
    assert done.returncode == 2
    assert "5 problems" in done.stderr
    for name in ("Text", "Whole", "Number", "Truth", "Txet"):
        assert f"-p {name}:" in done.stderr
    assert "Choose one of a, b=c." in done.stderr
    assert "Text'?" in done.stderr


# ----------------------------------------------------------------------------------------- TARGET, --map, --image
@pytest.fixture
def theirs(tmp_path: Path) -> dict[str, Any]:
    """A definition of another account: its own image, bucket and code."""
    script = "cp code/run.sh . 2>/dev/null; sh in/code/run.sh in/raw > out/sum/all.txt"
    inputs = {"raw": "s3://their-bucket/raw/dt=2024-01-01", "code": "s3://their-bucket/code/run.sh"}
    (tmp_path / "raw/dt=2024-01-01").mkdir(parents=True)
    for name in "ab":
        (tmp_path / f"raw/dt=2024-01-01/{name}.txt").write_text(f"{name}\n")
    (tmp_path / "run.sh").write_text("cat $1/*\n")
    return pipeline(
        processing("Sum", script, image=THEIR_IMAGE, inputs=inputs, outputs={"sum": "s3://their-bucket/sum"})
    )


@pytest.mark.docker
@pytest.mark.parametrize("described", [False, True], ids=["definition", "describe-pipeline"])
def test_a_definition_made_elsewhere_runs(
    processing_image: str, tmp_path: Path, theirs: dict[str, Any], state: Path, described: bool
):
    document = theirs
    if described:  # what `aws sagemaker describe-pipeline` prints
        document = {
            "PipelineArn": "arn:aws:sagemaker:eu-west-1:111122223333:pipeline/theirs",
            "PipelineName": "Theirs",
            "PipelineDefinition": json.dumps(theirs),
            "PipelineStatus": "Active",
            "CreationTime": "2024-01-01T00:00:00+00:00",
        }
    target = write(tmp_path / "sum.json", document)
    done = local_runner(
        *("run", target, "--json", "--engine", "docker", "--state", state),
        *("--map", "s3://their-bucket/raw=raw", "--map", "s3://their-bucket/code/run.sh=run.sh"),
        *("--image", processing_image if described else f"{THEIR_IMAGE}={processing_image}"),
        cwd=tmp_path,  # no project at all
    )
    assert done.returncode == 0, done.stderr
    found = record(done.stdout)
    assert found["pipeline"] == ("Theirs" if described else "sum")
    (output,) = found["steps"][0]["outputs"].values()
    assert Path(output) == (state / "s3/their-bucket/sum").resolve()
    assert (Path(output) / "all.txt").read_text() == "a\nb\n"
    assert sorted(path.name for path in (tmp_path / "raw/dt=2024-01-01").iterdir()) == ["a.txt", "b.txt"]


@pytest.mark.docker
def test_without_map_and_image_the_errors_say_what_to_pass(
    processing_image: str, tmp_path: Path, theirs: dict[str, Any], state: Path
):
    target = write(tmp_path / "sum.json", theirs)
    done = in_process("run", target, "--engine", "docker", "--state", state, cwd=tmp_path)
    assert done.returncode == 4
    assert "2 problems" in done.stderr
    assert "--map s3://their-bucket/raw/dt=2024-01-01=DIR" in done.stderr
    assert "--map s3://their-bucket/code/run.sh=FILE" in done.stderr
    maps = ("--map", "s3://their-bucket/raw=raw", "--map", "s3://their-bucket/code/run.sh=run.sh")
    done = in_process("run", target, *maps, "--engine", "docker", "--state", state, cwd=tmp_path)
    assert done.returncode == 4
    assert THEIR_IMAGE in done.stderr
    assert "--image URI=TAG" in done.stderr
    assert not done.stdout


def test_target_can_name_a_function_of_a_file(state: Path):
    named = in_process("compile", "pipeline.py:build", "--state", state)
    default = in_process("compile", "--state", state)
    assert named.returncode == default.returncode == 0
    assert named.stdout == default.stdout
    steps = json.loads(named.stdout)["Steps"]
    assert [step["Name"] for step in steps] == ["Validate", "Profile", "CheckQuality"]


def test_compile_to_a_file_that_runs_like_its_source(tmp_path: Path, state: Path):
    file = tmp_path / "new/definition.json"
    done = local_runner("compile", "-o", file, "--state", state)
    assert (done.returncode, done.stdout) == (0, "")
    assert str(file) in done.stderr
    assert file.read_text() == in_process("compile", "--state", state).stdout
    done = in_process("validate", file, "--date", "2013-01-01", "--state", state)
    assert (done.returncode, done.stdout) == (0, "definition is valid: 6 steps, 6 parameters.\n")


def test_compile_into_a_pipe_that_closes(tmp_path: Path, state: Path):
    steps = [processing(f"Step{number}") for number in range(200)]  # more than a pipe holds
    target = write(tmp_path / "long.json", pipeline(*steps))
    command = f'"$@" compile {target} --state {state} | head -1'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *PROGRAM], env=environment(), cwd=PROJECT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


# ----------------------------------------------------------------------------------------------------- the rest
def test_state_holds_everything_a_run_leaves(engine: str, tmp_path: Path):
    target = write(tmp_path / "one.json", pipeline(processing("A", "echo 1 > out/o/f", outputs={"o": "s3://b/k"})))
    state = link_caches(tmp_path / "elsewhere")
    before = {path.name for path in PROJECT.iterdir()}
    done = local_runner("run", target, "--json", "--engine", engine, "--state", state)
    assert done.returncode == 0, done.stderr
    run = state / "runs" / record(done.stdout)["id"]
    assert (state / "s3/b/k/f").read_text() == "1\n"
    assert sorted(path.name for path in run.iterdir()) == ["described.json", "execution.json", "lock", "logs"]
    assert {path.name for path in PROJECT.iterdir()} == before


@pytest.mark.parametrize("at_once", [1, 2])
def test_max_parallel(engine: str, tmp_path: Path, state: Path, at_once: int):
    script = f"date +%s%N; sleep {1 if at_once == 1 else 3}; date +%s%N"
    target = write(tmp_path / "two.json", pipeline(processing("A", script), processing("B", script)))
    done = local_runner("run", target, "--json", "--engine", engine, "--max-parallel", str(at_once), "--state", state)
    assert done.returncode == 0, done.stderr
    times = [[int(line) for line in Path(step["log"]).read_text().split()] for step in record(done.stdout)["steps"]]
    (_, first_end), (second_start, _) = sorted(times)
    assert (second_start < first_end) is (at_once == 2)


@pytest.mark.docker
def test_image_prints_its_tag_last(processing_image: str, state: Path):
    done = local_runner("image", "--state", state)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == processing_image


def test_validate_runs_nothing(state: Path):
    done = local_runner("validate", "--state", state, changes={"DOCKER_HOST": "unix:///nowhere"})
    assert (done.returncode, done.stdout) == (0, "FlightsDaily is valid: 6 steps, 6 parameters.\n")
    assert not (state / "runs").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example(command: str):
    done = in_process(command, "-h")
    assert done.returncode == 0
    assert re.search(r"Examples?:\n +(local-runner|docker run .*local-runner) ", done.stdout)
    assert in_process(command, "--help").stdout == done.stdout


def test_every_command_is_listed_and_has_help():
    done = in_process("-h")
    listed = re.findall(r"^  (\w+)  ", done.stdout.split("Commands:")[1], re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def test_the_module_and_the_console_script_agree(state: Path):
    script = Path(sys.executable).with_name("local-runner")
    for arguments in (["--version"], ["run", "-h"], ["validate", "--state", str(state)], ["run", "nowhere.json"]):
        by_script = subprocess.run([script, *arguments], cwd=PROJECT, capture_output=True, text=True)
        by_module = local_runner(*arguments)
        assert by_script.returncode == by_module.returncode
        assert (by_script.stdout, by_script.stderr) == (by_module.stdout, by_module.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str):
    script = Path(sys.executable).with_name("local-runner")
    done = subprocess.run(
        [script], env={**os.environ, "_LOCAL_RUNNER_COMPLETE": f"{shell}_source"}, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "_LOCAL_RUNNER_COMPLETE" in done.stdout


# -------------------------------------------------------------------------------------------------- same rows
@pytest.fixture(scope="module")
def same_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One state directory for all engines and numbers: what none of them changes comes out of the step cache."""
    return link_caches(tmp_path_factory.mktemp("same") / "state")


@pytest.fixture(scope="module")
def rows_of_one(processing_image: str, same_state: Path) -> dict[str, Any]:
    return rows("docker", 1, same_state)


def rows(engine: str, instances: int, state: Path) -> dict[str, Any]:
    """What Transform wrote, as sorted rows by data set."""
    import pandas

    count = f"ProcessingInstanceCount={instances}"
    done = local_runner("run", "--json", "-p", count, "--engine", engine, "--state", state)
    assert done.returncode == 0, done.stderr
    (transform,) = (step for step in record(done.stdout)["steps"] if step["name"] == "Transform")
    found: dict[str, Any] = {}
    for name, directory in transform["outputs"].items():
        frame = pandas.concat([pandas.read_parquet(file) for file in sorted(Path(directory).rglob("*.parquet"))])
        found[name] = frame.sort_values(list(frame.columns)).reset_index(drop=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "instances"),
    [
        pytest.param("docker", 3, marks=pytest.mark.docker),
        pytest.param("sandbox", 2, marks=[pytest.mark.docker, pytest.mark.sandbox]),
    ],
)
@pytest.mark.xdist_group("same rows")
def test_same_rows_on_each_engine_and_with_any_number_of_instances(
    rows_of_one: dict[str, Any], request: pytest.FixtureRequest, same_state: Path, engine: str, instances: int
):
    import pandas

    request.getfixturevalue("environment" if engine == "sandbox" else "processing_image")
    found = rows(engine, instances, same_state)
    assert found.keys() == rows_of_one.keys() == {"train", "test"}
    for name, frame in found.items():
        assert len(frame) > 100
        pandas.testing.assert_frame_equal(frame, rows_of_one[name], check_exact=True)
