"""The SDK's stock local mode as an engine: outputs as docker's, and the differences that it is said to have."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from support.jobs import processing_job
from support.values import until

from local_runner.docker_host.connection import connect
from local_runner.engines import Engine
from local_runner.engines.docker.engine import DockerEngine
from local_runner.engines.docker.sweep import LABEL_RUN
from local_runner.engines.sdk.engine import SdkEngine
from local_runner.errors import InvalidPipelineError
from local_runner.execution.contract import collect, stage
from local_runner.models import JobResult, ProcessingInput, ProcessingJob, ProcessingOutput, StagedJob
from local_runner.pytest_plugin import LocalRun
from local_runner.storage.local_s3 import Source, Storage
from local_runner.storage.runs import Run, new_execution_id, open_run

pytestmark = [pytest.mark.docker, pytest.mark.programs("docker compose")]

RAW, OUT, SECOND = (f"/opt/ml/processing/{name}" for name in ("raw", "out", "second"))
EXAMPLE_DAY = "2013-01-02"


def job(code: str, **changes: Any) -> ProcessingJob:
    inputs = (ProcessingInput("raw", "s3://b/in", RAW),)
    outputs = (ProcessingOutput("out", "s3://b/out", OUT), ProcessingOutput("second", "s3://b/second", SECOND))
    return processing_job("python3", "-c", dedent(code), **{"inputs": inputs, "outputs": outputs, **changes})


class Bench:
    """Stages jobs over a small input, made of two layers, and runs them on one engine."""

    def __init__(self, root: Path, engine: Engine, run: Run) -> None:
        self.root = root
        self.engine = engine
        self.data = root / "data"
        (self.data / "sub").mkdir(parents=True)
        for name in ("a", "b", "sub/c"):
            (self.data / name).write_text(name)
        self.storage = Storage(root / "s3", (Source("s3://b/in", self.data),))
        self.storage.path("s3://b/in").mkdir(parents=True)
        (self.storage.path("s3://b/in") / "b").write_text("from the tree")
        self.execution = run
        self.lines: list[tuple[str, str]] = []

    def run(self, of: ProcessingJob, stop: threading.Event | None = None) -> tuple[StagedJob, JobResult]:
        step = f"Step{time.monotonic_ns()}"
        work, logs = self.execution.work / step, self.root / "logs" / step
        staged = stage(of, run_id=self.execution.id, step=step, storage=self.storage, work=work, logs=logs)
        self.engine.prepare([of])
        return staged, self.engine.run(
            staged, lambda host, line: self.lines.append((host, line)), stop or threading.Event()
        )

    def outputs(self, of: ProcessingJob) -> dict[str, dict[str, bytes]]:
        """The files of each output of a job that must succeed."""
        staged, result = self.run(of)
        assert result.succeeded, (result, self.said())
        collected = collect(staged, result, self.storage)
        return {name: _files(directory) for name, directory in collected.outputs.items()}

    def said(self) -> list[str]:
        return [line for _, line in self.lines]

    def until_said(self, text: str) -> None:
        until(lambda: text in self.said())


def _files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # What docker compose and file:// URIs would make something else of.
    return tmp_path_factory.mktemp("state") / "with: # and $HOME"


@pytest.fixture(scope="module")
def run(state: Path) -> Iterator[Run]:
    opened = open_run(state, new_execution_id())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def sdk(state: Path, processing_image: str) -> Iterator[SdkEngine]:
    engine = SdkEngine(state, lambda _: processing_image, print)
    yield engine
    engine.close()


@pytest.fixture
def bench(tmp_path: Path, sdk: SdkEngine, run: Run) -> Iterator[Bench]:
    yield Bench(tmp_path, sdk, run)
    assert _containers(run.id) == []


def _containers(run_id: str) -> list[dict[str, Any]]:
    client = connect()
    try:
        return client.api.containers(all=True, filters={"label": f"{LABEL_RUN}={run_id}"})
    finally:
        client.close()


# ------------------------------------------------------------------------------------------------- what is the same
WRITES = f"""
    import os, pathlib
    raw, out = pathlib.Path("{RAW}"), pathlib.Path("{OUT}")
    (out / "x/y").mkdir(parents=True)
    (out / "x/y/ü and space.txt").write_bytes(bytes(range(256)))
    (out / "empty").write_bytes(b"")
    (out / "nothing").mkdir()
    os.link(out / "empty", out / "linked")
    for path in sorted(p for p in raw.rglob("*") if p.is_file()):
        (pathlib.Path("{SECOND}") / path.name).write_text(path.read_text().upper())
    (raw / "a").write_text("changed"); (raw / "b").unlink(); (raw / "new").write_text("new")
    print("  done  ")
"""


def test_outputs_are_byte_for_byte_those_of_docker(bench: Bench, tmp_path: Path, processing_image: str) -> None:
    stock = bench.outputs(job(WRITES))
    assert _files(bench.data) == {"a": b"a", "b": b"b", "sub/c": b"sub/c"}
    assert bench.lines == [("algo-1", "  done  ")]
    docker = DockerEngine(tmp_path / "state", lambda _: processing_image)
    execution = open_run(tmp_path / "state", new_execution_id())
    try:
        (tmp_path / "other").mkdir()
        other = Bench(tmp_path / "other", docker, execution)
        assert other.outputs(job(WRITES)) == stock
        assert other.lines == bench.lines
    finally:
        execution.close()
        docker.close()
    assert set(stock["out"]) == {"x/y/ü and space.txt", "empty", "linked"}
    assert stock["second"] == {"a": b"A", "b": b"FROM THE TREE", "c": b"SUB/C"}


def test_outputs_belong_to_the_caller(bench: Bench) -> None:
    staged, result = bench.run(job(f"open('{OUT}/f', 'w').write('x')"))
    made = collect(staged, result, bench.storage).outputs["out"] / "f"
    assert made.stat().st_uid == os.getuid()


@pytest.mark.parametrize(
    ("entrypoint", "code"),
    [
        (("python3", "-c", "print('last', end=''); raise SystemExit(7)"), 7),
        (("/bin/sh", "-c", "exit 137"), 137),
        (("no-such-program",), 127),
    ],
)
def test_exit_codes(bench: Bench, entrypoint: tuple[str, ...], code: int) -> None:
    staged, result = bench.run(job("", entrypoint=entrypoint))
    assert result.hosts[0].exit_code == code
    reason = collect(staged, result, bench.storage).failure_reason
    assert f"algo-1 exited with code {code}" in str(reason)
    if code == 7:
        assert bench.said() == ["last"]
    if code == 127:
        assert "no-such-program" in str(reason)


def test_nothing_of_this_machine_reaches_the_job(
    tmp_path: Path, processing_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HTTP_PROXY", "SOMETHING_OF_MINE"):
        monkeypatch.setenv(name, "secret")
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": "http://secret:1"}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    engine = SdkEngine(tmp_path / "state", lambda _: processing_image, print)  # its process has these variables
    execution = open_run(tmp_path / "state", new_execution_id())
    try:
        bench = Bench(tmp_path, engine, execution)
        code = "import json, os; print(json.dumps(dict(os.environ)))"
        _, result = bench.run(job(code, environment={"MODE": "daily", "ASKED": "${AWS_SECRET_ACCESS_KEY-nothing}"}))
        assert result.succeeded, (result, bench.said())
        environment = json.loads(bench.said()[0])
    finally:
        execution.close()
        engine.close()
    assert environment["MODE"] == "daily"
    assert environment["ASKED"] == "nothing"
    assert "secret" not in str(environment)
    assert not [name for name in environment if name.startswith("AWS_")]


def test_jobs_side_by_side(bench: Bench) -> None:
    results: list[JobResult] = []
    jobs = [job(f"print({number})", outputs=()) for number in range(3)]
    threads = [threading.Thread(target=lambda of=of: results.append(bench.run(of)[1])) for of in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.succeeded for result in results] == [True] * 3, results
    assert sorted(bench.said()) == ["0", "1", "2"]


def test_many_lines(bench: Bench) -> None:
    staged, result = bench.run(job("for n in range(20_000): print(n)\nimport time; time.sleep(1)"))
    assert result.succeeded
    assert bench.said() == [str(number) for number in range(20_000)]
    assert staged.hosts[0].log.read_text().splitlines() == bench.said()


# --------------------------------------------------------------------------------------------------------- stopping
@pytest.mark.parametrize(
    ("handler", "said"),
    [("lambda *_: (print('asked to stop', flush=True), sys.exit(0))", ["up", "asked to stop"]), ("SIG_IGN", ["up"])],
)
def test_stop_is_a_signal_then_a_kill(bench: Bench, handler: str, said: list[str]) -> None:
    code = f"""
        import sys, time
        from signal import SIG_IGN, SIGINT, signal
        signal(SIGINT, {handler})
        print("up", flush=True)
        time.sleep(60)
    """
    stop = threading.Event()
    threading.Thread(target=lambda: (bench.until_said("up"), stop.set())).start()
    started = time.monotonic()
    _, result = bench.run(job(code), stop)
    assert result.stopped == "interrupted"
    assert bench.said() == said
    assert time.monotonic() - started < 30


def test_stop_before_there_is_a_container(bench: Bench) -> None:
    stop = threading.Event()
    stop.set()
    _, result = bench.run(job("import time; time.sleep(60)"), stop)
    assert result.stopped == "interrupted"


# ------------------------------------------------------------------------------------------------ what is different
def test_what_it_is_said_to_ignore_it_does_ignore(bench: Bench) -> None:
    code = "import socket, sys; print(socket.gethostbyname(socket.gethostname()) != '127.0.0.1', sys.argv[1])"
    of = job(code, network_isolation=True, arguments=("$$x",), max_runtime=1)
    assert bench.engine.problems([("Steps[0]", of)]) == []
    _, result = bench.run(of)
    assert result.succeeded
    assert bench.said() == ["True $x"]


def test_all_hosts_are_stopped_when_the_first_one_ends(bench: Bench) -> None:
    code = """
        import json, time
        me = json.load(open("/opt/ml/config/resourceconfig.json"))["current_host"]
        print("up", flush=True)
        time.sleep(60 if me.startswith("algo-2") else 2)
    """
    staged, result = bench.run(job(code, instance_count=2))
    assert result.hosts[0].exit_code == 0
    assert result.hosts[1].exit_code in (137, 143)
    reason = str(collect(staged, result, bench.storage).failure_reason)
    assert "stops all hosts when the first one ends" in reason


def test_an_output_it_cannot_upload_fails_the_job(bench: Bench) -> None:
    staged, result = bench.run(job(f"import os; open(os.fsencode('{OUT}/') + b'\\xff', 'w').close()"))
    assert not result.succeeded
    assert "stock local mode failed" in str(collect(staged, result, bench.storage).failure_reason)


def test_links_in_outputs_are_left_out(bench: Bench, tmp_path: Path) -> None:
    """As it ships, stock local mode copies what they lead to on this machine, or fails where that is nothing."""
    (tmp_path / "of-the-host").write_text("what only the host may read")
    script = (
        f"import os; os.symlink('/nowhere', '{OUT}/nowhere'); os.symlink('{tmp_path}', '{OUT}/folder');"
        f"os.symlink('{tmp_path}/of-the-host', '{OUT}/file'); open('{OUT}/own', 'w').close()"
    )
    staged, result = bench.run(job(script))
    assert result.succeeded
    output = collect(staged, result, bench.storage).outputs["out"]
    assert [path.name for path in output.rglob("*")] == ["own"]


def test_the_example_is_refused_for_its_sharding(local_run: LocalRun) -> None:
    with pytest.raises(InvalidPipelineError) as refused:
        local_run(date=EXAMPLE_DAY, engine="sdk")
    (problem,) = refused.value.problems
    assert "ShardedByS3Key" in problem.what
    assert "--engine docker" in problem.remedy


def test_the_examples_first_steps_give_what_docker_gives(local_run: LocalRun, processing_image: str) -> None:
    outputs: list[dict[str, dict[str, bytes]]] = []
    for engine in ("sdk", "docker"):
        execution = local_run(date=EXAMPLE_DAY, steps=["Validate"], engine=engine)
        assert execution.status == "Succeeded", execution.failure_reason
        outputs.append({name: _files(path) for name, path in execution.step("Validate").outputs.items()})
    assert outputs[0] == outputs[1]
    assert outputs[0]["clean"]
