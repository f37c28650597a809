"""The region of an environment: its own, or what the machine's AWS configuration says. Reads that configuration."""

from __future__ import annotations

import os
from typing import Any, cast

import boto3
from botocore import exceptions

from local_runner.cloud.account.aws import CloudError
from local_runner.cloud.target.environment import Environment


def region_of(environment: Environment) -> str:
    """The region's name. Raises CloudError where nothing says which, or it is none."""
    try:
        session = cast("Any", boto3.Session(profile_name=environment.profile))
        name = environment.region or os.environ.get("AWS_REGION") or session.region_name  # boto3 does not read it
        if not name:
            raise CloudError(
                f'There is no region. Set it: region = "eu-west-1" in [environments.{environment.name}] of '
                "local_runner.toml, or AWS_REGION, or region in the AWS profile."
            )
        session.get_partition_for_region(name)  # raises for one that there is not
        return str(name)
    except exceptions.ProfileNotFound:
        raise CloudError(f"There is no AWS profile '{environment.profile}' on this machine.") from None
    except exceptions.UnknownRegionError:
        raise CloudError(f"'{environment.region}' is no region of AWS.") from None
