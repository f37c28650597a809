"""Requests against the limits of the installed botocore, and the cache of those limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.definitions import processing_request, s3_input, s3_output

from local_runner.definition.paths import Deferred
from local_runner.sagemaker_api import limits
from local_runner.sagemaker_api.job_types import JOB_KINDS
from local_runner.sagemaker_api.limits import request_problems
from local_runner.storage.records import read_record

PROCESSING = "CreateProcessingJobRequest"


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def sample() -> dict[str, Any]:
    return processing_request(
        [s3_input("raw", "s3://b/raw")],
        [s3_output("out", "s3://b/out")],
        Environment={"MODE": "fast"},
        RoleArn="arn:aws:iam::000000000000:role/local-runner",
    )


def test_a_good_request_has_no_problems(cache_dir: Path) -> None:
    assert request_problems(sample(), PROCESSING, "R", cache_dir) == []


def cluster(**change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda r: r["ProcessingResources"]["ClusterConfig"].update(change)


def app(**change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda r: r["AppSpecification"].update(change)


CLUSTER = "R.ProcessingResources.ClusterConfig"


@pytest.mark.parametrize(
    ("spoil", "where", "says"),
    [
        (lambda r: r.pop("AppSpecification"), "R", "AppSpecification is missing"),
        (lambda r: r.update(AppSpecification=None), "R", "AppSpecification is missing"),
        (lambda r: r.update(AppSpecification=[]), "R.AppSpecification", "an object is wanted"),
        (lambda r: r.update(Enviroment={}), "R.Enviroment", "Did you mean 'Environment'"),
        (lambda r: r.update(Environment={"A-B": "x"}), "R.Environment.A-B", "not of the form"),
        (lambda r: r.update(Environment={"A": "x" * 257}), "R.Environment.A", "at most 256"),
        (lambda r: r.update(Environment={f"A{n}": "" for n in range(101)}), "R.Environment", "101 entries"),
        (lambda r: r.update(Environment={"A": 3}), "R.Environment.A", "to_string()"),
        (lambda r: r.update(RoleArn="me"), "R.RoleArn", "at least 20"),
        (lambda r: r.update(RoleArn="x" * 20), "R.RoleArn", "not of the form"),
        (lambda r: r.update(ProcessingInputs=[s3_input("a", "s3://b/a")] * 11), "R.ProcessingInputs", "at most 10"),
        (lambda r: r["ProcessingInputs"][0].pop("InputName"), "R.ProcessingInputs[0]", "InputName is missing"),
        (
            lambda r: r["ProcessingInputs"][0]["S3Input"].update(S3DataType="Prefix"),
            "R.ProcessingInputs[0]",
            "S3Prefix",
        ),
        (lambda r: r.update(StoppingCondition={"MaxRuntimeInSeconds": 0}), "R.StoppingCondition.Max", "at least 1"),
        (lambda r: r.update(NetworkConfig={"EnableNetworkIsolation": "no"}), "R.NetworkConfig.Enable", "true or false"),
        (cluster(InstanceCount=101), f"{CLUSTER}.InstanceCount", "at most 100"),
        (cluster(InstanceCount="1"), f"{CLUSTER}.InstanceCount", "a whole number is wanted"),
        (cluster(InstanceCount=True), f"{CLUSTER}.InstanceCount", "the boolean true"),
        (cluster(InstanceCount=1.5), f"{CLUSTER}.InstanceCount", "the number 1.5"),
        (cluster(InstanceType="ml.m5.xlrage"), f"{CLUSTER}.InstanceType", "Did you mean 'ml.m5.xlarge'"),
        (app(ContainerEntrypoint=[]), "R.AppSpecification.ContainerEntrypoint", "at least 1"),
        (app(ContainerArguments=["x"] * 101), "R.AppSpecification.ContainerArguments", "at most 100"),
        (app(ContainerArguments=["a\nb"]), "R.AppSpecification.ContainerArguments[0]", "not of the form"),
        (app(ImageUri="x" * 256), "R.AppSpecification.ImageUri", "at most 255"),
    ],
)
def test_each_breach_is_found(cache_dir: Path, spoil: Callable[[dict[str, Any]], Any], where: str, says: str) -> None:
    spoiled = sample()
    spoil(spoiled)
    (problem,) = request_problems(spoiled, PROCESSING, "R", cache_dir)
    assert problem.where.startswith(where)
    assert says in str(problem)


def breaches(name: str, shapes: limits.Shapes) -> Iterator[tuple[str, Any]]:
    """(path, value) for each limit in a shape: a value that breaks it there."""
    shape = shapes[name]
    least, most = shape.get("min", 0), shape.get("max")
    match shape["type"]:
        case "structure":
            for key, member in shape["members"].items():
                yield from ((f".{key}{path}", {key: value}) for path, value in breaches(member, shapes))
        case "list":
            yield from [("", [])] if least else []
            yield from [("", [None] * (most + 1))] if most else []
            yield from ((f"[0]{path}", [value]) for path, value in breaches(shape["member"], shapes))
        case "map":
            yield from [("", {f"K{number}": "" for number in range(most + 1)})] if most else []
            yield from ((f".K{path}", {"K": value}) for path, value in breaches(shape["value"], shapes))
        case "string" if "enum" in shape:
            yield "", "no such value"
        case "string":
            yield from [("", "x" * (least - 1))] if least else []
            yield from [("", "x" * (most + 1))] if most else []
            if (pattern := limits._compiled(shape.get("pattern", ".*"))) and not pattern.fullmatch(
                "\0" * max(least, 1)
            ):
                yield "", "\0" * max(least, 1)
        case "integer" | "long":
            yield from [("", least - 1)] if "min" in shape else []
            yield from [("", most + 1)] if most is not None else []
    yield "", object()


@pytest.mark.parametrize("shape", sorted(kind.shape for kind in JOB_KINDS.values()))
def test_every_limit_that_the_model_has_is_looked_at(cache_dir: Path, shape: str) -> None:
    tried = 0
    for path, value in breaches(shape, limits.load_shapes(shape, cache_dir)):
        tried += 1
        request = value if path else {"Nonsense": value}
        where = f"R{path}" if path else "R.Nonsense"
        assert any(problem.where == where for problem in request_problems(request, shape, "R", cache_dir)), (
            path,
            value,
        )
    assert tried > 50


def test_what_is_deferred_or_null_is_passed_over(cache_dir: Path) -> None:
    later = sample()
    later["AppSpecification"]["ContainerArguments"] = ["--ratio", Deferred("later")]
    later["ProcessingInputs"][0]["S3Input"]["S3Uri"] = Deferred("later")
    later["Environment"] = None
    later["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = Deferred("later")
    assert request_problems(later, PROCESSING, "R", cache_dir) == []


def test_the_limits_are_kept_by_version_and_made_anew_where_the_file_is_broken(tmp_path: Path) -> None:
    shapes = limits.load_shapes(PROCESSING, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("limits-")
    assert read_record(kept, {"shapes": dict})["shapes"] == shapes
    for broken in ("", "{", "[]", '{"format": 0}', '{"format": 1}'):
        kept.write_text(broken)
        limits.load_shapes.cache_clear()
        assert limits.load_shapes(PROCESSING, tmp_path) == shapes
        assert list(tmp_path.iterdir()) == [kept]


def test_limits_need_no_directory_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert PROCESSING in limits.load_shapes(PROCESSING, tmp_path / "file" / "cache")
