"""A program that dies right after any of its writes: the next run ends where one clean run does, with nothing twice."""

import json

import pytest
from support import cloud_samples as samples
from support.cloud_samples import QUEUE, SCHEDULE

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.change.models import deletions_last
from local_runner.cloud.resources.role import attached_policies

ALERTS = {"email": "on-call@example.com"}
RULE = {"kind": "rule", "expression": "rate(1 day)", "parameters": {"Day": "$.time"}}
FIRST = {"schedule": {**SCHEDULE, "dead_letter_queue": QUEUE}, "alerts": ALERTS}
LIMITS = "arn:aws:iam::123456789012:policy/limits"
STORIES = {
    "first": [FIRST],
    "changed": [
        FIRST,
        {"schedule": {**SCHEDULE, "expression": "rate(1 hour)"}, "alerts": ALERTS, "kms_key_id": samples.KEY},
    ],
    "another-kind": [FIRST, {"schedule": RULE, "alerts": ALERTS}],
    "back-again": [{"schedule": RULE}, FIRST],
    "limited": [FIRST, {**FIRST, "permissions_boundary": LIMITS, "managed_policies": [LIMITS]}],
    "taken-away": [FIRST, {"schedule": None, "alerts": None}],
}
READS = ("get_", "list_", "describe_")


class DiedError(BaseException):
    """The process is gone: nothing catches this."""


class Mortal(Aws):
    """An account whose caller dies right after its write number ``lives``."""

    lives: int = -1

    def __post_init__(self):
        super().__post_init__()
        self.writes = []

    def call(self, service, operation, **parameters):
        answer = super().call(service, operation, **parameters)
        if not operation.startswith(READS):
            self.lives -= 1
            self.writes.append(operation)
            if self.lives == 0:
                raise DiedError
        return answer


def promote(aws, settings, previous=None):
    parts = samples.parts(previous=previous, **settings)
    changes = [
        change
        for part in (parts.execution_role, parts.start_role, parts.schedule, parts.alerts)
        if part
        for change in part.plan(aws)
    ]
    for change in deletions_last(changes):
        change.apply(aws)
    return changes, parts.schedule.desired and parts.schedule.desired.request


def state(aws):
    """Everything that is in the account, without what the clock or chance decides."""
    roles = {
        role["RoleName"]: (
            role["AssumeRolePolicyDocument"],
            aws.call("iam", "get_role", RoleName=role["RoleName"])["Role"]["Tags"],
            aws.call("iam", "get_role", RoleName=role["RoleName"])["Role"].get("PermissionsBoundary"),
            attached_policies(aws, role["RoleName"]),
            [
                aws.call("iam", "get_role_policy", RoleName=role["RoleName"], PolicyName=name)["PolicyDocument"]
                for name in aws.call("iam", "list_role_policies", RoleName=role["RoleName"])["PolicyNames"]
            ],
        )
        for role in aws.call("iam", "list_roles")["Roles"]
    }
    rules = {
        rule["Name"]: (rule, aws.call("events", "list_targets_by_rule", Rule=rule["Name"])["Targets"])
        for rule in aws.call("events", "list_rules")["Rules"]
    }
    schedules = {}
    for item in aws.call("scheduler", "list_schedules")["Schedules"]:
        found = aws.call("scheduler", "get_schedule", Name=item["Name"])
        schedules[item["Name"]] = {
            key: value
            for key, value in found.items()
            if key not in ("CreationDate", "LastModificationDate", "ResponseMetadata")
        }
    topics = [topic["TopicArn"] for topic in aws.call("sns", "list_topics")["Topics"]]
    policies = [aws.call("sns", "get_topic_attributes", TopicArn=topic)["Attributes"]["Policy"] for topic in topics]
    subscriptions = [one["Endpoint"] for one in aws.call("sns", "list_subscriptions")["Subscriptions"] if topics]
    return roles, rules, schedules, topics, policies, subscriptions


def tell(aws, story, lives=-1):
    """Plays a story, in whose last promotion the process dies after ``lives`` writes: did it, and what is there."""
    previous = None
    nothing = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
    aws.call("iam", "create_policy", PolicyName="limits", PolicyDocument=json.dumps(nothing))
    for settings in story[:-1]:
        previous = promote(aws, settings, previous)[1]
    aws.lives, died = lives, False
    aws.writes.clear()
    try:
        promote(aws, story[-1], previous)
    except DiedError:
        died = True
        promote(aws, story[-1], previous)
    aws.lives = -1
    assert promote(aws, story[-1], previous)[0] == []
    return died, (state(aws), sorted(aws.writes))


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_what_was_cut_off_anywhere_is_finished_by_the_next_run(aws, reset, story):
    aws = Mortal(aws.region)  # with clients that are made once
    _, clean = tell(aws, story)
    lives, died = 0, True
    while died:
        lives += 1
        reset()
        died, found = tell(aws, story, lives)
        assert found == clean, f"after write {lives}"
    assert lives > 3, "there were writes to die after"
