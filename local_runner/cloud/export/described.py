"""A project and an environment -> what ``bootstrap`` and ``export`` describe. Compiles the pipeline, changes nothing.

AWS is asked for the account, where the environment does not name it, and for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.desired.supporting import SupportingResources, parts_of
from local_runner.cloud.desired.wanted import desired_release
from local_runner.cloud.release.model import WantedRelease
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.region import region_of
from local_runner.settings import Settings


class _NamedAccount(Aws):
    """The account that an environment names: nobody has to be signed in to describe it."""

    named: str | None = None

    @cached_property
    def account(self) -> str:
        """The account's id."""
        return self.named or super().account


@dataclass(frozen=True)
class Described:
    """What stands in the account when the document is deployed: ``desired``, and its ``parts`` around the pipeline.

    ``image_uri`` is the image by the tag of its content (tags of the repository never move), or the one that is given;
    None where no step uses it.
    """

    desired: WantedRelease
    parts: SupportingResources
    image_uri: str | None

    @property
    def definition(self) -> str:
        """The definition as the service gets it (JSON)."""
        return self.desired.definition(self.image_uri)

    @property
    def bucket(self) -> str | None:
        """The bucket to make: the default one."""
        return None if self.desired.environment.bucket else self.desired.bucket

    @property
    def repository(self) -> str | None:
        """The ECR repository to make, where the project's image is pushed to one."""
        return self.desired.image.repository if self.desired.image else None


def describe(
    settings: Settings,
    environment: Environment,
    state: Path,
    note: Callable[[str], None],
    image_uri: str | None = None,
) -> Described:
    """The project in that environment. Raises the errors of compiling, and CloudError where the settings are wrong."""
    aws = _NamedAccount(region_of(environment).name, environment.profile)
    aws.named = environment.account
    desired = desired_release(settings, environment, aws, state, note, image_uri)
    image = desired.image.tagged if desired.image else None
    definition = desired.parsed(image or "")
    parts = parts_of(environment, desired.names, definition, desired.place, desired.bucket, desired.prefix)
    return Described(desired, parts, image)
