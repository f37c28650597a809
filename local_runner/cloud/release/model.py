"""A release as it should be: DesiredRelease, its code and its image. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_runner.cloud.change.definition import replaced
from local_runner.cloud.target.target import Target
from local_runner.compile.compiler import IMAGE_URI
from local_runner.fingerprint import Fingerprint
from local_runner.image.tag import content_of
from local_runner.models import PipelineDefinition

_OWN_REGISTRY = re.compile(r"[^/]*[.:][^/]*/.+")


@dataclass(frozen=True)
class CodeObject:
    """A file that jobs read as code. ``path`` is its name in the project, ``key`` where it lies in the bucket."""

    path: str
    file: Path
    sha256: str
    key: str


@dataclass(frozen=True)
class DesiredRelease:
    """A release as it should be.

    ``template`` is the definition as JSON with IMAGE_URI where the image's URI has to be; ``definition`` is the same,
    parsed, with the image by its tag.
    """

    target: Target
    template: Mapping[str, Any]
    definition: PipelineDefinition
    code: tuple[CodeObject, ...]
    image: ImageDestination | None
    fingerprint: Fingerprint
    git_commit: str | None
    git_dirty: bool

    def secrets_in_definition(self) -> list[str]:
        """What the definition says in plain text of secrets, to all who may read it: a line for people, or none."""
        count = len(self.target.secrets.names.values(self.template))
        if not count:
            return []
        return [
            f"The definition holds {count} secret value(s), as a default or in an Environment. It stands in plain text "
            "in the pipeline, in the release's record and in an export (docs/SECRETS.md says what to do instead)."
        ]


def with_image(template: Mapping[str, Any], image_uri: str | None) -> dict[str, Any]:
    """The definition as the service gets it: the template with the image's URI (None: no step uses the image)."""
    return replaced(template, {IMAGE_URI: image_uri} if image_uri else {})


@dataclass(frozen=True)
class ImageDestination:
    """Where the image goes. ``uri`` has no tag; ``repository`` is ECR's name for it (None: another registry).

    In ECR, ``uri`` is what AWS's naming makes of account and region: right until there is a repository to ask.
    ``given`` is an image that is built elsewhere, and then nothing is pushed. ``local`` is the tag of the image here.
    """

    uri: str
    tag: str
    repository: str | None = None
    given: str | None = None
    local: str | None = None

    @property
    def tagged(self) -> str:
        """The image by its tag, which does for policies; a definition gets the digest."""
        return self.given or f"{self.uri}:{self.tag}"


def image_destination(target: Target, local: str, image_uri: str | None) -> ImageDestination:
    """Where the image of that local tag goes, by the environment's settings and ``--image-uri``."""
    content = content_of(local)
    given = image_uri or target.environment.image_uri
    repository = target.environment.repository
    if given or (repository and _OWN_REGISTRY.fullmatch(repository)):
        return ImageDestination(repository or "", content, given=given, local=local)
    aws, name = target.aws, repository or target.names.repository
    domain = "amazonaws.com.cn" if aws.partition == "aws-cn" else "amazonaws.com"
    return ImageDestination(f"{aws.account}.dkr.ecr.{aws.region}.{domain}/{name}", content, name, local=local)
