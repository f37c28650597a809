"""An emulator of AWS as a process of its own, spoken to over HTTP on loopback."""

import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from local_runner.cloud.aws import Aws


@pytest.fixture(scope="session")
def moto_server():
    """The URL of a moto_server of this test process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "import sys; from moto.server import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "moto_server ended"
                time.sleep(0.1)
        else:
            raise AssertionError("moto_server does not answer")
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def reset(moto_server):
    """Empties the emulator."""

    def empty():
        urllib.request.urlopen(urllib.request.Request(f"{moto_server}/moto-api/reset", method="POST")).close()

    return empty


@pytest.fixture
def aws(moto_server, reset, monkeypatch):
    """An empty account, in eu-west-1."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    reset()
    return Aws("eu-west-1")
