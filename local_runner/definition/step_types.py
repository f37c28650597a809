"""The types of steps that the service knows, and which keys a step of each may have. No I/O.

Source of the types: ``StepTypeEnum`` of SDK 3.27.0, and the members of ``PipelineExecutionStepMetadata`` in botocore's
service model, which know more than the published schema of pipeline definitions does. A test compares the table with
those that are installed. Source of the keys: what the SDK's steps write of themselves (``to_request`` in
``sagemaker/mlops/workflow``), and that schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StepType:
    """``keys`` are all that a step of the type may have (empty: not known here, and not checked).

    ``needs_arguments`` is whether it has to have Arguments.
    """

    keys: tuple[str, ...] = ()
    needs_arguments: bool = False


def _with(*keys: str, needs_arguments: bool = True) -> StepType:
    common = ("Name", "Type", "Arguments", "DependsOn", "DisplayName", "Description")
    return StepType((*common, *keys), needs_arguments)


STEP_TYPES: Mapping[str, StepType] = {
    "Processing": _with("CacheConfig", "RetryPolicies", "PropertyFiles"),
    "Training": _with("CacheConfig", "RetryPolicies"),
    "Transform": _with("CacheConfig", "RetryPolicies"),
    "Tuning": _with("CacheConfig", "RetryPolicies"),
    "Model": _with("RetryPolicies"),
    "RegisterModel": _with("RetryPolicies"),
    "Condition": _with(),
    "Fail": _with(),
    "Lambda": _with("CacheConfig", "FunctionArn", "OutputParameters", needs_arguments=False),
    "Callback": _with("CacheConfig", "SqsQueueUrl", "OutputParameters", needs_arguments=False),
    "QualityCheck": StepType(),
    "ClarifyCheck": StepType(),
    "EMR": _with("CacheConfig", needs_arguments=False),
    "EMRServerless": _with("CacheConfig", "RetryPolicies", needs_arguments=False),
    "AutoML": _with("CacheConfig", "RetryPolicies"),
    "Endpoint": StepType(),
    "EndpointConfig": StepType(),
    "InferenceComponent": StepType(),
    "Lineage": StepType(),
    "Job": StepType(),
    "Cleanup": StepType(),
    "ForEach": StepType(),
    "Athena": StepType(),
    "HubContent": StepType(),
    "BedrockCustomModel": StepType(),
    "BedrockCustomModelDeployment": StepType(),
    "BedrockProvisionedModelThroughput": StepType(),
    "BedrockModelImport": StepType(),
}
"""In the order of the service's documentation."""
