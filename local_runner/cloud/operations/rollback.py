"""Brings an earlier release back: its definition, schedule and roles, from its record. A plan first; Changes write.

The same resources are planned and written as by a promotion. What comes of it is a new release.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.change.models import Change, Resource, deletions_last
from local_runner.cloud.desired.record import write_record
from local_runner.cloud.desired.supporting import execution_role, start_role
from local_runner.cloud.release.lock import promotion_lock
from local_runner.cloud.release.record import ReleaseRecord
from local_runner.cloud.release.store import read_release, release_numbers
from local_runner.cloud.resources.pipeline import Pipeline
from local_runner.cloud.resources.schedule import Schedule, find_schedule_or_rule
from local_runner.cloud.schedules.request import DesiredSchedule
from local_runner.cloud.target.target import Target
from local_runner.definition.parser import inspect_document
from local_runner.errors import InvalidPipelineError
from local_runner.jsontext import as_list, as_object, parse_json
from local_runner.models import PipelineDefinition
from local_runner.secrets import NOT_KEPT
from local_runner.storage.s3_uri import s3_problem, split_uri

_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^@]+)@(sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Rollback:
    """``earlier`` is the release that is restored, ``current`` the one that it takes the place of."""

    current: ReleaseRecord
    earlier: ReleaseRecord
    resources: tuple[Resource, ...]

    def plan(self, aws: Aws) -> list[Change]:
        """What has to change; reads only."""
        return deletions_last([change for resource in self.resources for change in resource.plan(aws)])


def plan_rollback(target: Target, number: int | None) -> Rollback:
    """The way back to a release (None: the one that was there before the current one). Reads only.

    Raises CloudError where there is no such release, or where its code or image is not there any more.
    """
    aws = target.aws
    numbers = release_numbers(target)
    if not numbers:
        raise CloudError(f"There are no releases of {target.names.pipeline_name}: nothing was promoted yet.")
    current = read_release(target, numbers[-1])
    wanted = number if number is not None else _before(target, numbers, current)
    if wanted not in numbers:
        raise CloudError(f"There is no release {wanted}. Releases: {', '.join(map(str, numbers))}.")
    earlier = read_release(target, wanted)
    missing = [*_missing_code(aws, earlier), *_missing_image(aws, earlier)]
    if missing:
        raise CloudError(
            f"Release {wanted} cannot be brought back. These are not there any more:\n"
            + "\n".join(f"  {item}" for item in missing)
            + "\nNothing was changed. Check out the commit of that release and promote it again."
        )
    return Rollback(current, earlier, _resources(target, current, earlier))


def restore(target: Target, rollback: Rollback, *, break_lock: bool = False) -> ReleaseRecord:
    """Make the changes, and record a new release. Raises LockedError while somebody promotes, AwsError, CloudError."""
    aws = target.aws
    with promotion_lock(target, break_lock=break_lock):
        newest = release_numbers(target)[-1]
        if newest != rollback.current.number:
            raise CloudError(f"Release {newest} was made meanwhile. Nothing was changed. Look again, then repeat.")
        for change in rollback.plan(aws):
            change.apply(aws)
        left = rollback.plan(aws)
        if left:
            what = ", ".join(f"{change.resource} {change.name}" for change in left)
            raise CloudError(f"The account is not as release {rollback.earlier.number} was: {what}. Run this again.")
        record = rollback.earlier.model_copy(
            update={
                "number": newest + 1,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "created_by": aws.caller_arn,
                "restores": rollback.earlier.number,
            }
        )
        write_record(target, record)
        return record


# ----------------------------------------------------------------------------------------------------- desired
def _resources(target: Target, current: ReleaseRecord, earlier: ReleaseRecord) -> tuple[Resource, ...]:
    template, definition = _definition(target, earlier)
    # The schedule is the record's and not that of the settings, which may have changed since.
    request = _with_secrets(target, earlier)
    started: Mapping[str, Any] = (request or {}).get("Target", {})
    parameters = {str(item["Name"]): str(item["Value"]) for item in _parameters(request)}
    made = earlier.role_arn == target.made_role_arn
    role = execution_role(target, definition, parameters)[0] if made else None
    return (
        *([role] if role else []),
        Pipeline(target, template, earlier.role_arn, earlier.fingerprint),
        start_role(
            target,
            started.get("DeadLetterConfig", {}).get("Arn"),
            wanted=started.get("RoleArn") == target.start_role_arn,
        ),
        Schedule(
            target,
            DesiredSchedule(earlier.schedule_kind or "scheduler", request) if request is not None else None,
            current.schedule,
        ),
    )


def _definition(target: Target, earlier: ReleaseRecord) -> tuple[dict[str, Any], PipelineDefinition]:
    """The definition of a record, as JSON and parsed. Raises InvalidPipelineError with every problem."""
    try:
        document = as_object(parse_json(earlier.definition)) or {}
    except ValueError as error:
        raise CloudError(f"The definition of release {earlier.number} {error}") from None
    definition, problems = inspect_document(document, target.names.pipeline)
    if problems:
        raise InvalidPipelineError(f"release {earlier.number}", problems)
    return document, definition


def _with_secrets(target: Target, earlier: ReleaseRecord) -> Mapping[str, Any] | None:
    """The schedule of a release with the secrets that its record leaves out: those of the schedule that is there, else
    of the settings. Raises CloudError where a value is in neither.
    """
    request = copy.deepcopy(dict(earlier.schedule)) if earlier.schedule is not None else None
    missing = {item["Name"]: item for item in _parameters(request) if item["Value"] == NOT_KEPT}
    if not missing:
        return request
    live = find_schedule_or_rule(target.aws, target.names.schedule)
    settings = target.environment.schedule
    known = {**(settings.parameters if settings else {})}
    known |= {item["Name"]: item["Value"] for item in _parameters(live[1] if live else None)}
    unknown = ", ".join(name for name in missing if name not in known)
    if unknown:
        raise CloudError(
            f"The schedule of release {earlier.number} starts the pipeline with the secret {unknown}, of which the "
            f"record has no value. Give it in [environments.{target.environment.name}.schedule.parameters]. "
            "Nothing was changed."
        )
    for name, item in missing.items():
        item["Value"] = known[name]
    return request


def _parameters(request: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The parameters that a schedule or rule gives to each execution."""
    started = as_object((request or {}).get("Target")) or {}
    given = as_object(started.get("SageMakerPipelineParameters")) or {}
    return [item for item in as_list(given.get("PipelineParameterList")) or () if as_object(item) is not None]


# ----------------------------------------------------------------------------------------------------- reading
def _before(target: Target, numbers: list[int], current: ReleaseRecord) -> int:
    """The release before the current one; where that is itself a return, the one before what it returned to."""
    returned_to = current.restores or current.number
    earlier = [number for number in numbers if number < returned_to]
    if not earlier:
        raise CloudError(
            f"There is no release before {returned_to} of {target.names.pipeline_name} to go back to. "
            "Say which one with --to N (local-runner releases)."
        )
    return earlier[-1]


def _missing_code(aws: Aws, earlier: ReleaseRecord) -> list[str]:
    missing: list[str] = []
    for path, uri in earlier.code.items():
        if s3_problem(uri):
            missing.append(f"{uri} ({path}), which is no S3 URI")
            continue
        bucket, key = split_uri(uri)
        if aws.find("s3", "head_object", Bucket=bucket, Key=key) is None:
            missing.append(f"{uri} ({path})")
    return missing


def _missing_image(aws: Aws, earlier: ReleaseRecord) -> list[str]:
    """The image, if the account's registry does not have it; those of others cannot be asked."""
    image = _ECR.fullmatch(earlier.image_uri or "")
    if image is None or image[1] != aws.account:
        return []
    registry, repository, digest = image.groups()
    asked = {"registryId": registry, "repositoryName": repository, "imageIds": [{"imageDigest": digest}]}
    found = aws.find("ecr", "describe_images", **asked)
    return [] if found and found["imageDetails"] else [f"the image {earlier.image_uri}"]
