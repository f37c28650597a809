"""The network of a job with several hosts, on which each has an address of its own from the start. Talks to the engine.

Docker's own names resolve only while a container runs: a host that starts first would not find the others, and one
that ends early would be gone. With fixed addresses, every host's /etc/hosts can name all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

_ATTEMPTS = 10


@dataclass(frozen=True)
class JobNetwork:
    """A bridge network and the IPv4 address of each host on it."""

    id: str
    addresses: Mapping[str, str]


def create_network(api: Any, name: str, hosts: Sequence[str], labels: Mapping[str, str]) -> JobNetwork:
    """Make the network. Raises the docker package's errors.

    Fixed addresses need a subnet that is asked for, and only the engine knows which are free: it is let choose one,
    which is then asked for. Another job may take it in between; the engine then chooses again.
    """
    from docker.errors import APIError
    from docker.types import IPAMConfig, IPAMPool

    for attempt in range(_ATTEMPTS):
        probe = str(api.create_network(name, driver="bridge", labels=dict(labels))["Id"])
        subnet = str(api.inspect_network(probe)["IPAM"]["Config"][0]["Subnet"])
        api.remove_network(probe)
        addresses = ip_network(subnet).hosts()
        next(addresses)  # the engine's own, the gateway
        ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)])
        try:
            created = api.create_network(name, driver="bridge", labels=dict(labels), ipam=ipam)
        except APIError:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        return JobNetwork(str(created["Id"]), {host: str(next(addresses)) for host in hosts})
    raise AssertionError("unreachable")
