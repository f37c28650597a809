"""What a definition has that AWS documents as not supported, and the service may take all the same. No I/O.

A local run does it, and notes it; so do ``plan``, ``promote`` and ``export``, before anything depends on it.
"""

from __future__ import annotations

from local_runner.models import PipelineDefinition

_LONGEST_NAME = 64
_CONDITION_PAGE = 'Guide, "Pipelines steps", Condition step, limitations'
_FAIL_PAGE = 'Guide, "Pipelines steps", Fail step, limitations'


def advice(definition: PipelineDefinition) -> list[str]:
    """A sentence for each thing that is documented as not supported, with its source."""
    types = {step.name: step.type for step in definition.steps}
    found: list[str] = []
    for step in definition.steps:
        if step.type == "Condition" and step.branch is not None:
            found.append(
                f"The Condition step '{step.name}' stands in a branch of '{step.branch.condition}'. AWS documents that "
                f"Condition steps cannot be nested ({_CONDITION_PAGE})."
            )
        for dependency in step.depends_on:
            if types.get(dependency.step) == "Fail":
                found.append(
                    f"Step '{step.name}' waits for the Fail step '{dependency.step}'. AWS documents that a Fail step "
                    f"cannot be in the DependsOn of another ({_FAIL_PAGE})."
                )
    long = [parameter.name for parameter in definition.parameters if len(parameter.name) > _LONGEST_NAME]
    if long:
        names = ", ".join(long)
        found.append(
            f"Names of parameters are longer than {_LONGEST_NAME} characters, which the published JSON schema of "
            f"pipeline definitions does not take: {names}."
        )
    return found
