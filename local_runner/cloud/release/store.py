"""The release records of an environment, from the bucket. Reads only, through Aws."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pydantic import ValidationError

from local_runner.cloud.account.aws import AwsError, CloudError
from local_runner.cloud.release.record import ReleaseRecord, release_key
from local_runner.cloud.target.target import Target
from local_runner.secrets import Secrets

_SIDE_BY_SIDE = 8


def release_numbers(target: Target) -> list[int]:
    """The numbers of all releases there are, ascending; none where the bucket is not there yet."""
    start = release_key(target.prefix, 0).removesuffix("0.json")
    try:
        asked = {"Bucket": target.bucket, "Prefix": start, "ExpectedBucketOwner": target.aws.account}
        listed = target.aws.pages("s3", "list_objects_v2", "Contents", **asked)
    except AwsError as error:
        if error.not_found:
            return []
        raise
    found = (re.fullmatch(r"(\d+)\.json", str(item["Key"]).removeprefix(start)) for item in listed)
    return sorted(int(match[1]) for match in found if match)


def read_release(target: Target, number: int) -> ReleaseRecord:
    """The record of one release. Raises CloudError where there is none, or where it cannot be read."""
    key = release_key(target.prefix, number)
    answer = target.aws.find("s3", "get_object", **target.place(key))
    if answer is None:
        raise CloudError(f"There is no release {number}: s3://{target.bucket}/{key} is not there.")
    try:
        return ReleaseRecord.model_validate_json(answer["Body"].read())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise CloudError(f"s3://{target.bucket}/{key} is no record of a release: {where}: {first['msg']}.") from None


def all_releases(target: Target) -> list[ReleaseRecord]:
    """The records of all releases, ascending."""
    numbers = release_numbers(target)
    if not numbers:
        return []
    with ThreadPoolExecutor(min(len(numbers), _SIDE_BY_SIDE)) as pool:
        return list(pool.map(partial(read_release, target), numbers))


def current_release(target: Target) -> ReleaseRecord | None:
    """The newest release; None where nothing was promoted yet."""
    numbers = release_numbers(target)
    return read_release(target, numbers[-1]) if numbers else None


def without_secrets(release: ReleaseRecord, secrets: Secrets) -> ReleaseRecord:
    """The record as it may be shown: those of earlier versions have a schedule's secrets in plain text."""
    return release.model_copy(update={"schedule": secrets.names.without(release.schedule)})
