"""A release as it should be: WantedRelease, its code and its image. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_runner.cloud.change.definition import replaced
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.place import Place
from local_runner.compile.compiler import IMAGE_URI
from local_runner.definition.parser import inspect_definition
from local_runner.errors import InvalidPipelineError
from local_runner.fingerprint import Fingerprint
from local_runner.models import PipelineDefinition
from local_runner.secrets import DEFAULT_NAMES, Secrets

_OWN_REGISTRY = re.compile(r"[^/]*[.:][^/]*/.+")


@dataclass(frozen=True)
class CodeObject:
    """A file that jobs read as code. ``path`` is its name in the project, ``key`` where it lies in the bucket."""

    path: str
    file: Path
    sha256: str
    key: str


@dataclass(frozen=True)
class WantedRelease:
    """A release as it should be. ``template`` is the definition with IMAGE_URI where the image's URI has to be.

    ``secrets`` are not to be shown or recorded.
    """

    environment: Environment
    names: Names
    place: Place
    bucket: str
    prefix: str
    template: Mapping[str, Any]
    code: tuple[CodeObject, ...]
    image: ImageTarget | None
    fingerprint: Fingerprint
    git_commit: str | None
    git_dirty: bool
    secrets: Secrets = field(default_factory=lambda: Secrets(DEFAULT_NAMES))

    def definition(self, image_uri: str | None) -> str:
        """The definition as the service gets it (JSON)."""
        return json.dumps(replaced(self.template, {IMAGE_URI: image_uri} if image_uri else {}))

    def secrets_in_definition(self) -> list[str]:
        """What the definition says in plain text of secrets, to all who may read it: a line for people, or none."""
        count = len(self.secrets.names.values(self.template))
        if not count:
            return []
        return [
            f"The definition holds {count} secret value(s), as a default or in an Environment. It stands in plain text "
            "in the pipeline, in the release's record and in an export (docs/SECRETS.md says what to do instead)."
        ]

    def parsed(self, image_uri: str) -> PipelineDefinition:
        """The definition, parsed. Raises InvalidPipelineError with every problem."""
        definition, problems = inspect_definition(self.definition(image_uri), self.names.pipeline)
        if problems:
            raise InvalidPipelineError(self.names.pipeline, problems)
        return definition


@dataclass(frozen=True)
class ImageTarget:
    """Where the image goes. ``uri`` has no tag; ``repository`` is ECR's name for it (None: another registry).

    In ECR, ``uri`` is what AWS's naming makes of account and region: right until there is a repository to ask.
    ``given`` is an image that is built elsewhere, and then nothing is pushed.
    """

    uri: str
    tag: str
    repository: str | None = None
    given: str | None = None

    @property
    def tagged(self) -> str:
        """The image by its tag, which does for policies; a definition gets the digest."""
        return self.given or f"{self.uri}:{self.tag}"


def image_target(
    environment: Environment, names: Names, place: Place, content: str, image_uri: str | None
) -> ImageTarget:
    """Where the image of that content goes, by the environment's settings and ``--image-uri``."""
    given = image_uri or environment.image_uri
    repository = environment.repository
    if given or (repository and _OWN_REGISTRY.fullmatch(repository)):
        return ImageTarget(repository or "", content, given=given)
    name = repository or names.repository
    domain = "amazonaws.com.cn" if place.partition == "aws-cn" else "amazonaws.com"
    return ImageTarget(f"{place.account}.dkr.ecr.{place.region}.{domain}/{name}", content, name)
