"""Where an environment of this project is in the cloud: account, names, bucket. Reads; compiles the pipeline.

What a pipeline is called stands in its definition, so that it is compiled first (or taken from the cache).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local_runner.cloud.aws import Aws, CloudError, region_of
from local_runner.cloud.environment import Environment, load_environment
from local_runner.cloud.names import Names
from local_runner.cloud.policies import Place
from local_runner.errors import InvalidPipelineError
from local_runner.models import PipelineDefinition
from local_runner.runner import load_definition
from local_runner.settings import Settings


@dataclass(frozen=True)
class Deployment:
    """One environment in its account. ``definition`` is the local one, for the names and what stands around it."""

    environment: Environment
    aws: Aws
    names: Names
    definition: PipelineDefinition

    @property
    def place(self) -> Place:
        """The account as policies name it."""
        aws = self.aws
        return Place(aws.partition, aws.region, aws.account, self.names.pipeline_name, self.names.execution_role)

    @property
    def bucket(self) -> str:
        """The bucket of the code and of the release records."""
        return self.environment.bucket or f"sagemaker-{self.aws.region}-{self.aws.account}"

    @property
    def prefix(self) -> str:
        """Where in the bucket they are, without slashes around it."""
        return self.environment.prefix or self.names.pipeline


def open_deployment(settings: Settings, name: str, state: Path, note: Callable[[str], None]) -> Deployment:
    """The environment of that name. Raises SettingsError, CompileError, and CloudError where the account is another."""
    environment = load_environment(settings, name)
    loaded = load_definition(settings, None, state, note)
    if not loaded.definition.name:
        raise InvalidPipelineError(settings.pipeline.entry, loaded.problems)
    region = environment.region or region_of(environment.profile)
    if region is None:
        raise CloudError(
            f"The environment '{name}' has no region. Give it one in local_runner.toml ([environments.{name}] "
            'region = "eu-west-1"), or set AWS_REGION.'
        )
    aws = Aws(region, environment.profile)
    if environment.account and environment.account != aws.account:
        raise CloudError(
            f"The credentials are of account {aws.account}, and the environment '{name}' is of account "
            f"{environment.account} (local_runner.toml). Sign in to that one, or set AWS_PROFILE."
        )
    return Deployment(environment, aws, Names(loaded.definition.name, name), loaded.definition)
