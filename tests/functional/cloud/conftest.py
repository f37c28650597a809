"""An emulator of AWS as a process of its own, spoken to over HTTP on loopback."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import cache

import botocore.session
import pytest
from support.cloud_proxy import Proxy
from support.ecr import HTPASSWD, Ecr
from support.machine import needs_program

from local_runner.cloud.account.aws import Aws


@pytest.fixture(scope="session", autouse=True)
def models():
    """botocore reads its models, megabytes of JSON, once: not for each session again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", cache(botocore.session.create_loader))
        yield


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
        for _ in range(1200):  # on a busy machine it takes long to import
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
def proxy(moto_server, reset, monkeypatch):
    """An empty account that refuses what AWS does (support/strict_account.py), and what a test has it refuse."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    reset()
    with Proxy(moto_server) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        yield found


@pytest.fixture
def aws(proxy):
    """The account, in eu-west-1."""
    return Aws("eu-west-1")


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """HOST:PORT of a docker-registry of this test process."""
    with served(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def ecr(proxy, tmp_path):
    """The account's ECR, with a docker-registry behind it that wants ECR's login."""
    directory = tmp_path / "ecr"
    directory.mkdir()
    (directory / "htpasswd").write_text(HTPASSWD)
    login = f"auth: {{htpasswd: {{realm: ecr, path: {directory / 'htpasswd'}}}}}\n"
    with served(directory, login) as address:
        found = Ecr(address)
        proxy.edit = found.edit
        yield found


@contextmanager
def served(directory, more=""):
    """A docker-registry that keeps images in a directory; ``more`` are further lines of its settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (directory / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}}}}}\nhttp: {{addr: '{address}'}}\n{more}"
    )
    command = [needs_program("docker-registry"), "serve", str(directory / "config.yml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{address}/v2/", timeout=1).close()
                break
            except urllib.error.HTTPError:
                break  # it answers, and wants a login
            except OSError:
                assert process.poll() is None, "docker-registry ended"
                time.sleep(0.1)
        else:
            raise AssertionError("docker-registry does not answer")
        yield address
    finally:
        process.terminate()
        process.wait(10)
