"""A target and a definition -> what stands around the pipeline: roles, schedule, alerts, as desired. No I/O.

The same resources are planned and promoted, printed by ``bootstrap`` and written by ``export``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.account.aws import CloudError
from local_runner.cloud.change.models import ResourceKind
from local_runner.cloud.iam.needs import needs_of
from local_runner.cloud.iam.policies import execution_policy, execution_trust, gaps, start_policy, start_trust
from local_runner.cloud.resources.alerts import Alerts
from local_runner.cloud.resources.role import Role
from local_runner.cloud.resources.schedule import Schedule
from local_runner.cloud.schedules.check import check_schedule
from local_runner.cloud.schedules.request import desired_schedule
from local_runner.cloud.target.target import Target
from local_runner.definition.advice import advice
from local_runner.models import PipelineDefinition

_MOST_POLICY = 10_240
"""Characters of a role's inline policies, without white space (IAM user guide, quotas)."""


@dataclass(frozen=True)
class SupportingResources:
    """What stands around the pipeline. A role is None where the environment names one, or needs none.

    To be made in this order: execution role, (pipeline,) start role, schedule, alerts; deletions come last and in the
    opposite order (``deletions_last``). ``notes``: what the reader of a plan should know.
    """

    target: Target
    execution_role: Role | None
    start_role: Role | None
    schedule: Schedule
    alerts: Alerts
    notes: tuple[str, ...]


def supporting_resources(
    target: Target,
    definition: PipelineDefinition,
    previous_schedule: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> SupportingResources:
    """The resources for a definition as the service gets it (its URIs are those of the target).

    ``previous_schedule`` is ``ReleaseRecord.schedule`` of the release before. Raises CloudError with every problem of
    the schedule's settings (``now``: default the time of the call).
    """
    environment, schedule = target.environment, target.environment.schedule
    if schedule:
        check_schedule(schedule, definition, now or datetime.now(UTC))
    role, notes = execution_role(target, definition, schedule.parameters if schedule else {})
    desired = None
    if schedule:
        desired = desired_schedule(schedule, target.names.schedule, target.pipeline_arn, target.start_role_arn)
    dead_letter_queue = schedule.dead_letter_queue if schedule else None
    given = schedule is not None and schedule.role_arn is not None
    return SupportingResources(
        target=target,
        execution_role=role,
        start_role=None if given else start_role(target, dead_letter_queue, wanted=schedule is not None),
        schedule=Schedule(target, desired, previous_schedule),
        alerts=Alerts(target, environment.alerts),
        notes=(*advice(definition), *notes),
    )


def execution_role(
    target: Target, definition: PipelineDefinition, scheduled: Mapping[str, str]
) -> tuple[Role | None, list[str]]:
    """The role of the pipeline and its jobs, and what it cannot allow; (None, []) where the environment names one.

    ``scheduled`` are the parameters that a schedule or rule gives to each execution. Raises CloudError where the policy
    is too long for IAM, or a statement of the settings has a Sid that it has already.
    """
    if target.environment.role_arn is not None:
        return None, []
    given = known_before_start(scheduled)
    needs = needs_of(definition, target.made_role_arn, target.environment.parameters, given)
    policy = execution_policy(needs, target)
    _refuse_long(policy)
    about = f"What the pipeline {target.names.pipeline_name} and its jobs may do"
    name, environment = target.names.execution_role, target.environment
    role = Role(
        ResourceKind.EXECUTION_ROLE,
        name,
        execution_trust(),
        policy,
        target.tags,
        about,
        path=environment.role_path,
        boundary=environment.permissions_boundary,
        managed_policies=environment.managed_policies,
    )
    return role, gaps(needs)


def start_role(target: Target, dead_letter_queue: str | None = None, *, wanted: bool) -> Role:
    """The role with which a schedule or rule starts the pipeline; not ``wanted`` (any more) where none does so."""
    return Role(
        ResourceKind.START_ROLE,
        target.names.start_role,
        start_trust(target.aws.account),
        start_policy(target.pipeline_arn, dead_letter_queue),
        target.tags,
        f"Starts the pipeline {target.names.pipeline_name}",
        wanted=wanted,
        path=target.environment.role_path,
        boundary=target.environment.permissions_boundary,
    )


def _refuse_long(policy: Mapping[str, Any]) -> None:
    length = len(json.dumps(policy, separators=(",", ":")))
    if length > _MOST_POLICY:
        raise CloudError(
            f"The policy of the execution role would have {length} characters, and IAM takes {_MOST_POLICY}: the steps "
            "name too many places. Put inputs and outputs below fewer prefixes, or give a role as 'role_arn' of the "
            "environment."
        )


def known_before_start(parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters whose value is known before a schedule or rule starts anything."""
    return {name: value for name, value in parameters.items() if not re.match(r"\$\.|.*<aws\.scheduler\.", value)}
