"""Where the release of an environment goes: its place, bucket, role, key and tags. No I/O."""

from __future__ import annotations

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.account.tags import ENVIRONMENT_TAG, PROJECT_TAG
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.place import Place


def default_bucket(place: Place) -> str:
    """The SDK's default bucket of the account and region."""
    return f"sagemaker-{place.region}-{place.account}"


def guard(environment: Environment, aws: Aws) -> None:
    """Raises CloudError where the credentials are for another account than the environment's."""
    if environment.account and aws.account != environment.account:
        raise CloudError(
            f"The environment {environment.name} is in the account {environment.account}, and these credentials are "
            f"for {aws.account} ({aws.caller_arn}). Sign in to the right one, or correct 'account' or 'profile' in "
            "local_runner.toml. Nothing was changed."
        )


def place_of(names: Names, account: str, region: str, partition: str = "aws") -> Place:
    """Where the release of these names is."""
    return Place(partition, region, account, names.pipeline_name, names.execution_role)


def tags_for(environment: Environment, names: Names) -> dict[str, str]:
    """The tags of everything that is made: the environment's, and the two that say whose it is."""
    return {**environment.tags, PROJECT_TAG: names.pipeline, ENVIRONMENT_TAG: names.environment}


def execution_role_arn(environment: Environment, place: Place) -> str:
    """The ARN of the pipeline's role, also before the role is made."""
    return environment.role_arn or place.role_arn


def key_arn(key: str | None, place: Place) -> str | None:
    """The ARN of a KMS key that is given as an ARN or as an id (an alias is not enough for a policy)."""
    if key is None or key.startswith("arn:"):
        return key
    return place.arn("kms", f"key/{key}")
