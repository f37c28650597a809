"""A deletion that AWS refuses is an error, whatever the code: only the service's own "there is none" is none."""

import json
import re

import pytest
from support import cloud_samples as samples
from support.cloud_samples import AWS, NAMES
from support.values import there

from local_runner.cloud.account.aws import Aws, AwsError
from local_runner.cloud.operations.retire import plan_retirement, retire
from local_runner.cloud.release.lock import promotion_lock
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.target import Target

CODES = (
    "AccessDenied",
    "ConflictException",
    "DeleteConflict",
    "InvalidParameter",
    "ValidationException",
    "NoSuchThing",
)
ALERTS = {"email": "on-call@example.com"}
RULE = {"kind": "rule", "expression": "rate(1 day)", "parameters": {"Day": "$.time"}}
SERVICES = {
    "schedule": r"scheduler:DELETE /schedules/.*",
    "rule": "events:(RemoveTargets|DeleteRule)",
    "alert rule": "events:(RemoveTargets|DeleteRule)",
    "alert topic": "sns:DeleteTopic",
    "pipeline": "sagemaker:DeletePipeline",
    "start role": "iam:(DeleteRole|DeleteRolePolicy)",
    "execution role": "iam:(DeleteRole|DeleteRolePolicy)",
}


@pytest.fixture
def target(proxy):
    """The account after a promotion."""
    return Target(Environment(name="dev", prefix="Flights"), NAMES, Aws(AWS.region))


def promote(target, **settings):
    made = samples.parts(alerts=ALERTS, **settings)
    for resource in (made.execution_role, made.start_role, made.schedule, made.alerts):
        for change in there(resource).plan(target.aws):
            change.apply(target.aws)
    target.aws.call(
        "sagemaker",
        "create_pipeline",
        PipelineName=NAMES.pipeline_name,
        PipelineDefinition=json.dumps(samples.sample()),
        RoleArn=target.execution_role_arn,
        Tags=[{"Key": key, "Value": value} for key, value in target.tags.items()],
        ClientRequestToken="t" * 32,
    )


def refusing(pattern, code):
    return lambda call: code if re.fullmatch(pattern, call) else None


@pytest.mark.parametrize(("kind", "settings"), [("schedule", {}), ("rule", {"schedule": RULE})])
def test_every_deletion_that_is_refused_raises_and_deletes_nothing(proxy, target, kind, settings):
    promote(target, **settings)
    changes = plan_retirement(target)
    kinds = [change.resource for change in changes]
    assert kinds == [kind, *list(SERVICES)[2:]]
    for change in changes:
        for code in CODES:
            proxy.rule = refusing(SERVICES[change.resource], code)
            with pytest.raises(AwsError) as caught:
                change.apply(target.aws)
            assert caught.value.code == code
    proxy.rule = lambda _: None
    assert [change.resource for change in plan_retirement(target)] == kinds
    for change in changes:
        change.apply(target.aws)
    assert plan_retirement(target) == []


def test_a_refused_deletion_is_not_told_as_deleted(proxy, target):
    promote(target)
    notes = []
    proxy.rule = refusing(SERVICES["pipeline"], "ValidationException")
    with pytest.raises(AwsError, match="sagemaker:DeletePipeline failed"):
        retire(target, plan_retirement(target), notes.append, stops=False)
    assert not any("pipeline" in note for note in notes)
    assert "pipeline" in [change.resource for change in plan_retirement(target)]


def test_a_lock_that_cannot_be_taken_away_says_nothing_and_ends_by_itself(proxy, target):
    """What the promotion came to is told, and not the lock's trouble."""
    where = {"Bucket": target.bucket}
    target.aws.call("s3", "create_bucket", **where, CreateBucketConfiguration={"LocationConstraint": AWS.region})
    with promotion_lock(target):
        proxy.rule = refusing(r"s3:DELETE .*promotion\.lock.*", "AccessDenied")
    assert target.aws.find("s3", "head_object", **where, Key="Flights/promotion.lock")
