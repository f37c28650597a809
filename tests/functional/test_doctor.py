"""``local-runner doctor``, as a process: what it says of this machine, of broken ones, and what it never says."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from support.command_line import local_runner
from support.project import PROJECT

NAMES = [
    *("Python", "uv, pip", "Package index", "SageMaker SDK", "Project", "Docker engine", "Docker compose"),
    *("Sandbox", "Sandbox packages", "Compile", "AWS credentials", "Disk", "A run uses"),
]
NO_NAMESPACES = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'for kind in user mnt; do echo 0 > /proc/sys/user/max_${kind}_namespaces; done; exec "$@"',
    "sh",
)
NOWHERE = {"DOCKER_HOST": "unix:///nowhere"}


def doctor(
    tmp_path: Path, cwd: Path = PROJECT, /, **changes: str
) -> tuple[int, dict[str, Any], dict[str, dict[str, str]]]:
    """The exit code, the object that --json prints, and its checks by name."""
    done = local_runner("doctor", "--json", "--state", tmp_path / "state", cwd=cwd, changes=changes)
    found = json.loads(done.stdout)
    return done.returncode, found, {check["name"]: check for check in found["checks"]}


@pytest.mark.docker
def test_a_machine_with_docker(tmp_path: Path, processing_image: str) -> None:
    code, found, checks = doctor(tmp_path)
    assert (code, found["possible"], found["engine"]) == (0, True, "docker")
    assert [name for name in NAMES if name not in checks] == []
    for name in ("Docker engine", "Instance limits", "Base image", "Processing image"):
        assert checks[name]["state"] == "ok", checks[name]
    assert checks["Processing image"]["detail"] == processing_image


@pytest.mark.docker
def test_an_image_that_is_not_built_is_no_gap(tmp_path: Path) -> None:
    for name, text in (("Dockerfile", "ARG BASE_IMAGE=python:3.11\nFROM $BASE_IMAGE\n"), ("requirements.txt", "")):
        (tmp_path / "processing").mkdir(exist_ok=True)
        (tmp_path / "processing" / name).write_text(text + f"# {tmp_path}\n")
    code, _, checks = doctor(tmp_path, tmp_path)
    assert code == 0
    assert checks["Processing image"]["state"] == "none"
    assert checks["Processing image"]["fix"] == "local-runner image"
    assert checks["Project"]["state"] == "none"


@pytest.mark.sandbox
def test_a_machine_without_docker(tmp_path: Path) -> None:
    code, found, checks = doctor(tmp_path, **NOWHERE)
    assert (code, found["possible"], found["engine"]) == (0, True, "sandbox")
    assert checks["Docker engine"]["state"] == "gap"
    assert "unix:///nowhere" in checks["Docker engine"]["detail"]
    assert checks["Docker engine"]["fix"] == "unset DOCKER_HOST"
    assert "Processing image" not in checks
    assert checks["Sandbox packages"]["state"] == "none"


def test_an_engine_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        started = time.monotonic()
        _, _, checks = doctor(tmp_path, DOCKER_HOST=f"unix://{tmp_path}/s")
        assert time.monotonic() - started < 10
    assert "timed out" in checks["Docker engine"]["detail"]


@pytest.mark.sandbox
@pytest.mark.programs("unshare")
def test_a_machine_without_any_engine(tmp_path: Path) -> None:
    done = local_runner("doctor", "--state", tmp_path / "state", prefix=NO_NAMESPACES, changes=NOWHERE)
    assert done.returncode == 1
    assert "no engine: mend one of the gaps above" in done.stdout
    assert "fix: sysctl -w user.max_user_namespaces=" in done.stdout


def test_a_project_that_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "local_runner.toml").write_text("[image]\ndirectori = 'x'\n")
    code, found, checks = doctor(tmp_path, tmp_path)
    assert (code, found["possible"]) == (1, False)
    assert checks["Project"]["state"] == "gap"
    assert "directori" in checks["Project"]["detail"]


def test_nothing_is_written(tmp_path: Path) -> None:
    doctor(tmp_path, **NOWHERE)
    assert list(tmp_path.iterdir()) == []


def test_no_secret_is_shown(tmp_path: Path) -> None:
    secrets = {
        "PIP_INDEX_URL": "https://me:hunter2@index.example/simple?token=hunter2",
        "PIP_EXTRA_INDEX_URL": "https://hunter2@other.example/simple",
        "UV_INDEX": "own=https://me:hunt/er2@third.example/simple",
        "DOCKER_HOST": "tcp://me:hunter2@127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "AKIAhunter2",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
    }
    for options in ([], ["--json"]):
        done = local_runner("doctor", *options, "--state", tmp_path / "state", changes=secrets)
        for part in ("hunter2", "er2@"):
            assert part not in done.stdout + done.stderr
        for host in ("index.example", "other.example", "third.example"):
            assert host in done.stdout
        assert "AWS_ACCESS_KEY_ID; local runs do not use them" in done.stdout


def test_a_line_for_each_check_and_its_fix_below(tmp_path: Path) -> None:
    lines = local_runner("doctor", "--state", tmp_path / "state", changes=NOWHERE).stdout.splitlines()
    names = [line[2:20].strip() for line in lines if line[0] != " "]
    assert [name for name in NAMES if name not in names] == []
    assert {line[0] for line in lines} == {"✓", "✗", "\N{EN DASH}", " "}
    assert lines[1 + next(n for n, line in enumerate(lines) if "Docker engine" in line)].strip() == (
        "fix: unset DOCKER_HOST"
    )
    ascii_only = local_runner("doctor", "--state", tmp_path, changes={**NOWHERE, "PYTHONIOENCODING": "ascii"}).stdout
    assert {line[0] for line in ascii_only.splitlines()} == {"+", "x", "-", " "}
