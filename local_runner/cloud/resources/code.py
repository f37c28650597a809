"""The code of a release in the bucket. Reads S3 and the project's files; Changes write to S3."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.change.models import Change, FieldChange
from local_runner.cloud.release.model import CodeObject

_SIDE_BY_SIDE = 8


@dataclass(frozen=True)
class Code:
    """The files that jobs run, each under the hash of its content."""

    bucket: str
    account: str
    objects: Sequence[CodeObject]
    kms_key_id: str | None = None

    def plan(self, aws: Aws) -> list[Change]:
        """The uploads of what is not there."""

        def is_there(wanted: CodeObject) -> bool:
            asked = {"Bucket": self.bucket, "Key": wanted.key, "ExpectedBucketOwner": self.account}
            return aws.find("s3", "head_object", **asked) is not None

        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            there = list(pool.map(is_there, self.objects))
        missing = [wanted for wanted, found in zip(self.objects, there, strict=True) if not found]
        if not missing:
            return []
        fields = tuple(FieldChange(wanted.path, None, wanted.sha256) for wanted in missing)
        names = ", ".join(wanted.path for wanted in missing)

        def upload(aws: Aws) -> None:
            for wanted in missing:
                self._upload(aws, wanted)

        return [Change("code", f"s3://{self.bucket}", "create", f"{names} uploaded", upload, fields)]

    def _upload(self, aws: Aws, wanted: CodeObject) -> None:
        # The checksum lets the service refuse a file that changed since the plan.
        key = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id} if self.kms_key_id else {}
        aws.call(
            "s3",
            "put_object",
            Bucket=self.bucket,
            Key=wanted.key,
            ExpectedBucketOwner=self.account,
            Body=wanted.file.read_bytes(),
            ChecksumSHA256=base64.b64encode(bytes.fromhex(wanted.sha256)).decode(),
            **key,
        )
