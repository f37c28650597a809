"""The schedule or rule that starts the pipeline: what is in the account -> what has to change. Reads; Changes write.

A project has one of the two, under one name. When ``kind`` changes, the new one is made before the old one is deleted,
so that no tick is missed. Nothing is touched that starts something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.account.retry import retry_until_assumable
from local_runner.cloud.account.tokens import client_token
from local_runner.cloud.change.fields import field_changes
from local_runner.cloud.change.models import Action, Change, FieldChange, ResourceKind
from local_runner.cloud.resources.rule import delete_rule, find_rule, write_rule
from local_runner.cloud.resources.schedule_merge import merged_request, stays_paused, without_past_start
from local_runner.cloud.schedules.description import describe_schedule
from local_runner.cloud.schedules.request import DesiredSchedule, Kind, with_parameter_list
from local_runner.cloud.target.target import Target

_READ_ONLY = ("Arn", "CreationDate", "LastModificationDate", "ResponseMetadata", "GroupName")
"""What GetSchedule answers and UpdateSchedule does not take (the group is part of the schedule's identity)."""

_KINDS: Mapping[Kind, ResourceKind] = {"scheduler": ResourceKind.SCHEDULE, "rule": ResourceKind.RULE}


@dataclass
class Schedule:
    """The schedule or rule that starts the pipeline. ``desired`` is None where none is wanted (any more).

    ``previous`` is the request that the release before recorded (``ReleaseRecord.schedule``): what it set and this one
    does not is taken away, while what others set is kept. ``notes`` are
    filled in by ``plan``: what a reader of the plan should know though it changes nothing.
    """

    target: Target
    desired: DesiredSchedule | None
    previous: Mapping[str, Any] | None = None
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    notes: list[str] = field(default_factory=list[str])

    @property
    def name(self) -> str:
        """The name that a schedule and a rule in its place share."""
        return self.target.names.schedule

    def plan(self, aws: Aws) -> list[Change]:
        """The changes, in the order in which they are to be made. Raises CloudError where the name is taken."""
        self.notes.clear()
        live: dict[Kind, dict[str, Any] | None] = {
            "scheduler": find_schedule(aws, self.name),
            "rule": find_rule(aws, self.name),
        }
        changes: list[Change] = []
        if self.desired:
            self._refuse_foreign(live[self.desired.kind], self.desired.kind)
            changes += self._wanted(self.desired, live[self.desired.kind])
        for kind, found in live.items():
            if found and (self.desired is None or kind != self.desired.kind) and self._starts_ours(found):
                changes.append(self._deleted(kind, found))
        return changes

    # ---------------------------------------------------------------------------------------------- one change
    def _wanted(self, desired: DesiredSchedule, live: dict[str, Any] | None) -> list[Change]:
        now = self.now()
        if live is None:
            request = without_past_start(desired.request, now)
            return [
                self._change(desired.kind, "create", describe_schedule(request), request, field_changes({}, request))
            ]
        previous = (
            self.previous
            if self.previous and ("FlexibleTimeWindow" in self.previous) == (desired.kind == "scheduler")
            else None
        )
        request = merged_request(live, desired, previous, now)
        if stays_paused(live, desired.request):
            again = f"local-runner resume --env {self.target.names.environment}"
            self.notes.append(
                f"The {_KINDS[desired.kind]} {self.name} is paused and stays so. To let it start again: {again}"
            )
        fields = field_changes(without_past_start(live, now), request)
        if not fields:
            return []
        summary = ", ".join(part for part in (_changed(fields), describe_schedule(request)) if part)
        return [self._change(desired.kind, "update", summary, request, fields)]

    def _change(
        self, kind: Kind, action: Action, summary: str, request: dict[str, Any], fields: tuple[FieldChange, ...]
    ) -> Change:
        tags = self.target.tags  # a rule has them, a schedule none

        def apply(aws: Aws) -> None:
            if kind == "rule":
                retry_until_assumable(lambda: write_rule(aws, request, tags))
            else:
                retry_until_assumable(lambda: write_schedule(aws, request))

        return Change(_KINDS[kind], self.name, action, summary, apply, fields)

    def _deleted(self, kind: Kind, live: dict[str, Any]) -> Change:
        name = self.name

        def apply(aws: Aws) -> None:
            if kind == "rule":
                delete_rule(aws, name)
            else:
                aws.find("scheduler", "delete_schedule", Name=name)

        summary = f"the {_KINDS[kind]} is deleted; it was {describe_schedule(live)}"
        return Change(_KINDS[kind], name, "delete", summary, apply, field_changes(live, {}))

    # ----------------------------------------------------------------------------------------------- ownership
    def _starts_ours(self, live: Mapping[str, Any]) -> bool:
        """Whether what is there starts this pipeline, or (a rule cut off before its target) would have."""
        target: Mapping[str, Any] = live.get("Target") or {}
        # The service has given ARNs of pipelines in lower case.
        return str(target.get("Arn", self.target.pipeline_arn)).lower() == self.target.pipeline_arn.lower()

    def _refuse_foreign(self, live: Mapping[str, Any] | None, kind: Kind) -> None:
        if live and not self._starts_ours(live):
            raise CloudError(
                f"The {_KINDS[kind]} '{self.name}' is there and does not start {self.target.pipeline_arn}, but "
                f"{live['Target']['Arn']}. It is left alone. Delete or rename it, or give the pipeline another name."
            )


def find_schedule(aws: Aws, name: str) -> dict[str, Any] | None:
    """The schedule as UpdateSchedule would take it, or None."""
    live = aws.find("scheduler", "get_schedule", Name=name)
    if live is None:
        return None
    return {key: value for key, value in live.items() if key not in _READ_ONLY and value is not None}


def write_schedule(aws: Aws, request: Mapping[str, Any]) -> None:
    """Creates the schedule or, where it is there, gives it every field of ``request``."""
    request = with_parameter_list(request)
    token = client_token(request)
    name = str(request["Name"])
    if aws.find("scheduler", "get_schedule", Name=name) is None:
        aws.call("scheduler", "create_schedule", **request, ClientToken=token)
    else:
        aws.call("scheduler", "update_schedule", **request, ClientToken=token)


def _changed(fields: tuple[FieldChange, ...]) -> str:
    names = [change.path.rpartition(".")[2] for change in fields]
    return f"{', '.join(names[:4])}{' ...' if len(names) > 4 else ''} changed"


def find_schedule_or_rule(aws: Aws, name: str) -> tuple[Kind, dict[str, Any]] | None:
    """The schedule or the rule of that name, as it would be written; None where there is neither."""
    schedule = find_schedule(aws, name)
    if schedule is not None:
        return "scheduler", schedule
    rule = find_rule(aws, name)
    return ("rule", rule) if rule is not None else None
