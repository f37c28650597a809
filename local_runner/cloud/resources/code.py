"""The code of a release in the bucket. Reads S3 and the project's files; Changes write to S3."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.change.models import Change, FieldChange, ResourceKind
from local_runner.cloud.release.model import CodeObject
from local_runner.cloud.target.target import Target

_SIDE_BY_SIDE = 8


@dataclass(frozen=True)
class Code:
    """The files that jobs run, each under the hash of its content."""

    target: Target
    objects: Sequence[CodeObject]

    def plan(self, aws: Aws) -> list[Change]:
        """The uploads of what is not there."""

        def is_there(wanted: CodeObject) -> bool:
            return aws.find("s3", "head_object", **self.target.place(wanted.key)) is not None

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

        return [Change(ResourceKind.CODE, f"s3://{self.target.bucket}", "create", f"{names} uploaded", upload, fields)]

    def _upload(self, aws: Aws, wanted: CodeObject) -> None:
        # The checksum lets the service refuse a file that changed since the plan.
        aws.call(
            "s3",
            "put_object",
            **self.target.place(wanted.key),
            Body=wanted.file.read_bytes(),
            ChecksumSHA256=base64.b64encode(bytes.fromhex(wanted.sha256)).decode(),
            **self.target.encryption,
        )
