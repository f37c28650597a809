"""What an instance has, and what of it this machine can give a job: one table for all engines.

Reads ``instance_types.json`` beside it.

A job gets all of its instance's memory: what SageMaker keeps of it for itself is not documented.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

GIB = 1 << 30

# AWS documents none of these for processing jobs: they are our choice, the same on every machine and engine.
SHM_SIZE = 64 << 20
"""Bytes of /dev/shm: what Docker gives, and what users of SageMaker report (aws/sagemaker-python-sdk issue 937)."""

MOST_PROCESSES = 4096
"""Processes and threads of one container (of a hot worker: all its jobs together), or of one host in the sandbox: more
than a job needs, and few enough for a machine to survive a fork bomb."""

ULIMITS: Mapping[str, int] = {"core": 0, "memlock": 64 << 10, "nofile": 4096}
"""Soft and hard limits of each process, by Docker's names: bytes of a core file, which could become an output, and of
locked memory; open files. None is more than the least that a kernel gives by itself, so that any machine can set it."""


@dataclass(frozen=True)
class Machine:
    """What an engine has: ``memory`` in bytes, ``cpus`` in logical processors, and which of them it can limit.

    ``processors`` are the numbers of those that it can be told to run a job on, where they are known.
    """

    memory: int
    cpus: int
    limits_memory: bool = True
    limits_cpus: bool = True
    processors: tuple[int, ...] = ()

    @classmethod
    def of_engine(cls, info: Mapping[str, Any]) -> Machine:
        """From the Docker engine's ``GET /info``. A rootless engine may not be allowed to limit anything."""
        quota = bool(info.get("CpuCfsQuota")) and bool(info.get("CpuCfsPeriod"))
        cpus = int(info["NCPU"])
        here = own_processors()
        known = here if info.get("CPUSet") and cpus == len(here) else ()  # one that is elsewhere has others
        return cls(int(info["MemTotal"]), cpus, bool(info.get("MemoryLimit")), quota, known)


@dataclass(frozen=True)
class Limits:
    """Limits for each host of a job: ``memory`` in bytes, ``cpus`` in processors; None is none.

    ``reason`` names what has that memory, for the failure of a host that ran out of it. ``note`` says where the job
    gets something other than its instance, or is "".
    """

    memory: int | None = None
    cpus: float | None = None
    reason: str = ""
    note: str = ""


def limits_of(instance_type: str, machine: Machine) -> Limits:
    """The limits that make a host of this machine like an instance of that type, or as like it as can be."""
    found = _types().get(instance_type)
    if found is None:
        return Limits(note=f"{instance_type} is no instance type that is known here: its jobs run without limits.")
    memory, cpus = round(float(found["memory_gib"]) * GIB), int(found["vcpus"])
    has = f"{instance_type} has {_gib(memory)}"
    if not machine.limits_memory:
        note = f"{has} and {cpus} vCPUs, which this engine cannot limit (cgroups): its jobs run without limits."
        return Limits(note=note)
    note, reason = "", has
    if memory > machine.memory or cpus > machine.cpus:
        given = f"{_gib(min(memory, machine.memory))} and {min(cpus, machine.cpus)}"
        note = f"{has} and {cpus} vCPUs, this machine {_gib(machine.memory)} and {machine.cpus}: its jobs get {given}."
    if memory > machine.memory:
        reason = f"this machine has {_gib(machine.memory)} ({has})"
    # A quota of all processors, or more, would change nothing, and the engine refuses more.
    limit_cpus = machine.limits_cpus and cpus < machine.cpus
    return Limits(min(memory, machine.memory), cpus if limit_cpus else None, reason, note)


def own_processors() -> tuple[int, ...]:
    """The processors that this process may run on; none where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def processors_of(instance_type: str, here: Sequence[int], turn: int) -> list[int]:
    """Which processors of a machine a host of that type runs on, as many as the type has. Programs count these
    (``nproc``, ``sched_getaffinity``). Another ``turn`` begins elsewhere, so that jobs side by side share none if they
    need not. None are chosen where the machine has no more than that, and for an unknown type.
    """
    count = int(_types().get(instance_type, {}).get("vcpus", 0))
    if not 0 < count < len(here):
        return []
    return sorted(here[(turn * count + number) % len(here)] for number in range(count))


@cache
def _types() -> dict[str, dict[str, float]]:
    text = Path(__file__).with_name("instance_types.json").read_text(encoding="utf-8")
    return json.loads(text)["types"]


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}".removesuffix(".0") + " GiB"
