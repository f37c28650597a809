"""The processing image in the account's registry: looked for, pushed where it is not, pinned by digest.

ECR is asked through Aws, another registry through the Docker engine, which also pushes. Logins go to the engine with
the push alone.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.change.models import Change, FieldChange, ResourceKind
from local_runner.cloud.release.model import ImageDestination
from local_runner.docker_host.connection import connect, docker

_ECR_REMEDY = (
    "The login is the one that ECR gave these AWS credentials. Check that they may push to the repository "
    "(ecr:BatchCheckLayerAvailability, ecr:InitiateLayerUpload, ecr:UploadLayerPart, ecr:CompleteLayerUpload, "
    "ecr:PutImage), and that the Docker engine reaches it, then repeat."
)
_OTHER_REMEDY = (
    "Check its address ('repository' of the environment), the network and the login (docker login), then repeat."
)


@dataclass
class Image:
    """The image as a resource. ``uri`` is pinned by digest once it is known (by ``plan``, or by the push).

    ``place`` is where it is, without a tag: the repository's own answer as soon as there is one.
    """

    destination: ImageDestination
    tags: Mapping[str, str]
    build: Callable[[], str]
    note: Callable[[str], None] = print
    uri: str | None = None
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
        if destination.given:
            self.uri = destination.given
            if "@sha256:" not in destination.given:
                self.notes.append(f"The image {destination.given} is not pinned: give it as NAME@sha256:... .")
            return []
        changes = self._repository(aws) if destination.repository else []
        digest = None if changes else self._digest(aws)
        self.uri = f"{self.place}@{digest}" if digest else None
        if digest is None:
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
            return str(found["imageDetails"][0]["imageDigest"]) if found and found["imageDetails"] else None
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
            try:
                digest = self._pushed(connect(), tag, self._login(aws))
            except CloudError:
                # Environments share a repository: another promotion may have pushed this content meanwhile, and ECR
                # refuses to push a tag again.
                digest = self._digest(aws) if self.destination.repository else None
                if digest is None:
                    raise
        self.uri = f"{self.place}@{digest}"

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
