"""Brings an earlier release back: its definition, schedule and roles, from its record. A plan first; Changes write.

The same resources are planned and written as by a promotion. What comes of it is a new release.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.change.models import Change, Resource, in_order
from local_runner.cloud.desired.deployment import Deployment
from local_runner.cloud.desired.record import write_record
from local_runner.cloud.desired.supporting import parts_of
from local_runner.cloud.iam.policies import start_policy, start_trust
from local_runner.cloud.release.lock import promotion_lock
from local_runner.cloud.release.model import WantedRelease
from local_runner.cloud.release.record import ReleaseRecord
from local_runner.cloud.release.store import read_release, release_numbers
from local_runner.cloud.resources.pipeline import Pipeline
from local_runner.cloud.resources.role import Role
from local_runner.cloud.resources.schedule import ScheduleResource, find_either
from local_runner.cloud.schedules.request import DesiredSchedule
from local_runner.cloud.target.target import tags_for
from local_runner.definition.parser import parse_definition
from local_runner.fingerprint import Fingerprint
from local_runner.jsontext import as_list, as_object
from local_runner.secrets import NOT_KEPT
from local_runner.storage.s3_uri import s3_problem, split_uri

_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^@]+)@(sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Rollback:
    """``target`` is the release that comes back, ``current`` the one that it takes the place of."""

    current: ReleaseRecord
    target: ReleaseRecord
    resources: tuple[Resource, ...]

    def plan(self, aws: Aws) -> list[Change]:
        """What has to change; reads only."""
        return in_order([change for resource in self.resources for change in resource.plan(aws)])


def rollback_to(deployment: Deployment, number: int | None) -> Rollback:
    """The way back to a release (None: the one that was there before the current one). Reads only.

    Raises CloudError where there is no such release, or where its code or image is not there any more.
    """
    aws, bucket, prefix = deployment.aws, deployment.bucket, deployment.prefix
    numbers = release_numbers(aws, bucket, prefix)
    if not numbers:
        raise CloudError(f"There are no releases of {deployment.names.pipeline_name}: nothing was promoted yet.")
    current = read_release(aws, bucket, prefix, numbers[-1])
    wanted = number if number is not None else _before(deployment, numbers, current)
    if wanted not in numbers:
        raise CloudError(f"There is no release {wanted}. Releases: {', '.join(map(str, numbers))}.")
    target = read_release(aws, bucket, prefix, wanted)
    missing = [*_missing_code(aws, target), *_missing_image(aws, target)]
    if missing:
        raise CloudError(
            f"Release {wanted} cannot be brought back. These are not there any more:\n"
            + "\n".join(f"  {item}" for item in missing)
            + "\nNothing was changed. Check out the commit of that release and promote it again."
        )
    return Rollback(current, target, _resources(deployment, current, target))


def bring_back(deployment: Deployment, rollback: Rollback, *, break_lock: bool = False) -> ReleaseRecord:
    """Make it so, and record it as a new release. Raises LockedError while somebody promotes, AwsError, CloudError."""
    aws, bucket, prefix = deployment.aws, deployment.bucket, deployment.prefix
    with promotion_lock(aws, bucket, prefix, break_lock=break_lock):
        newest = release_numbers(aws, bucket, prefix)[-1]
        if newest != rollback.current.number:
            raise CloudError(f"Release {newest} was made meanwhile. Nothing was changed. Look again, then repeat.")
        for change in rollback.plan(aws):
            change.apply(aws)
        left = rollback.plan(aws)
        if left:
            what = ", ".join(f"{change.resource} {change.name}" for change in left)
            raise CloudError(f"The account is not as release {rollback.target.number} was: {what}. Run this again.")
        record = rollback.target.model_copy(
            update={
                "number": newest + 1,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "created_by": aws.caller_arn,
                "restores": rollback.target.number,
            }
        )
        write_record(aws, bucket, prefix, record)
        return record


# ----------------------------------------------------------------------------------------------------- desired
def _resources(deployment: Deployment, current: ReleaseRecord, target: ReleaseRecord) -> tuple[Resource, ...]:
    names, place, environment = deployment.names, deployment.place, deployment.environment
    tags = tags_for(environment, names)
    definition = parse_definition(target.definition, names.pipeline, f"release {target.number}")
    # The schedule is the record's and not that of the settings, which may have changed since.
    parts = parts_of(
        environment.model_copy(update={"schedule": None}),
        names,
        definition,
        place,
        deployment.bucket,
        deployment.prefix,
    )
    desired = WantedRelease(
        environment=environment,
        names=names,
        place=place,
        bucket=deployment.bucket,
        prefix=deployment.prefix,
        template=json.loads(target.definition),
        code=(),
        image=None,
        fingerprint=_Recorded({}, {}, None, target.fingerprint),
        git_commit=target.git_commit,
        git_dirty=target.git_dirty,
    )
    request = _with_secrets(deployment, target)
    scheduled = DesiredSchedule(target.schedule_kind or "scheduler", request) if request is not None else None
    made = [parts.execution_role] if parts.execution_role and target.role_arn == place.role_arn else []
    return (
        *made,
        Pipeline(desired, None, target.role_arn, tags),
        _start_role(deployment, request, tags),
        ScheduleResource(names.schedule, place.pipeline_arn, scheduled, tags, current.schedule),
    )


def _with_secrets(deployment: Deployment, target: ReleaseRecord) -> Mapping[str, Any] | None:
    """The schedule of a release with the secrets that its record leaves out: those of the schedule that is there, else
    of the settings. Raises CloudError where a value is nowhere.
    """
    request = copy.deepcopy(dict(target.schedule)) if target.schedule is not None else None
    missing = {item["Name"]: item for item in _parameters(request) if item["Value"] == NOT_KEPT}
    if not missing:
        return request
    live = find_either(deployment.aws, deployment.names.schedule)
    settings = deployment.environment.schedule
    known = {**(settings.parameters if settings else {})}
    known |= {item["Name"]: item["Value"] for item in _parameters(live[1] if live else None)}
    unknown = ", ".join(name for name in missing if name not in known)
    if unknown:
        raise CloudError(
            f"The schedule of release {target.number} starts the pipeline with the secret {unknown}, of which the "
            f"record has no value. Give it in [environments.{deployment.environment.name}.schedule.parameters]. "
            "Nothing was changed."
        )
    for name, item in missing.items():
        item["Value"] = known[name]
    return request


def _parameters(request: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The parameters that a schedule or rule gives to each execution."""
    target = as_object((request or {}).get("Target")) or {}
    given = as_object(target.get("SageMakerPipelineParameters")) or {}
    return [item for item in as_list(given.get("PipelineParameterList")) or () if as_object(item) is not None]


def _start_role(deployment: Deployment, request: Mapping[str, Any] | None, tags: Mapping[str, str]) -> Role:
    """The role of the schedule; not wanted where the schedule has one of its own, or there is none."""
    place, name = deployment.place, deployment.names.start_role
    target: Mapping[str, Any] = (request or {}).get("Target", {})
    return Role(
        "start role",
        name,
        start_trust(place.account),
        start_policy(place.pipeline_arn, target.get("DeadLetterConfig", {}).get("Arn")),
        tags,
        f"Starts the pipeline {deployment.names.pipeline_name}",
        wanted=target.get("RoleArn") == place.arn("iam", f"role/{name}", region=False),
    )


@dataclass(frozen=True)
class _Recorded(Fingerprint):
    """The fingerprint of a release, of which the record has only the value."""

    recorded: str = ""

    @property
    def value(self) -> str:
        return self.recorded


# ----------------------------------------------------------------------------------------------------- reading
def _before(deployment: Deployment, numbers: list[int], current: ReleaseRecord) -> int:
    """The release before the current one; where that is itself a return, the one before what it returned to."""
    returned_to = current.restores or current.number
    earlier = [number for number in numbers if number < returned_to]
    if not earlier:
        raise CloudError(
            f"There is no release before {returned_to} of {deployment.names.pipeline_name} to go back to. "
            "Say which one with --to N (local-runner releases)."
        )
    return earlier[-1]


def _missing_code(aws: Aws, target: ReleaseRecord) -> list[str]:
    missing: list[str] = []
    for path, uri in target.code.items():
        if s3_problem(uri):
            missing.append(f"{uri} ({path}), which is no S3 URI")
            continue
        bucket, key = split_uri(uri)
        if aws.find("s3", "head_object", Bucket=bucket, Key=key) is None:
            missing.append(f"{uri} ({path})")
    return missing


def _missing_image(aws: Aws, target: ReleaseRecord) -> list[str]:
    """The image, if the account's registry does not have it; those of others cannot be asked."""
    image = _ECR.fullmatch(target.image_uri or "")
    if image is None or image[1] != aws.account:
        return []
    registry, repository, digest = image.groups()
    asked = {"registryId": registry, "repositoryName": repository, "imageIds": [{"imageDigest": digest}]}
    found = aws.find("ecr", "describe_images", **asked)
    return [] if found and found["imageDetails"] else [f"the image {target.image_uri}"]
