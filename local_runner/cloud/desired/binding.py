"""A compiled definition -> the definition of an environment: defaults, network, keys, where the code lies. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_runner.cloud.change.definition import Json, steps_of
from local_runner.cloud.target.environment import Environment
from local_runner.errors import SettingsError

_OUTPUTS = {"Processing": "ProcessingOutputConfig", "Training": "OutputDataConfig", "Transform": "TransformOutput"}
_CLUSTERS = {
    "Processing": ("ProcessingResources", "ClusterConfig"),
    "Training": ("ResourceConfig",),
    "Transform": ("TransformResources",),
}


def set_parameter_defaults(document: Mapping[str, Any], environment: Environment) -> None:
    """Make the environment's values the defaults of the parameters. Raises SettingsError for one that is not there."""
    wanted: Json = dict(environment.parameters)
    if environment.instance_type is not None:
        wanted["ProcessingInstanceType"] = environment.instance_type
    if environment.instance_count is not None:
        wanted["ProcessingInstanceCount"] = environment.instance_count
    parameters: dict[str, Json] = {item["Name"]: item for item in document.get("Parameters", [])}
    missing = ", ".join(name for name in wanted if name not in parameters)
    if missing:
        raise SettingsError(
            f"environments.{environment.name}: the pipeline has no parameter {missing}. It has {', '.join(parameters)}."
        )
    for name, value in wanted.items():
        parameters[name]["DefaultValue"] = value


def set_network_and_keys(document: Mapping[str, Any], environment: Environment) -> None:
    """Give each job the environment's network and key, where the job names none itself."""
    for step in steps_of(document):
        kind = str(step.get("Type"))
        if kind not in _CLUSTERS:
            continue
        arguments: Json = step["Arguments"]
        if environment.network.subnets and kind != "Transform":  # a transform job's network is its model's
            _set_network(arguments, environment, kind)
        if environment.kms_key_id:
            arguments.setdefault(_OUTPUTS[kind], {}).setdefault("KmsKeyId", environment.kms_key_id)
            cluster = arguments
            for key in _CLUSTERS[kind]:
                cluster = cluster.setdefault(key, {})
            cluster.setdefault("VolumeKmsKeyId", environment.kms_key_id)


def _set_network(arguments: Json, environment: Environment, kind: str) -> None:
    network = environment.network
    place: Json = arguments.setdefault("NetworkConfig", {}) if kind == "Processing" else arguments
    if "VpcConfig" not in place:
        place["VpcConfig"] = {
            "SecurityGroupIds": list(network.security_group_ids),
            "Subnets": list(network.subnets),
        }
    if network.encrypt_traffic:
        place.setdefault("EnableInterContainerTrafficEncryption", True)
