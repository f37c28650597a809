"""What the two roles may do: a definition and its environment -> IAM policy documents. No I/O.

Each statement has a Sid, so that what changes in a policy can be shown by name. ``*`` alone as a Resource is in the
statements of ANY_RESOURCE alone.
Source: SageMaker developer guide, "IAM Access Management for Pipelines", "CreateProcessingJob API: Execution Role
Permissions"; EventBridge Scheduler user guide, "Execution role".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.iam.needs import Location, Needs, shortest
from local_runner.cloud.target.target import Target
from local_runner.storage.local_s3 import CODE_PREFIX

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
    "AutoML": (("AutoMLJob", "automl-job"), ("AutoMLJobV2", "automl-job")),  # which of the two, the service decides
}
"""What steps of a type create: its name in the API's actions, and in ARNs."""

_MODELS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Model": (("Model", "model/{name}"),),
    "RegisterModel": (("ModelPackage", "model-package/*"), ("ModelPackageGroup", "model-package-group/*")),
}
"""As _JOBS; the name of a package is its group's."""

_WITHOUT_PERMISSIONS = frozenset({"Condition", "Fail", "Lambda", "Callback"})


# ---------------------------------------------------------------------------------------------- execution role
def execution_trust() -> dict[str, Any]:
    """Who may take on the execution role."""
    return document([{"Sid": "SageMaker", **_assumed_by("sagemaker.amazonaws.com")}])


def execution_policy(needs: Needs, target: Target) -> dict[str, Any]:
    """What the steps need, and no more, with the environment's own KMS key and statements. Raises CloudError."""
    aws, environment = target.aws, target.environment
    code = Location(target.bucket, f"{target.prefix}/{CODE_PREFIX}/")
    # Of all releases, so that a new one takes nothing from executions of the old one. No job may write there.
    reads = shortest({code, *needs.reads}) if any(_is_within(one, code) for one in needs.reads) else needs.reads
    statements = [
        *_storage(shortest({*reads, *needs.writes}), needs.writes, aws.partition),
        *_jobs(needs, aws),
        *_trials(needs, aws),
        *_surroundings(needs, aws),
        *_images(needs, aws.partition),
        *key_statements("Encryption", _ENCRYPTION, {*needs.keys, *filter(None, [environment.kms_key_id])}, aws),
        *key_statements("Decryption", ["Decrypt"], environment.kms_key_arns, aws),  # what is in buckets
    ]
    if needs.roles:  # itself, and what steps name as the role of their jobs
        passing = _allow("iam:PassRole", needs.roles)
        statements.append({"Sid": "PassRoles", **passing, "Condition": passed_to("sagemaker")})
    if needs.functions:
        statements.append({"Sid": "Functions", **_allow("lambda:InvokeFunction", needs.functions)})
    if needs.queues:
        statements.append({"Sid": "Queues", **_allow("sqs:SendMessage", needs.queues)})
    own = [statement.model_dump(mode="json", exclude_none=True) for statement in environment.policy_statements]
    if taken := {one["Sid"] for one in statements} & {one["Sid"] for one in own}:
        raise CloudError(
            f"environments.{environment.name}.policy_statements: {', '.join(sorted(taken))} is the Sid of a statement "
            "that the role has anyway. Give yours another."
        )
    return document([*statements, *own])


def gaps(needs: Needs) -> list[str]:
    """What a computed role cannot allow, as sentences: what else it may do is the environment's to say."""
    types = [kind for kind in needs.step_types if not ({kind} & (_JOBS.keys() | _MODELS.keys() | _WITHOUT_PERMISSIONS))]
    sentences = [f"The role that is made has no permissions for {kind} steps." for kind in types]
    sentences += [f"The role that is made cannot allow what is not known: {place}." for place in needs.unknown]
    remedy = "Allow it in 'policy_statements' of the environment, or give a role as its 'role_arn'."
    return [f"{sentence} {remedy}" for sentence in sentences]


_ENCRYPTION = ("CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey")
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
    of_objects = [
        {"Sid": "Read", **_allow("s3:GetObject", keys(reads))},
        {"Sid": "Write", **_allow(["s3:AbortMultipartUpload", "s3:PutObject"], keys(writes))},
    ]
    return [*(statement for statement in of_objects if statement["Resource"]), *listing]


def _is_within(one: Location, other: Location) -> bool:
    return one.bucket == other.bucket and one.prefix.startswith(other.prefix)


def _jobs(needs: Needs, aws: Aws) -> list[Statement]:
    made: list[Statement] = []
    for job, resource in dict.fromkeys(pair for kind in needs.step_types for pair in _JOBS.get(kind, ())):
        names = sorted({f"{name}*" for kind, name in needs.job_names if (job, resource) in _JOBS.get(kind, ())})
        verbs = [f"sagemaker:{verb}{job}" for verb in ("Create", "Describe")]
        verbs.append(f"sagemaker:Stop{job.removesuffix('V2')}")
        resources = [aws.arn("sagemaker", f"{resource}/{name}") for name in names]
        made.append({"Sid": f"{job}s", **_allow(sorted([*verbs, "sagemaker:AddTags"]), resources)})
    for kind in needs.step_types:
        names = sorted({f"{name}*" for other, name in needs.job_names if other == kind})
        for what, resource in _MODELS.get(kind, ()):
            actions = ["sagemaker:AddTags", f"sagemaker:Create{what}", f"sagemaker:Describe{what}"]
            named = dict.fromkeys(aws.arn("sagemaker", resource.format(name=name)) for name in names)
            made.append({"Sid": f"{what}s", **_allow(actions, list(named))})
    return made


def _trials(needs: Needs, aws: Aws) -> list[Statement]:
    """An execution is kept as a trial of the experiment named after its pipeline, where the definition says so."""
    verbs = {
        "experiment": ("AddTags", "CreateExperiment", "CreateTrial", "DescribeExperiment"),
        "experiment-trial": ("AddTags", "AssociateTrialComponent", "CreateTrial", "DescribeTrial"),
        "experiment-trial-component": (
            "AddTags",
            "AssociateTrialComponent",
            "CreateTrialComponent",
            "DescribeTrialComponent",
            "UpdateTrialComponent",
        ),
    }
    return [
        {
            "Sid": f"{kind.title().replace('-', '')}s",
            **_allow([f"sagemaker:{verb}" for verb in of_kind], [aws.arn("sagemaker", f"{kind}/*")]),
        }
        for kind, of_kind in (verbs.items() if needs.keeps_trials else ())
    ]


def _surroundings(needs: Needs, aws: Aws) -> list[Statement]:
    """What jobs and models with the role have around them: logs, metrics, the network interfaces of one in a VPC."""
    if not {*needs.run_types} & {*_JOBS, *_MODELS}:
        return []
    logs = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    namespaces = {"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}}
    return [
        {"Sid": "Logs", **_allow(logs, [aws.arn("logs", "log-group:/aws/sagemaker/*")])},
        {"Sid": "Metrics", **_allow("cloudwatch:PutMetricData", ["*"]), "Condition": namespaces},
        *([{"Sid": "Network", **_allow(_NETWORK_ACTIONS, ["*"])}] if needs.network else []),
    ]


def key_statements(sid: str, verbs: Sequence[str], keys: Collection[str], aws: Aws) -> list[Statement]:
    """What may be done with KMS keys, given as the API takes them: by id, ARN, alias, or the ARN of an alias.

    An alias as a Resource would be a permission for the alias and not for its key, so that it is a condition (KMS
    developer guide, "Using aliases to control access to KMS keys").
    """
    actions = [f"kms:{verb}" for verb in verbs]
    arns = sorted(
        key if key.startswith("arn:") else aws.arn("kms", key if key.startswith("alias/") else f"key/{key}")
        for key in keys
    )
    by_alias = [arn.partition(":alias/") for arn in arns if ":alias/" in arn]
    names = [f"alias/{name}" for _, _, name in by_alias]
    places = sorted({f"{place}:key/*" for place, _, _ in by_alias})
    behind = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": names}}
    statements = [
        {"Sid": sid, **_allow(actions, [arn for arn in arns if ":alias/" not in arn])},
        {"Sid": f"{sid}ByAlias", **_allow(actions, places), "Condition": behind},
    ]
    return [statement for statement in statements if statement["Resource"]]


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


def passed_to(*services: str) -> dict[str, Any]:
    """The condition that a role is handed to these services alone."""
    names = [f"{service}.amazonaws.com" for service in services]
    return {"StringEquals": {"iam:PassedToService": names[0] if len(names) == 1 else names}}
