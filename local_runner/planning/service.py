"""What the service would refuse of a definition's requests with given parameters, before an execution has any.

A run finds the same when it is planned. Here it is asked for what the cloud is given: a release, the values of a
schedule, a start. Starts nothing; reads only the cache of limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from local_runner.definition.expressions import ExpressionError, Scope, evaluate_expression, substitute
from local_runner.definition.paths import Deferred
from local_runner.definition.syntax import Expression
from local_runner.errors import Problem
from local_runner.jsontext import as_object
from local_runner.models import ParameterValue, PipelineDefinition
from local_runner.planning.parameters import converted
from local_runner.sagemaker_api.job_types import JOB_KINDS
from local_runner.sagemaker_api.limits import request_problems


def refused(definition: PipelineDefinition, values: Mapping[str, ParameterValue], cache_dir: Path) -> list[Problem]:
    """What the service would refuse of the requests, as far as they are known from these values of the parameters."""
    files = {(step.name, file.name): file for step in definition.steps for file in step.property_files}
    scope = Scope(parameters=values, execution={}, property_files=files)

    def known(expression: Expression, where: str) -> object:
        try:
            return evaluate_expression(expression, scope)
        except ExpressionError as error:
            return Deferred(str(error))

    problems: list[Problem] = []
    for step in definition.steps:
        kind = JOB_KINDS.get(step.type)
        where = f"{step.path}.Arguments"
        if kind is not None:
            request = as_object(substitute(dict(step.arguments), where, known)) or {}
            problems += request_problems(request, kind.shape, where, cache_dir)
    return problems


def refused_by_values(definition: PipelineDefinition, given: Mapping[str, str], cache_dir: Path) -> list[Problem]:
    """What of that comes of the given values alone: with them, and not without any value in their place.

    What else the service would say of the definition, it said when it took it.
    """
    defaults = {p.name: p.default for p in definition.parameters if p.default is not None and p.name not in given}
    typed = {p.name: converted(p.type, given[p.name]) for p in definition.parameters if p.name in given}
    values = {name: value for name, value in typed.items() if value is not None}
    without = set(refused(definition, defaults, cache_dir))
    return [problem for problem in refused(definition, defaults | values, cache_dir) if problem not in without]
