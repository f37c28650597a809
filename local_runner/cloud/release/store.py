"""The release records of an environment, from the bucket. Reads only, through Aws."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pydantic import ValidationError

from local_runner.cloud.account.aws import Aws, AwsError, CloudError
from local_runner.cloud.release.record import ReleaseRecord, release_key
from local_runner.secrets import Secrets

_SIDE_BY_SIDE = 8


def release_numbers(aws: Aws, bucket: str, prefix: str) -> list[int]:
    """The numbers of all releases there are, ascending; none where the bucket is not there yet."""
    start = release_key(prefix, 0).removesuffix("0.json")
    try:
        keys = [
            str(item["Key"]) for item in aws.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=start)
        ]
    except AwsError as error:
        if error.not_found:
            return []
        raise
    found = (re.fullmatch(r"(\d+)\.json", key.removeprefix(start)) for key in keys)
    return sorted(int(match[1]) for match in found if match)


def read_release(aws: Aws, bucket: str, prefix: str, number: int) -> ReleaseRecord:
    """The record of one release. Raises CloudError where there is none, or where it cannot be read."""
    key = release_key(prefix, number)
    answer = aws.find("s3", "get_object", Bucket=bucket, Key=key)
    if answer is None:
        raise CloudError(f"There is no release {number}: s3://{bucket}/{key} is not there.")
    try:
        return ReleaseRecord.model_validate_json(answer["Body"].read())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise CloudError(f"s3://{bucket}/{key} is no record of a release: {where}: {first['msg']}.") from None


def all_releases(aws: Aws, bucket: str, prefix: str) -> list[ReleaseRecord]:
    """The records of all releases, ascending."""
    numbers = release_numbers(aws, bucket, prefix)
    if not numbers:
        return []
    with ThreadPoolExecutor(min(len(numbers), _SIDE_BY_SIDE)) as pool:
        return list(pool.map(partial(read_release, aws, bucket, prefix), numbers))


def current_release(aws: Aws, bucket: str, prefix: str) -> ReleaseRecord | None:
    """The newest release; None where nothing was promoted yet."""
    numbers = release_numbers(aws, bucket, prefix)
    return read_release(aws, bucket, prefix, numbers[-1]) if numbers else None


def without_secrets(release: ReleaseRecord, secrets: Secrets) -> ReleaseRecord:
    """The record as it may be shown: those of earlier versions have a schedule's secrets in plain text."""
    return release.model_copy(update={"schedule": secrets.names.without(release.schedule)})


def same_definition(one: str, other: str) -> bool:
    """Whether two definitions say the same, however they are written."""
    return one == other or json.loads(one) == json.loads(other)
