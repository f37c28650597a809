"""The data that passes between the stages. Frozen, without behaviour beyond derived names; no I/O.

    compile -> PipelineDefinition -> plan -> Plan -> execute -> Execution -> report

Names are SageMaker's own, in snake_case. JSON is parsed into these at the border (``definition/``,
``sagemaker_api/``); raw dictionaries travel only where the service's own request is meant (``ProcessingJob.request``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from local_runner.secrets import Secrets

ParameterType = Literal["String", "Integer", "Float", "Boolean"]
ParameterValue = str | int | float | bool
StepStatus = Literal["Starting", "Executing", "Stopping", "Stopped", "Failed", "Succeeded"]
ExecutionStatus = Literal["Executing", "Stopping", "Stopped", "Failed", "Succeeded", "CompletedWithFailures"]
FAILURES = ("Failed", "CompletedWithFailures")
"""The statuses of an execution in which a step failed (API: PipelineExecutionStatus)."""
Trigger = Literal["Completed", "Failed", "Stopped", "Any"]
StopReason = Literal["interrupted", "max_runtime"]
"""What ends a job from outside: the user, or its MaxRuntimeInSeconds."""
ServiceException = Literal[
    "Step.SERVICE_FAULT",
    "Step.THROTTLING",
    "SageMaker.JOB_INTERNAL_ERROR",
    "SageMaker.CAPACITY_ERROR",
    "SageMaker.RESOURCE_LIMIT",
]


# ---------------------------------------------------------------------------------------------- definition
@dataclass(frozen=True)
class Parameter:
    """A pipeline parameter. ``default`` is None where the definition gives no DefaultValue."""

    name: str
    type: ParameterType
    default: ParameterValue | None = None
    enum_values: tuple[ParameterValue, ...] = ()


@dataclass(frozen=True)
class PropertyFile:
    """A JSON file that a step leaves in one of its outputs, for ``Std:JsonGet`` to read."""

    name: str
    output_name: str
    file_path: str


@dataclass(frozen=True)
class Dependency:
    """An entry of DependsOn: the step waited for, and in which end state of it this step may start."""

    step: str
    trigger: Trigger = "Completed"


@dataclass(frozen=True)
class RetryPolicy:
    """After which exceptions a step is tried again, how often, and after how long.

    The wait before the first retry is ``interval_seconds``, before each further one ``backoff_rate`` times as long.
    ``max_attempts`` counts the retries, without the first try; it is None where ``expire_after_min`` (minutes since
    the step began) is the limit instead. Source: developer guide, Retry Policy for Pipeline Steps.
    """

    exceptions: tuple[ServiceException, ...]
    interval_seconds: int = 1
    backoff_rate: float = 2.0
    max_attempts: int | None = 5
    expire_after_min: int | None = None


@dataclass(frozen=True)
class OutputParameter:
    """A value that a Lambda or Callback step hands on, read as ``Steps.<step>.OutputParameters['<name>']``."""

    name: str
    type: ParameterType


@dataclass(frozen=True)
class Branch:
    """Where a step stands inside a Condition step: which one, and on which side."""

    condition: str
    taken_if: bool


@dataclass(frozen=True)
class Step:
    """A step of the pipeline, flattened out of the branches it is nested in.

    ``arguments`` is the request template as the definition has it; values that are only known in an execution are
    expressions (:mod:`local_runner.definition.syntax`). ``path`` is where the step stands in the definition, for
    messages. ``references`` are the names of the steps whose results the arguments or conditions read.
    ``output_parameters`` are those of Lambda and Callback steps, ``function_arn`` is a Lambda step's, ``queue_url`` a
    Callback step's.
    """

    name: str
    type: str
    path: str
    arguments: Mapping[str, Any]
    depends_on: tuple[Dependency, ...] = ()
    references: tuple[str, ...] = ()
    property_files: tuple[PropertyFile, ...] = ()
    branch: Branch | None = None
    display_name: str | None = None
    retry_policies: tuple[RetryPolicy, ...] = ()
    output_parameters: tuple[OutputParameter, ...] = ()
    function_arn: str | None = None
    queue_url: str | None = None


@dataclass(frozen=True)
class PipelineDefinition:
    """A parsed pipeline definition (version 2020-12-01). ``steps`` are flat, in the order of the document.

    ``max_parallel_steps`` is the MaxParallelExecutionSteps of what ``aws sagemaker describe-pipeline`` printed.
    ``keeps_trials``: it has a PipelineExperimentConfig. ``notes`` are sentences on what the reader took it to mean.
    """

    name: str
    parameters: tuple[Parameter, ...]
    steps: tuple[Step, ...]
    version: str = "2020-12-01"
    max_parallel_steps: int | None = None
    keeps_trials: bool = False
    notes: tuple[str, ...] = ()

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all steps."""
        return frozenset(step.name for step in self.steps)

    def step(self, name: str) -> Step:
        """The step of that name (KeyError where there is none)."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)


# ------------------------------------------------------------------------------------------- processing job
@dataclass(frozen=True)
class ProcessingInput:
    """A resolved S3 input of a job (API shape ProcessingInput with S3Input)."""

    name: str
    s3_uri: str
    local_path: str
    s3_data_type: Literal["S3Prefix", "ManifestFile"] = "S3Prefix"
    distribution: Literal["FullyReplicated", "ShardedByS3Key"] = "FullyReplicated"
    input_mode: Literal["File", "Pipe"] = "File"
    compression: Literal["None", "Gzip"] = "None"


@dataclass(frozen=True)
class ProcessingOutput:
    """A resolved S3 output of a job (API shape ProcessingOutput with S3Output)."""

    name: str
    s3_uri: str
    local_path: str
    upload_mode: Literal["EndOfJob", "Continuous"] = "EndOfJob"


@dataclass(frozen=True)
class ProcessingJob:
    """One CreateProcessingJob request, resolved. ``request`` is the request itself, validated.

    ``entrypoint`` and ``arguments`` are None where the request leaves them out, which is not the same as empty.
    ``max_runtime`` is in seconds. ``inputs`` and ``outputs`` are those that the service moves: what is AppManaged
    stands in the request only. ``arn`` is that of this machine, empty for a job of no execution.
    """

    name: str
    image_uri: str
    entrypoint: tuple[str, ...] | None
    arguments: tuple[str, ...] | None
    environment: Mapping[str, str]
    inputs: tuple[ProcessingInput, ...]
    outputs: tuple[ProcessingOutput, ...]
    instance_count: int
    instance_type: str
    max_runtime: int
    network_isolation: bool
    request: Mapping[str, Any]
    arn: str = ""

    @property
    def command(self) -> tuple[str, ...]:
        """The entrypoint with its arguments."""
        return (*(self.entrypoint or ()), *(self.arguments or ()))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names of the cluster, algo-1 to algo-N."""
        return tuple(f"algo-{number}" for number in range(1, self.instance_count + 1))


# ------------------------------------------------------------------------- jobs for the SDK's stock local mode
@dataclass(frozen=True)
class StockInput:
    """What a job reads from S3 (API shapes Channel, TransformInput, ContainerDefinition).

    ``name`` is the channel's, or ``data`` or ``model``. An ``Object`` is one object, named by its whole key.
    """

    name: str
    s3_uri: str
    s3_data_type: Literal["S3Prefix", "ManifestFile", "Object"] = "S3Prefix"


@dataclass(frozen=True)
class StockJob:
    """A CreateTrainingJob, CreateTransformJob or CreateModel request, resolved, which stock local mode runs.

    ``kind`` is the type of its step. ``request`` is the request itself, validated, with its name. ``output_uri`` is
    where it writes, without a slash at its end (empty for a model, which is only a name for what transform jobs use).
    """

    kind: str
    name: str
    inputs: tuple[StockInput, ...]
    output_uri: str
    request: Mapping[str, Any]
    instance_count: int = 1
    arn: str = ""

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names, algo-1 to algo-N."""
        return tuple(f"algo-{number}" for number in range(1, self.instance_count + 1))


# ---------------------------------------------------------------------------------- a job laid out on disk
@dataclass(frozen=True)
class InputMount:
    """An input as a host sees it: ``layers`` (read-only directories, the first on top) joined under ``local_path``.

    The job may write into it; what it writes goes to ``scratch`` (an empty directory of this mount's own, on the
    same file system as the state) and never to the layers.
    """

    local_path: str
    layers: tuple[Path, ...]
    scratch: Path


@dataclass(frozen=True)
class BindMount:
    """A directory of the host machine that the job sees, writable, at ``local_path``."""

    local_path: str
    source: Path


@dataclass(frozen=True)
class InputPipe:
    """An input of mode Pipe: ``objects``, in this order, go to the named pipes ``<name>_<epoch>`` in ``directory``.

    The job can do with the names in ``directory`` what it likes. ``own`` is the runner's, out of its reach.
    """

    name: str
    directory: Path
    own: Path
    objects: tuple[Path, ...]
    gzip: bool = False


@dataclass(frozen=True)
class StagedHost:
    """Everything one host (``algo-N``) of a job needs: its mounts and the file its output is logged to.

    ``pipes`` are in directories that ``binds`` mount; whoever runs the job feeds them.
    """

    name: str
    inputs: tuple[InputMount, ...]
    binds: tuple[BindMount, ...]
    log: Path
    pipes: tuple[InputPipe, ...] = ()


@dataclass(frozen=True)
class StagedJob:
    """A job laid out on disk, ready for an engine. ``run_id`` is the execution's id, for labels and sweeping.

    ``work`` is the job's own directory, in which an engine may make more; it goes when the execution ends. ``secrets``
    are masked in what the hosts print.
    """

    job: ProcessingJob
    run_id: str
    step: str
    work: Path
    hosts: tuple[StagedHost, ...]
    secrets: Secrets = field(default_factory=Secrets)


@dataclass(frozen=True)
class HostResult:
    """How one host ended. ``exit_code`` is None where the engine could not learn it; ``error`` then says why.

    ``out_of_memory`` says how much memory there was, where the kernel killed the host, or a process of it, for want
    of more. ``errors`` are the last lines of its stderr, where that is known apart from stdout.
    """

    host: str
    exit_code: int | None
    error: str | None = None
    out_of_memory: str | None = None
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobResult:
    """How a job ended, host by host. ``stopped`` says it was ended from outside, and by what; ``hot`` that a hot worker
    ran it."""

    hosts: tuple[HostResult, ...]
    stopped: StopReason | Literal[""] = ""
    hot: bool = False

    @staticmethod
    def lost(staged: StagedJob, error: str, *, hot: bool = False) -> JobResult:
        """The result of a job of which the engine lost every host, for one reason."""
        return JobResult(tuple(HostResult(host.name, None, error) for host in staged.hosts), hot=hot)

    @property
    def succeeded(self) -> bool:
        """Completed only if every container exits 0."""
        return not self.stopped and all(host.exit_code == 0 for host in self.hosts)


# ------------------------------------------------------------------------------------------------ plan
@dataclass(frozen=True)
class StandIn:
    """A Python function of this machine, run where the cloud would call a Lambda function, a queue or EMR.

    ``entry`` is what local_runner.toml calls it (FILE.py:FUNCTION), for messages.
    """

    file: Path
    function: str
    entry: str


@dataclass(frozen=True)
class Fault:
    """An exception of the service to play in a step: its next ``count`` attempts end in it."""

    step: str
    exception: ServiceException
    count: int = 1


@dataclass(frozen=True)
class PlannedStep:
    """A step that this execution may run, with the steps it waits for.

    ``job`` is the job as far as it is known before the execution (None for steps that are no jobs, and for those
    whose request holds values that only the execution will know). ``stand_in`` is what runs for a step of another
    service. ``faults`` are the exceptions that its first attempts end in, one for each.
    """

    step: Step
    waits_for: tuple[Dependency, ...]
    job: ProcessingJob | StockJob | None = None
    stand_in: StandIn | None = None
    faults: tuple[ServiceException, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What an execution will do: the selected steps in an order that respects their dependencies, and the values.

    ``region`` is that of its ARNs. ``sources`` are files or directories that stand for outputs of steps that are left
    out, by URI; ``source`` is what Describe says of such steps, as ``source_execution`` left them. ``secrets`` are the
    secret values that are known so far.
    """

    execution_id: str
    pipeline: PipelineDefinition
    parameters: Mapping[str, ParameterValue]
    steps: tuple[PlannedStep, ...]
    started: str
    region: str
    notes: tuple[str, ...] = ()
    source: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    source_execution: str | None = None
    sources: Mapping[str, Path] = field(default_factory=dict[str, Path])
    secrets: Secrets = field(default_factory=Secrets)


# ----------------------------------------------------------------------------------------------- execution
@dataclass(frozen=True)
class StepExecution:
    """What became of one step. ``seconds`` is wall time; ``outputs`` are local directories by OutputName. ``hot`` says
    that a hot worker ran its job."""

    name: str
    type: str
    status: StepStatus
    seconds: float = 0.0
    cached: bool = False
    exit_code: int | None = None
    exit_message: str | None = None
    failure_reason: str | None = None
    outputs: Mapping[str, Path] = field(default_factory=dict[str, Path])
    log: Path | None = None
    outcome: bool | None = None
    hot: bool = False


@dataclass(frozen=True)
class Execution:
    """One pipeline execution. Steps that never started are absent, as in ListPipelineExecutionSteps."""

    id: str
    pipeline: str
    status: ExecutionStatus
    engine: str
    failure_reason: str | None
    parameters: Mapping[str, ParameterValue]
    started: str
    ended: str
    seconds: float
    steps: tuple[StepExecution, ...]

    @property
    def hot(self) -> bool:
        """Whether a hot worker ran any of its jobs. The run then does not count as a full one."""
        return any(step.hot for step in self.steps)

    def step(self, name: str) -> StepExecution:
        """The step of that name (KeyError where it never started)."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)
