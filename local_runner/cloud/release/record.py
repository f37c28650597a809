"""A release: what one promotion brought to an account, as it is kept there. JSON <-> ReleaseRecord; no I/O.

``s3://<bucket>/<prefix>/releases/<number>.json``, written last, when all else is in place: the newest one is what the
account holds. It has everything needed to bring that release back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class ReleaseRecord(BaseModel):
    """One release. Times are ISO 8601, UTC.

    ``fingerprint`` is that of the local runs it may rest on (definition + code + image content); ``verified_by`` is
    the id of the local execution that did, or None, and then ``unverified_reason`` says why it was let through.
    ``definition`` is the definition that the service holds; ``code`` maps paths in the project to S3 URIs,
    ``image_uri`` is pinned by digest. ``schedule`` is the desired request of CreateSchedule, or of PutRule with its
    target (None: no schedule), without the values of secret parameters. ``restores`` is the number of the release that
    a rollback brought back.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    environment: str
    pipeline_name: str
    pipeline_arn: str
    created: str
    created_by: str
    fingerprint: str
    verified_by: str | None = None
    unverified_reason: str | None = None
    git_commit: str | None = None
    git_dirty: bool = False
    definition: str
    code: Mapping[str, str] = {}
    image_uri: str | None = None
    image_content: str | None = None
    role_arn: str
    schedule_kind: Literal["scheduler", "rule"] | None = None
    schedule: Mapping[str, Any] | None = None
    restores: int | None = None


def release_key(prefix: str, number: int) -> str:
    """The key of a release's record."""
    return f"{prefix}/releases/{number}.json"
