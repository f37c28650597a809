"""Training, Transform and Model steps, which the SDK's stock local mode runs whichever engine runs the other jobs."""

from __future__ import annotations

import io
import json
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from support.command_line import Finished, Running, local_runner
from support.definitions import pipeline, processing, write
from support.values import there

from local_runner.docker_host.connection import connect

# One worker: the network of stock local mode is the machine's.
pytestmark = [
    pytest.mark.docker,
    pytest.mark.programs("docker compose"),
    pytest.mark.slow,
    pytest.mark.xdist_group("sdk"),
]

TRAIN = """
    #!/usr/bin/env python3
    import json, pathlib, signal, sys, time
    ml = pathlib.Path("/opt/ml")
    wanted = json.loads((ml / "input/config/hyperparameters.json").read_text())
    files = sorted(path for path in (ml / "input/data/numbers").rglob("*") if path.is_file())
    values = [int(line) for path in files for line in path.read_text().split()]
    if "fail" in wanted:
        (ml / "output/failure").write_text(f"cannot fit {values}")
        sys.exit(3)
    print("training on", len(files), "files", flush=True)
    if "forever" in wanted:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: sys.exit(f"asked to end by {signal.Signals(number).name}"))
        time.sleep(60)
    (ml / "model/model.json").write_text(json.dumps({"factor": int(wanted["factor"]), "most": max(values)}))
    (ml / "output/data/report.json").write_text(json.dumps({"values": values}))
"""
SERVE = """
    #!/usr/bin/env python3
    import json, os
    from http.server import BaseHTTPRequestHandler, HTTPServer
    model = json.load(open("/opt/ml/model/model.json"))
    if os.environ.get("BROKEN"):
        raise SystemExit("no server today")
    class Handler(BaseHTTPRequestHandler):
        def answer(self, status, text=""):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())
        def do_GET(self):
            self.answer(200 if self.path == "/ping" else 404)
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            try:
                self.answer(200, "".join(f"{int(line) * model['factor']}\\n" for line in body.split()))
            except ValueError as error:
                self.answer(400, str(error))
        def log_message(self, *_):
            pass
    print("serving", flush=True)
    HTTPServer(("", 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def image(processing_image: str) -> Iterator[str]:
    """An image with the programs ``train`` and ``serve``, as SageMaker starts them."""
    tag = "local-runner-test/stock-steps"
    files = {
        "Dockerfile": f"FROM {processing_image}\nCOPY train serve /usr/local/bin/\n",
        "train": dedent(TRAIN).strip(),
        "serve": dedent(SERVE).strip(),
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            tar.addfile(member, io.BytesIO(text.encode()))
    archive.seek(0)
    client = connect()
    client.images.build(fileobj=archive, custom_context=True, tag=tag, rm=True)
    yield tag
    client.images.remove(tag, force=True)
    client.close()


def get(path: str) -> dict[str, Any]:
    return {"Get": path}


def training(name: str, **hyperparameters: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": get("Steps.Make.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri")}
    return {
        "Name": name,
        "Type": "Training",
        "Arguments": {
            "AlgorithmSpecification": {"TrainingImage": "models", "TrainingInputMode": "File"},
            "HyperParameters": hyperparameters,
            "RoleArn": "arn:aws:iam::000000000000:role/local",
            "InputDataConfig": [{"ChannelName": "numbers", "DataSource": {"S3DataSource": source}}],
            "OutputDataConfig": {"S3OutputPath": "s3://b/models/"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        },
    }


def model(name: str, **environment: str) -> dict[str, Any]:
    container = {
        "Image": "models",
        "ModelDataUrl": get("Steps.Train.ModelArtifacts.S3ModelArtifacts"),
        "Environment": environment,
    }
    return {"Name": name, "Type": "Model", "Arguments": {"PrimaryContainer": container}}


def transform(name: str, of: str, uri: str) -> dict[str, Any]:
    return {
        "Name": name,
        "Type": "Transform",
        "Arguments": {
            "ModelName": get(f"Steps.{of}.ModelName"),
            "TransformInput": {
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}},
                "ContentType": "text/csv",
                "SplitType": "Line",
            },
            "TransformOutput": {"S3OutputPath": f"s3://b/{name}"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        },
    }


MAKE = processing("Make", "cd out/out; mkdir deep; echo 1 2 > a.txt; echo 40 > deep/b.txt", outputs={"out": "s3://b/n"})
READ = processing("Read", "cd in/answers; grep -r . | sort", DependsOn=["Transform"])
READ["Arguments"]["ProcessingInputs"] = [
    {
        "InputName": "answers",
        "S3Input": {
            "S3Uri": get("Steps.Transform.TransformOutput.S3OutputPath"),
            "LocalPath": "/opt/ml/processing/in/answers",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        },
    }
]
GATE = {
    "Name": "Gate",
    "Type": "Condition",
    "Arguments": {
        "Conditions": [
            {"Type": "Equals", "LeftValue": get("Steps.Train.TrainingJobStatus"), "RightValue": "Completed"},
            {"Type": "Equals", "LeftValue": get("Steps.Train.HyperParameters.factor"), "RightValue": "3"},
        ],
        "IfSteps": [READ],
        "ElseSteps": [],
    },
    "DependsOn": ["Transform"],
}


def run(state: Path, image: str, engine: str, *steps: dict[str, Any]) -> tuple[Finished, dict[str, Any]]:
    """The finished command, and each step of the record that it printed."""
    data = state.parent / "in"
    (data / "sub").mkdir(parents=True)
    (data / "x.csv").write_text("1\n2\n")
    (data / "sub" / "y.csv").write_text("10\n")
    (data / "words.txt").write_text("many\n")
    document = write(state.parent / "definition.json", pipeline(*steps))
    done = local_runner(
        *("run", document, "--map", f"s3://b/in={data}", "--image", f"models={image}", "--engine", engine, "--json"),
        *("--max-parallel", "4", "--state", state),
    )
    assert done.stdout, done.stderr
    return done, {step["name"]: step for step in json.loads(done.stdout)["steps"]}


@pytest.mark.parametrize("engine", ["docker", "sandbox"], indirect=True)
def test_a_model_is_trained_and_used(state: Path, image: str, engine: str) -> None:
    parts = [training("Train", factor="3"), model("Model"), transform("Transform", "Model", "s3://b/in/sub/"), GATE]
    done, steps = run(state, image, engine, MAKE, *parts)
    assert {name: step["status"] for name, step in steps.items()} == dict.fromkeys(
        ["Make", "Train", "Model", "Transform", "Gate", "Read"], "Succeeded"
    ), done.stderr
    assert "training on 2 files" in Path(steps["Train"]["log"]).read_text()
    assert Path(steps["Read"]["log"]).read_text().split() == ["y.csv.out:30"]
    archives = Path(steps["Train"]["outputs"]["ModelArtifacts"])
    assert archives.parts[-3] == "models"
    assert archives.name == "output"
    with tarfile.open(archives / "model.tar.gz") as tar:
        assert json.load(there(tar.extractfile("model.json"))) == {"factor": 3, "most": 40}
    with tarfile.open(archives / "output.tar.gz") as tar:
        assert json.load(there(tar.extractfile("report.json"))) == {"values": [1, 2, 40]}


def test_what_fails_says_why_and_leaves_nothing(state: Path, image: str) -> None:
    """All at once: two models are served side by side."""
    bare = training("Bare")
    bare["Arguments"]["AlgorithmSpecification"]["TrainingImage"] = "local/processing"
    parts = [
        MAKE,
        bare,
        training("Bad", fail="yes"),
        training("Train", factor="3"),
        model("Model"),
        transform("Words", "Model", "s3://b/in/words.txt"),
        model("Broken", BROKEN="1"),
        transform("Unserved", "Broken", "s3://b/in/x.csv"),
        transform("Nested", "Model", "s3://b/in/s"),
    ]
    done, steps = run(state, image, "docker", *parts)
    assert done.returncode == 1
    assert "AlgorithmError: cannot fit [1, 2, 40]" in steps["Bad"]["failure_reason"]
    assert "algo-1 exited with code 3" in steps["Bad"]["failure_reason"]
    assert "the image has no 'train' that can be started" in steps["Bare"]["failure_reason"]
    assert "ERROR" not in steps["Bare"]["failure_reason"]
    assert "answered a request with the status 400: invalid literal for int()" in steps["Words"]["failure_reason"]
    assert "the model server ended" in steps["Unserved"]["failure_reason"]
    assert "no server today" in steps["Unserved"]["failure_reason"]
    assert sorted(path.name for path in (state / "s3/b").iterdir()) == ["Nested", "models", "n"]
    assert (state / "s3/b/Nested/sub/y.csv.out").read_text() == "30\n"
    assert len(list((state / "s3/b/models").iterdir())) == 1
    client = connect()
    assert not client.containers.list(all=True, filters={"label": f"local-runner.state={state}"})
    client.close()


def test_a_training_job_is_stopped_by_sigterm(state: Path, image: str) -> None:
    document = write(state.parent / "definition.json", pipeline(MAKE, training("Train", forever="yes")))
    images = ("--image", f"models={image}", "--engine", "docker")
    running = Running(state.parent / "run", "run", document, *images, "--state", state, "--json")
    running.wait_for("training on 2 files")
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 130
    _, train = running.record["steps"]
    assert train["status"] == "Stopped"
    assert "asked to end by SIGTERM" in Path(train["log"]).read_text()


def test_without_docker_they_are_refused_before_anything_runs(state: Path) -> None:
    document = write(state.parent / "definition.json", pipeline(MAKE, training("Train", factor="3")))
    nowhere = {"DOCKER_HOST": "unix:///nowhere"}
    done = local_runner("run", document, "--engine", "sandbox", "--state", state, changes=nowhere)
    assert done.returncode == 4
    assert "Steps[1]: step 'Train' is of type Training and runs in the SDK's local mode" in done.stderr
    assert not (state / "s3").exists()
