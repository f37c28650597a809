"""What every engine owes a job, tried on each of them with real containers and real namespaces."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from support.jobs import processing_job
from support.project import PROJECT
from support.values import until

from local_runner.engines import Engine
from local_runner.execution.contract import collect, stage
from local_runner.models import JobResult, ProcessingInput, ProcessingJob, ProcessingOutput, StagedJob
from local_runner.project import Project
from local_runner.run.engine import select_engine
from local_runner.run.request import RunRequest
from local_runner.storage.job_tree import remove
from local_runner.storage.local_s3 import Source, Storage
from local_runner.storage.runs import new_execution_id, open_run

RAW, OUT = "/opt/ml/processing/raw", "/opt/ml/processing/out"
PYTHON = ("python3", "-c")


def job(code: str, **changes: Any) -> ProcessingJob:
    inputs = (ProcessingInput("raw", "s3://b/in", RAW),)
    outputs = (ProcessingOutput("out", "s3://b/out", OUT),)
    return processing_job("python3", "-c", dedent(code), **{"inputs": inputs, "outputs": outputs, **changes})


class Bench:
    """Stages jobs over a small input and runs them on one engine."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.root = root
        self.engine = engine
        self.data = root / "data"
        (self.data / "sub").mkdir(parents=True)
        for name in ("a", "b", "sub/c"):
            (self.data / name).write_text(name)
        self.storage = Storage(root / "state/s3", (Source("s3://b/in", self.data),))
        self.run_ = open_run(root / "state", new_execution_id())
        self.lines: list[tuple[str, str]] = []
        self.count = 0

    def stage(self, of: ProcessingJob) -> StagedJob:
        self.count += 1
        work = self.run_.work / str(self.count)
        return stage(
            of, run_id=self.run_.id, step=f"Step{self.count}", storage=self.storage, work=work, logs=self.root / "logs"
        )

    def run(self, of: ProcessingJob, stop: threading.Event | None = None) -> tuple[StagedJob, JobResult]:
        staged = self.stage(of)
        self.engine.prepare([of])
        result = self.engine.run(staged, lambda host, line: self.lines.append((host, line)), stop or threading.Event())
        return staged, result

    def said(self) -> list[str]:
        return [line for _, line in self.lines]


@pytest.fixture
def bench(tmp_path: Path, make_engine: Callable[[], Engine]) -> Bench:
    return Bench(tmp_path, make_engine())


def test_a_job_sees_inputs_config_and_leaves_outputs_of_the_caller(bench: Bench) -> None:
    staged, result = bench.run(
        job(f"""
        import json, pathlib, socket
        print(sorted(str(p.relative_to("{RAW}")) for p in pathlib.Path("{RAW}").rglob("*") if p.is_file()))
        print(json.load(open("/opt/ml/config/resourceconfig.json"))["current_host"], socket.gethostname())
        pathlib.Path("{OUT}/x/y.txt").parent.mkdir()
        pathlib.Path("{OUT}/x/y.txt").write_text("made")
        pathlib.Path("/opt/ml/output/message").write_text("all well")
        """)
    )
    assert result.succeeded, bench.said()
    assert bench.said() == ["['a', 'b', 'sub/c']", "algo-1 algo-1"]
    collected = collect(staged, result, bench.storage)
    assert collected.exit_message == "all well"
    made = collected.outputs["out"] / "x/y.txt"
    assert made.read_text() == "made"
    assert made.stat().st_uid == os.getuid()


def test_inputs_are_writable_and_the_data_does_not_change(bench: Bench) -> None:
    _, result = bench.run(
        job(f"""
        import pathlib
        raw = pathlib.Path("{RAW}")
        (raw / "a").write_text("changed"); (raw / "b").unlink(); (raw / "new").write_text("n")
        (raw / "sub" / "c").rename(raw / "sub" / "d")
        print(sorted(str(p.relative_to(raw)) for p in raw.rglob("*")), (raw / "a").read_text())
        """)
    )
    assert result.succeeded, bench.said()
    assert bench.said() == ["['a', 'new', 'sub', 'sub/d'] changed"]
    assert {str(p.relative_to(bench.data)): p.read_text() for p in bench.data.rglob("*") if p.is_file()} == {
        "a": "a",
        "b": "b",
        "sub/c": "sub/c",
    }


def test_shards_reach_hosts_that_resolve_and_reach_each_other(bench: Bench) -> None:
    _, result = bench.run(
        job(
            f"""
            import json, os, socket, threading, time
            config = json.load(open("/opt/ml/config/resourceconfig.json"))
            me = config["current_host"]
            server = socket.create_server((me, 8080))
            def serve():
                while True:
                    connection, _ = server.accept()
                    connection.sendall(me.encode()); connection.close()
            threading.Thread(target=serve, daemon=True).start()
            heard = []
            for host in config["hosts"]:
                for _ in range(100):
                    try:
                        heard.append(socket.create_connection((host, 8080), 1).recv(10).decode()); break
                    except OSError: time.sleep(0.1)
            time.sleep(1)
            print(me, heard, sorted(f for _, _, fs in os.walk("{RAW}") for f in fs))
            """,
            instance_count=3,
            inputs=(ProcessingInput("raw", "s3://b/in", RAW, distribution="ShardedByS3Key"),),
        )
    )
    assert result.succeeded, bench.said()
    everyone = "['algo-1', 'algo-2', 'algo-3']"
    assert sorted(bench.said()) == [
        f"algo-1 {everyone} ['a']",
        f"algo-2 {everyone} ['b']",
        f"algo-3 {everyone} ['c']",
    ]


@pytest.mark.parametrize(
    ("entrypoint", "code"),
    [
        (("python3", "-c", "raise SystemExit(7)"), 7),
        (("python3", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), None),
        (("/bin/sh", "-c", "kill -9 $$ & wait; exit 137"), 137),
        (("no-such-program",), 127),
    ],
)
def test_exit_codes(bench: Bench, entrypoint: tuple[str, ...], code: int | None) -> None:
    _, result = bench.run(job("", entrypoint=entrypoint))
    assert not result.succeeded or code is None
    if code is not None:
        assert result.hosts[0].exit_code == code, result


def test_one_host_of_several_fails(bench: Bench) -> None:
    code = 'import socket, time; time.sleep(0.5); raise SystemExit(socket.gethostname() == "algo-2")'
    staged, result = bench.run(job(code, instance_count=2))
    assert [host.exit_code for host in result.hosts] == [0, 1]
    reason = collect(staged, result, bench.storage).failure_reason
    assert reason is not None
    assert reason.startswith("algo-2 exited with code 1")


def test_the_reason_has_the_traceback_whole(bench: Bench) -> None:
    """On docker stdout is buffered, and its lines are written when the process ends: behind the traceback."""
    unbuffered = {"PYTHONUNBUFFERED": ""} if bench.engine.name == "docker" else {}
    staged, result = bench.run(job("""
        import os
        print("row\\n" * 30, end="")
        try:
            open("/nowhere")
        except OSError:
            [][1]
        """, environment=unbuffered))  # fmt: skip
    reason = str(collect(staged, result, bench.storage).failure_reason)
    assert reason.startswith("algo-1 exited with code 1.\nIts last lines:\n  row\n")
    traceback = reason[reason.index("  Traceback") :].splitlines()
    assert [line for line in traceback if not line.startswith("    File")] == [
        "  Traceback (most recent call last):",
        "  FileNotFoundError: [Errno 2] No such file or directory: '/nowhere'",
        "  During handling of the above exception, another exception occurred:",
        "  Traceback (most recent call last):",
        "  IndexError: list index out of range",
    ]


def test_nothing_of_this_machine_reaches_the_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "HTTP_PROXY", "SOMETHING_OF_MINE"):
        monkeypatch.setenv(name, "secret")
    _, result = bench.run(job("import json, os; print(json.dumps(dict(os.environ)))", environment={"MODE": "daily"}))
    assert result.succeeded
    environment = json.loads(bench.said()[0])
    assert environment["MODE"] == "daily"
    assert "secret" not in environment.values()


def test_arguments_arrive_as_they_are(bench: Bench) -> None:
    hard = ("--a b", "ü", "$HOME", "'\"", "")
    _, result = bench.run(job("import json, sys; print(json.dumps(sys.argv[1:]))", arguments=hard))
    assert result.succeeded
    assert tuple(json.loads(bench.said()[0])) == hard


def test_network_isolation(bench: Bench) -> None:
    code = """
        import socket
        socket.create_server(("127.0.0.1", 8080))
        try: socket.create_connection(("192.0.2.1", 80), 2)
        except OSError as error: print(error.strerror)
    """
    _, result = bench.run(job(code, network_isolation=True))
    assert result.succeeded, bench.said()
    assert bench.said() == ["Network is unreachable"]


def test_stop_is_a_signal_then_a_kill(bench: Bench) -> None:
    code = """
        import signal, sys, time
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: (print("asked to stop", number, flush=True), sys.exit(0)))
        print("up", flush=True)
        time.sleep(60)
    """
    stop = threading.Event()
    threading.Thread(target=lambda: (until(lambda: "up" in bench.said()), stop.set())).start()
    _, result = bench.run(job(code), stop)
    assert result.stopped == "interrupted"
    assert bench.said() == ["up", "asked to stop 2"]


def test_what_does_not_listen_is_killed_when_its_grace_period_is_over(bench: Bench) -> None:
    bench.engine.grace = {"max_runtime": 1.0}  # type: ignore[attr-defined]
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    started = time.monotonic()
    _, result = bench.run(job(code, max_runtime=1))
    assert (result.stopped, bench.said()) == ("max_runtime", ["up"])
    assert time.monotonic() - started < 9  # by default it has 10 s


@pytest.mark.parametrize(
    "name", [pytest.param("docker", marks=pytest.mark.docker), pytest.param("sandbox", marks=pytest.mark.sandbox)]
)
def test_the_settings_say_how_long_the_grace_period_is(tmp_path: Path, state: Path, name: str) -> None:
    text = f'[image]\ndirectory = "{PROJECT}/processing"\n[local]\nstop_grace_seconds = 120\n'
    (tmp_path / "local_runner.toml").write_text(text)
    with closing(select_engine(Project.at(tmp_path, state, print), RunRequest(engine=name))) as engine:
        assert engine.grace == {"interrupted": 120.0, "max_runtime": 120.0}  # type: ignore[attr-defined]


def test_max_runtime(bench: Bench) -> None:
    staged, result = bench.run(job("import time; time.sleep(60)", entrypoint=("sleep", "60"), max_runtime=1))
    assert result.stopped == "max_runtime"
    assert "MaxRuntimeInSeconds" in str(collect(staged, result, bench.storage).failure_reason)


def test_every_line_is_kept_and_heard(bench: Bench) -> None:
    code = "import sys\nfor n in range(50_000): print(n)\nprint('no newline', end='', file=sys.stderr, flush=True)"
    staged, result = bench.run(job(code))
    assert result.succeeded
    expected = [str(number) for number in range(50_000)]
    assert sorted(bench.said()) == sorted([*expected, "no newline"])
    assert len(staged.hosts[0].log.read_text().splitlines()) in (50_000, 50_001)


def test_nothing_is_left_behind(bench: Bench) -> None:
    _, result = bench.run(job(f"open('{RAW}/x', 'w')"))
    assert result.succeeded
    bench.engine.close()
    mounts = Path("/proc/self/mounts").read_text()
    assert str(bench.root) not in mounts
    remove(bench.run_.work)
    assert not bench.run_.work.exists()
