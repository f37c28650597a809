"""The processing image in the account's registry: looked for, pushed where it is not, pinned by digest.

ECR is asked through Aws, another registry through the Docker engine, which also pushes. Logins go to the engine with
the push alone.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.change.models import Change, FieldChange, ResourceKind
from local_runner.cloud.release.model import ImageDestination
from local_runner.docker_host.connection import connect, docker
from local_runner.errors import EngineError
from local_runner.image.base import has_image

_ECR_REMEDY = (
    "The login is the one that ECR gave these AWS credentials. Check that they may push to the repository "
    "(ecr:BatchCheckLayerAvailability, ecr:InitiateLayerUpload, ecr:UploadLayerPart, ecr:CompleteLayerUpload, "
    "ecr:PutImage), and that the Docker engine reaches it, then repeat."
)
_ECR = re.compile(r"\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/")
_PLATFORM = "linux/amd64"
_OCI = "application/vnd.oci.image.manifest.v1+json"
_INDEXES = ("application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json")
_OTHER_REMEDY = (
    "Check its address ('repository' of the environment), the network and the login (docker login), then repeat."
)


@dataclass
class Image:
    """The image as a resource. ``uri`` is pinned by digest once it is known (by ``plan``, or by the push).

    ``models`` is whether a Model step uses it. ``place`` is where it is, without a tag: the repository's own answer as
    soon as there is one.
    """

    destination: ImageDestination
    tags: Mapping[str, str]
    build: Callable[[], str]
    note: Callable[[str], None] = print
    uri: str | None = None
    models: bool = False
    notes: list[str] = field(default_factory=list[str])
    place: str = field(init=False)

    def __post_init__(self) -> None:
        self.place = self.destination.uri

    @property
    def tagged(self) -> str:
        """The image by its tag: what a plan shows of one that is still to be pushed."""
        return self.destination.given or f"{self.place}:{self.destination.tag}"

    def plan(self, aws: Aws) -> list[Change]:
        """The repository and the push, where they are missing. Raises CloudError where there is somebody else's."""
        self.notes.clear()
        destination = self.destination
        if not destination.repository and not _ECR.match(self.tagged):
            self.notes.append(
                f"The image is {self.tagged}, and processing jobs pull from Amazon ECR alone. Leave 'repository' out "
                "of the environment, so that it is pushed to the account's ECR, or name an image there as 'image_uri'."
            )
        if destination.given:
            self.uri = destination.given
            if "@sha256:" not in destination.given:
                self.notes.append(f"The image {destination.given} is not pinned: give it as NAME@sha256:... .")
            return []
        changes = self._repository(aws) if destination.repository else []
        digest = None if changes else self._digest(aws)
        self.uri = f"{self.place}@{digest}" if digest else None
        if digest is None:
            self._check_built()
            fields = (FieldChange("content", None, destination.tag),)
            summary = f"the image of content {destination.tag} is pushed"
            changes.append(Change(ResourceKind.IMAGE, self.place, "create", summary, self._push, fields))
        return changes

    # --------------------------------------------------------------------------------------------- repository
    def _repository(self, aws: Aws) -> list[Change]:
        if self._find(aws):
            return []
        return [
            Change(ResourceKind.REPOSITORY, self._name, "create", "scanned on push, tags are never moved", self._make)
        ]

    def _make(self, aws: Aws) -> None:
        if self._find(aws):
            return
        made = aws.call(
            "ecr",
            "create_repository",
            repositoryName=self._name,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
            tags=[{"Key": key, "Value": value} for key, value in self.tags.items()],
        )
        self.place = str(made.get("repository", {}).get("repositoryUri", self.place))

    def _find(self, aws: Aws) -> bool:
        """Whether there is a repository; it then says where images are pushed."""
        found = aws.find("ecr", "describe_repositories", repositoryNames=[self._name])
        if found is None:
            return False
        self.place = str(found["repositories"][0]["repositoryUri"])
        return True

    @property
    def _name(self) -> str:
        return self.destination.repository or ""

    # -------------------------------------------------------------------------------------------------- image
    def _digest(self, aws: Aws) -> str | None:
        """The digest of the tag in the registry, or None."""
        if self.destination.repository:
            ids = [{"imageTag": self.destination.tag}]
            found = aws.find("ecr", "describe_images", repositoryName=self.destination.repository, imageIds=ids)
            if not found or not found["imageDetails"]:
                return None
            self._check_manifest(str(found["imageDetails"][0].get("imageManifestMediaType", "")))
            return str(found["imageDetails"][0]["imageDigest"])
        client = connect()
        try:
            return str(client.api.inspect_distribution(self.destination.tagged)["Descriptor"]["digest"])
        except docker.errors.NotFound:
            return None
        except docker.errors.APIError as error:
            reason = str(error.explanation or error)
            if re.search("manifest unknown|not found|name unknown", reason, re.IGNORECASE):
                return None
            raise self._failed(reason) from None

    def _push(self, aws: Aws) -> None:
        """Push what is not there; the digest is then known."""
        digest = self._digest(aws)
        if digest is None:
            tag = self.build()
            self.note(f"Pushing {tag} to {self.place}.")
            client = connect()
            self._check_platform(client, tag)
            try:
                digest = self._pushed(client, tag, self._login(aws))
            except CloudError:
                # Environments share a repository: another promotion may have pushed this content meanwhile, and ECR
                # refuses to push a tag again.
                digest = self._digest(aws) if self.destination.repository else None
                if digest is None:
                    raise
        self.uri = f"{self.place}@{digest}"

    def _check_built(self) -> None:
        """The platform, where the image is built already."""
        local = self.destination.local
        with suppress(EngineError):  # no engine, which the push will say
            client = connect()
            if local and has_image(client, local):
                self._check_platform(client, local)

    def _check_platform(self, client: Any, tag: str) -> None:
        """Raises CloudError for an image that no processing instance can run: no type of them has ARM processors."""
        found = client.api.inspect_image(tag)
        platform = f"{found['Os']}/{found['Architecture']}"
        if platform != _PLATFORM:
            raise CloudError(
                f"The image {tag} is for {platform}, and SageMaker's processing instances run {_PLATFORM}. Promote "
                "from a machine of that kind (CI), or name an image that was built on one as 'image_uri' of the "
                "environment."
            )

    def _check_manifest(self, media_type: str) -> None:
        """Raises CloudError for what SageMaker does not pull, whoever pushed it.

        Source: the service's answer "Unsupported manifest media type", in aws/amazon-sagemaker-feedback issue 180.
        """
        tag = self.destination.tag
        if media_type in _INDEXES:
            raise CloudError(
                f"{self.place}:{tag} is an index of several images, which SageMaker does not pull. Delete that tag "
                f"(aws ecr batch-delete-image --repository-name {self._name} --image-ids imageTag={tag}), then repeat: "
                "one image is pushed in its place."
            )
        if media_type == _OCI and self.models:
            raise CloudError(
                f"{self.place}:{tag} has an OCI manifest, which SageMaker does not take for models. Delete that tag "
                f"(aws ecr batch-delete-image --repository-name {self._name} --image-ids imageTag={tag}), and push the "
                "image with Docker's manifest: docker buildx needs --provenance=false --output oci-mediatypes=false."
            )
        if media_type == _OCI:
            self.notes.append(f"{self.place}:{tag} has an OCI manifest: jobs take it, models do not.")

    def _login(self, aws: Aws) -> dict[str, str] | None:
        """User and password for the push: ECR's for 12 hours; another registry's are those of the docker CLI."""
        if not self.destination.repository:
            return None
        granted = aws.call("ecr", "get_authorization_token")["authorizationData"][0]
        user, _, password = base64.b64decode(granted["authorizationToken"]).decode().partition(":")
        return {"username": user, "password": password}

    def _pushed(self, client: Any, tag: str, login: dict[str, str] | None) -> str:
        place, content = self.place, self.destination.tag
        try:
            client.api.tag(tag, place, content, force=True)
            digest = ""
            for event in client.api.push(place, tag=content, stream=True, decode=True, auth_config=login):
                if "error" in event:
                    raise self._failed(str(event["error"]))
                digest = event.get("aux", {}).get("Digest", digest)
        except (docker.errors.DockerException, OSError) as error:
            raise self._failed(str(getattr(error, "explanation", None) or error)) from None
        finally:
            self._untag(client)
        if not digest:
            raise self._failed("the push ended without a digest")
        return digest

    def _untag(self, client: Any) -> None:
        """The local name of the pushed image has served; the image keeps its own."""
        try:
            client.api.remove_image(self.tagged, noprune=True)
        except (docker.errors.DockerException, OSError):
            return

    def _failed(self, reason: str) -> CloudError:
        remedy = _ECR_REMEDY if self.destination.repository else _OTHER_REMEDY
        return CloudError(f"The registry of {self.place} did not do as asked: {reason.strip()}\n{remedy}")
