"""Every point of the contract, run on every engine, must come to what its ``point.toml`` says (``points.py``).

The engines are made once and used for all points. Outputs are compared byte for byte with ``expected.json``, which
names every output of every step that succeeded: so an engine that holds to it leaves what the others leave.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from points import DIRECTORY, ENGINES, PARTS, STOCK_PART, Point, points
from support.scenario import buckets, differences, expectation, files
from table import DOCUMENT, render

from local_runner.cli.local import EXIT_CODES, cli
from local_runner.docker_host.connection import connect
from local_runner.engines import Engine
from local_runner.errors import EXIT_FAILED, InvalidPipelineError
from local_runner.project import Project
from local_runner.report.plain import PlainListener
from local_runner.report.record import to_record
from local_runner.run.pipeline import run_pipeline
from local_runner.run.request import RunRequest
from local_runner.settings import load_settings
from local_runner.storage.job_tree import remove

PROJECT = DIRECTORY.parents[1]
MARKS = {
    "docker": [pytest.mark.docker],
    "sandbox": [pytest.mark.sandbox],
    # With the other tests of that engine: its network is the machine's.
    "sdk": [pytest.mark.docker, pytest.mark.programs("docker compose"), pytest.mark.xdist_group("sdk")],
}
IMAGES = DIRECTORY / "images"
MODEL_IMAGE = "model"


def marks(point: Point, engine: str) -> list[pytest.MarkDecorator]:
    stock = MARKS["sdk"] if point.part == STOCK_PART and engine != "sdk" else []
    return [pytest.mark.slow, *MARKS[engine], *stock]


RUNS = [
    pytest.param(point, engine, id=f"{point.name}-{engine}", marks=marks(point, engine))
    for engine in ENGINES
    for point in points()
    if point.kind(engine) != "-"
]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of each engine, by name. An engine removes what it finds of runs that its own has not."""
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def engine_of(request: pytest.FixtureRequest, states: Path) -> Iterator[Callable[[str], Engine]]:
    made: dict[str, Engine] = {}
    with ExitStack() as ends:
        # What a job must not see is there to be seen, before an engine starts anything.
        settings = ends.enter_context(pytest.MonkeyPatch.context())
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            settings.setenv(variable, "secret")

        def engine_of(name: str) -> Engine:
            if name not in made:
                made[name] = ends.enter_context(closing(make(name)))
            return made[name]

        def make(name: str) -> Engine:
            if name == "sandbox":
                from local_runner.engines.sandbox.engine import SandboxEngine

                return SandboxEngine(request.getfixturevalue("environment"))
            image = request.getfixturevalue("processing_image")

            def image_of(uri: str) -> str:
                return _own_image(request, uri) or image

            if name == "docker":
                from local_runner.engines.docker.engine import DockerEngine

                return DockerEngine(states / name, image_of)
            from local_runner.engines.sdk.engine import SdkEngine

            return SdkEngine(states / name, image_of, print)

        yield engine_of


@pytest.fixture(scope="module")
def own_images(processing_image: str) -> Iterator[Mapping[str, str]]:
    """The images of ``images/``, made from the project's own, by the URI that definitions have for them."""
    client = connect()
    tags: dict[str, str] = {}
    for directory in sorted(IMAGES.iterdir()):
        tags[f"local/{directory.name}"] = tag = f"local-runner-test/{directory.name}:{os.getpid()}"
        client.images.build(path=str(directory), tag=tag, buildargs={"BASE": processing_image}, rm=True)
    yield tags
    for tag in tags.values():
        client.images.remove(tag, force=True)
    client.close()


def _own_image(request: pytest.FixtureRequest, uri: str) -> str | None:
    named = (IMAGES / uri.removeprefix("local/")).is_dir()
    return request.getfixturevalue("own_images")[uri] if named else None


@pytest.fixture
def images(request: pytest.FixtureRequest, point: Point) -> Mapping[str, str]:
    """The images for Training, Transform and Model steps, which another engine than the point's runs."""
    uses = f'"local/{MODEL_IMAGE}"' in (point.directory / "definition.json").read_text(encoding="utf-8")
    return request.getfixturevalue("own_images") if uses else {}


@pytest.mark.parametrize(("point", "name"), RUNS)
def test_point(
    point: Point,
    name: str,
    engine_of: Callable[[str], Engine],
    images: Mapping[str, str],
    states: Path,
    tmp_path: Path,
) -> None:
    engine, state, data = engine_of(name), states / name, point.data(tmp_path)
    if (state / "s3").exists():
        remove(state / "s3")  # what another point left
    before = files(data)
    if point.kind(name).startswith("refused"):
        with pytest.raises(InvalidPipelineError) as refused:
            _run(point, data, engine, state, images)
        assert point.detail(name) in str(refused.value)
        return
    expected = expectation(point.directory / "expected.json")
    record, found = _run(point, data, engine, state, images)
    missed = found(expected)
    if point.kind(name) == "differs":
        assert missed, "it does not differ"
        missed = found(expectation(point.directory / f"expected.{name}.json"))
    else:
        assert not _unlisted(expected, record), "outputs that expected.json does not name"
    assert not missed, "\n".join(missed)
    assert files(data) == before


def _run(
    point: Point, data: Path, engine: Engine, state: Path, images: Mapping[str, str]
) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], list[str]]]:
    """Run the point: the record, and what tells its differences to an expectation."""
    document = point.directory / "definition.json"
    file = point.directory / "expected.json"
    arguments = expectation(file).get("arguments", ()) if file.is_file() else ()
    options = (
        cli.commands["run"]
        .make_context("run", list(arguments), parent=cli.make_context("local-runner", ["run"]))
        .params
    )
    request = RunRequest(
        target=str(document),
        parameters=dict(options["parameters"]),
        data=buckets(data),
        faults=options["faults"],
        images=images,
    )
    # Functions in the place of other services are named in a local_runner.toml of the point's own.
    settings = load_settings(point.directory if (point.directory / "local_runner.toml").is_file() else PROJECT)
    _, execution = run_pipeline(
        Project(settings, state, PlainListener(sys.stdout).note), request, PlainListener(sys.stdout), engine
    )
    code = EXIT_CODES.get(execution.status, EXIT_FAILED)
    return to_record(execution), lambda wanted: differences(wanted, to_record(execution), code, state / "s3")


def _unlisted(expected: Mapping[str, Any], record: Mapping[str, Any]) -> set[str]:
    """The outputs that there are and nothing is expected of."""
    return {f"{step['name']}.{name}" for step in record["steps"] for name in step["outputs"]} - set(
        expected.get("outputs", {})
    )


def test_every_point_is_in_a_part() -> None:
    found = {file.parent for name in ("definition.json", "point.toml") for file in DIRECTORY.rglob(name)}
    assert found == {point.directory for point in points()}
    assert {point.part for point in points()} == set(PARTS)


def test_the_committed_table_is_what_the_points_say() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(points()), "run: make conformance"


@pytest.mark.parametrize("point", points(), ids=lambda point: point.name)
def test_a_point_is_complete(point: Point) -> None:
    """What a difference is said to be has been written down, and nothing else has."""
    written = {file.name.split(".")[1] for file in point.directory.glob("expected.*.json")}
    assert written == {engine for engine in ENGINES if point.kind(engine) == "differs"}
    assert (point.directory / "expected.json").is_file() or point.kind("docker").startswith("refused")
    assert point.source
    stored = files(point.directory / "data")
    assert {name: len(content) for name, content in stored.items() if len(content) > 4096} == {}, "to be generated"
