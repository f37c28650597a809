"""Stock local mode with S3 itself (a moto server) leaves, byte for byte, what the docker engine leaves in local S3.

The other tests of the sdk engine give stock local mode directories; here it downloads and uploads by its own code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from support.command_line import local_runner
from support.definitions import pipeline, processing, write
from support.scenario import files

from local_runner.docker_host.connection import connect
from local_runner.engines.sdk.engine import SdkEngine

# One worker: the network of stock local mode is the machine's.
pytestmark = [
    pytest.mark.docker,
    pytest.mark.programs("docker compose"),
    pytest.mark.slow,
    pytest.mark.xdist_group("sdk"),
]

LABEL = "local-runner-test.stock-s3"
STOCK = f"""
import boto3, json, sys
from sagemaker.core.local.local_session import LocalSession
session = LocalSession(boto3.Session(), s3_endpoint_url=sys.argv[1], sagemaker_config={{
    "SchemaVersion": "1.0", "SageMaker": {{"PythonSDK": {{"Modules": {{"TelemetryOptOut": True}}}}}}
}})
session.config = {{"local": {{"container_config": {{"labels": {{"{LABEL}": "yes"}}}}}}}}
session.sagemaker_client.create_processing_job("job", **json.load(sys.stdin))
"""
GIVEN = {
    "raw/a.csv": b"a\n",
    "raw/sub/b.csv": b"b\n",
    "raw/sub/deep/c d.bin": bytes(range(256)),
    "raw-beside/x": b"not of raw/\n",
    "one/object.txt": b"alone\n",
}
THERE = {"all/kept": b"kept\n", "all/raw/a.csv": b"old\n"}
"""What lies under the output's URI before the job: one key that it writes, and one that it does not."""

INPUTS = {"raw": "s3://given/raw/", "sub": "s3://given/raw/sub", "one": "s3://given/one/object.txt"}
COPY = "cp -R in/* out/all; mkdir -p out/more/x/y; head -c 5000000 /dev/zero > out/more/x/y/zeros"


@pytest.fixture
def server() -> Iterator[Any]:
    """A server of S3 on this machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


def test_stock_local_mode_leaves_the_same_objects(state: Path, processing_image: str, server: str) -> None:
    step = processing("Copy", COPY, inputs=INPUTS, outputs={"all": "s3://work/all", "more": "s3://work/more/"})
    given = state.parent / "given"
    for directory, objects in ((given, GIVEN), (state / "s3/work", THERE)):
        for key, content in objects.items():
            (directory / key).parent.mkdir(parents=True, exist_ok=True)
            (directory / key).write_bytes(content)
    document = write(state.parent / "definition.json", pipeline(step))
    done = local_runner("run", document, "--map", f"s3://given={given}", "--engine", "docker", "--state", state)
    assert done.returncode == 0, done.stderr

    credentials = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    s3: Any = boto3.resource("s3", endpoint_url=server, **credentials)
    for bucket, objects in (("given", GIVEN), ("work", THERE)):
        s3.create_bucket(Bucket=bucket)
        for key, content in objects.items():
            s3.Object(bucket, key).put(Body=content)
    step["Arguments"]["AppSpecification"]["ImageUri"] = processing_image
    _run_stock(step["Arguments"], server, state)
    uploaded = {item.key: item.get()["Body"].read() for item in s3.Bucket("work").objects.all()}
    assert uploaded == files(state / "s3/work")
    assert uploaded["all/raw/a.csv"] == b"a\n"
    assert uploaded["all/one/object.txt"] == b"alone\n"
    assert len(uploaded) == 8


def _run_stock(request: dict[str, Any], server: str, state: Path) -> None:
    temporary = state.parent / "temporary"
    temporary.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        **{name: value for name, value in os.environ.items() if name.startswith("DOCKER_")},
    }
    engine = SdkEngine(state, lambda uri: uri, print)
    client = connect()
    try:
        engine.begin()  # it makes the network, and removes it
        command = [sys.executable, "-c", STOCK, server]
        done = subprocess.run(command, input=json.dumps(request), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        for container in client.containers.list(all=True, filters={"label": LABEL}):
            container.remove(force=True)
        client.close()
        engine.close()
