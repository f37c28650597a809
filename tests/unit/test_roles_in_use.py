"""The two roles of a promotion, put to use: their policies allow all that the service asks of them, and no more."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cloud_samples as samples
from support.cloud_samples import ACCOUNT, AWS, BUCKET, IMAGE, QUEUE, flight_step, sample
from support.definitions import compare, condition, get, join, json_get, output_of, processing, s3_input
from support.service_calls import Execution, may_assume, refused, start_asks, unused
from support.values import there

THEIRS = f"arn:aws:iam::{ACCOUNT}:role/of-one-step"
KEYS = {
    "other": AWS.arn("kms", "key/00000000-2222-3333-4444-555555555555"),
    "arn": samples.KEY,
    "id": "99999999-2222-3333-4444-555555555555",
    "alias": "alias/flights",
    "alias-arn": "arn:aws:kms:eu-west-1:210987654321:alias/theirs",
}
VPC = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
CODE = f"s3://{BUCKET}/Flights/code/{'0' * 64}/clean.py"
ROLE = samples.TARGET.execution_role_arn
MANIFEST = "s3://lists/of-the-day.manifest"


def with_key(key):
    members: dict[str, Any] = {"KmsKeyId": key}
    return {"ProcessingOutputConfig": members, "ProcessingResources": {"ClusterConfig": cluster(VolumeKmsKeyId=key)}}


def cluster(**more):
    return {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30, **more}


def coded(name, *inputs, members=None, **more):
    """A step whose script is the release's code."""
    given = [s3_input("code", CODE), *inputs]
    members = {"RoleArn": ROLE, **(members or {})}
    return processing(
        name, inputs=given, outputs={"out": join("s3://made", name)}, image=IMAGE, members=members, **more
    )


TRAIN = {
    "Name": "Train",
    "Type": "Training",
    "Arguments": {
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "InputDataConfig": [
            {
                "ChannelName": "x",
                "DataSource": {"S3DataSource": {"S3Uri": "s3://raw-data/train", "S3DataType": "S3Prefix"}},
            }
        ],
        "CheckpointConfig": {"S3Uri": "s3://checkpoints/flights"},
        "OutputDataConfig": {"S3OutputPath": "s3://models/flights", "KmsKeyId": KEYS["alias"]},
        "ResourceConfig": {**cluster(), "VolumeKmsKeyId": KEYS["alias"]},
        "VpcConfig": VPC,
    },
}
MODEL = {
    "Name": "Make",
    "Type": "Model",
    "Arguments": {
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": get("Steps.Train.ModelArtifacts.S3ModelArtifacts")},
    },
}
TRANSFORM = {
    "Name": "Predict",
    "Type": "Transform",
    "Arguments": {
        "ModelName": get("Steps.Make.ModelName"),
        "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://raw-data/new"}}},
        "TransformOutput": {"S3OutputPath": "s3://predictions/new"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    },
}
TELL = {"Name": "Tell", "Type": "Lambda", "FunctionArn": AWS.arn("lambda", "function:tell"), "Arguments": {}}
QUEUE_URL = f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/callbacks"
ASK = {"Name": "Ask", "Type": "Callback", "SqsQueueUrl": QUEUE_URL, "Arguments": {}}
REPORT = {"PropertyFileName": "Report", "OutputName": "out", "FilePath": "report.json"}
GATE = condition(
    "Gate",
    [compare("LessThan", json_get("Coded", "Report", "bad"), 0.1)],
    [coded("InBranch", s3_input("made", output_of("Coded")))],
    [],
)

STEPS = {
    "coded": (coded("Coded", PropertyFiles=[REPORT]), GATE),
    "elsewhere": (flight_step("Elsewhere", "s3://other/in", "s3://third/out", ProcessingJobName="mine"),),
    "network": (coded("Inside", members={"NetworkConfig": {"VpcConfig": VPC}}),),
    "models": (TRAIN, MODEL, TRANSFORM),
    "others": (TELL, ASK),
    "theirs": (
        coded(
            "Theirs",
            s3_input("secret", "s3://secret/x"),
            members={"RoleArn": THEIRS, "NetworkConfig": {"VpcConfig": VPC}, **with_key(KEYS["other"])},
            PropertyFiles=[REPORT],
        ),
    ),
    **{f"key-{name}": (coded(f"Key-{name}", members=with_key(key)),) for name, key in KEYS.items()},
}


def put_to_use(document, *, bucket_keys=(), manifests=None, **settings):
    """The requests that the execution role refuses, and what it allows for nothing."""
    made = samples.parts(document, **settings)
    role = there(made.execution_role)
    execution = Execution(
        document,
        made.target,
        {"Day": "2026-01-01", **settings.get("parameters", {})},
        manifests or {},
        dict(bucket_keys),
    )
    return refused(execution.asks, {ROLE: [role.policy]}), too_wide(execution, role.policy)


def too_wide(execution, policy):
    """What nothing used. A role may also read what it may write (steps go on from what was there), and list what it
    reads.
    """
    places = {item["Sid"]: item["Resource"] for item in policy["Statement"]}
    expected = {f"Read: s3:GetObject on {arn}" for arn in places.get("Write", ())}
    listed = {f"s3:ListBucket on {arn.partition('/')[0]}" for arn in places.get("Read", ())}
    found = unused(execution.asks, ROLE, policy)
    return [line for line in found if line not in expected and line.partition(": ")[2] not in listed]


@given(
    st.lists(st.sampled_from(sorted(STEPS)), unique=True, max_size=len(STEPS)),
    st.booleans(),
    st.sampled_from(
        [{}, {"network": {"subnets": ["subnet-9"]}}, {"kms_key_id": KEYS["alias"]}, {"kms_key_id": KEYS["id"]}]
    ),
)
def test_the_execution_role_is_neither_too_narrow_nor_too_wide(names, trials, settings):
    document = sample(*(step for name in names for step in STEPS[name]))
    if trials:
        document["PipelineExperimentConfig"] = {"ExperimentName": get("Execution.PipelineName")}
    narrow, wide = put_to_use(document, **settings)
    assert narrow == []
    assert wide == []


@pytest.mark.parametrize("named", [True, False])
def test_the_role_of_a_job_may_be_passed_also_where_the_step_leaves_it_to_the_service(named):
    document = json.loads(json.dumps(sample(coded("Coded"), TRAIN)))
    for step in () if named else document["Steps"]:
        del step["Arguments"]["RoleArn"]
    assert put_to_use(document) == ([], [])


def test_a_statement_that_nothing_used_is_found():
    made = there(samples.parts().execution_role)
    more = {
        "Sid": "More",
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:DeleteObject"],
        "Resource": ["arn:aws:s3:::raw-data/*"],
    }
    execution = Execution(sample(), samples.TARGET, {"Day": "x"})
    assert too_wide(execution, {"Statement": [*made.policy["Statement"], more]}) == [
        "More: s3:DeleteObject on arn:aws:s3:::raw-data/*"
    ]
    narrower = {"Statement": [item for item in made.policy["Statement"] if item["Sid"] != "Logs"]}
    assert {line.split()[3] for line in refused(execution.asks, {ROLE: [narrower]})} == {
        *("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
    }


def test_a_job_cannot_write_what_the_release_consists_of():
    """Code, records and the lock are the promotion's, which would be led astray by what a job writes there."""
    made = there(samples.parts(sample(coded("Coded"))).execution_role)
    write = [item for item in made.policy["Statement"] if "s3:PutObject" in item["Action"]]
    assert [arn for item in write for arn in item["Resource"] if BUCKET in arn] == []


@pytest.mark.parametrize("kind", ["ManifestFile", "AugmentedManifestFile"])
def test_what_a_manifest_lists_is_told_and_can_be_allowed(kind):
    step = coded("Listed", s3_input("listed", MANIFEST, S3DataType=kind))
    manifests = {MANIFEST: ["s3://lists/2026/a.csv", "s3://archive/b.csv"]}
    narrow, _ = put_to_use(sample(step), manifests=manifests)
    assert [line.split()[5] for line in narrow] == ["arn:aws:s3:::lists/2026/a.csv", "arn:aws:s3:::archive/b.csv"]
    notes = "\n".join(samples.parts(sample(step)).notes)
    assert "Steps[1].Arguments.ProcessingInputs[1].S3Input.S3Uri is a manifest" in notes
    assert "'policy_statements'" in notes
    more = {"Sid": "Listed", "Effect": "Allow", "Action": "s3:GetObject", "Resource": ["arn:aws:s3:::*.csv"]}
    narrow, wide = put_to_use(sample(step), manifests=manifests, policy_statements=[more])
    assert (narrow, wide) == ([], [])


def test_the_keys_of_input_buckets_are_for_reading_alone():
    narrow, _ = put_to_use(sample(), bucket_keys={"raw-data": samples.KEY})
    assert [line.split()[3] for line in narrow] == ["kms:Decrypt"]
    narrow, wide = put_to_use(sample(), bucket_keys={"raw-data": samples.KEY}, kms_key_arns=[samples.KEY])
    assert (narrow, wide) == ([], [])


def test_the_start_role_starts_the_pipeline_and_keeps_what_could_not_start():
    made = samples.parts(schedule={**samples.SCHEDULE, "dead_letter_queue": QUEUE})
    role = there(made.start_role)
    asks = start_asks(made.target, "start", QUEUE)
    assert refused(asks, {"start": [role.policy]}) == []
    assert unused(asks, "start", role.policy) == []
    mine = {"aws__SourceAccount": ACCOUNT}
    assert may_assume(role.trust, "scheduler.amazonaws.com", **mine)
    assert may_assume(role.trust, "events.amazonaws.com", **mine)
    assert not may_assume(role.trust, "scheduler.amazonaws.com", aws__SourceAccount="999999999999")
    assert not may_assume(role.trust, "sagemaker.amazonaws.com", **mine)
    assert may_assume(there(made.execution_role).trust, "sagemaker.amazonaws.com", **mine)
