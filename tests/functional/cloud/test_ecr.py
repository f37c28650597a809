"""The image in ECR with a real registry behind it: logged in to, pushed, pinned, and nothing of the login kept."""

import base64
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from support.command_line import local_runner
from support.ecr import PASSWORD
from support.project import copy_of_project

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.release.model import ImageDestination
from local_runner.cloud.resources.image import Image

pytestmark = pytest.mark.docker

REGION = "eu-west-1"
BUCKET = f"sagemaker-{REGION}-123456789012"
REPOSITORY = "local-runner/flightsdaily"


@pytest.fixture
def client():
    from local_runner.docker_host.connection import connect

    return connect()


@pytest.fixture
def project(tmp_path, client):
    """The example project, whose image is nothing but a file."""
    root = copy_of_project(tmp_path / f"ecr-test-{os.getpid()}")
    (root / "processing" / "Dockerfile").write_text("FROM scratch\nCOPY requirements.txt /\n")
    (root / "processing" / "requirements.txt").write_text("")
    yield root
    for image in client.images.list(f"local-runner/{root.name}"):
        client.api.remove_image(image.tags[0])


@pytest.fixture
def command(project, tmp_path):
    """Runs a command on that project. The machine has a login to the registry already, which is a wrong one."""

    def run(*arguments):
        return local_runner(*arguments, cwd=project, changes={"AWS_REGION": REGION, "HOME": str(tmp_path / "home")})

    return run


def test_the_image_is_pushed_with_ecr_s_login_which_is_kept_nowhere(ecr, proxy, command, project, client, tmp_path):
    config = tmp_path / "home" / ".docker" / "config.json"
    config.parent.mkdir(parents=True)
    wrong = base64.b64encode(b"somebody:else").decode()
    config.write_text(json.dumps({"auths": {ecr.address: {"auth": wrong}}}))
    before = config.read_bytes()

    done = command("promote", "--yes", "--allow-unverified", "a test")
    assert "Release 1 of FlightsDaily-dev is in place" in done.stdout, done.stderr
    assert f"Pushing local-runner/{project.name}:" in done.stderr
    assert proxy.calls.count("ecr:GetAuthorizationToken") == 1
    aws = Aws(REGION)
    (made,) = aws.call("ecr", "describe_repositories")["repositories"]
    assert (made["repositoryName"], made["imageTagMutability"]) == (REPOSITORY, "IMMUTABLE")
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}

    definition = aws.call("sagemaker", "describe_pipeline", PipelineName="FlightsDaily-dev")["PipelineDefinition"]
    (image,) = {step["Arguments"]["AppSpecification"]["ImageUri"] for step in steps_of(json.loads(definition)["Steps"])}
    place, _, digest = image.partition("@")
    assert place == f"{ecr.address}/{REPOSITORY}"
    login = {"username": "AWS", "password": PASSWORD}
    assert client.api.inspect_distribution(image, auth_config=login)["Descriptor"]["digest"] == digest

    proxy.clear()
    again = command("plan", "--exit-code")
    assert (again.returncode, "Nothing to change: release 1" in again.stdout) == (0, True), again.stdout
    assert proxy.writes == []
    assert "ecr:GetAuthorizationToken" not in proxy.calls

    told = done.stdout + done.stderr + again.stdout + again.stderr + definition
    kept = told.encode() + b"".join(
        aws.call("s3", "get_object", Bucket=BUCKET, Key=item["Key"])["Body"].read()
        for item in aws.pages("s3", "list_objects_v2", "Contents", Bucket=BUCKET)
    )
    kept += b"".join(file.read_bytes() for file in project.rglob("*") if file.is_file())
    assert image.encode() in kept
    assert PASSWORD.encode() not in kept
    assert ecr.token.encode() not in kept
    assert config.read_bytes() == before
    assert [path.name for path in Path(config.parent).iterdir()] == ["config.json"]


def steps_of(steps):
    """The Processing steps, also those of conditions."""
    for step in steps:
        if step["Type"] == "Condition":
            yield from steps_of([*step["Arguments"]["IfSteps"], *step["Arguments"]["ElseSteps"]])
        elif step["Type"] == "Processing":
            yield step


def test_an_image_that_no_processing_instance_can_run_is_not_pushed(ecr, client):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    tag = f"local-runner-test/arm:{os.getpid()}"
    client.api.import_image_from_data(layer.getvalue(), *tag.split(":"))
    archive = b"".join(client.images.get(tag).save(named=True))
    client.api.remove_image(tag)
    client.images.load(archive.replace(b'"architecture":"amd64"', b'"architecture":"arm64"'))
    aws = Aws(REGION)
    uri = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/flights"
    try:
        with pytest.raises(CloudError, match="is for linux/arm64"):
            Image(ImageDestination(uri, "abc", "flights", local=tag), {}, lambda: tag, lambda _: None).plan(aws)
        _, push = Image(ImageDestination(uri, "abc", "flights"), {}, lambda: tag, lambda _: None).plan(aws)
        with pytest.raises(CloudError, match="is for linux/arm64"):
            push.apply(aws)
    finally:
        client.api.remove_image(tag)


def test_a_login_that_the_registry_does_not_take_is_told_and_a_repetition_goes_on(ecr, proxy, client):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    tag = f"local-runner-test/ecr:{os.getpid()}"
    client.api.import_image_from_data(layer.getvalue(), *tag.split(":"))
    aws = Aws(REGION)
    destination = ImageDestination("123456789012.dkr.ecr.eu-west-1.amazonaws.com/flights", "abc", "flights")
    try:
        ecr.password = "another-one"
        repository, push = Image(destination, {}, lambda: tag, lambda _: None).plan(aws)
        assert (repository.name, push.name) == ("flights", destination.uri)
        repository.apply(aws)
        with pytest.raises(CloudError) as caught:
            push.apply(aws)
        said = caught.value.message
        assert f"The registry of {ecr.address}/flights did not do as asked" in said
        assert "ecr:PutImage" in said
        assert "docker login" not in said
        assert "another-one" not in said
        assert ecr.token not in said
        assert ecr.digest("flights", "abc") is None

        ecr.password = PASSWORD
        image = Image(destination, {}, lambda: tag, lambda _: None)
        (push,) = image.plan(aws)
        assert push.name == f"{ecr.address}/flights"  # by now there is a repository that says so
        push.apply(aws)
        assert image.uri == f"{ecr.address}/flights@{ecr.digest('flights', 'abc')}"

        for manifest, models, said in (
            ("application/vnd.oci.image.index.v1+json", False, "an index of several images"),
            ("application/vnd.oci.image.manifest.v1+json", True, "does not take for models"),
        ):
            ecr.manifest = manifest
            with pytest.raises(CloudError, match=said):
                Image(destination, {}, lambda: tag, lambda _: None, models=models).plan(aws)
        image.plan(aws)
        assert "has an OCI manifest" in image.notes[0]
        ecr.manifest = ""

        # Another promotion of this content pushed it after the look, and tags are never moved.
        looks = []

        def too_early(call):
            if call != "ecr:DescribeImages" or looks:
                return None
            looks.append(call)
            return "ImageNotFoundException"

        proxy.rule = too_early
        ecr.password = "another-one"
        push.apply(aws)
        assert looks
        assert image.uri == f"{ecr.address}/flights@{ecr.digest('flights', 'abc')}"
        assert [one for one in client.images.list() if f"{ecr.address}/flights:abc" in one.tags] == []
    finally:
        client.api.remove_image(tag)
