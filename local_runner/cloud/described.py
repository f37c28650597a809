"""A project and an environment -> what ``bootstrap`` and ``export`` describe. Compiles the pipeline; no network.

Nothing is pushed or uploaded: the definition is bound to the environment's bucket, role and image, and its code is said
to be below the environment's prefix, for whoever deploys the document to put it there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from local_runner.cloud.environment import Environment
from local_runner.cloud.names import Names
from local_runner.cloud.parts import Parts, execution_role_arn, parts_of, place_of
from local_runner.cloud.policies import Place
from local_runner.compile.compiler import IMAGE_URI
from local_runner.definition.parser import inspect_definition
from local_runner.errors import InvalidPipelineError, SettingsError
from local_runner.runner import load_definition
from local_runner.settings import Settings
from local_runner.storage import CODE_PREFIX

_UNPUSHED = "not-pushed-yet"
_KEPT = "uploads"
"""Where the compiler keeps what is no file of the project (local_runner.compile.uploads)."""


@dataclass(frozen=True)
class Described:
    """What stands in the account when the document is deployed.

    ``uploads`` are the files and directories that have to lie in S3 by then: path -> URI. ``repository`` is the ECR
    repository to make, ``bucket`` the bucket (None: not the project's to make).
    """

    parts: Parts
    definition: str
    uploads: Mapping[str, str]
    bucket: str | None
    repository: str | None


def describe(
    settings: Settings,
    environment: Environment,
    account: str,
    region: str,
    state: Path,
    note: Callable[[str], None],
    image_uri: str | None = None,
    partition: str = "aws",
) -> Described:
    """The project in that environment. Raises InvalidPipelineError with every problem of the definition."""
    name = _pipeline_name(settings, state, note)
    names = Names(name, environment.name)
    place = place_of(names, account, region, partition)
    bucket = environment.bucket or f"sagemaker-{region}-{account}"
    prefix = environment.prefix or names.pipeline_name
    repository = _repository(environment, names)
    image = image_uri or environment.image_uri or _image(place, repository, environment.repository)
    local = replace(settings.local, bucket=bucket, region=region, role_arn=execution_role_arn(environment, place))
    loaded = load_definition(replace(settings, local=local), None, state, note)
    uploads: dict[str, str] = {}
    kept = state / "s3" / bucket
    sources = {f"s3://{bucket}/{CODE_PREFIX}/": settings.root, f"s3://{bucket}/{_KEPT}/": kept / _KEPT}
    document = _bound(json.loads(loaded.text), sources, f"s3://{bucket}/{prefix}", image, uploads)
    _set_defaults(document, environment)
    text = json.dumps(document)
    definition, problems = inspect_definition(text, name)
    if problems:
        raise InvalidPipelineError(settings.pipeline.entry, problems)
    return Described(
        parts_of(environment, names, definition, place, bucket, prefix),
        text,
        uploads,
        None if environment.bucket else bucket,
        repository,
    )


def needs_image(described: Described) -> bool:
    """Whether the definition names an image that only a push would give a digest."""
    return _UNPUSHED in described.definition


def _pipeline_name(settings: Settings, state: Path, note: Callable[[str], None]) -> str:
    return load_definition(settings, None, state, note).definition.name


def _repository(environment: Environment, names: Names) -> str | None:
    """The name of the ECR repository to make, or None where images lie elsewhere."""
    given = environment.repository
    if environment.image_uri or (given and ("." in given.partition("/")[0] or ":" in given)):
        return None
    return given or names.repository


def _image(place: Place, repository: str | None, given: str | None) -> str:
    domain = "amazonaws.com.cn" if place.partition == "aws-cn" else "amazonaws.com"
    where = f"{place.account}.dkr.ecr.{place.region}.{domain}/{repository}" if repository else given
    return f"{where}:{_UNPUSHED}"


def _bound(value: Any, sources: Mapping[str, Path], below: str, image: str, uploads: dict[str, str]) -> Any:
    """The definition with its image, and its code ``below`` the prefix; ``sources``: where that is on this machine."""
    match value:
        case str() if value == IMAGE_URI:
            return image
        case str():
            for root, directory in sources.items():
                if value.startswith(root):
                    path = value.removeprefix(root).rstrip("/")
                    uploads[str(directory / path)] = f"{below}/{root.rstrip('/').rpartition('/')[2]}/{path}"
                    return uploads[str(directory / path)]
            return value
        case dict():
            table = cast("dict[str, Any]", value)
            return {key: _bound(item, sources, below, image, uploads) for key, item in table.items()}
        case list():
            return [_bound(item, sources, below, image, uploads) for item in cast("list[Any]", value)]
        case _:
            return value


def _set_defaults(document: dict[str, Any], environment: Environment) -> None:
    """The environment's values as defaults of the parameters. Raises SettingsError for one that is not there."""
    wanted: dict[str, Any] = dict(environment.parameters)
    for name, value in (
        ("ProcessingInstanceType", environment.instance_type),
        ("ProcessingInstanceCount", environment.instance_count),
    ):
        if value is not None:
            wanted[name] = value
    parameters = {parameter["Name"]: parameter for parameter in document.get("Parameters", [])}
    for name, value in wanted.items():
        if name not in parameters:
            raise SettingsError(
                f"environments.{environment.name}: the pipeline has no parameter {name}. "
                f"It has {', '.join(parameters)}."
            )
        parameters[name]["DefaultValue"] = value
