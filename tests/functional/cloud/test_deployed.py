"""The documents deployed by the emulator's CloudFormation: a promotion after that finds nothing to change.

The emulator deploys no pipelines and no schedules of EventBridge Scheduler, and leaves out tags of topics, scanning and
the blocking of public access; there, the linter of test_cloud_documents.py has the word.
"""

import ast
import json

from support.cloud_samples import ACCOUNT, BUCKET, NAMES, parts, sample
from support.values import there

from local_runner.cloud.change.fields import field_changes
from local_runner.cloud.export.cloudformation import bootstrap_template, release_template
from local_runner.cloud.iam.deployer import deployer_policies
from local_runner.cloud.resources.rule import find_rule

SETTINGS = {"alerts": {"email": "on-call@example.com"}}
RULE = {"kind": "rule", "event_pattern": {"source": ["aws.s3"]}, "parameters": {"Day": "$.time"}}


def deploy(aws, template):
    aws.call(
        "cloudformation",
        "create_stack",
        StackName="flights",
        TemplateBody=json.dumps(template),
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    (stack,) = aws.call("cloudformation", "describe_stacks", StackName="flights")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}


def policy_of(aws, role):
    document = aws.call("iam", "get_role_policy", RoleName=role, PolicyName="local-runner")["PolicyDocument"]
    # The emulator keeps a policy that came in a template as Python writes it.
    return ast.literal_eval(document) if isinstance(document, str) else document


def test_after_an_export_is_deployed_there_is_nothing_to_promote(aws):
    made = parts(**SETTINGS, schedule=RULE)
    deploy(aws, release_template(made, json.dumps(sample())))
    assert made.schedule.plan(aws) == []
    assert field_changes(there(find_rule(aws, NAMES.alert_rule)), made.alerts.rule()) == ()
    assert policy_of(aws, NAMES.execution_role) == there(made.execution_role).policy
    assert policy_of(aws, NAMES.start_role) == there(made.start_role).policy


def test_what_bootstrap_makes(aws):
    made = parts(**SETTINGS)
    policies = deployer_policies(made.target, "local-runner/flights", makes=False)
    template = bootstrap_template(made, bucket=BUCKET, repository="local-runner/flights", policies=policies)
    outputs = deploy(aws, template)
    assert outputs == {
        "ExecutionRoleArn": made.target.execution_role_arn,
        "StartRoleArn": made.target.start_role_arn,
        **{
            f"{name}PolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/Flights-dev-{name.lower()}"
            for name in ("Plan", "Promote", "Operate")
        },
    }
    assert policy_of(aws, NAMES.execution_role) == there(made.execution_role).policy
    role = aws.call("iam", "get_role", RoleName=NAMES.execution_role)["Role"]
    assert {"Key": "local-runner:project", "Value": "Flights"} in role["Tags"]
    (repository,) = aws.call("ecr", "describe_repositories")["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
