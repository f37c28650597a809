"""What a plan of a promotion consists of. Frozen; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from local_runner.cloud.account.aws import Aws

Action = Literal["create", "update", "delete"]


class ResourceKind(StrEnum):
    """The kinds of resources that a promotion makes, as people are shown them."""

    ALERT_RULE = "alert rule"
    ALERT_SUBSCRIPTION = "alert subscription"
    ALERT_TOPIC = "alert topic"
    BUCKET = "bucket"
    CODE = "code"
    EXECUTION_ROLE = "execution role"
    IMAGE = "image"
    PIPELINE = "pipeline"
    RELEASE = "release"
    REPOSITORY = "repository"
    RULE = "rule"
    SCHEDULE = "schedule"
    START_ROLE = "start role"


@dataclass(frozen=True)
class FieldChange:
    """One field that would change. ``path`` is dotted (``Target.RetryPolicy.MaximumRetryAttempts``).

    ``before`` is None where there was nothing, ``after`` where there will be nothing.
    """

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Change:
    """One thing to do to one resource, and the doing of it.

    ``name`` is the resource's name or ARN, ``summary`` a line for people. ``apply`` makes the writes; doing so again,
    after it was cut off anywhere, leads to the same state.
    """

    resource: ResourceKind
    name: str
    action: Action
    summary: str
    apply: Callable[[Aws], None]
    fields: tuple[FieldChange, ...] = ()


class Resource(Protocol):
    """One part of a release, as it should be in the account."""

    def plan(self, aws: Aws) -> list[Change]:
        """What has to change for the account to be as desired; reads only. Empty: nothing.

        Raises AwsError where the account does not allow a look, and CloudError where what is there must not be touched.
        """
        ...


def deletions_last(changes: Sequence[Change]) -> list[Change]:
    """The changes with deletions at the end, the last first: a schedule is deleted before the role that it uses."""
    deletions = [change for change in changes if change.action == "delete"]
    return [change for change in changes if change.action != "delete"] + deletions[::-1]
