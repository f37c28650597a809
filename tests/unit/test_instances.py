"""What an instance type has, and what of it a machine can give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

from local_runner.engines import instances
from local_runner.engines.instances import GIB, Limits, Machine, limits_of, processors_of

FILE = json.loads(Path(instances.__file__).with_name("instance_types.json").read_text())
TYPES: dict[str, dict[str, Any]] = FILE["types"]
LARGE = Machine(8192 * GIB, 512)


def test_every_type_that_the_api_takes_has_numbers() -> None:
    listed = Loader().load_service_model("sagemaker", "service-2")["shapes"]["ProcessingInstanceType"]["enum"]
    missing = [name for name in listed if name not in TYPES]
    assert not missing, "run tools/instance_types.py with a newer moto"
    assert "DescribeInstanceTypes" in FILE["source"]


@pytest.mark.parametrize(
    ("name", "cpus", "gib"),
    [("ml.t3.medium", 2, 4), ("ml.c4.xlarge", 4, 7.5), ("ml.m5.xlarge", 4, 16), ("ml.p3.2xlarge", 8, 61)],
)
def test_a_type_that_fits_is_given_whole(name: str, cpus: int, gib: float) -> None:
    reason = f"{name} has {gib:g} GiB"
    assert limits_of(name, LARGE) == Limits(memory=int(gib * GIB), cpus=cpus, reason=reason)


def test_a_type_that_does_not_fit_is_capped_and_says_so() -> None:
    found = limits_of("ml.m5.4xlarge", Machine(int(23.5 * GIB), 2))
    assert (found.memory, found.cpus) == (int(23.5 * GIB), None)
    assert (
        found.note == "ml.m5.4xlarge has 64 GiB and 16 vCPUs, this machine 23.5 GiB and 2: its jobs get 23.5 GiB and 2."
    )
    assert found.reason == "this machine has 23.5 GiB (ml.m5.4xlarge has 64 GiB)"


def test_processors_alone_can_be_too_few() -> None:
    found = limits_of("ml.m5.xlarge", Machine(24 * GIB, 2))
    assert (found.memory, found.cpus, found.reason) == (16 * GIB, None, "ml.m5.xlarge has 16 GiB")
    assert found.note.endswith("this machine 24 GiB and 2: its jobs get 16 GiB and 2.")


def test_an_unknown_type_has_no_limits_and_says_so() -> None:
    found = limits_of("ml.z9.mega", LARGE)
    assert (found.memory, found.cpus) == (None, None)
    assert found.note == "ml.z9.mega is no instance type that is known here: its jobs run without limits."


def test_an_engine_without_cgroups_limits_nothing_and_says_so() -> None:
    rootless = {"MemTotal": 8 * GIB, "NCPU": 8, "MemoryLimit": False, "CpuCfsQuota": False, "CpuCfsPeriod": False}
    found = limits_of("ml.t3.medium", Machine.of_engine(rootless))
    assert (found.memory, found.cpus) == (None, None)
    assert "cannot limit" in found.note


@given(st.sampled_from(sorted(TYPES)), st.integers(1, 4096), st.integers(1, 512))
def test_no_limit_is_more_than_the_machine_or_the_instance_has(name: str, gib: int, cpus: int) -> None:
    found = limits_of(name, Machine(gib * GIB, cpus))
    assert found.memory == min(gib, TYPES[name]["memory_gib"]) * GIB
    assert found.cpus is None or found.cpus == TYPES[name]["vcpus"] < cpus
    fits = TYPES[name]["memory_gib"] <= gib and TYPES[name]["vcpus"] <= cpus
    assert fits == (found.note == "")


@given(st.sampled_from(["ml.t3.medium", "ml.m5.xlarge", "ml.m5.4xlarge"]), st.sets(st.integers(0, 63)), st.integers(0))
def test_a_host_runs_on_as_many_processors_as_its_type_has(name: str, machine: set[int], turn: int) -> None:
    here, count = sorted(machine), TYPES[name]["vcpus"]
    chosen, next_one = processors_of(name, here, turn), processors_of(name, here, turn + 1)
    assert len(set(chosen)) == (count if count < len(here) else 0)
    assert set(chosen) <= machine
    assert 2 * count > len(here) or not set(chosen) & set(next_one)
    assert processors_of("ml.z9.mega", here, turn) == []
