"""A desired release -> what has to change, and the changes made. Planning only reads; ``apply`` is the only writer.

    plan_release     the gate, and every resource's plan; reads, independent ones side by side
    apply            bucket, lock, code, image, roles, pipeline, schedule, alerts, deletions, the record; then a plan
                     again, which has to be empty

The pipeline that runs is changed by one call, after all that the new one needs is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.change.models import Change, Resource, ResourceKind, deletions_last
from local_runner.cloud.desired.record import Record
from local_runner.cloud.desired.supporting import SupportingResources, supporting_resources
from local_runner.cloud.executions.api import executions_now
from local_runner.cloud.release.lock import promotion_lock
from local_runner.cloud.release.model import DesiredRelease
from local_runner.cloud.release.store import current_release
from local_runner.cloud.resources.bucket import Bucket
from local_runner.cloud.resources.code import Code
from local_runner.cloud.resources.image import Image
from local_runner.cloud.resources.pipeline import Pipeline
from local_runner.errors import Problem
from local_runner.fingerprint import Verified, differences, verified_runs

if TYPE_CHECKING:
    from local_runner.cloud.release.record import ReleaseRecord

_SIDE_BY_SIDE = 8


class RefusedRequestsError(CloudError):
    """The account would refuse requests of the plan. ``problems`` are all of them; nothing was written."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        requests = "1 request" if len(problems) == 1 else f"{len(problems)} requests"
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"The account would refuse {requests} of this plan. Nothing was changed.\n{lines}")


class UnverifiedError(CloudError):
    """What is to be promoted did not succeed in a local run."""


@dataclass(frozen=True)
class Gate:
    """Whether a local run succeeded with exactly this. ``verified_by`` is that run; ``untested`` says what differs."""

    verified_by: str | None
    untested: tuple[str, ...] = ()

    def refusal(self) -> str:
        """Why it is not let through, and what to do."""
        lines = "\n".join(f"  - {line}" for line in self.untested)
        return (
            f"This has not succeeded in a local run:\n{lines}\n"
            'Run it (make local-run), then promote. To go past this: --allow-unverified "REASON"; the reason is kept.'
        )


@dataclass(frozen=True)
class Options:
    """What the command line adds. ``build`` makes the image and returns its local tag; ``note`` takes lines."""

    build: Callable[[], str]
    note: Callable[[str], None]
    adopt: bool = False
    unverified_reason: str | None = None


@dataclass(frozen=True)
class ReleasePlan:
    """What has to change, in the order in which it is made. ``current`` is the release that is there.

    ``running`` are the ids of the pipeline's executions that go on meanwhile.
    """

    changes: tuple[Change, ...]
    gate: Gate
    current: ReleaseRecord | None
    supporting: SupportingResources
    notes: tuple[str, ...]
    number: int
    running: tuple[str, ...] = ()

    def shown_changes(self) -> list[tuple[str, ...]]:
        """The changes as a reader of the plan was shown them, to be compared with those of a plan made later."""
        return [
            (change.resource, change.name, change.action, str(change.fields))
            for change in self.changes
            if change.resource not in (ResourceKind.BUCKET, ResourceKind.RELEASE)
        ]


def gate_of(desired: DesiredRelease, state: Path) -> Gate:
    """Looks for a local run that succeeded with the fingerprint of the release."""
    runs: Sequence[Verified] = verified_runs(state)
    for run in runs:
        if run.fingerprint.value == desired.fingerprint.value:
            return Gate(run.execution_id)
    if not runs:
        return Gate(None, ("no local run of the whole pipeline on its own image (engine docker) has succeeded here",))
    last = runs[0]
    return Gate(
        None,
        tuple(
            f"{line} since execution {last.execution_id}" for line in differences(last.fingerprint, desired.fingerprint)
        ),
    )


def plan_release(desired: DesiredRelease, gate: Gate, options: Options) -> ReleasePlan:
    """What has to change. Raises CloudError where something that is there must not be touched."""
    target, aws = desired.target, desired.target.aws
    with aws.reading(), ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:

        def side_by_side(resources: Sequence[Resource]) -> list[list[Change]]:
            running = [pool.submit(resource.plan, aws) for resource in resources]
            return [one.result() for one in running]

        current = pool.submit(current_release, target)
        running = pool.submit(executions_now, aws, target.names.pipeline_name)
        first, image = _first(desired, options)
        changes = side_by_side(first)
        release = current.result()
        supporting = supporting_resources(target, desired.definition, release.schedule if release else None)
        pipeline = Pipeline(
            target,
            desired.template,
            target.execution_role_arn,
            desired.fingerprint.value,
            image,
            desired.code,
            options.adopt,
        )
        others = [supporting.execution_role, pipeline, supporting.start_role, supporting.schedule, supporting.alerts]
        changes += side_by_side([resource for resource in others if resource is not None])
    record = Record(desired, supporting, image, release, gate.verified_by, options.unverified_reason)
    ordered = [*deletions_last([change for some in changes for change in some]), *record.plan(aws)]
    if refused := refused_requests(ordered, aws):
        raise RefusedRequestsError(target.secrets.masked_problems(refused))
    return ReleasePlan(
        changes=tuple(ordered),
        gate=gate,
        current=release,
        supporting=supporting,
        notes=(
            *supporting.notes,
            *desired.secrets_in_definition(),
            *supporting.schedule.notes,
            *(image.notes if image else ()),
        ),
        number=record.number,
        running=tuple(running.result()),
    )


def refused_requests(changes: Sequence[Change], aws: Aws) -> list[Problem]:
    """What the account would refuse of the writes that these changes make. None is made; a push is no call."""
    with aws.checking() as found:
        for change in changes:
            if change.resource is not ResourceKind.IMAGE:
                change.apply(aws)
    return list(dict.fromkeys(found))


def apply(planned: ReleasePlan, desired: DesiredRelease, options: Options, *, break_lock: bool = False) -> ReleasePlan:
    """Make the changes of a plan, and look again. Returns the plan that was carried out.

    Raises UnverifiedError where the gate is closed, LockedError where somebody else promotes, AwsError where a call is
    refused: then what was made stays, and doing it again continues from there.
    """
    if planned.gate.verified_by is None and not options.unverified_reason:
        raise UnverifiedError(planned.gate.refusal())
    target, aws = desired.target, desired.target.aws
    for change in planned.changes:
        if change.resource is ResourceKind.BUCKET:
            _make(change, aws, options)
    with promotion_lock(target, break_lock=break_lock):
        now = plan_release(desired, planned.gate, options)
        if now.shown_changes() != planned.shown_changes():
            raise CloudError(
                "The account changed after the plan was made. Nothing more was changed. Look at the plan again: "
                f"local-runner plan --env {target.environment.name}"
            )
        for change in now.changes:
            _make(change, aws, options)
        left = plan_release(desired, planned.gate, options).changes
    if left:
        lines = "\n".join(f"  {change.resource} {change.name}: {change.summary}" for change in left)
        raise CloudError(f"All changes were made, and the account still differs:\n{lines}\nRepeat the command.")
    return now


def _make(change: Change, aws: Aws, options: Options) -> None:
    verbs = {"create": "creating", "update": "updating", "delete": "deleting"}
    options.note(f"{verbs[change.action]} {change.resource} {change.name}")
    change.apply(aws)


def _first(desired: DesiredRelease, options: Options) -> tuple[list[Resource], Image | None]:
    """What the pipeline needs, each independent of the others: the bucket, the code, the image."""
    target = desired.target
    models = any(step.type == "Model" for step in desired.definition.steps)
    image = Image(desired.image, target.tags, options.build, options.note, models=models) if desired.image else None
    return [Bucket(target), Code(target, desired.code), *([image] if image else [])], image
