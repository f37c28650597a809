"""What the service asks of the roles of a promotion while an execution runs: each request, with where that is written.

    document + target -> [Ask]      as the pipeline's role, as the roles of jobs and models, as what starts the pipeline
    refused(asks, policies)         what a policy is too narrow for
    unused(asks, policy)            what of a policy no request needs

It knows nothing of how the product computes policies: a definition is resolved here as for one execution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_runner.cloud.iam.evaluate import allowed
from local_runner.cloud.target.target import Target

EXECUTION = "abcdefghijkl"

# The pages of the SageMaker developer guide, unless they say otherwise.
_PIPELINE = "Access Management (of Pipelines)"
_ROLES = "How to use SageMaker execution roles: Create{}Job API: Execution Role Permissions"
_MODEL = "How to use SageMaker execution roles: CreateModel API: Execution Role Permissions"
_TRIALS = "Amazon SageMaker Experiments Integration"
_TAGS = "our reading: what a step makes carries tags, for which IAM asks sagemaker:AddTags"
_STOP = "API StopPipelineExecution: the jobs that run are stopped"
_MULTIPART = "S3 user guide, Multipart upload API and permissions"
_SSE = "AWS re:Post, s3-large-file-encryption-kms-key: a multipart upload with a KMS key"
_KEYS = "Encrypt Output Data and Storage Volume with AWS KMS"
_ALIASES = "KMS developer guide, Using aliases to control access to KMS keys"
_START = "EventBridge Scheduler user guide, Execution role"

_NETWORK = (
    *("CreateNetworkInterface", "CreateNetworkInterfacePermission", "DeleteNetworkInterface"),
    *("DeleteNetworkInterfacePermission", "DescribeDhcpOptions", "DescribeNetworkInterfaces"),
    *("DescribeSecurityGroups", "DescribeSubnets", "DescribeVpcs"),
)
_JOBS = {"Processing": "processing-job", "Training": "training-job", "Transform": "transform-job"}


@dataclass(frozen=True)
class Ask:
    """One request that the service makes as ``role`` (an ARN)."""

    role: str
    action: str
    resource: str
    source: str
    context: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)


def refused(asks: Sequence[Ask], policies: Mapping[str, Sequence[Any]]) -> list[str]:
    """What these policies of roles (by ARN) do not allow; the requests of other roles are not looked at."""
    found = (
        (ask, allowed(policies[ask.role], ask.action, ask.resource, ask.context))
        for ask in asks
        if ask.role in policies
    )
    return [f"{decision.reason} ({ask.source}; {dict(ask.context)})" for ask, decision in found if not decision.allowed]


def unused(asks: Sequence[Ask], role: str, policy: Mapping[str, Any]) -> list[str]:
    """Every action on a resource that a statement of the role's policy allows and that no request needs."""
    mine = [ask for ask in asks if ask.role == role]

    def is_used(statement: Mapping[str, Any]) -> bool:
        return any(allowed([{"Statement": statement}], ask.action, ask.resource, ask.context).allowed for ask in mine)

    return [
        f"{statement['Sid']}: {action} on {resource}"
        for statement in policy["Statement"]
        for action in _listed(statement["Action"])
        for resource in _listed(statement["Resource"])
        if not is_used({**statement, "Action": action, "Resource": resource})
    ]


# ------------------------------------------------------------------------------------------------ an execution
@dataclass(frozen=True)
class Execution:
    """One execution of a definition (JSON). ``manifests`` are the objects that a manifest (its URI) lists,
    ``bucket_keys`` the KMS keys (ARNs) that buckets encrypt with.
    """

    document: Mapping[str, Any]
    target: Target
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    manifests: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    bucket_keys: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def asks(self) -> list[Ask]:
        """Every request of the service, each once."""
        made = [*self._trials(), *(ask for step in self.steps for ask in self._step(step))]
        return list({(ask.role, ask.action, ask.resource, str(ask.context)): ask for ask in made}.values())

    @property
    def steps(self) -> list[dict[str, Any]]:
        """All steps, those of branches too."""

        def flat(steps: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            for step in steps:
                yield step
                arguments = step.get("Arguments", {})
                yield from flat([*arguments.get("IfSteps", ()), *arguments.get("ElseSteps", ())])

        return list(flat(self.document["Steps"]))

    # ------------------------------------------------------------------------------------------- as the pipeline
    def _trials(self) -> Iterator[Ask]:
        if "PipelineExperimentConfig" not in self.document:
            return
        component = "CreateTrialComponent", "DescribeTrialComponent", "UpdateTrialComponent"
        for kind, verbs in (
            ("experiment", ("CreateExperiment", "CreateTrial", "DescribeExperiment")),
            ("experiment-trial", ("CreateTrial", "DescribeTrial", "AssociateTrialComponent")),
            ("experiment-trial-component", ("AssociateTrialComponent", *component)),
        ):
            for verb in (*verbs, "AddTags"):
                yield self._by_pipeline(f"sagemaker:{verb}", self._arn("sagemaker", f"{kind}/x"), _TRIALS)

    def _step(self, step: Mapping[str, Any]) -> Iterator[Ask]:
        kind, request = step["Type"], self._resolved(step.get("Arguments", {}))
        for place in step.get("PropertyFiles", ()):
            for output in request["ProcessingOutputConfig"]["Outputs"]:
                if output["OutputName"] == place["OutputName"]:
                    file = f"{output['S3Output']['S3Uri']}/{place['FilePath']}"
                    yield self._by_pipeline("s3:GetObject", _object(file), _PIPELINE)
        match kind:
            case "Processing" | "Training" | "Transform":
                yield from self._job(step["Name"], kind, request)
            case "Model":
                yield from self._model(step["Name"], request)
            case "Lambda":
                yield self._by_pipeline("lambda:InvokeFunction", step["FunctionArn"], _PIPELINE)
            case "Callback":
                _, region, account, name = re.split(r"https://sqs\.|\.amazonaws\.com/|/", step["SqsQueueUrl"])
                yield self._by_pipeline("sqs:SendMessage", f"arn:aws:sqs:{region}:{account}:{name}", _PIPELINE)

    def _made(self, name: str, resource: str, kind: str, request: Mapping[str, Any], source: str) -> Iterator[Ask]:
        made = request.get(f"{kind}Name")
        job = f"{made}-{EXECUTION}" if made else f"pipelines-{EXECUTION}-{name}-AbCdEf"
        arn = self._arn("sagemaker", f"{resource}/{job}")
        yield self._by_pipeline(f"sagemaker:Create{kind}", arn, source)
        yield self._by_pipeline(f"sagemaker:Describe{kind}", arn, source)
        yield self._by_pipeline("sagemaker:AddTags", arn, _TAGS)
        own = self.role if kind in ("ProcessingJob", "TrainingJob") else None  # where the step names none
        if role := request.get("RoleArn") or request.get("ExecutionRoleArn") or own:
            context = {"iam:PassedToService": "sagemaker.amazonaws.com"}
            yield Ask(self.role, "iam:PassRole", role, source, context)

    def _job(self, name: str, kind: str, request: Mapping[str, Any]) -> Iterator[Ask]:
        job, resource = f"{kind}Job", _JOBS[kind]
        made = list(self._made(name, resource, job, request, _PIPELINE))
        yield from made
        yield self._by_pipeline(f"sagemaker:Stop{job}", made[0].resource, _STOP)
        role = request.get("RoleArn", self.role)  # a transform's is its model's, which is the pipeline's in these tests
        source = _ROLES.format(kind)
        yield from self._surroundings(role, f"{job}s", source)
        for image in (_at(request, "AppSpecification.ImageUri"), _at(request, "AlgorithmSpecification.TrainingImage")):
            yield from self._image(role, image, source)
        yield from self._network(role, _at(request, "NetworkConfig.VpcConfig") or request.get("VpcConfig"), source)
        yield from self._data(role, kind, request, source)

    def _model(self, name: str, request: Mapping[str, Any]) -> Iterator[Ask]:
        yield from self._made(name, "model", "Model", request, _MODEL)
        role = request["ExecutionRoleArn"]
        yield from self._surroundings(role, "TransformJobs", _MODEL)
        yield from self._image(role, _at(request, "PrimaryContainer.Image"), _MODEL)
        yield from self._network(role, request.get("VpcConfig"), _MODEL)
        if data := _at(request, "PrimaryContainer.ModelDataUrl"):
            yield from self._read(role, data, _MODEL, lists=False)

    # ------------------------------------------------------------------------------------------------- as a job
    def _data(self, role: str, kind: str, request: Mapping[str, Any], source: str) -> Iterator[Ask]:
        inputs = [item["S3Input"] for item in request.get("ProcessingInputs", ()) if "S3Input" in item]
        inputs += [item["DataSource"]["S3DataSource"] for item in request.get("InputDataConfig", ())]
        inputs += filter(
            None, [_at(request, "TransformInput.DataSource.S3DataSource"), request.get("CheckpointConfig")]
        )
        for item in inputs:
            yield from self._read(role, item["S3Uri"], source)
            for uri in self.manifests.get(item["S3Uri"], ()):
                yield from self._read(role, uri, source, lists=False)
        outputs = [item["S3Output"]["S3Uri"] for item in _at(request, "ProcessingOutputConfig.Outputs") or ()]
        outputs += [_at(request, f"{place}.S3OutputPath") for place in ("OutputDataConfig", "TransformOutput")]
        outputs += [_at(request, "CheckpointConfig.S3Uri")]
        for uri in filter(None, outputs):
            yield Ask(role, "s3:PutObject", _object(f"{uri}/part-0"), source)
            yield Ask(role, "s3:AbortMultipartUpload", _object(f"{uri}/part-0"), _MULTIPART)
        at_rest = ("ProcessingOutputConfig", "OutputDataConfig", "TransformOutput")
        for key in filter(None, (_at(request, f"{place}.KmsKeyId") for place in at_rest)):
            yield from self._key(role, key, (("Encrypt", source), ("GenerateDataKey", _SSE), ("Decrypt", _SSE)))
        volumes = ("ProcessingResources.ClusterConfig", "ResourceConfig", "TransformResources")
        for key in filter(None, (_at(request, f"{place}.VolumeKmsKeyId") for place in volumes)):
            yield from self._key(role, key, (("CreateGrant", source), ("DescribeKey", _KEYS)))

    def _read(self, role: str, uri: str, source: str, *, lists: bool = True) -> Iterator[Ask]:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if lists:
            yield Ask(role, "s3:ListBucket", f"arn:aws:s3:::{bucket}", source, {"s3:prefix": key})
        yield Ask(role, "s3:GetObject", _object(uri), source)
        if key := self.bucket_keys.get(bucket):
            yield Ask(role, "kms:Decrypt", key, source)

    def _surroundings(self, role: str, group: str, source: str) -> Iterator[Ask]:
        logs = self._arn("logs", f"log-group:/aws/sagemaker/{group}")
        for verb, arn in (
            ("CreateLogGroup", logs),
            ("CreateLogStream", logs),
            ("DescribeLogStreams", logs),
            ("PutLogEvents", f"{logs}:log-stream:x/algo-1"),
        ):
            yield Ask(role, f"logs:{verb}", arn, source)
        namespace = {"cloudwatch:namespace": f"/aws/sagemaker/{group}"}
        yield Ask(role, "cloudwatch:PutMetricData", "*", source, namespace)

    def _image(self, role: str, image: str | None, source: str) -> Iterator[Ask]:
        match = re.match(r"(\d{12})\.dkr\.ecr\.([\w-]+)\.amazonaws\.com/([^:@]+)", image or "")
        if match:
            yield Ask(role, "ecr:GetAuthorizationToken", "*", source)
            for verb in ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer"):
                arn = f"arn:aws:ecr:{match[2]}:{match[1]}:repository/{match[3]}"
                yield Ask(role, f"ecr:{verb}", arn, source)

    def _network(self, role: str, vpc: Mapping[str, Any] | None, source: str) -> Iterator[Ask]:
        for verb in _NETWORK if vpc else ():
            yield Ask(role, f"ec2:{verb}", "*", source)

    def _key(self, role: str, key: str, uses: Sequence[tuple[str, str]]) -> Iterator[Ask]:
        """The key is written as an id, an ARN, an alias or the ARN of one (API, KmsKeyId): IAM sees its ARN."""
        arn = key if key.startswith("arn:") else self._arn("kms", key if key.startswith("alias/") else f"key/{key}")
        place, _, name = arn.rpartition(":")
        for verb, source in uses:
            if name.startswith("alias/"):
                yield Ask(role, f"kms:{verb}", f"{place}:key/behind-it", _ALIASES, {"kms:ResourceAliases": [name]})
            else:
                yield Ask(role, f"kms:{verb}", arn, source)

    # ------------------------------------------------------------------------------------------------ resolving
    @property
    def role(self) -> str:
        return self.target.execution_role_arn

    def _by_pipeline(self, action: str, resource: str, source: str) -> Ask:
        return Ask(self.role, action, resource, source)

    def _arn(self, service: str, resource: str) -> str:
        return self.target.aws.arn(service, resource)

    def _resolved(self, value: Any) -> Any:
        """A value of the definition as an execution has it."""
        match value:
            case {"Get": str(path)}:
                return self._got(path)
            case {"Std:Join": {"On": on, "Values": values}}:
                return on.join(str(self._resolved(item)) for item in values)
            case {"Std:JsonGet": _}:
                return "0.5"
            case dict():
                return {key: self._resolved(item) for key, item in value.items() if key not in ("IfSteps", "ElseSteps")}
            case list():
                return [self._resolved(item) for item in value]
            case _:
                return value

    def _got(self, path: str) -> Any:
        kind, _, rest = path.partition(".")
        if kind == "Execution":
            return EXECUTION
        if kind == "Parameters":
            defaults = {item["Name"]: item.get("DefaultValue") for item in self.document["Parameters"]}
            return {**defaults, **self.parameters}[rest]
        name, _, rest = rest.partition(".")
        request = next(step["Arguments"] for step in self.steps if step["Name"] == name)
        if output := re.fullmatch(r"ProcessingOutputConfig\.Outputs\['(.+)'\]\.S3Output\.S3Uri", rest):
            made = request["ProcessingOutputConfig"]["Outputs"]
            return self._resolved(next(one for one in made if one["OutputName"] == output[1])["S3Output"]["S3Uri"])
        if rest == "ModelArtifacts.S3ModelArtifacts":
            return f"{self._resolved(request['OutputDataConfig']['S3OutputPath'])}/job/output/model.tar.gz"
        return f"{name}.{rest}"


def start_asks(target: Target, role: str, dead_letter_queue: str | None = None) -> list[Ask]:
    """What EventBridge asks of the start role. The service has shown ARNs of pipelines in lower case."""
    asked = [target.pipeline_arn, target.pipeline_arn.lower()]
    asks = [Ask(role, "sagemaker:StartPipelineExecution", arn, _START) for arn in asked]
    if dead_letter_queue:
        asks.append(Ask(role, "sqs:SendMessage", dead_letter_queue, _START))
    return asks


def may_assume(trust: Mapping[str, Any], service: str, **context: str) -> bool:
    """Whether a trust policy lets a service take on its role; in ``context``, ``__`` stands for a colon."""
    of_service = [
        {key: value for key, value in statement.items() if key != "Principal"} | {"Resource": "*"}
        for statement in trust["Statement"]
        if service in _listed(statement["Principal"].get("Service", []))
    ]
    keys = {key.replace("__", ":"): value for key, value in context.items()}
    return allowed([{"Statement": of_service}], "sts:AssumeRole", "*", keys).allowed


def _at(request: Mapping[str, Any], path: str) -> Any:
    found: Any = request
    for key in path.split("."):
        found = (found or {}).get(key)
    return found


def _object(uri: str) -> str:
    return f"arn:aws:s3:::{uri.removeprefix('s3://')}"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
