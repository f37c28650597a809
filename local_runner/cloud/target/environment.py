"""``[environments.NAME]`` of local_runner.toml -> Environment: where a promotion goes. No I/O.

Every default is usable: an empty table, or none for ``dev``, promotes with the credentials' account and region.
pydantic checks these (and not :mod:`local_runner.settings`): only commands that speak to AWS read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Text = Annotated[str, StringConstraints(min_length=1)]
RoleArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$")]
PolicyArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]+$")]
KeyArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[\w-]+$")]
RolePath = Annotated[str, StringConstraints(pattern=r"^/([\w+=,.@-]+/)*$", max_length=512)]
Tag = Annotated[str, StringConstraints(max_length=256)]


class _Table(BaseModel):
    """A table of the file: a setting that is not there is an error, not a typing mistake that goes unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ScheduleSettings(_Table):
    """``[environments.NAME.schedule]``: when the pipeline starts.

    ``kind`` ``scheduler`` is an EventBridge Scheduler schedule; ``rule`` an EventBridge rule, on an ``expression`` or
    on an ``event_pattern``. ``expression`` is ``cron(...)``, ``rate(...)`` or, with the Scheduler, ``at(...)``.
    ``parameters`` go to each execution; a value may be a context attribute of the Scheduler
    (``<aws.scheduler.scheduled-time>``) or, in a rule, a JSON path into the event (``$.time``).
    Limits: EventBridge Scheduler API, shapes RetryPolicy, FlexibleTimeWindow.
    """

    kind: Literal["scheduler", "rule"] = "scheduler"
    expression: Text | None = None
    event_pattern: Mapping[str, Any] | None = None
    timezone: Text = "UTC"
    parameters: Mapping[Text, str] = {}
    maximum_retry_attempts: Annotated[int, Field(ge=0, le=185)] = 3
    maximum_event_age_in_seconds: Annotated[int, Field(ge=60, le=86_400)] = 3_600
    dead_letter_queue: Text | None = None
    flexible_window_in_minutes: Annotated[int, Field(ge=1, le=1_440)] | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    enabled: bool = True
    role_arn: RoleArn | None = None


class AlertSettings(_Table):
    """``[environments.NAME.alerts]``: who is notified when an execution fails; a topic is made where none is given."""

    email: Text | None = None
    topic_arn: Text | None = None


class NetworkSettings(_Table):
    """``[environments.NAME.network]``: the VPC of every job that names none itself (API shape VpcConfig)."""

    subnets: tuple[Text, ...] = ()
    security_group_ids: tuple[Text, ...] = ()
    encrypt_traffic: bool = False


class StatementSettings(_Table):
    """``[[environments.NAME.policy_statements]]``: a statement of an IAM policy, in IAM's own words.

    Limits: IAM user guide, "IAM JSON policy element reference" (a Sid is letters and digits, one in its policy).
    """

    Sid: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]+$")]
    Effect: Literal["Allow", "Deny"] = "Allow"
    Action: Text | tuple[Text, ...]
    Resource: Text | tuple[Text, ...]
    Condition: Mapping[Text, Mapping[Text, Any]] | None = None


class Environment(_Table):
    """Where a release goes. ``name`` is the table's. None stands for a default that the account decides:

    ``region``: the profile's; ``bucket``: ``sagemaker-<region>-<account>``, made where it is missing; ``prefix``: the
    pipeline's name; ``role_arn``: made, with least privilege; ``repository`` (in ECR, or ``HOST[:PORT]/NAME`` of
    another registry): made. ``account`` is a guard: 12 digits that the credentials' account must be. ``image_uri``
    is an image that is built elsewhere, so that none is pushed. ``instance_type`` and ``instance_count`` become the
    defaults of the parameters ``ProcessingInstanceType`` and ``ProcessingInstanceCount``; ``parameters`` those of
    others.

    Of the roles that are made: ``role_path`` and ``permissions_boundary`` are both roles'; the execution role may also
    do what ``policy_statements`` and ``managed_policies`` say, and decrypt with ``kms_key_arns``, the keys of buckets
    that steps read.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,19}$")]
    region: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = None
    profile: Text | None = None
    account: Annotated[str, StringConstraints(pattern=r"^\d{12}$")] | None = None
    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] | None = None
    prefix: Annotated[str, StringConstraints(pattern=r"^[\w!.*'()-]+(/[\w!.*'()-]+)*$")] | None = None
    role_arn: RoleArn | None = None
    repository: Text | None = None
    image_uri: Text | None = None
    parameters: Mapping[Text, str | int | float | bool] = {}
    instance_type: Text | None = None
    instance_count: Annotated[int, Field(ge=1, le=100)] | None = None
    kms_key_id: Text | None = None
    kms_key_arns: tuple[KeyArn, ...] = ()
    policy_statements: tuple[StatementSettings, ...] = ()
    managed_policies: tuple[PolicyArn, ...] = ()
    permissions_boundary: PolicyArn | None = None
    role_path: RolePath = "/"
    network: NetworkSettings = NetworkSettings()
    schedule: ScheduleSettings | None = None
    alerts: AlertSettings | None = None
    tags: Mapping[Annotated[str, StringConstraints(min_length=1, max_length=128)], Tag] = {}
