"""Where an environment of this project is in the cloud: account, names, bucket. Reads; compiles the pipeline.

What a pipeline is called stands in its definition, so that it is compiled first (or taken from the cache).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.desired.wanted import secrets_of
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.load import load_environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.place import Place
from local_runner.cloud.target.region import region_of
from local_runner.cloud.target.target import default_bucket, guard, place_of
from local_runner.errors import InvalidPipelineError
from local_runner.models import PipelineDefinition
from local_runner.project import Project
from local_runner.run.definition import load_definition
from local_runner.secrets import DEFAULT_NAMES, Secrets
from local_runner.settings import Settings


@dataclass(frozen=True)
class Deployment:
    """One environment in its account. ``definition`` is the local one, for the names and what stands around it.

    ``secrets`` are not to be shown.
    """

    environment: Environment
    aws: Aws
    names: Names
    definition: PipelineDefinition
    secrets: Secrets = field(default_factory=lambda: Secrets(DEFAULT_NAMES))

    @property
    def place(self) -> Place:
        """The account as policies name it."""
        return place_of(self.names, self.aws.account, self.aws.region, self.aws.partition)

    @property
    def bucket(self) -> str:
        """The bucket of the code and of the release records."""
        return self.environment.bucket or default_bucket(self.place)

    @property
    def prefix(self) -> str:
        """Where in the bucket they are, without slashes around it."""
        return self.environment.prefix or self.names.pipeline_name


def open_deployment(settings: Settings, name: str, state: Path, note: Callable[[str], None]) -> Deployment:
    """The environment of that name. Raises SettingsError, CompileError, and CloudError where the account is another."""
    environment = load_environment(settings.root, name)
    loaded = load_definition(Project(settings, state, note), None)
    if not loaded.definition.name:
        raise InvalidPipelineError(settings.pipeline.entry, loaded.problems)
    aws = Aws(region_of(environment).name, environment.profile)
    guard(environment, aws)
    secrets = secrets_of(settings, environment, json.loads(loaded.text), state)
    return Deployment(environment, aws, Names(loaded.definition.name, name), loaded.definition, secrets)
