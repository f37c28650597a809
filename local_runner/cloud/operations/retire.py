"""Takes a release out of an account: schedule, alerts, pipeline, roles. What it reads is a plan; Changes write.

Data, image, code and release records stay. Each resource is looked for by its name and deleted if it is ours, so that
a retirement that was cut off continues where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.account.polling import Pace
from local_runner.cloud.account.tags import is_ours, tags_of
from local_runner.cloud.account.tokens import client_token
from local_runner.cloud.change.models import Change, ResourceKind
from local_runner.cloud.desired.supporting import start_role
from local_runner.cloud.executions.api import running_executions
from local_runner.cloud.executions.trigger import stop
from local_runner.cloud.iam.policies import execution_trust
from local_runner.cloud.release.lock import promotion_lock
from local_runner.cloud.resources.alerts import Alerts
from local_runner.cloud.resources.role import Role
from local_runner.cloud.resources.schedule import Schedule, find_schedule_or_rule
from local_runner.cloud.target.target import Target

_DELETION_SECONDS = 120.0


def plan_retirement(target: Target) -> list[Change]:
    """The deletions in their order: nothing may start the pipeline when it is deleted, and roles come last.

    Reads only. Raises CloudError where the pipeline belongs to somebody else.
    """
    aws, names = target.aws, target.names
    execution_role = Role(
        ResourceKind.EXECUTION_ROLE, names.execution_role, execution_trust(), {}, target.tags, "", wanted=False
    )
    return [
        *(_and_wait(change) for change in Schedule(target, None).plan(aws)),
        *Alerts(target, None).plan(aws),
        *_pipeline(target),
        *start_role(target, wanted=False).plan(aws),
        *execution_role.plan(aws),
    ]


def retire(
    target: Target,
    changes: Sequence[Change],
    note: Callable[[str], None],
    *,
    stops: bool,
    break_lock: bool = False,
) -> None:
    """Make these changes, under the lock of promotions. ``stops``: executions that run are stopped, and waited for.

    Raises LockedError while somebody promotes, and AwsError; what is left is then deleted the next time.
    """
    aws = target.aws
    has_bucket = aws.find("s3", "head_bucket", Bucket=target.bucket) is not None
    lock = promotion_lock(target, break_lock=break_lock) if has_bucket else nullcontext()
    with lock:
        for change in changes:
            if change.resource is ResourceKind.PIPELINE and stops:
                stop_running(aws, target.names.pipeline_name, note)
            change.apply(aws)
            note(f"Deleted: {change.resource} {change.name}")


def stop_running(aws: Aws, pipeline_name: str, note: Callable[[str], None], pace: Pace | None = None) -> None:
    """Stop the pipeline's executions, and wait until they are over."""
    pace = pace or Pace()
    for arn in running_executions(aws, pipeline_name):
        note(f"Stopping execution {arn.rpartition('/')[2]}.")
        stop(aws, arn)
    while running_executions(aws, pipeline_name):
        pace.wait(changed=False)


def still_running(aws: Aws, pipeline_name: str) -> list[str]:
    """The ids of the pipeline's executions that are not over; none where there is no pipeline."""
    if aws.find("sagemaker", "describe_pipeline", PipelineName=pipeline_name) is None:
        return []
    return [arn.rpartition("/")[2] for arn in running_executions(aws, pipeline_name)]


def _pipeline(target: Target) -> list[Change]:
    aws, name = target.aws, target.names.pipeline_name
    live = aws.find("sagemaker", "describe_pipeline", PipelineName=name)
    if live is None:
        return []
    found: list[dict[str, str]] = aws.pages("sagemaker", "list_tags", "Tags", ResourceArn=live["PipelineArn"])
    if not is_ours(tags_of(found), target.tags):
        raise CloudError(
            f"The pipeline '{name}' is there and is not this project's '{target.environment.name}': its tags do not "
            "say so. It is left alone, and nothing was deleted."
        )

    def delete(aws: Aws) -> None:
        token = client_token({"PipelineName": name})
        aws.find("sagemaker", "delete_pipeline", PipelineName=name, ClientRequestToken=token)

    return [Change(ResourceKind.PIPELINE, name, "delete", "deleted, with the list of its executions", delete)]


def _and_wait(change: Change) -> Change:
    """The change, and then until the account does not have the schedule any more: it could still start something."""

    def apply(aws: Aws) -> None:
        change.apply(aws)
        pace, waited = Pace(), 0.0
        while find_schedule_or_rule(aws, change.name) is not None and waited < _DELETION_SECONDS:
            waited += pace.wait(changed=False)

    return replace(change, apply=apply)
