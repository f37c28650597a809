"""A project and an environment -> the release that is wanted. Compiles, reads the project; asks AWS who is asking.

The definition is compiled for the environment, offline, as for a local run. Its code then gets URIs that hold the
content's hash, so that a release never changes under an execution that still runs.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.change.definition import replaced
from local_runner.cloud.desired.binding import overlay, set_defaults
from local_runner.cloud.release.model import CodeObject, WantedRelease, image_target
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.target import default_bucket, execution_role_arn, guard, place_of
from local_runner.compile.compiler import IMAGE_URI, BuildValues, compile_pipeline
from local_runner.errors import InvalidPipelineError
from local_runner.fingerprint import fingerprint_of, texts_of
from local_runner.image.tag import content_of, current_tag
from local_runner.project import Project
from local_runner.run.definition import load_definition
from local_runner.run.local_data import local_storage
from local_runner.secrets import Secrets
from local_runner.settings import Settings
from local_runner.storage.local_s3 import CODE_PREFIX, Storage
from local_runner.storage.s3_uri import s3_problem, split_uri

_UPLOADS_PREFIX = "uploads"


def desired_release(
    settings: Settings,
    environment: Environment,
    aws: Aws,
    state: Path,
    note: Callable[[str], None],
    image_uri: str | None = None,
) -> WantedRelease:
    """The release of the project as it is now. Raises the errors of compiling, and CloudError for a wrong account."""
    project = Project(settings, state, note)
    local = load_definition(project, None)
    if local.problems:
        raise InvalidPipelineError(settings.pipeline.entry, local.problems)
    guard(environment, aws)
    names = Names(local.definition.name, environment.name)
    place = place_of(names, aws.account, aws.region, aws.partition)
    bucket = environment.bucket or default_bucket(place)
    prefix = environment.prefix or names.pipeline_name
    values = BuildValues(
        environment.name, place.region, bucket, execution_role_arn(environment, place), account=place.account
    )
    compiled = compile_pipeline(project, None, values=values)
    storage = _storage(settings, state, bucket)
    content = content_of(current_tag(project))
    document = json.loads(compiled.definition)
    moved, code = _code(document, bucket, prefix, storage, state)
    template = replaced(document, moved)
    set_defaults(template, environment)
    overlay(template, environment)
    uses_image = any(text == IMAGE_URI for text in texts_of(template))
    commit, dirty = _git(settings.root)
    return WantedRelease(
        environment=environment,
        names=names,
        place=place,
        bucket=bucket,
        prefix=prefix,
        template=template,
        code=code,
        image=image_target(environment, names, place, content, image_uri) if uses_image else None,
        fingerprint=fingerprint_of(compiled.definition, values, storage, content, settings.pipeline.secret),
        git_commit=commit,
        git_dirty=dirty,
        secrets=secrets_of(settings, environment, template, state),
    )


def secrets_of(
    settings: Settings, environment: Environment, definition: Mapping[str, Any] | None, state: Path
) -> Secrets:
    """The secret values of an environment's settings and of a definition."""
    secrets = Secrets(settings.pipeline.secret, state)
    secrets.learn_named(environment.parameters)
    secrets.learn_named(environment.schedule.parameters if environment.schedule else {})
    secrets.learn_from(definition)
    return secrets


def _storage(settings: Settings, state: Path, bucket: str) -> Storage:
    """Local S3 with the project's files as the code of that bucket."""
    return local_storage(
        Project(replace(settings, local=replace(settings.local, bucket=bucket, data={})), state, lambda _: None), {}
    )


def _code(
    document: Any, bucket: str, prefix: str, storage: Storage, state: Path
) -> tuple[dict[str, str], tuple[CodeObject, ...]]:
    """The lasting URI of each URI that means code, and the objects that have to lie there."""
    moved: dict[str, str] = {}
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
        base = f"{prefix}/{CODE_PREFIX}/{digest}"
        for entry in found:
            name = key.rpartition("/")[2] if single else entry.key.removeprefix(key).lstrip("/")
            path = entry.key.removeprefix(f"{CODE_PREFIX}/")
            objects[f"{base}/{name}"] = CodeObject(path, entry.path, digests[entry.key], f"{base}/{name}")
        moved[uri] = f"s3://{bucket}/{base}" + (f"/{key.rpartition('/')[2]}" if single else "")
        if uri.endswith("/"):
            moved[uri] += "/"
    return moved, tuple(objects[key] for key in sorted(objects))


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
