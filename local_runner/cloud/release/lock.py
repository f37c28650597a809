"""The lock of an environment: an object in the bucket that only one promotion can create. Writes that one object."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from local_runner.cloud.account.aws import AwsError, CloudError
from local_runner.cloud.target.target import Target
from local_runner.jsontext import as_object

_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412")
_NAME = "promotion.lock"
_HELD = timedelta(hours=1)


class LockedError(CloudError):
    """Somebody else is promoting to the environment."""


@contextmanager
def promotion_lock(target: Target, *, break_lock: bool = False) -> Generator[None]:
    """Hold the lock of the environment, an object that only one can create. Raises LockedError: who holds it.

    A lock whose time is over, or whose process was one of this machine and has ended, belongs to a promotion that was
    cut off, and is taken.
    """
    aws, asked = target.aws, target.place(f"{target.prefix}/{_NAME}")
    now = datetime.now(UTC)
    lock = {
        "holder": aws.caller_arn,
        "machine": socket.gethostname(),
        "process": os.getpid(),
        "since": now.isoformat(),
        "expires": (now + _HELD).isoformat(),
    }
    text = json.dumps(lock)
    etag = _take(target, asked, text, break_lock, now)
    try:
        yield
    finally:
        with suppress(AwsError):  # it ends by itself, and must not hide the result of the promotion
            found = aws.find("s3", "head_object", **asked)
            if found is not None and found["ETag"] == etag:  # and not somebody's who broke it
                aws.call("s3", "delete_object", **asked)


def drop_left_lock(target: Target) -> None:
    """Remove the lock of a promotion that was cut off after its last change, where nothing is left to be changed.

    A lock whose holder may still be at work stays.
    """
    aws, asked = target.aws, target.place(f"{target.prefix}/{_NAME}")
    held = aws.find("s3", "get_object", **asked)
    if held is not None and _is_over(_read(held), datetime.now(UTC)):
        aws.call("s3", "delete_object", **asked)


def _take(target: Target, asked: Mapping[str, str], text: str, break_lock: bool, now: datetime) -> str:
    aws = target.aws

    def put(**condition: str) -> str | None:
        try:
            made = aws.call("s3", "put_object", **asked, **target.encryption, Body=text.encode(), **condition)
            return str(made["ETag"])
        except AwsError as error:
            if error.code in _TAKEN:
                return None
            raise

    if etag := put(IfNoneMatch="*"):
        return etag
    held = aws.find("s3", "get_object", **asked)
    lock = _read(held) if held else {}
    if break_lock or held is None or _is_over(lock, now):
        etag = put(IfMatch=held["ETag"]) if held else put(IfNoneMatch="*")
        if etag is not None:
            return etag
    raise LockedError(
        f"Another promotion holds the lock: {lock.get('holder', 'somebody')} on {lock.get('machine', 'a machine')}, "
        f"since {lock.get('since', 'now')}. Wait for it to end. If it was cut off: --break-lock (the lock ends by "
        f"itself at {lock.get('expires', 'an hour from then')}). Nothing was changed."
    )


def _read(held: Mapping[str, Any]) -> dict[str, Any]:
    """What a lock says; nothing where it is not one of this program's."""
    try:
        return as_object(json.loads(held["Body"].read())) or {}
    except ValueError:
        return {}


def _is_over(lock: Mapping[str, Any], now: datetime) -> bool:
    """A lock that does not say until when it holds is not over: whoever breaks it has to say so."""
    try:
        ends = datetime.fromisoformat(str(lock.get("expires")))
    except ValueError:
        return False
    return ends <= now or _holder_ended(lock)


def _holder_ended(lock: Mapping[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    if lock.get("machine") != socket.gethostname():
        return False
    try:
        os.kill(int(lock["process"]), 0)
    except (KeyError, ValueError, TypeError, OverflowError):
        return False
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
