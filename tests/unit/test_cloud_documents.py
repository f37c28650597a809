"""Policies, CloudFormation and Terraform: what they allow, that they are valid, and that they say the same."""

import json
import re
from dataclasses import replace
from functools import cache
from importlib.resources import files

import pytest
from cfnlint.api import ManualArgs, lint
from support import cloud_samples as samples
from support.cloud_samples import AWS, BUCKET, IMAGE, QUEUE, TARGET, flight_step, parts, sample
from support.definitions import get
from support.project import PROJECT
from support.values import there

from local_runner.cloud.account.aws import CloudError
from local_runner.cloud.export.cloudformation import bootstrap_template, policies_template, release_template
from local_runner.cloud.export.terraform import release_configuration
from local_runner.cloud.iam.deployer import MOST_CHARACTERS, deployer_policies
from local_runner.cloud.iam.permission_summary import permission_summary
from local_runner.cloud.iam.policies import ANY_RESOURCE
from local_runner.cloud.target.environment import Environment

EVERYTHING = {
    "alerts": {"email": "on-call@example.com"},
    "kms_key_id": samples.KEY,
    "network": {"subnets": ["subnet-1"], "security_group_ids": ["sg-1"]},
    "schedule": {
        **samples.SCHEDULE,
        "start_date": "2026-06-01T00:00:00",
        "end_date": "2030-01-01T00:00:00",
        "dead_letter_queue": QUEUE,
        "flexible_window_in_minutes": 15,
    },
    "tags": {"team": "data"},
    "role_path": "/data/",
    "permissions_boundary": "arn:aws:iam::123456789012:policy/limits",
    "managed_policies": ["arn:aws:iam::aws:policy/AmazonAthenaFullAccess"],
    "kms_key_arns": [samples.KEY],
    "policy_statements": [
        {
            "Sid": "Table",
            "Action": ["dynamodb:PutItem"],
            "Resource": "arn:aws:dynamodb:eu-west-1:123456789012:table/days",
            "Condition": {"Null": {"aws:TokenIssueTime": "false"}},
        }
    ],
}
LAMBDA = "arn:aws:lambda:eu-west-1:123456789012:function:tell"
QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/callbacks"
MANY_STEPS = (
    {"Name": "Tell", "Type": "Lambda", "FunctionArn": LAMBDA, "Arguments": {}},
    {"Name": "Ask", "Type": "Callback", "SqsQueueUrl": QUEUE_URL, "Arguments": {}},
    {
        "Name": "Train",
        "Type": "Training",
        "Arguments": {
            "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            "InputDataConfig": [
                {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3Uri": "s3://raw-data/train"}}}
            ],
            "OutputDataConfig": {"S3OutputPath": "s3://models/flights"},
        },
    },
)


def statements(policy):
    return {item["Sid"]: item for item in policy["Statement"]}


def execution(document=None, **settings):
    return statements(there(parts(document, **settings).execution_role).policy)


def as_list(value):
    return [value] if isinstance(value, str) else value


GIVEN = "arn:aws:iam::123456789012:role/theirs"
WITH_IMAGE = Environment.model_validate({"name": "dev", "image_uri": IMAGE})
VARIANTS = {
    "least": {},
    "everything": EVERYTHING,
    "rule": {"schedule": {"kind": "rule", "event_pattern": {"source": ["aws.s3"]}, "parameters": {"Day": "$.time"}}},
    "rule-on-schedule": {"schedule": {"kind": "rule", "expression": "rate(1 day)", "parameters": {"Day": "$.time"}}},
    "given-roles": {
        "role_arn": TARGET.execution_role_arn,
        "schedule": {**samples.SCHEDULE, "role_arn": TARGET.execution_role_arn},
    },
    "no-schedule": {"schedule": None, "alerts": {"topic_arn": AWS.arn("sns", "theirs")}},
}
variants = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)


# ---------------------------------------------------------------------------------------------------- policies
@variants
def test_a_star_alone_is_only_where_a_reason_is_given(settings):
    made = parts(sample(*MANY_STEPS), **settings)
    for role in filter(None, (made.execution_role, made.start_role)):
        found = role.policy["Statement"]
        assert len({item["Sid"] for item in found}) == len(found)
        for item in found:
            assert ("*" in as_list(item["Resource"])) == (item["Sid"] in ANY_RESOURCE)
            for action in as_list(item["Action"]):
                assert re.fullmatch(r"[a-z0-9]+:[A-Z]\w+", action), "no wildcards in actions"
            for resource in as_list(item["Resource"]):
                assert resource == "*" or re.match(r"arn:aws:[a-z0-9]+:[^:]*:[^:]*:[\w/.-]", resource)


def test_the_role_reads_inputs_and_code_and_writes_outputs():
    found = execution(
        sample(flight_step("Coded", f"s3://{BUCKET}/Flights/code/abc/clean.py", "s3://results/flights/x"))
    )
    own, raw, results = (
        f"arn:aws:s3:::{key}*" for key in (f"{BUCKET}/Flights/code/", "raw-data/flights", "results/flights/")
    )
    assert found["Read"]["Resource"] == sorted([own, raw, results])
    assert found["Write"]["Resource"] == [results]
    prefixes = {
        item["Resource"][0]: item["Condition"]["StringLike"]["s3:prefix"]
        for name, item in found.items()
        if name.startswith("ListBucket")
    }
    assert prefixes == {
        "arn:aws:s3:::raw-data": ["flights*"],
        "arn:aws:s3:::results": ["flights/*"],
        f"arn:aws:s3:::{BUCKET}": ["Flights/code/*"],
    }


def test_the_environment_s_parameters_say_where_inputs_are():
    found = execution(parameters={"Input": "s3://elsewhere/raw"})
    assert "arn:aws:s3:::elsewhere/raw*" in found["Read"]["Resource"]
    assert not [arn for arn in found["Read"]["Resource"] if "raw-data" in arn]


def test_the_image_s_repository_is_the_only_one():
    found = execution()
    assert found["PullImages"]["Resource"] == [AWS.arn("ecr", "repository/local-runner/flights")]
    assert "PullImages" not in execution(
        sample() | {"Steps": [flight_step("A", "s3://a/b", "s3://c/d", image="other:1")]}
    )


def test_only_what_steps_need_is_allowed():
    least = execution()
    assert least.keys() == {
        *("Read", "Write", "ListBucket1", "ListBucket2", "ProcessingJobs", "PassRoles"),
        *("Logs", "Metrics", "PullImages", "LogInToRegistry"),
    }
    document = sample(*MANY_STEPS) | {"PipelineExperimentConfig": {"ExperimentName": "x"}}
    more = execution(document, kms_key_id=samples.KEY, network=EVERYTHING["network"])
    assert more.keys() - least.keys() == {
        *("TrainingJobs", "Functions", "Queues", "Encryption", "Network", "ListBucket3"),
        *("Experiments", "ExperimentTrials", "ExperimentTrialComponents"),
    }
    assert more["Functions"]["Resource"] == [LAMBDA]
    assert more["Queues"]["Resource"] == [AWS.arn("sqs", "callbacks")]
    assert more["Encryption"]["Resource"] == [samples.KEY]
    assert "arn:aws:s3:::models/flights*" in more["Write"]["Resource"]


def test_what_roles_may_do_is_told_in_words():
    assert permission_summary(execution()) == (
        "read from S3, write to S3, list buckets, run processing jobs, give its jobs their roles, "
        "pull images, write logs, write metrics"
    )
    kinds = ("Training", "Transform", "Tuning", "AutoML", "Model", "RegisterModel")
    steps = [{"Name": kind, "Type": kind, "Arguments": {}} for kind in kinds]
    made = parts(sample(*MANY_STEPS, *steps), **EVERYTHING)
    for role in (made.execution_role, made.start_role):
        for sid in statements(there(role).policy).keys() - {"Table"}:
            assert "statement" not in permission_summary([sid]), "there are words for it"
    assert permission_summary(["StartPipeline", "Theirs"]) == "start the pipeline, statement Theirs"


def test_the_role_hands_itself_to_sagemaker_and_to_nobody_else():
    passing = execution()["PassRoles"]
    assert passing["Resource"] == [TARGET.execution_role_arn]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    theirs = "arn:aws:iam::123456789012:role/of-one-step"
    step = flight_step("Other", "s3://a/b", "s3://c/d", RoleArn=theirs)
    assert execution(sample(step))["PassRoles"]["Resource"] == [TARGET.execution_role_arn, theirs]


def test_the_start_role_starts_this_pipeline_for_this_account():
    role = there(parts(schedule=EVERYTHING["schedule"]).start_role)
    found = statements(role.policy)
    assert found["StartPipeline"]["Resource"] == [TARGET.pipeline_arn, TARGET.pipeline_arn.lower()]
    assert found["DeadLetters"]["Resource"] == [QUEUE]
    assert role.trust["Statement"][0]["Condition"] == {"StringEquals": {"aws:SourceAccount": samples.ACCOUNT}}


def test_the_environment_says_what_else_the_roles_are():
    made = parts(**EVERYTHING)
    execution, start = there(made.execution_role), there(made.start_role)
    table = statements(execution.policy)["Table"]
    assert table == {**EVERYTHING["policy_statements"][0], "Effect": "Allow"}
    assert "Table" not in statements(start.policy)
    assert made.target.execution_role_arn == "arn:aws:iam::123456789012:role/data/Flights-dev-execution"
    limits = {(role.path, role.boundary) for role in (execution, start)}
    assert limits == {("/data/", EVERYTHING["permissions_boundary"])}
    assert (execution.managed_policies, start.managed_policies) == (tuple(EVERYTHING["managed_policies"]), ())
    with pytest.raises(CloudError, match=r"policy_statements: Read is the Sid of a statement that the role has"):
        parts(policy_statements=[{"Sid": "Read", "Action": "s3:GetObject", "Resource": "*"}])


def test_what_cannot_be_computed_is_told():
    emr = {"Name": "Spark", "Type": "EMR", "Arguments": {}}
    place = flight_step("Late", get("Parameters.Where"), "s3://results/x")
    document = sample(emr, place, parameters=[{"Name": "Where", "Type": "String"}])
    schedule = {**samples.SCHEDULE, "parameters": {"Day": "x", "Where": "s3://late/x"}}
    said = "\n".join(parts(document, schedule=schedule).notes)
    assert "has no permissions for EMR steps" in said
    assert "Steps[2].Arguments.ProcessingInputs[0].S3Input.S3Uri is the parameter Where" not in said
    unknown = parts(document, schedule=None).notes
    assert "Steps[2].Arguments.ProcessingInputs[0].S3Input.S3Uri is the parameter Where" in "\n".join(unknown)
    assert parts(document, role_arn=TARGET.execution_role_arn, schedule=schedule).notes == ()


def test_a_policy_that_iam_would_refuse_for_its_length_is_told():
    steps = [
        flight_step(f"Step{n}", f"s3://bucket-{n}/{'in' * 20}", f"s3://bucket-{n}/{'out' * 20}") for n in range(40)
    ]
    with pytest.raises(CloudError, match=r"IAM takes 10240.*role_arn"):
        parts(sample(*steps))
    assert parts(sample(*steps), role_arn=TARGET.execution_role_arn).execution_role is None


@cache
def service_authorization():
    """The actions that there are, with the types of resources that they take: AWS's reference, as the linter has it."""
    return json.loads((files("cfnlint.data.AdditionalSpecs") / "Policies.json").read_text())


def of_every_kind():
    """A definition with a step of every type that has permissions, whose executions are kept as trials."""
    kinds = ("Transform", "Tuning", "AutoML", "Model", "RegisterModel")
    steps = ({"Name": kind, "Type": kind, "Arguments": {}} for kind in kinds)
    return sample(*MANY_STEPS, *steps) | {"PipelineExperimentConfig": {"ExperimentName": "x"}}


def misnamed(policy):
    """Each action of a policy that IAM does not know, and each resource that the action does not take."""
    for item in policy["Statement"]:
        for action in as_list(item["Action"]):
            service, _, name = action.partition(":")
            reference = service_authorization()[service]
            if name.lower() not in reference["Actions"]:
                yield f"there is no {action}"
                continue
            types = reference["Actions"][name.lower()].get("Resources", [])
            formats = [form for kind in as_list(types) for form in reference["Resources"][kind].get("ARNFormats", [])]
            for resource in as_list(item["Resource"]):
                matches = [form for form in formats if re.match(re.sub(r"\$\{\w+\}", "[^:]*", form), resource)]
                if not matches and not (resource == "*" and (not types or item["Sid"] in ANY_RESOURCE)):
                    yield f"{action} is not for {resource}"


@variants
def test_every_action_is_one_of_iam_and_takes_the_resource(settings):
    made = parts(of_every_kind(), **settings)
    roles = [role.policy for role in (made.execution_role, made.start_role) if role]
    for makes in (True, False):
        policies = deployer_policies(made.target, "local-runner/flights", makes=makes)
        for policy in (*roles, *policies.values()):
            assert list(misnamed(policy)) == []
            sids = [item["Sid"] for item in policy["Statement"]]
            assert len(set(sids)) == len(sids)
        assert max(len(json.dumps(policy, separators=(",", ":"))) for policy in policies.values()) < MOST_CHARACTERS
        # A role is handed to the service that it is for, and every resource but a registry's login is named.
        for policy in policies.values():
            for item in policy["Statement"]:
                assert ("iam:PassRole" in item["Action"]) == ("iam:PassedToService" in str(item.get("Condition")))
                assert ("*" in item["Resource"]) == (item["Sid"] == "LogInToRegistry")


def test_the_page_on_permissions_has_every_statement():
    made = parts(of_every_kind(), **EVERYTHING)
    pushed = deployer_policies(made.target, "local-runner/flights", makes=True).values()
    elsewhere = deployer_policies(replace(made.target, environment=WITH_IMAGE), None, makes=True).values()
    roles = [there(made.execution_role).policy, there(made.start_role).policy]
    page = (PROJECT / "docs" / "PERMISSIONS.md").read_text()
    sids = {item["Sid"] for policy in (*roles, *pushed, *elsewhere) for item in policy["Statement"]}
    assert [sid for sid in sids if f"`{sid}`" not in page and not re.fullmatch(r"ListBucket\d+|Table", sid)] == []


def test_what_iam_does_not_know_is_found():
    wrong = {"Sid": "X", "Action": ["s3:HeadObject", "s3:GetObject"], "Resource": ["arn:aws:sqs:eu-west-1:1:x"]}
    assert list(misnamed({"Statement": [wrong]})) == [
        "there is no s3:HeadObject",
        "s3:GetObject is not for arn:aws:sqs:eu-west-1:1:x",
    ]


# ----------------------------------------------------------------------------------------------- CloudFormation
def linted(template):
    return [str(match) for match in lint(json.dumps(template), config=ManualArgs(regions=["eu-west-1"]))]


def test_the_linter_finds_what_is_wrong():
    template = release_template(parts(), json.dumps(sample()))
    template["Resources"]["Schedule"]["Properties"]["Targat"] = {}
    template["Resources"]["ExecutionRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"][0]["Efect"] = 1
    found = "\n".join(linted(template))
    assert "Targat" in found
    assert "Efect" in found


@pytest.mark.slow
@variants
def test_cloudformation_passes_its_linter(settings):
    made = parts(sample(*MANY_STEPS), **settings)
    assert linted(release_template(made, json.dumps(sample(*MANY_STEPS)))) == []
    policies = deployer_policies(made.target, "local-runner/flights", makes=True)
    template = bootstrap_template(made, bucket=BUCKET, repository="local-runner/flights", policies=policies)
    assert linted(template) == []
    assert linted(policies_template(made.target, policies)) == []


def test_the_template_says_what_a_promotion_would_send():
    made = parts(**EVERYTHING)
    resources = release_template(made, json.dumps(sample()))["Resources"]
    assert resources["Schedule"]["Properties"] == there(made.schedule.desired).request
    role = resources["ExecutionRole"]["Properties"]
    assert role["Policies"][0]["PolicyDocument"] == there(made.execution_role).policy
    assert json.loads(resources["Pipeline"]["Properties"]["PipelineDefinition"]["PipelineDefinitionBody"]) == sample()
    assert (role["Path"], role["PermissionsBoundary"]) == ("/data/", EVERYTHING["permissions_boundary"])
    assert role["ManagedPolicyArns"] == EVERYTHING["managed_policies"]
    alert = resources["AlertRule"]["Properties"]
    assert alert["EventPattern"] == json.loads(made.alerts.rule()["EventPattern"])
    assert alert["Targets"] == [made.alerts.rule()["Target"]]


def test_bootstrap_leaves_out_what_is_not_the_project_s():
    supporting = parts(role_arn=TARGET.execution_role_arn)
    made = bootstrap_template(supporting, bucket=None, repository=None, policies={})
    assert made["Resources"].keys() == {"StartRole"}
    assert "Conditions" not in made


# ---------------------------------------------------------------------------------------------------- Terraform
@variants
def test_terraform_says_what_a_promotion_would_send(settings):
    document = sample(*MANY_STEPS)
    made = parts(document, **settings)
    configuration = json.loads(json.dumps(release_configuration(made, json.dumps(document))))
    resources = configuration["resource"]
    pipeline = resources["aws_sagemaker_pipeline"]["pipeline"]
    assert json.loads(pipeline["pipeline_definition"]) == document
    assert pipeline["role_arn"] == made.target.execution_role_arn
    for name, role in (("execution", made.execution_role), ("start", made.start_role)):
        block = resources.get("aws_iam_role_policy", {}).get(name)
        made_role = resources.get("aws_iam_role", {}).get(name, {})
        assert made_role.get("permissions_boundary") == (settings.get("permissions_boundary") if block else None)
        assert not block or made_role["path"] == settings.get("role_path", "/")
        assert bool(block) == bool(role and role.wanted)
        assert not block or json.loads(block["policy"]) == there(role).policy
    for blocks in resources.values():
        for block in blocks.values():
            for wanted in block.get("depends_on", []):
                kind, _, name = wanted.partition(".")
                assert name in resources[kind]
    attached = resources.get("aws_iam_role_policy_attachment", {}).values()
    assert [block["policy_arn"] for block in attached] == settings.get("managed_policies", [])
    starts = "aws_scheduler_schedule" in resources or "start" in resources.get("aws_cloudwatch_event_rule", {})
    assert starts == (made.schedule.desired is not None)


def test_a_schedule_in_terraform():
    made = parts(**EVERYTHING)
    (schedule,) = release_configuration(made, "{}")["resource"]["aws_scheduler_schedule"].values()
    assert schedule == {
        "name": "Flights-dev",
        "description": "Starts the pipeline Flights-dev.",
        "schedule_expression": "cron(0 6 * * ? *)",
        "schedule_expression_timezone": "Europe/Berlin",
        "start_date": "2026-05-31T22:00:00Z",
        "end_date": "2029-12-31T23:00:00Z",
        "state": "ENABLED",
        "flexible_time_window": {"mode": "FLEXIBLE", "maximum_window_in_minutes": 15},
        "target": {
            "arn": TARGET.pipeline_arn,
            "role_arn": AWS.arn("iam", "role/data/Flights-dev-start", region=False),
            "retry_policy": {"maximum_event_age_in_seconds": 3600, "maximum_retry_attempts": 3},
            "dead_letter_config": {"arn": QUEUE},
            "sagemaker_pipeline_parameters": {
                "pipeline_parameter": [{"name": "Day", "value": "<aws.scheduler.scheduled-time>"}]
            },
        },
        "depends_on": ["aws_iam_role_policy.start"],
    }


def test_a_schedule_without_parameters_in_documents():
    """The Scheduler wants the list; Terraform's provider leaves an empty one out."""
    document = sample()
    document["Parameters"][1]["DefaultValue"] = "2026-02-03"
    made = parts(document, schedule={"expression": "rate(1 day)"})
    target = release_template(made, json.dumps(document))["Resources"]["Schedule"]["Properties"]["Target"]
    assert target["SageMakerPipelineParameters"] == {"PipelineParameterList": []}
    configuration = release_configuration(made, json.dumps(document))
    target = configuration["resource"]["aws_scheduler_schedule"]["start"]["target"]
    assert target["sagemaker_pipeline_parameters"] == {
        "pipeline_parameter": [{"name": "Input", "value": "s3://raw-data/flights"}]
    }
    with pytest.raises(CloudError, match="kind = 'rule'"):
        release_configuration(made, "{}")


def test_texts_are_no_templates_for_terraform():
    made = release_configuration(parts(), '{"a": "${b} %{c} $d"}')
    text = made["resource"]["aws_sagemaker_pipeline"]["pipeline"]["pipeline_definition"]
    assert text == '{"a": "$${b} %%{c} $d"}'
