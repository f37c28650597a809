"""What an image does here and would not do in the cloud is told before a job runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.command_line import in_process
from support.definitions import pipeline, processing, write
from support.jobs import processing_job

from local_runner.docker_host.connection import connect
from local_runner.engines.docker.image_notes import image_notes

pytestmark = pytest.mark.docker

SIGNALS = (
    "The command of image {} is in shell form, so that its program gets no signal when a job is stopped. "
    'Write ENTRYPOINT ["program", "argument"] in its Dockerfile.'
)
FILES = (
    "Image {} has files under /opt/ml (/opt/ml/model/weights), which SageMaker reserves: a job in the cloud may not "
    "see them. Put them elsewhere in the image."
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with a file in /opt/ml and an ENTRYPOINT in shell form, and no shell: a job in it fails at once."""
    context = tmp_path_factory.mktemp("image")
    (context / "weights").write_bytes(bytes(1 << 20))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY weights /opt/ml/model/\nENTRYPOINT python3 -c 'print(1)'\n")
    tag = f"local-runner-test/notes:{os.getpid()}"
    with closing(connect()) as client:
        client.images.build(path=str(context), tag=tag, rm=True)
        yield tag
        client.images.remove(tag, force=True)


def test_validate_and_run_say_so(image: str, tmp_path: Path) -> None:
    step = processing("Own", image=image)
    del step["Arguments"]["AppSpecification"]["ContainerEntrypoint"]
    target = write(tmp_path / "d.json", pipeline(step))
    for command, code in ((["validate"], 0), (["run", "--engine", "docker"], 1)):
        done = in_process(*command, target, "--state", tmp_path / "state")
        assert done.returncode == code, done.stderr
        assert (done.stdout + done.stderr).count(SIGNALS.format(image)) == 1
        assert (done.stdout + done.stderr).count(FILES.format(image)) == 1


@pytest.mark.parametrize("shell", ['["/bin/bash", "-c"]', '["/bin/sh", "-eux", "-o", "pipefail", "-c"]'])
def test_whatever_the_shell_is(shell: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM scratch\nLABEL a=b\nSHELL {shell}\nENTRYPOINT python3 /run.py\n")
    tag = f"local-runner-test/shell:{os.getpid()}"
    with closing(connect()) as client:
        client.images.build(path=str(tmp_path), tag=tag, rm=True)
        try:
            notes = image_notes(client.api, tmp_path, [(tag, processing_job(entrypoint=None, image_uri="a"))])
        finally:
            client.images.remove(tag, force=True)
    assert notes == [SIGNALS.format("a")]


def test_an_image_without_a_command_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    tag = f"local-runner-test/nothing:{os.getpid()}"
    step = processing("Own", image=tag)
    del step["Arguments"]["AppSpecification"]["ContainerEntrypoint"]
    target = write(tmp_path / "d.json", pipeline(step))
    with closing(connect()) as client:
        client.images.build(path=str(tmp_path), tag=tag, rm=True)
        try:
            done = in_process("run", target, "--engine", "docker", "--state", tmp_path / "state")
        finally:
            client.images.remove(tag, force=True)
    assert done.returncode == 1
    assert "the Docker engine refused it: No command specified" in done.stdout + done.stderr


def test_each_is_said_once_and_of_the_job_that_it_concerns(image: str, processing_image: str, tmp_path: Path) -> None:
    own, given = processing_job(entrypoint=None, image_uri="a"), processing_job("true", image_uri="b")
    with closing(connect()) as client:
        before = len(client.containers.list(all=True))
        for _ in range(2):  # the second time as remembered
            assert image_notes(client.api, tmp_path, [(image, own)] * 2) == [SIGNALS.format("a"), FILES.format("a")]
        assert image_notes(client.api, tmp_path, [(image, given)]) == [FILES.format("b")]
        assert image_notes(client.api, tmp_path, [(processing_image, own), ("none:such", own)]) == []
        assert len(client.containers.list(all=True)) <= before
