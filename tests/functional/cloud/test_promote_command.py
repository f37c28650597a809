"""plan and promote on the command line, and the image in a real registry."""

import io
import json
import os
import re
import signal
import subprocess
import tarfile
import time

import pytest
from support.cloud_proxy import HANG
from support.command_line import PROGRAM, environment, in_process, local_runner
from support.project import PROJECT, link_caches
from support.values import there

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.release.model import ImageDestination
from local_runner.cloud.resources.image import Image

IMAGE = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/flights@sha256:{'0' * 64}"
REGION = {"AWS_REGION": "eu-west-1"}
PROMOTE = ("promote", "--yes", "--allow-unverified", "a test")


@pytest.fixture
def command(aws, tmp_path):
    """Runs a command on this project against the emulator, with a state directory of the test's own."""
    state = link_caches(tmp_path / "state")

    def run(*arguments, by=in_process):
        given = ("--image-uri", IMAGE, "--state", state)
        return by(*arguments, *given, changes=REGION)

    run.state = state
    return run


def test_a_promotion_from_plan_to_plan(command, aws):
    changes = command("plan", "--json", "--exit-code", by=local_runner)
    assert changes.returncode == 3
    found = json.loads(changes.stdout)
    assert [change["resource"] for change in found["changes"]][:2] == ["bucket", "code"]
    assert found["aws_calls"] < 30
    untested = command("promote", "--yes")
    assert (untested.returncode, "make local-run" in untested.stderr) == (2, True)
    unasked = command("promote", "--allow-unverified", "a test")
    assert (unasked.returncode, "repeat with --yes" in unasked.stderr) == (2, True)
    assert aws.call("s3", "list_buckets")["Buckets"] == []
    done = command("promote", "--allow-unverified", "a test", "--yes", by=local_runner)
    assert "Release 1 of FlightsDaily-dev is in place" in done.stdout, done.stderr
    again = command("plan", "--exit-code")
    assert (again.returncode, "Nothing to change: release 1" in again.stdout) == (0, True)
    assert "There now: release 1, of 20" in again.stdout


def test_no_is_an_answer(command, aws):
    terminal, end = os.openpty()
    line = [*PROGRAM, "promote", "--allow-unverified", "a test", "--image-uri", IMAGE, "--state", command.state]
    process = subprocess.Popen(
        line, stdin=end, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT, env=environment(**REGION)
    )
    os.write(terminal, b"n\n")
    _, said = process.communicate(timeout=120)
    os.close(terminal)
    os.close(end)
    assert (process.returncode, b"Nothing was changed." in said) == (1, True), said
    assert aws.call("s3", "list_buckets")["Buckets"] == []


def killed_at(proxy, command, what):
    """A promotion that is killed (SIGKILL) while a call that ``what`` is true of is under way."""
    proxy.rule = lambda call: HANG if what(call) else None
    line = [*PROGRAM, *PROMOTE, "--image-uri", IMAGE, "--state", command.state]
    process = subprocess.Popen(line, cwd=PROJECT, env=environment(**REGION), stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not any(what(call) for call in list(proxy.calls)):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    proxy.clear()


def test_one_that_is_killed_is_finished_by_the_next_which_finds_the_lock_of_the_dead(command, proxy):
    """SIGKILL while a write is under way: nothing of the process is left to tidy up."""
    killed_at(proxy, command, lambda call: call.startswith("sagemaker:CreatePipeline"))
    done = command(*PROMOTE)
    assert "Release 1 of FlightsDaily-dev is in place" in done.stdout, done.stderr


def test_one_that_is_killed_at_its_last_write_leaves_no_lock_when_it_is_repeated(command, proxy, aws):
    killed_at(proxy, command, lambda call: call.startswith("s3:DELETE") and "promotion.lock" in call)

    def locks():
        (bucket,) = aws.call("s3", "list_buckets")["Buckets"]
        keys = [item["Key"] for item in aws.pages("s3", "list_objects_v2", "Contents", Bucket=bucket["Name"])]
        return [key for key in keys if key.endswith("promotion.lock")]

    assert len(locks()) == 1
    seen = len(proxy.calls)
    done = command(*PROMOTE)
    assert "Nothing to change: release 1" in done.stdout, done.stderr
    assert locks() == []
    reads = re.compile(r"\w+:(GET|HEAD) |\w+:(Get|List|Describe)|sts:|sns:(Get|List)")
    assert [call for call in proxy.calls[seen:] if not reads.match(call) and "promotion.lock" not in call] == []


def test_a_write_that_is_denied_ends_with_what_to_ask_for(command, proxy, aws):
    proxy.rule = lambda call: "AccessDenied" if call == "sagemaker:CreatePipeline" else None
    done = command("promote", "--yes", "--allow-unverified", "a test")
    assert done.returncode == 2
    assert "Error: AWS does not allow sagemaker:CreatePipeline to these credentials" in done.stderr
    assert "Ask for that permission" in done.stderr
    assert "is in place" not in done.stdout
    assert aws.call("sagemaker", "list_pipelines")["PipelineSummaries"] == []


def test_no_region_is_told(aws, tmp_path):
    done = in_process("plan", "--state", link_caches(tmp_path / "state"))
    assert done.returncode == 2
    assert "There is no region" in done.stderr


@pytest.mark.docker
def test_the_image_is_pushed_once_and_pinned_by_its_digest(registry, aws):
    from local_runner.docker_host.connection import connect

    client = connect()
    tag = f"local-runner-test/push:{os.getpid()}"
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    client.api.import_image_from_data(layer.getvalue(), *tag.split(":"))
    built = []

    def build():
        built.append(tag)
        return tag

    try:
        destination = ImageDestination(f"{registry}/flights", "abcdef123456")
        image = Image(destination, {}, build, lambda _: None)
        (change,) = image.plan(aws)
        assert (change.resource, image.uri) == ("image", None)
        assert "processing jobs pull from Amazon ECR alone" in image.notes[0]
        change.apply(aws)
        pinned = there(image.uri)
        assert pinned.startswith(f"{registry}/flights@sha256:")
        assert client.api.inspect_distribution(pinned)["Descriptor"]["digest"] == pinned.partition("@")[2]
        change.apply(aws)  # cut off and repeated: nothing is pushed again
        fresh = Image(destination, {}, build, lambda _: None)
        assert fresh.plan(aws) == []
        assert (fresh.uri, built) == (pinned, [tag])
        assert [one for one in client.images.list() if f"{destination.uri}:{destination.tag}" in one.tags] == []
    finally:
        client.api.remove_image(tag)


@pytest.mark.docker
def test_a_registry_that_cannot_be_reached_is_told(aws):
    image = Image(ImageDestination("127.0.0.1:9/flights", "abc"), {}, lambda: "none", lambda _: None)
    with pytest.raises(CloudError, match=r"The registry of 127.0.0.1:9/flights did not do as asked"):
        image.plan(aws)


def test_the_ecr_repository_is_scanned_and_its_tags_stay(aws):
    destination = ImageDestination("123456789012.dkr.ecr.eu-west-1.amazonaws.com/flights", "abc", "flights")
    image = Image(destination, {"a": "b"}, lambda: pytest.fail("nothing is pushed"), lambda _: None)
    changes = image.plan(aws)
    assert [change.resource for change in changes] == ["repository", "image"]
    changes[0].apply(aws)
    changes[0].apply(aws)
    (made,) = aws.call("ecr", "describe_repositories")["repositories"]
    assert made["imageTagMutability"] == "IMMUTABLE"
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    manifest = json.dumps({"schemaVersion": 2, "config": {"digest": "sha256:" + "1" * 64}, "layers": []})
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    image_there = {"imageManifest": manifest, "imageManifestMediaType": kind, "imageTag": "abc"}
    aws.call("ecr", "put_image", repositoryName="flights", **image_there)
    assert image.plan(Aws("eu-west-1")) == []
    assert there(image.uri).startswith(f"{destination.uri}@sha256:")
