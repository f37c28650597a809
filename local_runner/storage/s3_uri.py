"""S3 URIs: the one place that takes them apart, and that says of others what is wrong with them. No I/O.

Every URI that becomes a path on this machine goes through here, whether it stands in a definition or a job has written
it: a tree of directories must hold it, and it must not lead out of that tree. Sources of the rules: Amazon S3 user
guide, *General purpose bucket naming rules* (those for the names that buckets may still have from before 2018: to 255
characters, also capitals and underscores, as a request takes any) and *Naming Amazon S3 objects* (a key is at most
1,024 bytes of UTF-8). That a key has no empty part (``a//b``) and none of dots alone is a rule of ours: S3 holds those,
a tree of directories does not.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from local_runner.errors import DataError, Problem
from local_runner.jsontext import kind
from local_runner.names import is_file_name, is_text
from local_runner.storage.job_tree import MOST_FOLDERS

MAX_KEY_BYTES = 1024

_SCHEME = "s3://"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)
_REMEDY = "Write it as s3://BUCKET/KEY"


class S3UriError(DataError):
    """A text is no S3 URI that local S3 can hold; the message says which, why and what to write."""


class S3Place(NamedTuple):
    """What an S3 URI names. ``key`` may be empty, a prefix, and may end in a slash."""

    bucket: str
    key: str


def is_s3_uri(text: str) -> bool:
    """Whether a text is meant as an S3 URI: by its scheme. Whether it is a valid one says ``s3_problem``."""
    return text.startswith(_SCHEME)


def place_named(text: str) -> S3Place | None:
    """Bucket and key of the beginning of an S3 URI, of which nothing is asked but a bucket; None where there is none.

    For the beginning of an expression, and for what an account holds: local S3 has to hold neither.
    """
    bucket, _, key = text.removeprefix(_SCHEME).partition("/")
    return S3Place(bucket, key) if is_s3_uri(text) and bucket else None


def s3_problem(uri: object) -> str | None:
    """Why the value is no S3 URI that local S3 can hold, as a sentence; None where it is one."""
    return _refused(uri) or _not_held(str(uri))


def uri_problem(uri: object, where: str) -> Problem | None:
    """The same as a problem of what stands at that place. It is local where the service would take the URI."""
    what = s3_problem(uri)
    taken = str(uri).startswith("https://") or _refused(uri) is None
    return Problem(where, what, f"{_REMEDY}.", local=taken) if what else None


def _refused(uri: object) -> str | None:
    if not isinstance(uri, str) or not is_s3_uri(uri):
        return f"{kind(uri)} is no s3:// URI."
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        return f"{kind(uri)} has no valid bucket name."
    if not is_text(key):
        return f"{kind(uri)} has half of a surrogate pair in its key, which is no character."
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"{kind(uri)} has a key of {len(key.encode())} bytes, and S3 takes {MAX_KEY_BYTES}."
    return None


def _not_held(uri: str) -> str | None:
    _, _, key = uri.removeprefix(_SCHEME).partition("/")
    if key.count("/") > MOST_FOLDERS:
        return f"{kind(uri)} lies in more than {MOST_FOLDERS} folders, which is all that local S3 holds."
    for segment in key.removesuffix("/").split("/") if key else ():
        if segment in ("", ".", ".."):
            return f"{kind(uri)} has the empty or dotted part '{segment}' in its key, which no directory tree can hold."
        if not is_file_name(segment):
            return f"{kind(uri)} has a part in its key that no file system can hold."
    return None


def split_uri(uri: object) -> S3Place:
    """Bucket and key of ``s3://bucket/key``. Raises S3UriError for anything that local S3 cannot hold."""
    problem = s3_problem(uri)
    if problem:
        raise S3UriError(f"ClientError: {problem} {_REMEDY}, with a key of plain names.")
    bucket, _, key = str(uri).removeprefix(_SCHEME).partition("/")
    return S3Place(bucket, key)


def key_prefix(uri: str) -> str:
    """What the keys of a directory's files begin with that is published to ``uri``. Raises S3UriError."""
    key = split_uri(uri).key.rstrip("/")
    return f"{key}/" if key else ""
