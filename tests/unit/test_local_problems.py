"""What AWS would refuse, and what only this machine lacks: told apart in every kind of problem, and by exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import in_process
from support.definitions import (
    get,
    output_of,
    parameter,
    pipeline,
    processing,
    s3_input,
    s3_output,
    services,
    write,
)

RAW = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/raw"}}
CLUSTER = {"InstanceType": "ml.m5.large", "InstanceCount": 1}
FUNCTION = {"Name": "F", "Type": "Lambda", "FunctionArn": "arn:aws:lambda:us-east-1:111122223333:function:f"}


def training(**algorithm: Any) -> dict[str, Any]:
    arguments = {
        "AlgorithmSpecification": {"TrainingImage": "models", "TrainingInputMode": "File", **algorithm},
        "RoleArn": "arn:aws:iam::111122223333:role/theirs",
        "InputDataConfig": [{"ChannelName": "numbers", "DataSource": RAW}],
        "OutputDataConfig": {"S3OutputPath": "s3://b/models"},
        "ResourceConfig": {**CLUSTER, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }
    return {"Name": "T", "Type": "Training", "Arguments": arguments}


def model(**container: Any) -> dict[str, Any]:
    return {"Name": "M", "Type": "Model", "Arguments": {"PrimaryContainer": container}}


def transform(name: Any) -> dict[str, Any]:
    arguments = {
        "ModelName": name,
        "TransformInput": {"DataSource": RAW},
        "TransformOutput": {"S3OutputPath": "s3://b/out"},
        "TransformResources": CLUSTER,
    }
    return {"Name": "X", "Type": "Transform", "Arguments": arguments}


def job(**how: Any) -> dict[str, Any]:
    return processing("P", **how)


def request(**members: Any) -> dict[str, Any]:
    return job(members=members)


ONLY_HERE: dict[str, tuple[list[dict[str, Any]], str]] = {
    "type": ([{"Name": "T", "Type": "Tuning", "Arguments": {}}], "cannot run on this machine yet"),
    "lambda": ([FUNCTION], "which is not on this machine"),
    "services": (services()["Steps"][:3], "which is not on this machine"),
    "function": ([{**FUNCTION, "Name": "Configured"}], "functions.py cannot be read"),
    "input": ([job(inputs={"raw": "s3://b/raw"})], "--map s3://b/raw=DIR"),
    "channel": ([training()], "--map s3://b/raw=DIR"),
    "transform": ([model(Image="models"), transform(get("Steps.M.ModelName"))], "--map s3://b/raw=DIR"),
    "model's data": ([model(Image="models", ModelDataUrl="s3://b/m.tar.gz")], "--map s3://b/m.tar.gz=FILE"),
    "file for a directory": ([job(inputs={"raw": "s3://b/raw/"})], "--map s3://b/raw/=DIR"),
    "read of itself": ([job(inputs={"in": "s3://b/raw"}, outputs={"out": "s3://b"})], "--map s3://b/raw=DIR"),
    "written too late": (
        [job(inputs={"in": "s3://b/raw"}), processing("Q", outputs={"out": "s3://b"}, DependsOn=["P"])],
        "--map s3://b/raw=DIR",
    ),
    "dataset": ([request(ProcessingInputs=[{"InputName": "a", "DatasetDefinition": {}}])], "Athena or Redshift"),
    "feature store": (
        [
            request(
                ProcessingOutputConfig={
                    "Outputs": [{"OutputName": "a", "FeatureStoreOutput": {"FeatureGroupName": "g"}}]
                }
            )
        ],
        "Feature Store",
    ),
    "key": ([job(outputs={"out": "s3://b/a//c"})], "no directory tree can hold"),
    "https": ([job(outputs={"out": "https://b/a"})], "is no s3:// URI"),
    "pipe's name": (
        [job(inputs=[{**s3_input("a", "s3://given/raw", S3InputMode="Pipe"), "InputName": "a/b"}])],
        "cannot be the name of a pipe",
    ),
    "mode": ([training(TrainingInputMode="Pipe")], "TrainingInputMode Pipe"),
    "dollar": ([training(ContainerEntrypoint=["echo", "$HOME"])], "docker compose"),
    "model of the cloud": ([transform("theirs")], "the model theirs is in the cloud"),
    "model package": ([model(ModelPackageName="p")], "model packages are not on this machine"),
}
ON_AWS_TOO: dict[str, tuple[list[dict[str, Any]], str]] = {
    "no such type": ([{"Name": "T", "Type": "Tunning", "Arguments": {}}], "Tunning"),
    "limit": ([job(image="x" * 256)], "at most 255"),
    "rule": ([job(members={"AppSpecification": {"ContainerArguments": [""]}})], "ContainerArguments"),
    "missing member": ([request(ProcessingResources=None)], "ProcessingResources is missing"),
    "reference": ([job(DependsOn=["Nobody"])], "there is no step 'Nobody'"),
    "parameter": ([job(instances=get("Parameters.Nope"))], "there is no parameter 'Nope'"),
    "cycle": ([job(DependsOn=["Q"]), processing("Q", DependsOn=["P"])], "wait for each other"),
    "not waited for": (
        [job(outputs={"out": "s3://b/x"}), processing("Q", inputs={"in": "s3://b/x"})],
        "add 'P' to its DependsOn",
    ),
    "path": ([job(outputs=[s3_output("out", "s3://b/x", LocalPath="/tmp")])], "no directory under"),
    "gzip": ([job(inputs=[s3_input("a", "s3://given/raw", S3CompressionType="Gzip")])], "Gzip is for"),
    "no bucket": ([job(outputs={"out": "s3://"})], "no valid bucket name"),
    "no URI": ([job(outputs={"out": "out"})], "is no s3:// URI"),
    "image": ([model()], "PrimaryContainer"),
    "property": ([job(), processing("Q", members={"Environment": {"A": output_of("P")}})], "Outputs"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a").touch()
    (tmp_path / "local_runner.toml").write_text(
        '[local.data]\n"s3://given/raw" = "raw"\n[local.lambda]\nConfigured = "functions.py:f"\n'
    )
    return tmp_path


def validated(project: Path, steps: list[dict[str, Any]], *options: str, **more: Any) -> tuple[int, dict[str, Any]]:
    target = write(project / "p.json", pipeline(*steps, **more))
    done = in_process("validate", target, *options, "--json", cwd=project)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("kind", ONLY_HERE)
def test_what_only_this_machine_lacks(project: Path, kind: str) -> None:
    steps, says = ONLY_HERE[kind]
    code, found = validated(project, steps)
    assert any(says in f"{each['what']} {each['remedy']}" and each["local"] for each in found["problems"]), found
    # What the service wants beside it, as of a request that is cut short here, is not this machine's.
    assert code == (4 if all(each["local"] for each in found["problems"]) else 2)


@pytest.mark.parametrize("kind", ON_AWS_TOO)
def test_what_aws_would_refuse(project: Path, kind: str) -> None:
    steps, says = ON_AWS_TOO[kind]
    code, found = validated(project, steps)
    assert code == 2
    assert any(says in f"{each['where']} {each['what']} {each['remedy']}" for each in found["problems"]), found
    assert not any(each["local"] for each in found["problems"]), found


@pytest.mark.parametrize("options", [("-p", "Nope=1"), ("-p", "Count=many"), ()])
def test_values_that_the_start_would_refuse(project: Path, options: tuple[str, ...]) -> None:
    code, found = validated(project, [job()], *options, parameters=[parameter("Count", None, "Integer")])
    assert (code, {each["local"] for each in found["problems"]}) == (2, {False})


def test_both_are_listed_apart(project: Path) -> None:
    target = write(project / "p.json", pipeline(job(inputs={"raw": "s3://b/raw"}, image="x" * 256, DependsOn=["No"])))
    done = in_process("validate", target, cwd=project)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.endswith(":")] == [
        f"Error: {target} has 2 problems:",
        f"{target} has 1 problem on this machine only, and not on AWS:",
    ]
    assert [line.split(".")[0] for line in lines if not line.endswith(":")] == ["  1", "  2", "  3"]
    assert "--map" in lines[-1]


@pytest.mark.parametrize(("selection", "code"), [(("--to", "A"), 0), (("--only", "A"), 0), (("--from", "B"), 4)])
def test_a_selection_is_validated_alone(project: Path, selection: tuple[str, ...], code: int) -> None:
    steps = [processing("A", outputs={"out": "s3://b/a"}), processing("B", inputs={"a": output_of("A")})]
    found, said = validated(project, [*steps, {"Name": "T", "Type": "Tuning", "Arguments": {}}], *selection)
    assert (found, bool(said["problems"])) == (code, bool(code))
