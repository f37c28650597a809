"""The types of steps that run on this machine, and what is known of each before it runs. No I/O.

A further type is a further entry of ``STEP_KINDS``, and one of ``local_runner.execution.steps.RUNS``, which runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from local_runner.definition.paths import Deferred
from local_runner.errors import Problem
from local_runner.jsontext import as_object
from local_runner.models import ProcessingJob, StockJob
from local_runner.sagemaker_api import processing as request
from local_runner.sagemaker_api import stock as stock_request
from local_runner.sagemaker_api.arns import arn

Request = Mapping[str, Any]


@dataclass(frozen=True)
class JobKind:
    """One type of step whose Arguments are a request.

    ``shape`` is what botocore calls the request, ``resource`` what ARNs call the job; ``parse`` makes the job of
    (request, its name, path), without an ARN; ``reads`` are
    the S3 URIs that a request reads, with their paths in it, ``writes`` those under which it writes; ``ignored`` is
    what of it has no meaning here. ``defaults`` are the members that the service fills in, ``later`` those of the
    Describe response that only the run knows. ``elsewhere`` is what a request as it is planned names (with its path)
    and this machine cannot have. ``stock`` is whether the SDK's stock local mode runs its jobs, whichever engine runs
    the others.

    ``network`` is where the request has its VpcConfig (the path of the object, empty for the request itself; None where
    it has none), ``keys`` where its KMS keys stand: an environment of a promotion fills them in.
    """

    shape: str
    resource: str
    parse: Callable[[Request, str, str], tuple[ProcessingJob | StockJob | None, list[Problem]]]
    reads: Callable[[Request], list[tuple[str, str]]]
    writes: Callable[[Request], list[str]]
    ignored: Callable[[Request], list[str]]
    later: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    elsewhere: Callable[[Request, str], list[Problem]] = lambda _request, _where: []
    stock: bool = False
    network: tuple[str, ...] | None = None
    keys: tuple[tuple[str, ...], ...] = ()

    @property
    def name_member(self) -> str:
        """The member of the request that is the job's name: the first that only the run knows."""
        return self.later[0]

    def job(
        self, request: Request, name: str, where: str, region: str
    ) -> tuple[ProcessingJob | StockJob | None, list[Problem]]:
        """The job of a request in that region; None where the request holds what is not known yet, or has problems."""
        job, problems = self.parse(request, name, where)
        return (replace(job, arn=arn(region, self.resource, name)) if job else None), problems

    def describe_unrun(self, resolved: Any, reason: str) -> Mapping[str, Any] | Deferred:
        """What is known of the Describe response before the job ran: the request; the rest is Deferred."""
        known = as_object(resolved)
        if known is None:
            return Deferred(reason)
        return {**self.defaults, **known, **dict.fromkeys(self.later, Deferred(reason))}


@dataclass(frozen=True)
class FunctionKind:
    """One type of step that calls another service, in whose place a Python function runs here.

    ``declares_outputs`` is whether its steps have OutputParameters, which are then all that they hand on.
    """

    declares_outputs: bool = False


@dataclass(frozen=True)
class AtOnceKind:
    """One type of step that calls nothing: it ends as soon as it starts."""


_TIMES = ("CreationTime", "LastModifiedTime", "FailureReason")

STEP_KINDS: Mapping[str, JobKind | FunctionKind | AtOnceKind] = {
    "Processing": JobKind(
        shape="CreateProcessingJobRequest",
        resource="processing-job",
        parse=request.processing_job,
        reads=request.processing_reads,
        writes=request.processing_writes,
        ignored=request.ignored_kinds,
        later=(
            "ProcessingJobName",
            "ProcessingJobArn",
            "ProcessingJobStatus",
            "ExitMessage",
            "ProcessingStartTime",
            "ProcessingEndTime",
            *_TIMES,
        ),
        defaults={"StoppingCondition": {"MaxRuntimeInSeconds": request.DEFAULT_MAX_RUNTIME}, "Environment": {}},
        network=("NetworkConfig",),
        keys=(("ProcessingOutputConfig", "KmsKeyId"), ("ProcessingResources", "ClusterConfig", "VolumeKmsKeyId")),
    ),
    "Training": JobKind(
        shape="CreateTrainingJobRequest",
        resource="training-job",
        parse=stock_request.training_job,
        reads=stock_request.training_reads,
        writes=stock_request.stock_writes,
        ignored=stock_request.stock_ignored,
        later=(
            "TrainingJobName",
            "TrainingJobArn",
            "TrainingJobStatus",
            "SecondaryStatus",
            "ModelArtifacts",
            "TrainingStartTime",
            "TrainingEndTime",
            *_TIMES,
        ),
        stock=True,
        network=(),
        keys=(("OutputDataConfig", "KmsKeyId"), ("ResourceConfig", "VolumeKmsKeyId")),
    ),
    "Transform": JobKind(
        shape="CreateTransformJobRequest",
        resource="transform-job",
        parse=stock_request.transform_job,
        reads=stock_request.transform_reads,
        writes=stock_request.stock_writes,
        ignored=stock_request.stock_ignored,
        later=(
            "TransformJobName",
            "TransformJobArn",
            "TransformJobStatus",
            "TransformStartTime",
            "TransformEndTime",
            *_TIMES,
        ),
        elsewhere=stock_request.model_elsewhere,
        stock=True,
        keys=(("TransformOutput", "KmsKeyId"), ("TransformResources", "VolumeKmsKeyId")),  # the network is its model's
    ),
    "Model": JobKind(
        shape="CreateModelInput",
        resource="model",
        parse=stock_request.model,
        reads=stock_request.model_reads,
        writes=lambda _: [],
        ignored=stock_request.stock_ignored,
        later=("ModelName", "ModelArn", "CreationTime"),
    ),
    "Lambda": FunctionKind(declares_outputs=True),
    "Callback": FunctionKind(declares_outputs=True),
    "EMR": FunctionKind(),
    "EMRServerless": FunctionKind(),
    "Condition": AtOnceKind(),
    "Fail": AtOnceKind(),
}
"""Every type of step that can run on this machine."""

JOB_KINDS = {type_: kind for type_, kind in STEP_KINDS.items() if isinstance(kind, JobKind)}
FUNCTION_KINDS = {type_: kind for type_, kind in STEP_KINDS.items() if isinstance(kind, FunctionKind)}
AT_ONCE_TYPES = frozenset(type_ for type_, kind in STEP_KINDS.items() if isinstance(kind, AtOnceKind))
IN_STOCK_LOCAL_MODE = frozenset(type_ for type_, kind in JOB_KINDS.items() if kind.stock)
