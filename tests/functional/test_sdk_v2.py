"""A pipeline of the SDK's version 2, compiled by an environment that has it, and run here.

All tests share one environment, made with uv below .local_runner/cache (about 20 s, once), and kept.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import local_runner
from support.project import PROJECT

from local_runner.image.sandbox_packages import find_uv
from local_runner.storage.files import locked

SDK = "sagemaker==2.257.7"

PIPELINE = """
from sagemaker.processing import FrameworkProcessor, ProcessingInput, ProcessingOutput, ScriptProcessor
from sagemaker.sklearn import SKLearn
from sagemaker.workflow.condition_step import ConditionStep
from sagemaker.workflow.conditions import ConditionGreaterThan
from sagemaker.workflow.functions import JsonGet
from sagemaker.workflow.parameters import ParameterInteger
from sagemaker.workflow.pipeline import Pipeline
from sagemaker.workflow.properties import PropertyFile
from sagemaker.workflow.steps import ProcessingStep


def build(session, settings):
    least = ParameterInteger("Least", default_value=1)
    common = dict(
        role="data-team",
        image_uri=settings.image_uri,
        instance_count=1,
        instance_type="ml.t3.medium",
        sagemaker_session=session,
    )
    counted = PropertyFile("Counted", output_name="out", path="n.json")
    count = ProcessingStep(
        "Count",
        step_args=ScriptProcessor(command=["python3"], **common).run(
            code="processing/count.py",
            inputs=[ProcessingInput(f"s3://{settings.bucket}/raw", "/opt/ml/processing/in", input_name="raw")],
            outputs=[ProcessingOutput("/opt/ml/processing/out", output_name="out")],
        ),
        property_files=[counted],
    )
    where = count.properties.ProcessingOutputConfig.Outputs["out"].S3Output.S3Uri
    show = ProcessingStep(
        "Show",
        step_args=FrameworkProcessor(estimator_cls=SKLearn, framework_version="1.2-1", **common).run(
            code="show.py",
            source_dir="show",
            inputs=[ProcessingInput(where, "/opt/ml/processing/in", input_name="counted")],
        ),
    )
    enough = ConditionGreaterThan(JsonGet(step_name=count.name, property_file=counted, json_path="n"), least)
    steps = [count, ConditionStep("Enough", conditions=[enough], if_steps=[show], else_steps=[])]
    return Pipeline(name="OfVersion2", parameters=[least], steps=steps, sagemaker_session=session)
"""

COUNT = """
import json, os
with open("/opt/ml/processing/out/n.json", "w") as file:
    json.dump({"n": len(os.listdir("/opt/ml/processing/in"))}, file)
"""

SHOW = "print('counted', open('/opt/ml/processing/in/n.json').read())\n"


@pytest.fixture(scope="module")
def version_2() -> Path:
    """The environment that has version 2, made if it has to be."""
    uv = find_uv()
    assert uv
    cache = PROJECT / ".local_runner" / "cache"
    directory = cache / f"{SDK}-{sys.version_info[0]}.{sys.version_info[1]}"
    with locked(cache / "sdk-v2.lock", lambda: None):
        if not (directory / "complete").exists():
            install = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(directory / "bin/python"), SDK]
            for command in ([uv, "venv", "-q", "--clear", "--python", sys.executable, str(directory)], install):
                subprocess.run(command, check=True, cwd=PROJECT, env={**os.environ, "UV_NATIVE_TLS": "1"})
            (directory / "complete").touch()
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "theirs"
    shutil.copytree(PROJECT / "processing", root / "processing")
    (root / "pipeline.py").write_text(PIPELINE)
    (root / "processing/count.py").write_text(COUNT)
    (root / "show").mkdir()
    (root / "show/show.py").write_text(SHOW)
    (root / "raw").mkdir()
    for name in ("a", "b"):
        (root / "raw" / name).write_text(name)
    return root


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.timeout(300)
def test_a_pipeline_of_version_2_runs(version_2: Path, project: Path, environment: Path, state: Path) -> None:
    options = ("--python", version_2, "--state", state)
    data = ("--map", f"s3://sagemaker-local/raw={project / 'raw'}")
    done = local_runner("run", *options, *data, "--engine", "sandbox", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    assert 'counted {"n": 2}' in done.stderr
    assert [step["name"] for step in json.loads(done.stdout)["steps"]] == ["Count", "Enough", "Show"]

    # The other interpreter is a part of the cache's key: neither takes the other's definition.
    again = local_runner("compile", *options, cwd=project)
    assert "compiling" not in again.stderr
    assert json.loads(again.stdout)["Version"] == "2020-12-01"
    assert "s3://sagemaker-local/code/processing/count.py" in again.stdout
    own = local_runner("compile", "--state", state, cwd=project)
    assert own.returncode == 2
    assert own.stderr.endswith("written for version 2 of the SDK: name a Python that has it, --python PATH.\n")

    # Of an error only what is wrong is told, and what pipeline.py printed: not what the SDK says of every pipeline.
    text = PIPELINE.replace("    least =", "    print('so far')\n    no_such_name()\n    least =")
    (project / "pipeline.py").write_text(text)
    broken = local_runner("compile", *options, cwd=project)
    assert broken.returncode == 2
    assert broken.stderr.endswith("\n    no_such_name()\nIt printed:\n  so far\n")


@pytest.mark.parametrize("python", ["nowhere/python", "pipeline.py", "."])
def test_what_is_no_python_is_refused(project: Path, python: str) -> None:
    done = local_runner("compile", "--python", python, cwd=project)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: There is no Python at {python}")


def test_a_program_that_is_no_python_is_refused(project: Path) -> None:
    done = local_runner("compile", "--python", shutil.which("true") or "", cwd=project)
    assert done.returncode == 2
    assert "does not answer as a Python does" in done.stderr


def test_an_environment_without_the_sdk_is_said(tmp_path: Path, project: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    done = local_runner("compile", "--python", tmp_path / "empty", cwd=project)
    assert done.returncode == 2
    assert f"cannot be imported by {tmp_path}/empty/bin/python" in done.stderr


@pytest.mark.parametrize("name", ["program", "dependencies", "uploads", "boto", "offline", "sdk"])
def test_what_another_python_loads_is_python_3_9(name: str) -> None:
    text = (PROJECT / "local_runner/compile" / f"{name}.py").read_text()
    tree = ast.parse(text, feature_version=(3, 9))
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))
