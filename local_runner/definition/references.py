"""Whether the names in a definition agree: parameters, steps, variables, property files. No I/O."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Generator

from local_runner.definition.paths import Deferred
from local_runner.definition.syntax import (
    EXECUTION_VARIABLES,
    JOB_VARIABLES,
    Expression,
    GetParameter,
    GetProperty,
    GetVariable,
    JsonGet,
    walk,
)
from local_runner.errors import Problem
from local_runner.jsontext import as_list, as_object, shorten
from local_runner.models import PipelineDefinition, Step

# The outputs of these are texts and numbers (Guide, "Lambda step", "Callback step"): OutputParameters['name'], no more.
_FLAT = ("Lambda", "Callback")
_FLAT_LENGTH = 2


def check(definition: PipelineDefinition) -> list[Problem]:
    """Every name in the definition that names nothing, where it stands, with what was probably meant."""
    steps = {step.name: step for step in definition.steps}
    parameters = [parameter.name for parameter in definition.parameters]
    problems: list[Problem] = []
    for step in definition.steps:
        for index, dependency in enumerate(step.depends_on):
            if dependency.step not in steps:
                problems.append(_no_step(f"{step.path}.DependsOn[{index}]", dependency.step, steps))
        problems += _property_file_outputs(step)
        for where, expression in expressions_of(step):
            match expression:
                case GetParameter(name) if name not in parameters:
                    remedy = did_you_mean(name, parameters) or "Declare it under Parameters."
                    problems.append(Problem(where, f"there is no parameter '{shorten(name)}'.", remedy))
                case GetVariable(name) if name not in EXECUTION_VARIABLES and JOB_VARIABLES.get(name) != step.type:
                    problems.append(_no_variable(where, name))
                case GetProperty(name) if name not in steps:
                    problems.append(_no_step(where, name, steps))
                case GetProperty(name) if steps[name].type == "Fail":
                    problems.append(Problem(where, f"step '{name}' is a Fail step, which has no properties."))
                case GetProperty(name, path) if steps[name].type in _FLAT and len(path.segments) > _FLAT_LENGTH:
                    what = (
                        f"{path.text} leads into an output of '{name}': outputs of {steps[name].type} steps are flat."
                    )
                    problems.append(Problem(where, what, f"Hand '{path.segments[-1]}' on as an output of its own."))
                case JsonGet(step=str(name)) if name not in steps:
                    problems.append(_no_step(where, name, steps))
                case JsonGet(step=str(name)):
                    problems += _no_property_file(where, expression, steps[name])
                case _:
                    pass
    return problems


def expressions_of(step: Step) -> Generator[tuple[str, Expression | Deferred]]:
    """Every expression of a step's arguments or conditions, each with its path in the definition."""
    for key, value in step.arguments.items():
        yield from walk(value, f"{step.path}.Arguments.{key}")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A remedy that names the nearest known name; empty where none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{near[0]}'?" if near else ""


def _no_step(where: str, name: str, steps: Collection[str]) -> Problem:
    remedy = did_you_mean(name, steps) or f"There are {', '.join(list(steps)[:10])}."
    return Problem(where, f"there is no step '{shorten(name)}'.", remedy)


def _no_variable(where: str, name: str) -> Problem:
    if name in JOB_VARIABLES:
        what = f"Execution.{name} is known in the arguments of {JOB_VARIABLES[name]} steps only."
        return Problem(where, what, "Use PipelineExecutionId.")
    remedy = did_you_mean(name, EXECUTION_VARIABLES) or f"There are {', '.join(EXECUTION_VARIABLES)}."
    return Problem(where, f"there is no execution variable '{shorten(name)}'.", remedy)


def _no_property_file(where: str, expression: JsonGet, step: Step) -> list[Problem]:
    files = [file.name for file in step.property_files]
    name = str(expression.property_file)
    if name in files:
        return []
    remedy = did_you_mean(name, files) or f"Its PropertyFiles are: {', '.join(files) or 'none'}."
    return [Problem(where, f"step '{step.name}' has no property file '{shorten(name)}'.", remedy)]


def _property_file_outputs(step: Step) -> list[Problem]:
    if step.type != "Processing":
        return []
    config = as_object(step.arguments.get("ProcessingOutputConfig")) or {}
    names = [(as_object(output) or {}).get("OutputName") for output in as_list(config.get("Outputs")) or ()]
    if any(name is not None and not isinstance(name, str) for name in names):
        return []  # a name that is an expression may be any of them
    known = [name for name in names if isinstance(name, str)]
    problems: list[Problem] = []
    for index, file in enumerate(step.property_files):
        if file.output_name not in known:
            remedy = did_you_mean(file.output_name, known) or f"Its outputs are: {', '.join(known) or 'none'}."
            what = f"step '{step.name}' has no output '{shorten(file.output_name)}'."
            problems.append(Problem(f"{step.path}.PropertyFiles[{index}].OutputName", what, remedy))
    return problems
