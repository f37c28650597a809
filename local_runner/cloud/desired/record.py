"""The record of a release in the bucket, written when all else is in place. Reads S3; its Change writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.account.aws import Aws, AwsError, CloudError
from local_runner.cloud.change.models import Change, FieldChange, ResourceKind
from local_runner.cloud.desired.supporting import SupportingResources
from local_runner.cloud.release.model import DesiredRelease, with_image
from local_runner.cloud.release.record import ReleaseRecord, release_key
from local_runner.cloud.resources.image import Image
from local_runner.cloud.resources.pipeline import COMMIT_TAG, RELEASE_TAG
from local_runner.cloud.target.target import Target

_COMPARED = ("fingerprint", "image_uri", "role_arn", "pipeline_arn", "schedule_kind", "schedule")


@dataclass
class Record:
    """The record of the release that is wanted. ``current`` is the newest that there is."""

    desired: DesiredRelease
    supporting: SupportingResources
    image: Image | None
    current: ReleaseRecord | None
    verified_by: str | None
    unverified_reason: str | None

    @property
    def number(self) -> int:
        """The number that the release gets."""
        return self.current.number + 1 if self.current else 1

    def plan(self, aws: Aws) -> list[Change]:
        """The record, where the newest one is of another state."""
        fields = self._fields()
        if self.current and not fields:
            return []
        target = self.desired.target
        name = f"s3://{target.bucket}/{release_key(target.prefix, self.number)}"
        return [Change(ResourceKind.RELEASE, name, "create", f"release {self.number} is recorded", self._write, fields)]

    def _fields(self) -> tuple[FieldChange, ...]:
        before: dict[str, Any] = self.current.model_dump(mode="json") if self.current else {}
        before["schedule"] = self.desired.target.secrets.names.without(before.get("schedule"))
        definition = self._definition()
        after = self._record("", "", definition).model_dump(mode="json")
        changes = [FieldChange(key, before.get(key), after[key]) for key in _COMPARED if before.get(key) != after[key]]
        if self.current and json.loads(self.current.definition) != definition:
            changes.append(FieldChange("definition", self.current.number, self.number))
        return tuple(changes)

    def _definition(self) -> dict[str, Any]:
        return with_image(self.desired.template, self.image.uri if self.image else None)

    def _record(self, created: str, created_by: str, definition: Mapping[str, Any]) -> ReleaseRecord:
        desired, schedule = self.desired, self.supporting.schedule.desired
        target = desired.target
        return ReleaseRecord(
            number=self.number,
            environment=target.environment.name,
            pipeline_name=target.names.pipeline_name,
            pipeline_arn=target.pipeline_arn,
            created=created,
            created_by=created_by,
            fingerprint=desired.fingerprint.value,
            verified_by=self.verified_by,
            unverified_reason=None if self.verified_by else self.unverified_reason,
            git_commit=desired.git_commit,
            git_dirty=desired.git_dirty,
            definition=json.dumps(definition),
            code={item.path: f"s3://{target.bucket}/{item.key}" for item in desired.code},
            image_uri=self.image.uri if self.image else None,
            image_content=desired.fingerprint.image,
            role_arn=target.execution_role_arn,
            schedule_kind=schedule.kind if schedule else None,
            schedule=target.secrets.names.without(dict(schedule.request)) if schedule else None,
        )

    def _write(self, aws: Aws) -> None:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        write_record(self.desired.target, self._record(created, aws.caller_arn, self._definition()))


def write_record(target: Target, record: ReleaseRecord) -> None:
    """Tag the pipeline with the release, and keep its record. Raises CloudError where the number is taken meanwhile."""
    tags = [{"Key": RELEASE_TAG, "Value": str(record.number)}]
    if record.git_commit:
        tags.append({"Key": COMMIT_TAG, "Value": record.git_commit})
    aws, key = target.aws, release_key(target.prefix, record.number)
    aws.call("sagemaker", "add_tags", ResourceArn=record.pipeline_arn, Tags=tags)
    body = record.model_dump_json(indent=1).encode()
    try:
        aws.call("s3", "put_object", **target.place(key), **target.encryption, Body=body, IfNoneMatch="*")
    except AwsError as error:
        if error.code in ("PreconditionFailed", "412"):
            raise CloudError(
                f"Somebody else recorded release {record.number} meanwhile. Look at the plan again: "
                f"local-runner plan --env {record.environment}"
            ) from None
        raise
