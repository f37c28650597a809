"""A project and an environment -> its target, and the release as it should be. Compiles and reads the project.

The definition is compiled for the environment, offline, as for a local run. Its code then gets URIs that hold the
content's hash, so that a release never changes under an execution that still runs.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.change.definition import replaced
from local_runner.cloud.desired.binding import set_network_and_keys, set_parameter_defaults
from local_runner.cloud.desired.supporting import known_before_start
from local_runner.cloud.release.model import CodeObject, DesiredRelease, image_destination, with_image
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.load import load_environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.region import region_of
from local_runner.cloud.target.target import Target
from local_runner.compile.compiler import IMAGE_URI, BuildValues, compile_pipeline
from local_runner.definition.parser import inspect_document
from local_runner.errors import InvalidPipelineError, Problem
from local_runner.fingerprint import fingerprint_of, texts_of
from local_runner.image.tag import content_of, current_tag
from local_runner.models import PipelineDefinition
from local_runner.planning.parameters import learn_secrets
from local_runner.planning.service import refused, refused_by_values
from local_runner.project import Project
from local_runner.run.definition import load_definition
from local_runner.run.local_data import local_storage
from local_runner.sagemaker_api.service_rules import pipeline_name_problems
from local_runner.secrets import Secrets
from local_runner.storage.local_s3 import CODE_PREFIX, Storage
from local_runner.storage.s3_uri import s3_problem, split_uri

_UPLOADS_PREFIX = "uploads"


def open_target(project: Project, name: str) -> Target:
    """The environment of that name in its account. What the pipeline is called stands in its definition.

    Raises SettingsError, CompileError, and CloudError where the account is another.
    """
    environment = load_environment(project.settings.root, name)
    local = load_definition(project, None)
    if not local.definition.name:
        raise InvalidPipelineError(project.settings.pipeline.entry, local.problems)
    aws = Aws(region_of(environment), environment.profile)
    return _target(project, environment, aws, local.definition)


def desired_release(
    project: Project, environment: Environment, aws: Aws, image_uri: str | None = None
) -> DesiredRelease:
    """The release of the project as it is now. Raises the errors of compiling, and CloudError for a wrong account."""
    settings = project.settings
    local = load_definition(project, None)
    if local.problems:
        raise InvalidPipelineError(settings.pipeline.entry, local.problems)
    target = _target(project, environment, aws, local.definition)
    values = BuildValues(environment.name, aws.region, target.bucket, target.execution_role_arn, account=aws.account)
    compiled = json.loads(compile_pipeline(project, None, values=values).definition)
    storage = _storage(project, target.bucket)
    local_image = current_tag(project)
    content = content_of(local_image)
    uris, code = _code(compiled, target, storage)
    template = replaced(compiled, uris)
    set_parameter_defaults(template, environment)
    set_network_and_keys(template, environment)
    target.secrets.learn_from(template)
    uses_image = any(text == IMAGE_URI for text in texts_of(template))
    image = image_destination(target, local_image, image_uri) if uses_image else None
    definition, problems = inspect_document(with_image(template, image and image.tagged), target.names.pipeline)
    problems += _refused(definition, target, project.state / "cache")
    if problems:
        raise InvalidPipelineError(target.names.pipeline, target.secrets.masked_problems(problems))
    commit, dirty = _git(settings.root)
    return DesiredRelease(
        target=target,
        template=template,
        definition=definition,
        code=code,
        image=image,
        fingerprint=fingerprint_of(compiled, values, storage, content, settings.pipeline.secret),
        git_commit=commit,
        git_dirty=dirty,
    )


def _refused(definition: PipelineDefinition, target: Target, cache_dir: Path) -> list[Problem]:
    """What the service would refuse: the composed name, the requests with the defaults and the schedule's values."""
    defaults = {parameter.name: parameter.default for parameter in definition.parameters}
    known = {name: value for name, value in defaults.items() if value is not None}
    where = "the pipeline's name in the environment"
    problems = pipeline_name_problems(target.names.pipeline_name, where)
    problems += refused(definition, known, cache_dir)
    schedule = target.environment.schedule
    if schedule:
        given = known_before_start(schedule.parameters)
        problems += refused_by_values(definition, given, cache_dir)
    return list(dict.fromkeys(problems))


def _target(project: Project, environment: Environment, aws: Aws, definition: PipelineDefinition) -> Target:
    """The environment in that account, with the secret values of its settings and of the local definition."""
    names = Names(definition.name, environment.name)
    secrets = Secrets(project.settings.pipeline.secret, project.state)
    target = Target(environment, names, aws, secrets)
    target.check_account()
    secrets.learn_named(environment.parameters)
    secrets.learn_named(environment.schedule.parameters if environment.schedule else {})
    learn_secrets(definition, secrets)
    return target


def _storage(project: Project, bucket: str) -> Storage:
    """Local S3 with the project's files as the code of that bucket."""
    settings = project.settings
    local = replace(settings.local, bucket=bucket, data={})
    return local_storage(replace(project, settings=replace(settings, local=local)), {})


def _code(document: Any, target: Target, storage: Storage) -> tuple[dict[str, str], tuple[CodeObject, ...]]:
    """The lasting URI of each URI that means code, and the objects that have to lie there."""
    bucket = target.bucket
    lasting: dict[str, str] = {}
    objects: dict[str, CodeObject] = {}
    for uri in sorted(set(texts_of(document))):
        # What the SDK packed or wrote lies in the local bucket of that name.
        packed = uri.startswith(f"s3://{bucket}/{_UPLOADS_PREFIX}/")
        if s3_problem(uri) or (not packed and not storage.is_code(uri)):
            continue
        found = storage.list_objects(uri).objects
        if not found:
            continue
        key = split_uri(uri)[1].rstrip("/")
        single = len(found) == 1 and found[0].key == key
        digests = {entry.key: _sha256(entry.path) for entry in found}
        whole = "".join(f"{entry.key}\0{digests[entry.key]}\0" for entry in found)
        digest = digests[key] if single else hashlib.sha256(whole.encode()).hexdigest()
        base = f"{target.prefix}/{CODE_PREFIX}/{digest}"
        for entry in found:
            name = key.rpartition("/")[2] if single else entry.key.removeprefix(key).lstrip("/")
            path = entry.key.removeprefix(f"{CODE_PREFIX}/")
            objects[f"{base}/{name}"] = CodeObject(path, entry.path, digests[entry.key], f"{base}/{name}")
        lasting[uri] = f"s3://{bucket}/{base}" + (f"/{key.rpartition('/')[2]}" if single else "")
        if uri.endswith("/"):
            lasting[uri] += "/"
    return lasting, tuple(objects[key] for key in sorted(objects))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _git(root: Path) -> tuple[str | None, bool]:
    """The commit of the project, and whether there is more in its directory. (None, False) where there is no git."""
    try:
        asked = ["git", "-C", str(root)]
        commit = subprocess.run([*asked, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        if commit.returncode:
            return None, False
        changed = subprocess.run([*asked, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
        return commit.stdout.strip(), bool(changed.stdout.strip())
    except (OSError, subprocess.TimeoutExpired):
        return None, False
