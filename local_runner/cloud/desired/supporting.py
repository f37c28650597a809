"""An environment and a definition -> what stands around the pipeline: roles, schedule, alerts, as desired. No I/O.

The same parts are planned and promoted, printed by ``bootstrap`` and written by ``export``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.account.aws import CloudError
from local_runner.cloud.iam.needs import Location, needs_of
from local_runner.cloud.iam.policies import execution_policy, execution_trust, gaps, start_policy, start_trust
from local_runner.cloud.resources.alerts import Alerts
from local_runner.cloud.resources.role import Role
from local_runner.cloud.resources.schedule import ScheduleResource
from local_runner.cloud.schedules.check import check_schedule
from local_runner.cloud.schedules.request import desired_schedule
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.place import Place
from local_runner.cloud.target.target import execution_role_arn, key_arn, tags_for
from local_runner.models import PipelineDefinition

_MOST_POLICY = 10_240
"""Characters of a role's inline policies, without white space (IAM user guide, quotas)."""


@dataclass(frozen=True)
class SupportingResources:
    """What stands around the pipeline. A role is None where the environment names one, or needs none.

    To be made in this order: execution role, (pipeline,) start role, schedule, alerts; what goes, goes last and in
    the opposite order (``in_order``). ``execution_role_arn`` and
    ``start_role_arn`` are the ARNs in either case. ``notes``: what the reader of a plan should know.
    """

    place: Place
    tags: Mapping[str, str]
    execution_role: Role | None
    execution_role_arn: str
    start_role: Role | None
    schedule: ScheduleResource
    alerts: Alerts
    notes: tuple[str, ...]


def parts_of(
    environment: Environment,
    names: Names,
    definition: PipelineDefinition,
    place: Place,
    bucket: str,
    prefix: str,
    previous_schedule: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> SupportingResources:
    """The parts for a definition as the service gets it (its URIs are those of ``bucket`` and ``prefix``).

    ``previous_schedule`` is ``ReleaseRecord.schedule`` of the release before. Raises CloudError with every problem of
    the schedule's settings (``now``: default the time of the call).
    """
    tags = tags_for(environment, names)
    schedule, notes = environment.schedule, list[str]()
    if schedule:
        check_schedule(schedule, definition, now or datetime.now(UTC))
    role = None
    if environment.role_arn is None:
        needs = needs_of(definition, environment.parameters, _literal(schedule.parameters if schedule else {}))
        policy = execution_policy(
            needs,
            place,
            own=Location(bucket, f"{prefix}/"),
            kms_key_arn=key_arn(environment.kms_key_id, place),
            vpc=bool(environment.network.subnets),
        )
        _refuse_long(policy)
        about = f"What the pipeline {names.pipeline_name} and its jobs may do"
        role = Role("execution role", names.execution_role, execution_trust(), policy, tags, about)
        notes += gaps(needs)
    start_arn = place.arn("iam", f"role/{names.start_role}", region=False)
    desired = desired_schedule(schedule, names.schedule, place.pipeline_arn, start_arn) if schedule else None
    return SupportingResources(
        place=place,
        tags=tags,
        execution_role=role,
        execution_role_arn=execution_role_arn(environment, place),
        start_role=start_role(environment, names, place),
        schedule=ScheduleResource(names.schedule, place.pipeline_arn, desired, tags, previous_schedule),
        alerts=Alerts(names, place, environment.alerts, tags),
        notes=tuple(notes),
    )


def start_role(environment: Environment, names: Names, place: Place) -> Role | None:
    """The role that starts the pipeline; one that is not wanted (any more) where nothing starts it."""
    schedule = environment.schedule
    if schedule and schedule.role_arn:
        return None
    return Role(
        "start role",
        names.start_role,
        start_trust(place.account),
        start_policy(place.pipeline_arn, schedule.dead_letter_queue if schedule else None),
        tags_for(environment, names),
        f"Starts the pipeline {names.pipeline_name}",
        wanted=schedule is not None,
    )


def _refuse_long(policy: Mapping[str, Any]) -> None:
    length = len(json.dumps(policy, separators=(",", ":")))
    if length > _MOST_POLICY:
        raise CloudError(
            f"The policy of the execution role would have {length} characters, and IAM takes {_MOST_POLICY}: the steps "
            "name too many places. Put inputs and outputs below fewer prefixes, or give a role as 'role_arn' of the "
            "environment."
        )


def _literal(parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters whose value is known before a schedule or rule starts anything."""
    return {name: value for name, value in parameters.items() if not re.match(r"\$\.|.*<aws\.scheduler\.", value)}
