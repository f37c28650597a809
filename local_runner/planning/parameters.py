"""Values given to a pipeline's parameters -> values of the parameters' types. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from local_runner.definition.references import did_you_mean
from local_runner.errors import Problem
from local_runner.jsontext import shorten, value_text
from local_runner.models import Parameter, ParameterType, ParameterValue, PipelineDefinition
from local_runner.sagemaker_api.service_rules import rule_problems
from local_runner.secrets import Secrets

# StartPipelineExecution takes texts of at most this length (API shape String1024), and this many (ParameterList).
_LONGEST = 1024
_MOST = 200
_WANTED: dict[ParameterType, str] = {
    "String": "a text",
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
}


def parameter_values(
    definition: PipelineDefinition,
    given: Mapping[str, str],
    defaults: Mapping[str, ParameterValue],
    problems: list[Problem],
    settable: str = ", or set it under [local.parameters] in local_runner.toml",
) -> dict[str, ParameterValue]:
    """The value of each parameter: as given (-p), else the project's default, else the definition's.

    ``settable`` says, for a message, where else than with -p a value can be given.
    Parameters without a usable value are missing from the result and in ``problems``. Names in ``defaults`` that the
    pipeline does not have are ignored: one project may hold several pipelines.
    """
    known = {parameter.name: parameter for parameter in definition.parameters}
    for name in given:
        if name not in known:
            remedy = did_you_mean(name, known) or f"It has {', '.join(known) or 'none'}."
            problems.append(Problem(f"-p {name}", f"the pipeline has no parameter '{shorten(name)}'.", remedy))
    if len(given) > _MOST:
        problems.append(Problem("-p", f"{len(given)} parameters are given, and the service takes at most {_MOST}."))
    values: dict[str, ParameterValue] = {}
    for index, (name, parameter) in enumerate(known.items()):
        if name in given:
            value = _typed(parameter, given[name], f"-p {name}", problems)
        elif name in defaults:
            value = _typed(parameter, value_text(defaults[name]), f"[local.parameters] {name}", problems)
        else:
            value = parameter.default
            # A parameter that could not be read is in the problems already, and its value is just not known.
            if value is None and not any(problem.where.startswith(f"Parameters[{index}].") for problem in problems):
                remedy = f"Give -p {name}=VALUE{settable}."
                problems.append(
                    Problem(f"Parameters[{index}]", f"parameter '{name}' has no value and no default.", remedy)
                )
        if value is not None:
            values[name] = value
    return values


def learn_secrets(definition: PipelineDefinition, secrets: Secrets) -> None:
    """Let ``secrets`` know the defaults of secret parameters, and what the steps' arguments have under secret names."""
    secrets.learn_named({parameter.name: parameter.default for parameter in definition.parameters})
    secrets.learn_from([dict(step.arguments) for step in definition.steps])


def _typed(parameter: Parameter, text: str, where: str, problems: list[Problem]) -> ParameterValue | None:
    value = converted(parameter.type, text)
    if value is None:
        what = f"the parameter is of type {parameter.type}, and {shorten(text)!r} is not {_WANTED[parameter.type]}."
        problems.append(Problem(where, what))
    elif start := rule_problems({"Name": parameter.name, "Value": text}, "Parameter", where):
        problems += [replace(problem, where=where) for problem in start]
    elif len(text) > _LONGEST:
        problems.append(Problem(where, f"the value has {len(text)} characters, and the service takes {_LONGEST}."))
    elif parameter.enum_values and value not in parameter.enum_values:
        remedy = f"Choose one of {', '.join(map(str, parameter.enum_values))}."
        problems.append(Problem(where, f"{shorten(text)!r} is not in the parameter's EnumValues.", remedy))
    else:
        return value
    return None


def converted(type_: ParameterType, text: str) -> ParameterValue | None:
    """The value of that type that the text spells; None where it spells none."""
    match type_:
        case "String":
            return text
        case "Boolean":
            return {"true": True, "false": False}.get(text.strip().lower())
        case "Integer":
            return int(text) if re.fullmatch(r"\s*[+-]?\d{1,300}\s*", text, re.ASCII) else None
        case "Float":
            if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", text, re.ASCII):
                return None
            number = float(text)
            return number if math.isfinite(number) else None
