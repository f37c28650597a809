"""A desired release -> what has to change, and making it so. Planning only reads; ``apply`` is the only writer.

    plan_release     the gate, and every resource's plan; reads, independent ones side by side
    apply            bucket, lock, code, image, roles, pipeline, schedule, alerts, what goes, the record; then a plan
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
from local_runner.cloud.change.models import Change, Resource, in_order
from local_runner.cloud.desired.record import Record
from local_runner.cloud.desired.supporting import SupportingResources, parts_of
from local_runner.cloud.release.lock import promotion_lock
from local_runner.cloud.release.model import WantedRelease
from local_runner.cloud.release.store import current_release
from local_runner.cloud.resources.bucket import Bucket
from local_runner.cloud.resources.code import Code
from local_runner.cloud.resources.image import Image
from local_runner.cloud.resources.pipeline import Pipeline
from local_runner.cloud.target.target import execution_role_arn, tags_for
from local_runner.compile.compiler import IMAGE_URI
from local_runner.fingerprint import Verified, differences, verified_runs

if TYPE_CHECKING:
    from local_runner.cloud.release.record import ReleaseRecord

_SIDE_BY_SIDE = 8


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
    """What has to change, in the order in which it is made. ``current`` is the release that is there."""

    changes: tuple[Change, ...]
    gate: Gate
    current: ReleaseRecord | None
    parts: SupportingResources
    notes: tuple[str, ...]
    number: int

    def said(self) -> list[tuple[str, ...]]:
        """What a reader of the plan was shown, to be compared with what is there later."""
        return [
            (change.resource, change.name, change.action, str(change.fields))
            for change in self.changes
            if change.resource not in ("bucket", "release")
        ]


def gate_of(desired: WantedRelease, state: Path) -> Gate:
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


def plan_release(desired: WantedRelease, gate: Gate, aws: Aws, options: Options) -> ReleasePlan:
    """What has to change. Raises CloudError where something that is there must not be touched."""
    with aws.reading(), ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:

        def side_by_side(resources: Sequence[Resource]) -> list[list[Change]]:
            running = [pool.submit(resource.plan, aws) for resource in resources]
            return [one.result() for one in running]

        current = pool.submit(current_release, aws, desired.bucket, desired.prefix)
        first, image = _first(desired, options)
        changes = side_by_side(first)
        parts = _parts(desired, current.result())
        pipeline = Pipeline(
            desired, image, execution_role_arn(desired.environment, desired.place), parts.tags, options.adopt
        )
        around = [parts.execution_role, pipeline, parts.start_role, parts.schedule, parts.alerts]
        changes += side_by_side([resource for resource in around if resource is not None])
    record = Record(desired, parts, image, current.result(), gate.verified_by, options.unverified_reason)
    ordered = [*in_order([change for some in changes for change in some]), *record.plan(aws)]
    return ReleasePlan(
        changes=tuple(ordered),
        gate=gate,
        current=current.result(),
        parts=parts,
        notes=(*parts.notes, *desired.secrets_in_definition(), *parts.schedule.notes, *(image.notes if image else ())),
        number=record.number,
    )


def apply(
    planned: ReleasePlan, desired: WantedRelease, aws: Aws, options: Options, *, break_lock: bool = False
) -> ReleasePlan:
    """Make the changes of a plan, and look again. Returns the plan that was carried out.

    Raises UnverifiedError where the gate is closed, LockedError where somebody else promotes, AwsError where a call is
    refused: then what was made stays, and doing it again goes on from there.
    """
    if planned.gate.verified_by is None and not options.unverified_reason:
        raise UnverifiedError(planned.gate.refusal())
    for change in planned.changes:
        if change.resource == "bucket":
            _make(change, aws, options)
    with promotion_lock(aws, desired.bucket, desired.prefix, break_lock=break_lock):
        now = plan_release(desired, planned.gate, aws, options)
        if now.said() != planned.said():
            raise CloudError(
                "The account changed after the plan was made. Nothing more was changed. Look at the plan again: "
                f"local-runner plan --env {desired.environment.name}"
            )
        for change in now.changes:
            _make(change, aws, options)
        left = plan_release(desired, planned.gate, aws, options).changes
    if left:
        lines = "\n".join(f"  {change.resource} {change.name}: {change.summary}" for change in left)
        raise CloudError(f"All changes were made, and the account still differs:\n{lines}\nRepeat the command.")
    return now


def _make(change: Change, aws: Aws, options: Options) -> None:
    words = {"create": "creating", "update": "updating", "delete": "deleting"}
    options.note(f"{words[change.action]} {change.resource} {change.name}")
    change.apply(aws)


def _first(desired: WantedRelease, options: Options) -> tuple[list[Resource], Image | None]:
    """What the pipeline needs and does not hang together: the bucket, the code, the image."""
    environment, account = desired.environment, desired.place.account
    tags = tags_for(environment, desired.names)
    image = Image(desired.image, tags, options.build, options.note) if desired.image else None
    resources: list[Resource] = [
        Bucket(desired.bucket, environment.bucket is None, account, tags),
        Code(desired.bucket, account, desired.code, environment.kms_key_id),
    ]
    return [*resources, *([image] if image else [])], image


def _parts(desired: WantedRelease, current: ReleaseRecord | None) -> SupportingResources:
    image = desired.image.tagged if desired.image else IMAGE_URI
    return parts_of(
        desired.environment,
        desired.names,
        desired.parsed(image),
        desired.place,
        desired.bucket,
        desired.prefix,
        dict(current.schedule) if current and current.schedule else None,
    )
