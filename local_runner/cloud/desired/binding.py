"""A compiled definition -> the definition of an environment: defaults, network, keys, where the code lies. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from local_runner.cloud.change.definition import Json, steps_of
from local_runner.cloud.target.environment import Environment, NetworkSettings
from local_runner.errors import SettingsError
from local_runner.jsontext import as_object
from local_runner.sagemaker_api.job_types import JOB_KINDS
from local_runner.sagemaker_api.service_rules import local_storage


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
    """Give each job the environment's network and key, where the job names none itself.

    A volume that its instance encrypts takes no key (API ProcessingClusterConfig, VolumeKmsKeyId).
    """
    defaults = {item["Name"]: item.get("DefaultValue") for item in document.get("Parameters", [])}
    for step in steps_of(document):
        kind = JOB_KINDS.get(str(step.get("Type")))
        if kind is None:
            continue
        arguments: Json = step["Arguments"]
        if environment.network.subnets and kind.network is not None:
            _set_network(_within(arguments, kind.network), environment.network)
        for *path, member in kind.keys if environment.kms_key_id else ():
            place = _within(arguments, path)
            if member != "VolumeKmsKeyId" or local_storage(_literal(place.get("InstanceType"), defaults)) is None:
                place.setdefault(member, environment.kms_key_id)


def _literal(value: Any, defaults: Mapping[str, Any]) -> Any:
    """The value, or the default of the parameter that it is."""
    name = (as_object(value) or {}).get("Get")
    return defaults.get(name.removeprefix("Parameters.")) if isinstance(name, str) else value


def _within(arguments: Json, path: Sequence[str]) -> Json:
    """The object at that path of a request, made where there is none."""
    for key in path:
        arguments = arguments.setdefault(key, {})
    return arguments


def _set_network(place: Json, network: NetworkSettings) -> None:
    if "VpcConfig" not in place:
        place["VpcConfig"] = {
            "SecurityGroupIds": list(network.security_group_ids),
            "Subnets": list(network.subnets),
        }
    if network.encrypt_traffic:
        place.setdefault("EnableInterContainerTrafficEncryption", True)
