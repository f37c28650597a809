"""What an instance type has, and what of it this machine can give a job. Reads ``instance_types.json`` beside it.

A job gets all of its instance's memory: what SageMaker keeps of it for itself is not documented.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

GIB = 1 << 30


@dataclass(frozen=True)
class Machine:
    """What an engine has: ``memory`` in bytes, ``cpus`` in logical processors, and which of them it can limit."""

    memory: int
    cpus: int
    limits_memory: bool = True
    limits_cpus: bool = True

    @classmethod
    def of_engine(cls, info: Mapping[str, Any]) -> Machine:
        """From the Docker engine's ``GET /info``. A rootless engine may not be allowed to limit anything."""
        quota = bool(info.get("CpuCfsQuota")) and bool(info.get("CpuCfsPeriod"))
        return cls(int(info["MemTotal"]), int(info["NCPU"]), bool(info.get("MemoryLimit")), quota)


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


@cache
def _types() -> dict[str, dict[str, float]]:
    text = Path(__file__).with_name("instance_types.json").read_text(encoding="utf-8")
    return json.loads(text)["types"]


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}".removesuffix(".0") + " GiB"
