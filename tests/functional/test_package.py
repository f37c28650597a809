"""The wheel: whether it holds the whole package, and runs without the SDK and without a project. Builds, no network.

The wheel is installed with --no-deps into a new environment; its dependencies are those of this environment, linked one
by one into a directory that a .pth file names. What belongs to the SDK is not linked, so that importing it fails as it
does where it was never installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.definitions import pipeline, processing, write
from support.project import PROJECT

from local_runner.image.sandbox_packages import find_uv

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]
NOT_LINKED = ("sagemaker", "local_runner", "_local_runner", "_editable", "__editable__")
EXTRA = "pip install 'local-runner[compile]'"


def call(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=outside, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def made(*command: str | Path, cwd: Path) -> None:
    done = call(*command, cwd=cwd)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uv = find_uv()
    assert uv, "uv is a dependency"
    out = tmp_path_factory.mktemp("dist")
    made(
        *(uv, "build", "--quiet", "--wheel", "--offline", "--no-build-isolation", "--python", sys.executable),
        *("--out-dir", out, PROJECT),
        cwd=PROJECT,
    )
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that has the wheel and its dependencies, without the SDK."""
    uv = find_uv()
    assert uv
    root = tmp_path_factory.mktemp("installed")
    made(uv, "venv", "--quiet", "--offline", "--python", sys.executable, root / "venv", cwd=root)
    python = root / "venv/bin/python"
    made(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel, cwd=root)
    links = root / "dependencies"
    links.mkdir()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for item in (Path(sys.prefix) / "lib" / version / "site-packages").iterdir():
        if not item.name.startswith(NOT_LINKED) and item.suffix != ".pth":
            (links / item.name).symlink_to(item)
    (root / "venv/lib" / version / "site-packages/dependencies.pth").write_text(f"{links}\n")
    (root / "venv/bin/uv").symlink_to(uv)  # a dependency that is a program
    return root / "venv/bin/local-runner"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A directory with a definition and its data, and nothing of a project."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows").write_text("7\n")
    write(
        tmp_path / "definition.json",
        pipeline(
            processing(
                "Copy",
                "python3 -c 'import json; print(json.load(open(\"in/d/rows\")) * 6)' > out/o/answer",
                inputs={"d": "s3://lake/data"},
                outputs={"o": "s3://lake/out"},
            )
        ),
    )
    return tmp_path


def run(program: Path, empty: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return call(program, "run", "definition.json", "--map", "s3://lake/data=data", *more, cwd=empty)


def of_package(names: Sequence[str]) -> set[str]:
    return {name for name in names if name.startswith("local_runner/")}


@pytest.mark.programs("git")
def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "local_runner"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "local_runner/engines/instance_types.json" in listed
    assert of_package(zipfile.ZipFile(wheel).namelist()) >= of_package(listed)


def test_a_definition_runs_in_the_sandbox_in_an_empty_directory(program: Path, empty: Path) -> None:
    done = run(program, empty, "--engine", "sandbox")
    assert done.returncode == 0, done.stderr
    assert (empty / ".local_runner/s3/lake/out/answer").read_text() == "42\n"
    assert (done.stdout + done.stderr).count("There is no processing/") == 1


def test_validate_needs_no_sdk(program: Path, empty: Path) -> None:
    done = call(program, "validate", "definition.json", "--map", "s3://lake/data=data", cwd=empty)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["compile", "run", "validate"])
def test_pipeline_py_names_the_extra(program: Path, empty: Path, command: str) -> None:
    (empty / "pipeline.py").write_text("def build(session, settings): ...\n")
    done = call(program, command, "pipeline.py", cwd=empty)
    assert done.returncode == 2
    assert EXTRA in done.stderr
    assert "Traceback" not in done.stderr


def test_a_notebook_session_names_the_extra(program: Path, empty: Path) -> None:
    done = call(program.with_name("python"), "-c", "from local_runner import LocalPipelineSession", cwd=empty)
    assert done.returncode == 1
    assert EXTRA in done.stderr.splitlines()[-1]


def test_stock_local_mode_names_the_extra(program: Path, empty: Path) -> None:
    done = run(program, empty, "--engine", "sdk")
    assert done.returncode == 4
    assert EXTRA in done.stderr


@pytest.mark.docker
def test_docker_names_the_image_that_is_missing(program: Path, empty: Path) -> None:
    done = run(program, empty, "--engine", "docker")
    assert done.returncode == 2
    assert "--image local/processing=TAG" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_says_which_extra_is_missing(program: Path, empty: Path) -> None:
    done = call(program, "doctor", cwd=empty)
    assert EXTRA in done.stdout
    assert "Traceback" not in done.stderr


def test_requirements_of_the_settings_are_installed(program: Path, empty: Path) -> None:
    path = empty / "answer-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made_here:
        made_here.writestr("answer.py", "")
        made_here.writestr("answer-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: answer\nVersion: 1\n")
        made_here.writestr(
            "answer-1.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        made_here.writestr("answer-1.dist-info/RECORD", "answer.py,,\n")
    (empty / "packages.txt").write_text(f"--no-index\nanswer @ file://{path}\n")
    (empty / "local_runner.toml").write_text('[image]\nrequirements = "packages.txt"\n')
    step = processing("Import", "python3 -c 'import answer'")
    write(empty / "definition.json", pipeline(step))
    done = call(program, "run", "definition.json", "--engine", "sandbox", cwd=empty)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"the packages of {empty / 'packages.txt'}" in done.stdout + done.stderr


def test_an_image_directory_and_requirements_are_refused_together(program: Path, empty: Path) -> None:
    (empty / "processing").mkdir()
    (empty / "processing/Dockerfile").write_text("FROM scratch\n")
    (empty / "processing/requirements.txt").touch()
    (empty / "local_runner.toml").write_text('[image]\nrequirements = "packages.txt"\n')
    done = run(program, empty, "--engine", "sandbox")
    assert done.returncode == 2
    assert "is for projects without an image directory" in done.stderr


def test_requirements_that_are_not_there_are_named(program: Path, empty: Path) -> None:
    (empty / "local_runner.toml").write_text('[image]\nrequirements = "missing.txt"\n')
    done = run(program, empty, "--engine", "sandbox")
    assert done.returncode == 2
    assert f"{empty / 'missing.txt'} does not exist" in done.stderr
