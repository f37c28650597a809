"""What a stand-in returned -> the step's outputs, and what property references read of the step. No I/O.

AWS documents little of this; chosen here:

- The service keeps output values as texts of at most 1,024 characters (API shape OutputParameter), so a value fits
  its declared OutputType where its text spells one: a returned 200 is the String "200".
- Outputs are flat: an object or a list is handed on as one JSON text, for an output that is declared as String. A
  reference cannot lead into it (Guide, "Lambda step": outputs are not nested).
- A declared output that the function does not return fails the step; what it returns beyond those is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from local_runner.jsontext import as_object, kind, shorten, value_text
from local_runner.models import OutputParameter, ParameterValue, Step
from local_runner.planning.parameters import converted
from local_runner.sagemaker_api.job_types import FUNCTION_KINDS

_LONGEST_OUTPUT = 1024


def declared_outputs(declared: tuple[OutputParameter, ...], value: Any) -> tuple[dict[str, ParameterValue], list[str]]:
    """The declared outputs out of what a function returned, and a sentence for each that is not to be had."""
    returned = as_object(value)
    if returned is None:
        if value is None and not declared:
            return {}, []
        return {}, [f"it returned {kind(value)}, and an object with its outputs is wanted."]
    found: dict[str, ParameterValue] = {}
    faults: list[str] = []
    for output in declared:
        given = returned.get(output.name)
        text = value_text(given) if isinstance(given, str | int | float) else json.dumps(given, ensure_ascii=False)
        fitting = converted(output.type, text)
        if given is None:
            there = ", ".join(map(shorten, returned)) or "nothing"
            faults.append(f"it returned no '{output.name}' (there is: {there}).")
        elif fitting is None:
            faults.append(f"output '{output.name}' is declared as {output.type}, and it returned {kind(given)}.")
        elif (length := len(text)) > _LONGEST_OUTPUT:
            faults.append(f"output '{output.name}' has {length} characters, and the service takes {_LONGEST_OUTPUT}.")
        else:
            found[output.name] = fitting
    return found, faults


def describe(step: Step, event: Any, value: Any, values: Mapping[str, ParameterValue]) -> dict[str, Any]:
    """What property references read of the step: OutputParameters, or for EMR the step's description.

    Of EMR's DescribeStep it has the name, the Config of the request and the State, and over them whatever the
    function returned.
    """
    if FUNCTION_KINDS[step.type].declares_outputs:
        return {"OutputParameters": dict(values)}
    arguments = as_object(event) or {}
    config = (as_object(arguments.get("StepConfig")) or {}).get("HadoopJarStep")
    known = {"Name": step.name, "ClusterId": arguments.get("ClusterId"), "Config": config}
    state = {"Status": {"State": "COMPLETED"}} if step.type == "EMR" else {}
    return {**{key: item for key, item in known.items() if item is not None}, **state, **(as_object(value) or {})}
