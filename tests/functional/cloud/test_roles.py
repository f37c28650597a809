"""Roles and alerts against the emulator: made, changed where they drifted, taken away, and never somebody else's."""

import json
from dataclasses import replace
from typing import Any

import pytest
from moto.events.models import EventPattern, EventPatternParser
from support import cloud_samples as samples
from support.cloud_samples import AWS, NAMES, TARGET
from support.values import there

from local_runner.cloud.account.aws import AwsError, CloudError
from local_runner.cloud.account.retry import retry_until_assumable
from local_runner.cloud.resources.role import attached_policies

ROLE = NAMES.execution_role
ALERTS = {"email": "on-call@example.com"}


def plan(aws, pick, **settings):
    part = pick(samples.parts(**settings))
    with aws.reading():
        return part.plan(aws)


def promote(aws, pick, **settings):
    changes = plan(aws, pick, **settings)
    for change in changes:
        change.apply(aws)
    return changes


def execution_role(parts):
    return parts.execution_role


def start_role(parts):
    return parts.start_role


def alerts(parts):
    return parts.alerts


def told(changes):
    return [(change.resource, change.action) for change in changes]


# ------------------------------------------------------------------------------------------------------ roles
@pytest.mark.parametrize("pick", [execution_role, start_role])
def test_a_role_is_made_once(aws, pick):
    (change,) = promote(aws, pick)
    assert change.action == "create"
    assert promote(aws, pick) == []
    role = aws.call("iam", "get_role", RoleName=change.name)["Role"]
    assert {"Key": "local-runner:environment", "Value": "dev"} in role["Tags"]
    policies = aws.call("iam", "list_role_policies", RoleName=change.name)["PolicyNames"]
    assert policies == ["local-runner"]


def test_the_change_of_a_policy_is_told_by_field(aws):
    promote(aws, execution_role)
    changes = promote(aws, execution_role, kms_key_id=samples.KEY)
    assert told(changes) == [("execution role", "update")]
    assert changes[0].summary == "changed permissions: use the KMS key"
    assert {field.path for field in changes[0].fields} == {
        f"Policy.Statement.Encryption.{key}" for key in ("Effect", "Action", "Resource")
    }
    assert promote(aws, execution_role, kms_key_id=samples.KEY) == []


def test_what_was_changed_by_hand_is_put_right(aws):
    promote(aws, execution_role)
    found = aws.call("iam", "get_role_policy", RoleName=ROLE, PolicyName="local-runner")["PolicyDocument"]
    next(item for item in found["Statement"] if item["Sid"] == "Write")["Resource"] = ["*"]
    aws.call(
        "iam", "put_role_policy", RoleName=ROLE, PolicyName="local-runner", PolicyDocument=json.dumps(found)
    )  # fmt: skip
    aws.call("iam", "tag_role", RoleName=ROLE, Tags=[{"Key": "cost-centre", "Value": "7"}])
    (change,) = promote(aws, execution_role)
    assert [(field.path, field.before) for field in change.fields] == [("Policy.Statement.Write.Resource", ["*"])]
    assert {"Key": "cost-centre", "Value": "7"} in aws.call("iam", "get_role", RoleName=ROLE)["Role"]["Tags"]


def test_a_role_without_its_policy_is_finished(aws):
    promote(aws, execution_role)
    aws.call("iam", "delete_role_policy", RoleName=ROLE, PolicyName="local-runner")
    assert told(promote(aws, execution_role)) == [("execution role", "update")]
    assert promote(aws, execution_role) == []


def test_a_role_of_somebody_else_is_left_alone(aws):
    aws.call("iam", "create_role", RoleName=ROLE, AssumeRolePolicyDocument="{}")
    with pytest.raises(CloudError, match=f"'{ROLE}' is there and is not this project's"):
        plan(aws, execution_role)


def test_a_role_that_is_given_is_not_made():
    arn = "arn:aws:iam::123456789012:role/theirs"
    parts = samples.parts(role_arn=arn, schedule={**samples.SCHEDULE, "role_arn": arn})
    assert (parts.execution_role, parts.start_role, parts.target.execution_role_arn) == (None, None, arn)
    assert there(parts.schedule.desired).request["Target"]["RoleArn"] == arn


def test_a_role_s_boundary_and_managed_policies(aws):
    """Attached where they are missing; what others attached stays, until the role itself goes."""
    nothing = {"Effect": "Deny", "Action": "*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [nothing]})
    made = [aws.call("iam", "create_policy", PolicyName=name, PolicyDocument=policy) for name in ("a", "b", "limits")]
    a, b, limits = (one["Policy"]["Arn"] for one in made)
    promote(aws, execution_role)
    aws.call("iam", "attach_role_policy", RoleName=ROLE, PolicyArn=b)
    settings = {"managed_policies": [a], "permissions_boundary": limits}
    (change,) = promote(aws, execution_role, **settings)
    assert {(field.path, field.before) for field in change.fields} == {
        ("PermissionsBoundary", None),
        ("ManagedPolicies", None),
    }
    assert promote(aws, execution_role, **settings) == []
    role = aws.call("iam", "get_role", RoleName=ROLE)["Role"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == limits
    assert attached_policies(aws, ROLE) == [a, b]
    assert promote(aws, execution_role) == [], "nothing that is not in the settings any more is widened or taken away"
    with pytest.raises(CloudError, match=r"with the path /, and IAM cannot change it to /data/"):
        plan(aws, execution_role, role_path="/data/")
    gone = replace(there(samples.parts().execution_role), wanted=False)
    for change in gone.plan(aws):
        change.apply(aws)
        change.apply(aws)
    assert aws.call("iam", "list_roles")["Roles"] == []
    promote(aws, execution_role, **settings, role_path="/data/")
    role = aws.call("iam", "get_role", RoleName=ROLE)["Role"]
    assert (role["Path"], role["PermissionsBoundary"]["PermissionsBoundaryArn"]) == ("/data/", limits)
    assert promote(aws, execution_role, **settings, role_path="/data/") == []


def test_the_start_role_goes_with_the_schedule(aws):
    promote(aws, start_role)
    assert told(promote(aws, start_role, schedule=None)) == [("start role", "delete")]
    assert promote(aws, start_role, schedule=None) == []
    assert aws.call("iam", "list_roles")["Roles"] == []


def test_a_new_role_is_waited_for():
    said = "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
    waits, answers = [], [AwsError(said, "scheduler:CreateSchedule", "ValidationException")] * 3

    def write():
        if answers:
            raise answers.pop()
        return "done"

    assert retry_until_assumable(write, sleep=waits.append) == "done"
    assert waits == [1.0, 2.0, 4.0]


def test_a_role_that_stays_unknown_and_other_errors_are_told():
    waits = []

    def fail(message, code):
        def write():
            raise AwsError(message, "scheduler:CreateSchedule", code)

        with pytest.raises(AwsError):
            retry_until_assumable(write, sleep=waits.append, patience=20)
        seconds, _ = sum(waits), waits.clear()
        return seconds

    assert 20 <= fail("cannot assume role", "ValidationException") <= 28
    assert fail("Invalid time zone", "ValidationException") == 0
    assert fail("not allowed to assume this role", "AccessDeniedException") == 0


# ----------------------------------------------------------------------------------------------------- alerts
def test_alerts_are_made_once(aws):
    changes = promote(aws, alerts, alerts=ALERTS)
    assert told(changes) == [
        ("alert topic", "create"),
        ("alert subscription", "create"),
        ("alert rule", "create"),
    ]
    assert promote(aws, alerts, alerts=ALERTS) == []
    topic = AWS.arn("sns", "Flights-dev-failed")
    policy = json.loads(aws.call("sns", "get_topic_attributes", TopicArn=topic)["Attributes"]["Policy"])
    ours = next(item for item in policy["Statement"] if item["Sid"] == "LocalRunnerAlerts")
    assert "Condition" not in ours, "EventBridge would publish nothing"
    assert len(policy["Statement"]) == 2  # the owner's own statement is kept
    (target,) = aws.call("events", "list_targets_by_rule", Rule="Flights-dev-failed")["Targets"]
    assert target["Arn"] == topic


def test_an_address_that_has_not_confirmed_is_not_asked_again(aws):
    (_, subscription, _) = promote(aws, alerts, alerts=ALERTS)
    subscription.apply(aws)
    subscription.apply(aws)
    assert aws.calls.count("sns.subscribe") == 1
    assert told(promote(aws, alerts, alerts={"email": "other@example.com"})) == [("alert subscription", "create")]


def test_the_rule_is_on_failed_executions_of_this_pipeline(aws):
    promote(aws, alerts, alerts=ALERTS)
    rule = aws.call("events", "describe_rule", Name="Flights-dev-failed")
    # The emulator's own matching: it has no TestEventPattern.
    pattern = EventPatternParser(rule["EventPattern"]).parse()
    event: Any = {
        "source": "aws.sagemaker",
        "detail-type": "SageMaker Model Building Pipeline Execution Status Change",
        "detail": {"currentPipelineExecutionStatus": "Failed", "pipelineArn": TARGET.pipeline_arn},
    }

    def matches(**detail):
        shown: Any = {**event, "detail": {**event["detail"], **detail}}
        return EventPattern(rule["EventPattern"], pattern).matches_event(shown)

    assert matches()
    assert matches(pipelineArn=TARGET.pipeline_arn.lower())
    assert matches(currentPipelineExecutionStatus="CompletedWithFailures")
    assert not matches(currentPipelineExecutionStatus="Succeeded")
    assert not matches(pipelineArn=AWS.arn("sagemaker", "pipeline/Other"))


def test_the_message_is_lines_of_text_with_fields_of_the_event():
    transformer = samples.parts(alerts=ALERTS).alerts.rule()["Target"]["InputTransformer"]
    lines = [json.loads(line) for line in transformer["InputTemplate"].splitlines()]
    assert lines == [
        "The SageMaker pipeline Flights-dev failed at <time> (account <account>, <region>).",
        "Execution: <execution>",
        "What failed, and why: local-runner status --env dev",
    ]
    used = {word.strip("(),.<>") for line in lines for word in line.split() if "<" in word}
    assert used == transformer["InputPathsMap"].keys()


def test_a_topic_that_is_given_is_used_as_it_is(aws):
    topic = aws.call("sns", "create_topic", Name="theirs")["TopicArn"]
    before = aws.call("sns", "get_topic_attributes", TopicArn=topic)["Attributes"]["Policy"]
    assert told(promote(aws, alerts, alerts={"topic_arn": topic})) == [("alert rule", "create")]
    assert aws.call("sns", "get_topic_attributes", TopicArn=topic)["Attributes"]["Policy"] == before
    assert promote(aws, alerts, alerts={"topic_arn": topic}) == []


def test_a_topic_that_another_takes_the_place_of_goes(aws):
    promote(aws, alerts, alerts=ALERTS)
    topic = aws.call("sns", "create_topic", Name="theirs")["TopicArn"]
    changes = promote(aws, alerts, alerts={"topic_arn": topic})
    assert told(changes) == [("alert rule", "update"), ("alert topic", "delete")]
    assert [one["TopicArn"] for one in aws.call("sns", "list_topics")["Topics"]] == [topic]
    assert promote(aws, alerts, alerts={"topic_arn": topic}) == []


def test_a_topic_of_somebody_else_is_left_alone(aws):
    aws.call("sns", "create_topic", Name="Flights-dev-failed")
    with pytest.raises(CloudError, match="is there and is not this project's"):
        plan(aws, alerts, alerts=ALERTS)
    assert plan(aws, alerts, alerts=None) == []


def test_alerts_that_are_not_wanted_go(aws):
    promote(aws, alerts, alerts=ALERTS)
    assert told(promote(aws, alerts, alerts=None)) == [("alert rule", "delete"), ("alert topic", "delete")]
    assert promote(aws, alerts, alerts=None) == []
