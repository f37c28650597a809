"""The printed policies of those who plan, promote and operate: enough for all that they do, and no action more."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from support.guarded import CALLER, KEY, Guarded
from support.played_executions import Played, PlayedStep, serving
from support.project import PROJECT, link_caches
from support.promotion import ACCOUNT, BUCKET, REGION, SCHEDULE, planned, promoted, release
from support.service_calls import unused

from local_runner.cli.local import cli
from local_runner.cloud.account.aws import Aws, AwsError
from local_runner.cloud.executions.trigger import stop
from local_runner.cloud.iam.deployer import deployer_policies
from local_runner.cloud.operations.retire import plan_retirement, retire
from local_runner.cloud.operations.rollback import plan_rollback, restore
from local_runner.cloud.release.model import ImageDestination
from local_runner.cloud.resources.image import Image

TRUST = {"Effect": "Allow", "Action": "sts:AssumeRole"}
RULE = {"kind": "rule", "expression": "rate(1 day)", "parameters": {"ProcessingDate": "$.time"}}
EVERYTHING: dict[str, Any] = {
    "alerts": {"email": "on-call@example.com"},
    "kms_key_id": "alias/ours",
    "managed_policies": [f"arn:aws:iam::{ACCOUNT}:policy/more"],
    "permissions_boundary": f"arn:aws:iam::{ACCOUNT}:policy/limits",
    "role_path": "/data/",
}
BY_THE_REGISTRY = {
    *("ecr:BatchCheckLayerAvailability", "ecr:CompleteLayerUpload", "ecr:GetAuthorizationToken"),
    *("ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"),
}
"""What a push needs (ECR user guide, "IAM permissions for pushing an image"): no call of this program."""


@pytest.fixture
def service(moto_server):
    """The account, in which executions take time."""
    address = urlsplit(moto_server)
    with serving((str(address.hostname), int(address.port or 0))) as service:
        yield service


@pytest.fixture
def guard(aws, service, monkeypatch):
    """Puts a policy in front of the account: who signs in from then on may do that alone."""
    with ExitStack() as stack:

        def put(target, policy):
            found = stack.enter_context(Guarded(service.url, target, policy))
            monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
            return found

        yield put


def of_no_use(policy, used):
    """The actions of each statement that no call needed on any of its resources."""
    lines = {line.rpartition(" on ")[0] for line in unused(used, CALLER, policy)}
    whole = {
        f"{statement['Sid']}: {action}": len(statement["Resource"])
        for statement in policy["Statement"]
        for action in statement["Action"]
    }
    counted = [line.rpartition(" on ")[0] for line in unused(used, CALLER, policy)]
    return sorted(line for line in lines if counted.count(line) == whole[line])


def pushed(aws, tag):
    """The URI of an image in the account's registry."""
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    part = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": f"sha256:{'1' * 64}"}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": part, "layers": [part]})
    made = aws.call("ecr", "put_image", repositoryName="flights", imageManifest=manifest, imageTag=tag)
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/flights@{made['image']['imageId']['imageDigest']}"


def edited(desired, directory):
    """The release after an edit of its first script."""
    (script, *others), text = desired.code, json.dumps(desired.template)
    file = directory / "edited.py"
    file.write_bytes(script.file.read_bytes() + b"# edited\n")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    key = script.key.replace(script.sha256, digest)
    code = (replace(script, file=file, sha256=digest, key=key), *others)
    return replace(desired, code=code, template=json.loads(text.replace(script.key, key)))


@pytest.mark.slow
def test_plan_and_promote_with_everything_on(aws, guard, service, tmp_path):
    nothing = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
    for name in ("more", "limits"):
        aws.call("iam", "create_policy", PolicyName=name, PolicyDocument=json.dumps(nothing))
    target = release(aws, tmp_path, **EVERYTHING).target
    policies = deployer_policies(target, "flights", makes=True)
    door = guard(target, policies["promote"])
    caller, by_planning = Aws(REGION), []

    def plan(desired):
        door.policy, used = policies["plan"], door.used
        door.used = by_planning
        changes = planned(Aws(REGION), desired).changes
        door.policy, door.used = policies["promote"], used
        return changes

    # The image: its repository is made and looked into.
    image = Image(ImageDestination("flights", "abc", "flights"), {"a": "b"}, lambda: pytest.fail("no push"))
    image.plan(caller)[0].apply(caller)
    image_uri = pushed(aws, "abc")
    assert image.plan(caller) == []
    door.policy, door.used, kept = policies["plan"], by_planning, door.used
    assert image.plan(Aws(REGION)) == []
    door.policy, door.used = policies["promote"], kept

    def desired(**settings):
        return release(aws, tmp_path, **{"image_uri": image_uri, "schedule": SCHEDULE, **EVERYTHING, **settings})

    # Made, then put right after others changed it, then of other settings, then edited and large, then back.
    first = desired()
    assert plan(first)
    promoted(caller, first)
    assert plan(first) == ()
    name = target.names.execution_role
    trust = {"Version": "2012-10-17", "Statement": [{**TRUST, "Principal": {"Service": "lambda.amazonaws.com"}}]}
    aws.call("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=json.dumps(trust))
    aws.call("iam", "untag_role", RoleName=name, TagKeys=["team"])
    aws.call("iam", "delete_role_permissions_boundary", RoleName=name)
    topic = aws.arn("sns", "FlightsDaily-dev-failed")
    aws.call("sns", "set_topic_attributes", TopicArn=topic, AttributeName="Policy", AttributeValue=json.dumps(nothing))
    promoted(caller, desired(tags={"team": "data"}, schedule={**SCHEDULE, "expression": "rate(2 days)"}))
    promoted(caller, desired(schedule=RULE, alerts=None))
    promoted(caller, desired(schedule=None, alerts=None))
    changed = edited(desired(), tmp_path)
    assert {change.resource for change in plan(changed)} >= {"code", "pipeline"}
    promoted(caller, changed)
    large = replace(changed, template={**changed.template, "Metadata": {"notes": "x" * 110_000}})
    for change in planned(caller, large).changes:  # the emulator does not read the definition from where it lies
        if change.resource == "pipeline":
            change.apply(caller)
    on = replace(target, aws=caller)
    restore(on, plan_rollback(on, 1))
    service.play = lambda: Played([PlayedStep("Validate", 0, 60)])
    started = {"PipelineName": "FlightsDaily-dev", "ClientRequestToken": "t" * 32}
    aws.call("sagemaker", "start_pipeline_execution", **started)
    retire(on, plan_retirement(on), lambda _: None, stops=True)
    assert aws.call("iam", "list_roles")["Roles"] == []
    left = of_no_use(policies["promote"], door.used)
    assert [line for line in left if line.partition(": ")[2] not in BY_THE_REGISTRY] == []
    assert of_no_use(policies["plan"], by_planning) == []


def test_promotions_that_make_no_roles_are_not_allowed_to(aws, guard, tmp_path):
    """What bootstrap prepared is used: no call to IAM is made, and none would be allowed."""
    schedule = {**SCHEDULE, "role_arn": f"arn:aws:iam::{ACCOUNT}:role/start"}
    desired = release(aws, tmp_path, role_arn=f"arn:aws:iam::{ACCOUNT}:role/jobs", schedule=schedule)
    location = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    aws.call("s3", "create_bucket", Bucket=BUCKET, **location)
    aws.call("s3", "put_public_access_block", Bucket=BUCKET, PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    policies = deployer_policies(desired.target, None, makes=False)
    door = guard(desired.target, policies["promote"])
    assert promoted(Aws(REGION), desired).number == 1
    assert planned(Aws(REGION), desired).changes == ()
    actions = {action for item in policies["promote"]["Statement"] for action in item["Action"]}
    assert {action for action in actions if action.startswith("iam:")} == {"iam:PassRole"}
    assert not actions & {"s3:CreateBucket", "ecr:CreateRepository"}
    # Another pipeline, and another role, are out of reach.
    with pytest.raises(
        AwsError, match=r"does not allow sagemaker:UpdatePipeline on arn:aws:sagemaker:\S+pipeline/Other "
    ):
        Aws(REGION).call("sagemaker", "update_pipeline", PipelineName="Other")
    role = f"arn:aws:iam::{ACCOUNT}:role/admin"
    with pytest.raises(AwsError, match=f"does not allow iam:PassRole on {role} to these credentials"):
        Aws(REGION).call("sagemaker", "update_pipeline", PipelineName="FlightsDaily-dev", RoleArn=role)
    assert door.used


def test_promotions_find_the_roles_that_bootstrap_made(aws, guard, tmp_path):
    desired = release(aws, tmp_path)
    promoted(aws, desired)
    policies = deployer_policies(desired.target, None, makes=False)
    door = guard(desired.target, policies["promote"])
    assert promoted(Aws(REGION), edited(desired, tmp_path)).number == 2
    assert {ask.action for ask in door.used if ask.action.startswith("iam:")} == {
        *("iam:GetRole", "iam:GetRolePolicy", "iam:PassRole"),
    }
    with pytest.raises(AwsError, match="does not allow iam:PutRolePolicy on arn:aws:iam::123456789012:role/Flights"):
        promoted(Aws(REGION), release(aws, tmp_path, parameters={"InputData": "s3://elsewhere/x"}))


def test_operate(aws, guard, service, tmp_path, monkeypatch):
    desired = release(aws, tmp_path, kms_key_id="alias/ours")
    promoted(aws, desired)
    state = link_caches(tmp_path / "cli")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.chdir(PROJECT)
    policy = deployer_policies(desired.target, None, makes=True)["operate"]
    door = guard(desired.target, policy)

    def run(*arguments):
        done = CliRunner().invoke(cli, [*arguments, "--state", str(state)])
        assert "does not allow" not in done.output, done.output
        return done

    group = {"logGroupName": "/aws/sagemaker/ProcessingJobs"}
    aws.call("logs", "create_log_group", **group)
    aws.call("logs", "create_log_stream", **group, logStreamName="v-1/algo-1")
    event = {"timestamp": int(time.time() * 1000), "message": "KeyError"}
    aws.call("logs", "put_log_events", **group, logStreamName="v-1/algo-1", logEvents=[event])
    steps = [PlayedStep("Validate", 0, 0.1, "Failed", job="v-1"), PlayedStep("Profile", 0, 0.1, job="p-1")]
    service.play = lambda: Played(steps, "Failed", "it broke")
    failed = run("trigger", "--date", "2026-01-31", "--wait")
    assert (failed.exit_code, "KeyError" in failed.output) == (1, True)
    assert "KeyError" in run("logs").output
    for arguments in (("status",), ("releases",), ("pause",), ("status",), ("resume",)):
        assert run(*arguments).exit_code == 0
    (arn,) = service.executions
    stop(Aws(REGION), arn)
    aws.call("scheduler", "delete_schedule", Name="FlightsDaily-dev")
    aws.call("events", "put_rule", Name="FlightsDaily-dev", ScheduleExpression="rate(1 day)")
    for arguments in (("status",), ("pause",), ("resume",)):
        assert run(*arguments).exit_code == 0
    assert of_no_use(policy, door.used) == []
    more = {"Sid": "More", "Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["arn:aws:s3:::x"]}
    assert of_no_use({"Statement": [*policy["Statement"], more]}, door.used) == ["More: s3:PutObject"]
    # Who operates changes nothing of the release.
    with pytest.raises(AwsError, match="does not allow sagemaker:UpdatePipeline"):
        Aws(REGION).call("sagemaker", "update_pipeline", PipelineName="FlightsDaily-dev")
