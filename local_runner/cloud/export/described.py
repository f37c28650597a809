"""A project and an environment -> what ``bootstrap`` and ``export`` describe. Compiles the pipeline, changes nothing.

AWS is asked for the account, where the environment does not name it, and for nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.desired.release import desired_release
from local_runner.cloud.desired.supporting import SupportingResources, supporting_resources
from local_runner.cloud.iam.deployer import MOST_CHARACTERS, deployer_policies
from local_runner.cloud.release.model import DesiredRelease, with_image
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.region import region_of
from local_runner.project import Project


@dataclass(frozen=True)
class Described:
    """What stands in the account when the document is deployed: ``desired``, and what stands around its pipeline.

    ``image_uri`` is the image by the tag of its content (tags of the repository never move), or the one that is given;
    None where no step uses it.
    """

    desired: DesiredRelease
    supporting: SupportingResources
    image_uri: str | None

    @property
    def definition(self) -> str:
        """The definition as the service gets it (JSON)."""
        return json.dumps(with_image(self.desired.template, self.image_uri))

    @property
    def bucket(self) -> str | None:
        """The bucket to make: the default one."""
        target = self.desired.target
        return None if target.environment.bucket else target.bucket

    @property
    def repository(self) -> str | None:
        """The ECR repository to make, where the project's image is pushed to one."""
        return self.desired.image.repository if self.desired.image else None

    def policies(self, *, makes: bool) -> dict[str, dict[str, Any]]:
        """What those who plan, promote and operate may do. ``makes``: a promotion makes roles, bucket and repository.

        Raises CloudError where one is too long for IAM.
        """
        found = deployer_policies(self.desired.target, self.repository, makes=makes)
        for purpose, policy in found.items():
            length = len(json.dumps(policy, separators=(",", ":")))
            if length > MOST_CHARACTERS:
                raise CloudError(
                    f"The policy to {purpose} would have {length} characters, and IAM takes {MOST_CHARACTERS}. "
                    "Give the environment a shorter name, or the pipeline."
                )
        return found


def describe(project: Project, environment: Environment, image_uri: str | None = None) -> Described:
    """The project in that environment. Raises the errors of compiling, and CloudError where the settings are wrong."""
    # Nobody has to be signed in to describe an account that the environment names.
    aws = Aws(region_of(environment), environment.profile, environment.account)
    desired = desired_release(project, environment, aws, image_uri)
    image = desired.image.tagged if desired.image else None
    return Described(desired, supporting_resources(desired.target, desired.definition), image)
