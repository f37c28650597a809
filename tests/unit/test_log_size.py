"""What is kept of a host's output: all, or the first and the last of it, and never more than the setting says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.definitions import pipeline, processing, write

from local_runner.engines.fake import FakeEngine, FakeHost
from local_runner.engines.host_log import BoundedLog, HostLog, limit_logs, step_log
from local_runner.engines.sdk.output import ComposeOutput
from local_runner.errors import SettingsError
from local_runner.events import Silent
from local_runner.project import Project
from local_runner.run.pipeline import run_pipeline
from local_runner.run.request import RunRequest
from local_runner.settings import load_settings

KEPT = 8192
NOTICE = re.compile(rb"\n\[local-runner: +(\d+) bytes of output are left out here[^\n]*\n")


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    limit_logs(KEPT)
    yield
    limit_logs(64 * 10**6)


@settings(max_examples=60, deadline=None)
@given(chunks=st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 400)), max_size=60))
def test_what_is_kept_is_the_first_and_the_last(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[tuple[int, int]]
) -> None:
    """At any time: the file is a prefix, a count, and a suffix; together all that was written."""
    path = tmp_path_factory.mktemp("log") / "log"
    number, written = 0, b""
    with closing(BoundedLog(path)) as log:
        for length, every in chunks:
            piece = b"".join(
                b"%d%s" % (number + at, b"\n" if at % every == 0 else b" ") for at in range(length // 5 + 1)
            )
            number += length
            log.write(piece)
            written += piece
            found = path.read_bytes()
            assert len(found) <= KEPT + 200
            parts = NOTICE.split(found)
            if len(written) <= KEPT:
                assert found == written
                continue
            first, left_out, last = parts
            assert written.startswith(first)
            assert written.endswith(last)
            assert len(first) + int(left_out) + len(last) == len(written)
            assert len(first) > 0
            assert int(left_out) == log.left_out


def test_the_last_lines_are_whole_and_the_follower_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    with closing(HostLog(tmp_path / "algo-1.log", told.append)) as log:
        for number in range(5000):
            log.write(b"line %d\n" % number)
    lines = (tmp_path / "algo-1.log").read_text().splitlines()
    assert lines[0] == "line 0"
    assert lines[-10:] == [f"line {number}" for number in range(4990, 5000)]
    assert all(re.fullmatch(r"(line \d+)?|\[local-runner: .*\]", line) for line in lines)
    assert [line for line in told if not line.startswith("line ")] == [
        "[local-runner: the output is large; algo-1.log keeps its first and last part]"
    ]
    assert len(told) == 5001


def test_the_log_of_all_hosts_is_bounded_too(tmp_path: Path) -> None:
    with step_log([tmp_path / "a", tmp_path / "b"], tmp_path, lambda host, text: None) as (combined, on_line):
        for number in range(5000):
            on_line("algo-1", f"line {number}")
    assert combined.stat().st_size <= KEPT + 200
    assert combined.read_text().endswith("algo-1 | line 4999\n")


@pytest.mark.slow
def test_gigabytes_take_no_memory(tmp_path: Path) -> None:
    """300 MB, half of it without any line end, take less than 40 MB beyond what Python itself has."""
    program = """
        import resource, sys
        from contextlib import closing
        from pathlib import Path
        from local_runner.engines.host_log import HostLog, limit_logs
        limit_logs(4_000_000)
        def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        before = peak()
        with closing(HostLog(Path(sys.argv[1]), lambda line: None)) as log:
            for data in (b"x" * 50_000 + b"\\n", b"y" * 65536):
                for _ in range(150_000_000 // len(data)):
                    log.write(data)
        print(peak() - before)
    """
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", dedent(program), str(log)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40
    assert log.stat().st_size < 4_001_000
    assert log.stat().st_size > 2_000_000


def test_a_line_of_composes_without_end_is_passed_on_in_pieces() -> None:
    output = ComposeOutput()
    pieces = output.feed(b"algo-1-abcde | ")
    for _ in range(100):
        pieces += output.feed(b"x" * 10_000)
    assert len(pieces) > 10
    pieces += output.feed(b"\n")
    assert {host for host, _ in pieces} == {"algo-1"}
    assert b"".join(text for _, text in pieces) == b"x" * 1_000_000


@pytest.mark.parametrize(("text", "wrong"), [('"1MB"', False), ('"999KB"', True), ("5", True), ('"2GB"', False)])
def test_the_setting(tmp_path: Path, text: str, wrong: bool) -> None:
    (tmp_path / "local_runner.toml").write_text(f"[local]\nlog_size = {text}\n")
    if wrong:
        with pytest.raises(SettingsError, match=r"local\.log_size"):
            load_settings(tmp_path)
    else:
        assert load_settings(tmp_path).local.log_size >= 10**6


def test_a_run_keeps_what_the_setting_says(tmp_path: Path) -> None:
    """Of each host's log and of the step's."""
    (tmp_path / "local_runner.toml").write_text('[local]\nlog_size = "1MB"\n')
    target = write(tmp_path / "definition.json", pipeline(processing("Loud", instances=2)))

    def loud(host: FakeHost) -> None:
        for number in range(2000):
            host.print(f"{number} " + "x" * 1000)

    engine = FakeEngine({"Loud": loud})
    request = RunRequest(target=str(target))
    _, execution = run_pipeline(Project.at(tmp_path, tmp_path / "state", Silent().note), request, Silent(), engine)
    assert execution.status == "Succeeded"
    logs = {path.name: path for path in (tmp_path / "state").rglob("*.log")}
    assert set(logs) == {"algo-1.log", "algo-2.log", "all-hosts.log"}
    for path in logs.values():
        assert 500_000 < path.stat().st_size < 1_000_200
        assert len(NOTICE.split(path.read_bytes())) == 3
        assert path.read_text().splitlines()[-1].split(" x")[0].endswith("1999")
