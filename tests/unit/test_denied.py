"""What a denial says to ask for, from AWS's own messages."""

import pytest

from local_runner.cloud.account.denied import denied_action

USER = "User: arn:aws:sts::123456789012:assumed-role/Deploy/maria is not authorized to perform: "
ALLOWS = "allows the iam:PassRole action"
TOPIC = "arn:aws:sns:us-east-1:444455556666:topic"
ROLE = "arn:aws:iam::123456789012:role/Flights-dev-execution"


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (
            f"{USER}iam:PassRole on resource: {ROLE} because no boundary {ALLOWS}",
            f"iam:PassRole on {ROLE}",
        ),
        (f"{USER}\nSNS:Publish on resource: {TOPIC} \nwith an explicit deny in a VPC", f"SNS:Publish on {TOPIC}"),
        (f"{USER}iam:GetRole with an explicit deny in a service control policy", "iam:GetRole"),
        (f"{USER}ecr:GetAuthorizationToken on resource: *", "ecr:GetAuthorizationToken"),
        (f"{USER}iam:TagRole on resource: {ROLE}.", f"iam:TagRole on {ROLE}"),
        ("Access Denied", "sagemaker:CreatePipeline"),
        ("Forbidden", "sagemaker:CreatePipeline"),
        ("", "sagemaker:CreatePipeline"),
    ],
)
def test_the_denied_action_is_asked_for_and_not_the_call(message, asked):
    assert denied_action(message, "sagemaker:CreatePipeline") == asked
