"""What the account would refuse is listed by the plan, all of it, before anything is written."""

import json
from typing import Any

import pytest
from support import cloud_samples as samples
from support.cloud_samples import AWS, NAMES
from support.promotion import REGION, account, planned, promoted, release
from support.strict_account import demands_encryption, demands_the_owner

from local_runner.cloud.account.aws import Aws, AwsError
from local_runner.cloud.operations.promote import RefusedRequestsError

EVENTS = {"Service": "events.amazonaws.com"}


def test_a_plan_lists_every_request_that_would_be_refused(proxy, tmp_path):
    aws = Aws(REGION)
    bad: dict[str, Any] = {
        "tags": {"team:": "x" * 200, "aws:mine": "y", "what?": "z"},
        "alerts": {"topic_arn": "arn:aws:sns:eu-west-1:123456789012:there"},
    }
    with pytest.raises(RefusedRequestsError) as refused:
        planned(aws, release(aws, tmp_path, **bad))
    said = refused.value.message
    assert "Nothing was changed" in said
    for operation in ("iam:CreateRole", "sagemaker:CreatePipeline"):
        assert operation in said
    assert proxy.writes == []
    assert proxy.refused == []


def test_a_plan_that_the_account_takes_is_what_a_promotion_sends(proxy, tmp_path):
    """With everything on: no request is refused on its way."""
    aws = Aws(REGION)
    proxy.settings = [demands_encryption, demands_the_owner]
    settings: dict[str, Any] = {
        "kms_key_id": samples.KEY,
        "network": {"subnets": ["subnet-0123456789abcdef0"], "security_group_ids": ["sg-0123456789abcdef0"]},
        "alerts": {"email": "team@example.com"},
        "tags": {"team": "data"},
    }
    promoted(aws, release(aws, tmp_path, **settings))
    proxy.settings = []
    assert account(aws)["schedules"] == ["FlightsDaily-dev"]
    assert proxy.refused == []


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "said"),
    [
        ("iam", "create_role", {"RoleName": "a b", "AssumeRolePolicyDocument": "{}"}, "RoleName"),
        ("sagemaker", "create_pipeline", {"PipelineName": "-x", "RoleArn": "y" * 30}, "PipelineName"),
        ("ecr", "create_repository", {"repositoryName": "Upper"}, "repositoryName"),
        (
            "sns",
            "create_topic",
            {
                "Name": "x",
                "Attributes": {
                    "Policy": json.dumps({"Statement": [{"Principal": EVENTS, "Condition": {"Bool": {}}}]}),
                },
            },
            "Condition",
        ),
        (
            "scheduler",
            "create_schedule",
            {
                "Name": NAMES.schedule,
                "ScheduleExpression": "rate(1 day)",
                "FlexibleTimeWindow": {"Mode": "OFF"},
                "Target": {
                    "Arn": AWS.arn("sagemaker", "pipeline/x"),
                    "RoleArn": AWS.arn("iam", "role/x", region=False),
                },
            },
            "SageMakerPipelineParameters is missing",
        ),
    ],
)
def test_the_account_refuses_what_the_emulator_takes(aws, proxy, service, operation, parameters, said):
    with aws.checking() as problems:
        assert aws.call(service, operation, **parameters) == {}
    assert [problem for problem in problems if said in str(problem)]
    with pytest.raises(AwsError, match=said):
        aws.call(service, operation, **parameters)
    assert len(proxy.refused) == 1
