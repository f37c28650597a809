"""What an instance has, as the Engine API is told it when a container is made. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from local_runner.engines.instances import SHM_SIZE, ULIMITS, Limits


def of_container(limits: Limits, processors: Sequence[int], most_processes: int) -> dict[str, Any]:
    """Arguments of ``create_host_config``. ``processors`` are the ones it runs on; none is all."""
    return {
        "mem_limit": limits.memory,
        # Of memory and swap together: an instance has no swap that a job could live on.
        "memswap_limit": limits.memory,
        "nano_cpus": limits.cpus and int(limits.cpus * 1e9),
        "cpuset_cpus": ",".join(map(str, processors)) or None,
        "pids_limit": most_processes,
        "shm_size": SHM_SIZE,
        "ulimits": [{"name": name, "soft": limit, "hard": limit} for name, limit in ULIMITS.items()],
    }
