"""Where the Docker engine is looked for, and what is said where none answers."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from pathlib import Path

import pytest

from local_runner.docker_host.connection import connect
from local_runner.errors import EngineError


def test_no_engine_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    with pytest.raises(EngineError) as raised:
        connect()
    assert raised.value.message == (
        "No Docker engine answers at unix:///nowhere (No such file or directory). "
        "Start Docker, set DOCKER_HOST to an engine, or use --engine sandbox."
    )


def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "gopher://x")
    with pytest.raises(EngineError, match="No Docker engine answers at gopher://x"):
        connect()


def test_an_engine_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        started = time.monotonic()
        with pytest.raises(EngineError, match="timed out"):
            connect(answer_seconds=0.2)
        assert time.monotonic() - started < 5


def test_the_context_of_the_docker_command_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = tmp_path / "contexts/meta" / hashlib.sha256(b"colima").hexdigest()
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": "unix:///colima.sock"}}}))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "colima"}))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(EngineError, match=r"unix:///colima\.sock"):
        connect()
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    with pytest.raises(EngineError, match="context 'gone' is not in"):
        connect()
