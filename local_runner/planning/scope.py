"""What the expressions of an execution can see at its start. No I/O of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from local_runner.definition.expressions import ExpressionError, Scope, resolve
from local_runner.definition.paths import Deferred
from local_runner.jsontext import as_list, as_object
from local_runner.models import ParameterValue, PipelineDefinition, Plan
from local_runner.planning.order import dependencies, ordered
from local_runner.sagemaker_api.arns import arn
from local_runner.sagemaker_api.job_types import JOB_KINDS
from local_runner.secrets import is_kept


def timestamp() -> str:
    """Now, as StartDateTime and CurrentDateTime are written: ``2026-01-31T06:00:00.000Z``.

    AWS says ISO 8601 and no more; UTC, milliseconds and the ``Z`` are chosen here (``+00:00`` would put a plus sign
    into the S3 keys that pipelines build of it).
    """
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def execution_scope(
    definition: PipelineDefinition,
    parameters: Mapping[str, ParameterValue],
    execution_id: str,
    started: str,
    region: str,
    read: Callable[[str], str] | None = None,
) -> Scope:
    """The scope before any step ran. ``started`` is ISO 8601; ``read`` gives the text at an S3 URI, or OSError."""
    pipeline_arn = arn(region, "pipeline", definition.name)
    return Scope(
        parameters=parameters,
        execution={
            "StartDateTime": started,
            "CurrentDateTime": started,
            "PipelineName": definition.name,
            "PipelineArn": pipeline_arn,
            "PipelineExecutionId": execution_id,
            "PipelineExecutionArn": f"{pipeline_arn}/execution/{execution_id}",
        },
        property_files={(step.name, file.name): file for step in definition.steps for file in step.property_files},
        read=read,
    )


def as_left(described: Mapping[str, Any]) -> dict[str, Any]:
    """What Describe says of a step of an earlier execution; not known is what that kept only a keyed hash of."""

    def walk(value: Any) -> Any:
        if is_kept(value):
            return Deferred("it is or holds a secret, of which an execution keeps only a keyed hash")
        if (items := as_list(value)) is not None:
            return [walk(item) for item in items]
        table = as_object(value)
        return value if table is None else {key: walk(item) for key, item in table.items()}

    return {key: walk(value) for key, value in described.items()}


def starting_scope(plan: Plan, read: Callable[[str], str] | None = None) -> Scope:
    """The scope in which a plan's execution starts.

    Of the jobs that the plan leaves out it holds what their requests say, so that the steps that do run
    can refer to their outputs.
    """
    scope = execution_scope(plan.pipeline, plan.parameters, plan.execution_id, plan.started, plan.region, read)
    planned = {step.step.name for step in plan.steps}
    if plan.pipeline.names <= planned:
        return scope
    graph = {step.name: [d.step for d in dependencies(step, plan.pipeline)] for step in plan.pipeline.steps}
    for name in ordered(graph):
        if name in planned:
            continue
        step = plan.pipeline.step(name)
        kind = JOB_KINDS.get(step.type)
        if name in plan.source:
            scope = scope.with_step(name, as_left(plan.source[name]))
            continue
        if kind is None:
            continue
        try:
            resolved = resolve(step.arguments, scope)
        except ExpressionError:
            continue  # only the steps that were left out read it: planning found it fit for those that run
        scope = scope.with_step(name, kind.describe_unrun(resolved, f"step '{name}' is not selected"))
    return scope
