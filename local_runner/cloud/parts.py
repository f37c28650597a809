"""An environment and a definition -> what stands around the pipeline: roles, schedule, alerts, as desired. No I/O.

The same parts are planned and promoted, printed by ``bootstrap`` and written by ``export``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.alerts import Alerts
from local_runner.cloud.aws import CloudError
from local_runner.cloud.environment import Environment
from local_runner.cloud.locations import Location, needs_of
from local_runner.cloud.models import ENVIRONMENT_TAG, PROJECT_TAG, Change
from local_runner.cloud.names import Names
from local_runner.cloud.policies import (
    Place,
    execution_policy,
    execution_trust,
    gaps,
    start_policy,
    start_trust,
)
from local_runner.cloud.roles import Role
from local_runner.cloud.schedule import ScheduleResource
from local_runner.cloud.schedule_check import check_schedule
from local_runner.cloud.schedule_request import desired_schedule
from local_runner.models import PipelineDefinition

_MOST_POLICY = 10_240
"""Characters of a role's inline policies, without white space (IAM user guide, quotas)."""


@dataclass(frozen=True)
class Parts:
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


def place_of(names: Names, account: str, region: str, partition: str = "aws") -> Place:
    """Where the release of these names is."""
    return Place(partition, region, account, names.pipeline_name, names.execution_role)


def tags_for(environment: Environment, names: Names) -> dict[str, str]:
    """The tags of everything that is made: the environment's, and the two that say whose it is."""
    return {**environment.tags, PROJECT_TAG: names.pipeline, ENVIRONMENT_TAG: names.environment}


def execution_role_arn(environment: Environment, place: Place) -> str:
    """The ARN of the pipeline's role, also before the role is made."""
    return environment.role_arn or place.role_arn


def parts_of(
    environment: Environment,
    names: Names,
    definition: PipelineDefinition,
    place: Place,
    bucket: str,
    prefix: str,
    previous_schedule: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> Parts:
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
    return Parts(
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


def in_order(changes: Sequence[Change]) -> list[Change]:
    """The changes with what goes at the end, the last first: a schedule goes before the role that it uses."""
    going = [change for change in changes if change.action == "delete"]
    return [change for change in changes if change.action != "delete"] + going[::-1]


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


def key_arn(key: str | None, place: Place) -> str | None:
    """The ARN of a KMS key that is given as an ARN or as an id (an alias is not enough for a policy)."""
    if key is None or key.startswith("arn:"):
        return key
    return place.arn("kms", f"key/{key}")
