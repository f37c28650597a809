"""What the two roles may do: a definition and its environment -> IAM policy documents. No I/O.

Each statement has a Sid, so that what changes in a policy can be shown by name. ``*`` alone as a Resource is in the
statements of ANY_RESOURCE alone.
Source: SageMaker developer guide, "IAM Access Management for Pipelines", "CreateProcessingJob API: Execution Role
Permissions"; EventBridge Scheduler user guide, "Execution role".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from local_runner.cloud.account.aws import Aws
from local_runner.cloud.iam.needs import Location, Needs, shortest
from local_runner.cloud.target.target import Target

Statement = dict[str, Any]

ANY_RESOURCE = {
    "LogInToRegistry": "ecr:GetAuthorizationToken is for the registry as a whole: IAM knows no resource for it.",
    "Metrics": "cloudwatch:PutMetricData knows no resource; the condition limits it to SageMaker's namespaces.",
    "Network": "ec2's network interfaces of a job have no name before they are made, and Describe knows no resource.",
}
"""The statements whose Resource is ``*``, each with the reason why no narrower one is possible."""

_JOBS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Processing": (("ProcessingJob", "processing-job"),),
    "QualityCheck": (("ProcessingJob", "processing-job"),),
    "ClarifyCheck": (("ProcessingJob", "processing-job"),),
    "Training": (("TrainingJob", "training-job"),),
    "Transform": (("TransformJob", "transform-job"),),
    "Tuning": (("HyperParameterTuningJob", "hyper-parameter-tuning-job"), ("TrainingJob", "training-job")),
    "AutoML": (("AutoMLJobV2", "automl-job"),),
}
"""What steps of a type create: its name in the API's actions, and in ARNs."""

_MODELS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Model": (("CreateModel", "DescribeModel"), ("model/{job}",)),
    "RegisterModel": (
        ("CreateModelPackage", "DescribeModelPackage", "CreateModelPackageGroup", "DescribeModelPackageGroup"),
        ("model-package/*", "model-package-group/*"),
    ),
}
_WITHOUT_PERMISSIONS = frozenset({"Condition", "Fail", "Lambda", "Callback"})


# ---------------------------------------------------------------------------------------------- execution role
def execution_trust() -> dict[str, Any]:
    """Who may take on the execution role."""
    return document([{"Sid": "SageMaker", **_assumed_by("sagemaker.amazonaws.com")}])


def execution_policy(needs: Needs, target: Target) -> dict[str, Any]:
    """What the steps need, and no more, with the environment's own prefix, KMS key and network."""
    aws = target.aws
    writes = shortest({Location(target.bucket, f"{target.prefix}/"), *needs.writes})
    statements = [
        *_storage(shortest({*needs.reads, *writes}), writes, aws.partition),
        *_jobs(needs, aws),
        {
            "Sid": "PassRoles",  # itself, and what steps name as the role of their jobs
            **_allow("iam:PassRole", sorted({target.made_role_arn, *needs.roles})),
            "Condition": _passed_to("sagemaker"),
        },
        {
            "Sid": "Experiments",  # an execution is kept as a trial of the experiment named after its pipeline
            **_allow(
                [
                    f"sagemaker:{verb}"
                    for verb in (
                        "AddTags",
                        "AssociateTrialComponent",
                        "CreateExperiment",
                        "CreateTrial",
                        "CreateTrialComponent",
                        "DescribeExperiment",
                        "DescribeTrial",
                        "DescribeTrialComponent",
                        "UpdateTrialComponent",
                    )
                ],
                [
                    aws.arn("sagemaker", f"{kind}/*")
                    for kind in ("experiment", "experiment-trial", "experiment-trial-component")
                ],
            ),
        },
        {
            "Sid": "Logs",
            **_allow(
                ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                [aws.arn("logs", "log-group:/aws/sagemaker/*")],
            ),
        },
        {
            "Sid": "Metrics",
            **_allow("cloudwatch:PutMetricData", ["*"]),
            "Condition": {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}},
        },
        *_images(needs, aws.partition),
    ]
    if needs.functions:
        statements.append({"Sid": "Functions", **_allow("lambda:InvokeFunction", needs.functions)})
    if needs.queues:
        statements.append({"Sid": "Queues", **_allow("sqs:SendMessage", needs.queues)})
    if target.kms_key_arn:
        keys = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"]
        statements.append({"Sid": "Encryption", **_allow(keys, [target.kms_key_arn])})
    if target.environment.network.subnets:
        statements.append({"Sid": "Network", **_allow(_NETWORK_ACTIONS, ["*"])})
    return document(statements)


def gaps(needs: Needs) -> list[str]:
    """What a computed role cannot allow, as sentences: those pipelines want a ``role_arn`` of their own."""
    types = [kind for kind in needs.step_types if not ({kind} & (_JOBS.keys() | _MODELS.keys() | _WITHOUT_PERMISSIONS))]
    sentences = [f"The role that is made has no permissions for {kind} steps." for kind in types]
    sentences += [f"The role that is made cannot allow what is not known: {place}." for place in needs.unknown]
    return [f"{sentence} Give a role as 'role_arn' of the environment." for sentence in sentences]


_NETWORK_ACTIONS = [
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
]


def _storage(reads: Collection[Location], writes: Collection[Location], partition: str) -> list[Statement]:
    """``reads`` cover ``writes``: a step reads what another one wrote."""

    def keys(locations: Collection[Location]) -> list[str]:
        return sorted({f"arn:{partition}:s3:::{place.bucket}/{place.prefix}*" for place in locations})

    buckets = sorted({place.bucket for place in reads})
    listing: list[Statement] = []
    for number, bucket in enumerate(buckets, 1):
        prefixes = sorted({f"{place.prefix}*" for place in reads if place.bucket == bucket})
        allowed = {"Sid": f"ListBucket{number}", **_allow("s3:ListBucket", [f"arn:{partition}:s3:::{bucket}"])}
        listing.append(
            allowed if "*" in prefixes else {**allowed, "Condition": {"StringLike": {"s3:prefix": prefixes}}}
        )
    return [
        {"Sid": "Read", **_allow("s3:GetObject", keys(reads))},
        {"Sid": "Write", **_allow(["s3:AbortMultipartUpload", "s3:PutObject"], keys(writes))},
        *listing,
    ]


def _jobs(needs: Needs, aws: Aws) -> list[Statement]:
    # The service names jobs pipelines-<execution id>-<step>-<random>, where the step does not say otherwise.
    names = [f"{name}*" for name in ("pipelines-", *needs.job_names)]
    kinds = dict.fromkeys(pair for kind in needs.step_types for pair in _JOBS.get(kind, ()))
    made: list[Statement] = []
    for job, resource in kinds:
        verbs = [f"sagemaker:{verb}{job}" for verb in ("Create", "Describe")]
        verbs.append(f"sagemaker:Stop{job.removesuffix('V2')}")
        resources = [aws.arn("sagemaker", f"{resource}/{name}") for name in names]
        made.append({"Sid": f"{job}s", **_allow(sorted([*verbs, "sagemaker:AddTags"]), resources)})
    for kind in needs.step_types:
        if kind in _MODELS:
            verbs, resources = _MODELS[kind]
            named = [
                aws.arn("sagemaker", text.format(job=name)) for text in resources for name in names if "{job}" in text
            ] or [aws.arn("sagemaker", text) for text in resources]
            actions = sorted(f"sagemaker:{verb}" for verb in (*verbs, "AddTags"))
            made.append({"Sid": f"{kind}s", **_allow(actions, named)})
    return made


def _images(needs: Needs, partition: str) -> list[Statement]:
    if not needs.repositories:
        return []
    arns = [f"arn:{partition}:ecr:{one.region}:{one.account}:repository/{one.name}" for one in needs.repositories]
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    return [
        {"Sid": "PullImages", **_allow(pull, arns)},
        {"Sid": "LogInToRegistry", **_allow("ecr:GetAuthorizationToken", ["*"])},
    ]


# -------------------------------------------------------------------------------------------------- start role
def start_trust(account: str) -> dict[str, Any]:
    """Who may take on the start role: EventBridge's schedules and rules of this account.

    Both, so that a change from one to the other leaves the old one working until the new one is there.
    """
    condition = {"StringEquals": {"aws:SourceAccount": account}}
    services = [f"{service}.amazonaws.com" for service in ("events", "scheduler")]
    return document([{"Sid": "EventBridge", **_assumed_by(services), "Condition": condition}])


def start_policy(pipeline_arn: str, dead_letter_queue: str | None = None) -> dict[str, Any]:
    """Starts this one pipeline, and sends what could not be started to the queue (an ARN)."""
    # The service has shown ARNs of pipelines in lower case, and IAM compares resources to the letter.
    arns = list(dict.fromkeys([pipeline_arn, pipeline_arn.lower()]))
    statements = [{"Sid": "StartPipeline", **_allow("sagemaker:StartPipelineExecution", arns)}]
    if dead_letter_queue:
        statements.append({"Sid": "DeadLetters", **_allow("sqs:SendMessage", [dead_letter_queue])})
    return document(statements)


# ------------------------------------------------------------------------------------------------------- parts
def document(statements: Sequence[Statement]) -> dict[str, Any]:
    """A policy document of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(actions: str | Sequence[str], resources: Sequence[str]) -> Statement:
    return {"Effect": "Allow", "Action": actions, "Resource": list(resources)}


def _assumed_by(services: str | Sequence[str]) -> Statement:
    return {"Effect": "Allow", "Principal": {"Service": services}, "Action": "sts:AssumeRole"}


def _passed_to(service: str) -> dict[str, Any]:
    return {"StringEquals": {"iam:PassedToService": f"{service}.amazonaws.com"}}
