"""Writes local_runner/engines/instance_types.json: vCPUs and memory of every type that a processing job can
have; and local_runner/sagemaker_api/local_storage.json: the local storage of each type of any job that has one.

    uv run --no-project --with moto --with botocore python tools/instance_types.py

The list is botocore's ProcessingInstanceType. The numbers are what EC2's DescribeInstanceTypes answers
(VCpuInfo.DefaultVCpus, MemoryInfo.SizeInMiB, InstanceStorageInfo.TotalSizeInGB), which moto
records; SageMaker's ml.X is EC2's X. Run it again when
tests/unit/test_instances.py finds a type that the file lacks.
"""

from __future__ import annotations

import gzip
import json
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from botocore.loaders import Loader

PACKAGE = Path(__file__).resolve().parent.parent / "local_runner"
FILE = PACKAGE / "engines" / "instance_types.json"
STORAGE_FILE = PACKAGE / "sagemaker_api" / "local_storage.json"

JOBS = ("Processing", "Training", "Transform")

# EC2 has ended these, so that newer records lack them; as moto 4.2.14 recorded them.
ENDED = {
    "p2.xlarge": (4, 61),
    "p2.8xlarge": (32, 488),
    "p2.16xlarge": (64, 732),
    "p3.2xlarge": (8, 61),
    "p3.8xlarge": (32, 244),
    "p3.16xlarge": (64, 488),
}


def described() -> dict[str, Any]:
    """What DescribeInstanceTypes says of each EC2 type that the installed moto knows."""
    packed = files("moto") / "ec2/resources/instance_types.json.gz"
    return json.loads(gzip.decompress(packed.read_bytes()))


def recorded(types: dict[str, Any]) -> dict[str, tuple[int, float]]:
    """(vCPUs, GiB) of each EC2 type."""
    return {
        name: (item["VCpuInfo"]["DefaultVCpus"], item["MemoryInfo"]["SizeInMiB"] / 1024) for name, item in types.items()
    }


def write_local_storage(types: dict[str, Any], shapes: dict[str, Any]) -> None:
    """GB of local storage of each type that a job can have. The API's rules are about Nitro types alone."""
    listed: set[str] = set().union(*(shapes[f"{job}InstanceType"]["enum"] for job in JOBS))
    gigabytes = {
        name: item["InstanceStorageInfo"]["TotalSizeInGB"]
        for name in sorted(listed)
        if (item := types.get(name.removeprefix("ml.")))
        and "InstanceStorageInfo" in item
        and item["Hypervisor"] == "nitro"
    }
    source = (
        f"EC2 DescribeInstanceTypes (InstanceStorageInfo) as recorded in moto {version('moto')}; ml.X is EC2's X. "
        "Made by tools/instance_types.py."
    )
    text = json.dumps({"source": source, "gigabytes": gigabytes}, indent=2)
    STORAGE_FILE.write_text(f"{text}\n", encoding="utf-8")
    print(f"Wrote {len(gigabytes)} types to {STORAGE_FILE}.")


def main() -> None:
    """Write the file, or say which types there are no numbers for."""
    shapes = Loader().load_service_model("sagemaker", "service-2")["shapes"]
    listed: list[str] = shapes["ProcessingInstanceType"]["enum"]
    types = described()
    known = ENDED | recorded(types)
    missing = [name for name in listed if name.removeprefix("ml.") not in known]
    if missing:
        sys.exit(f"No numbers for {', '.join(missing)}: take a newer moto, or add them to ENDED.")
    source = (
        f"EC2 DescribeInstanceTypes as recorded in moto {version('moto')} (p2, p3: moto 4.2.14); ml.X is EC2's X. "
        "Made by tools/instance_types.py."
    )
    lines: list[str] = []
    for name in sorted(listed, key=lambda name: (name.split(".")[1], *known[name.removeprefix("ml.")])):
        vcpus, memory = known[name.removeprefix("ml.")]
        entry = {"vcpus": vcpus, "memory_gib": int(memory) if memory == int(memory) else memory}
        lines.append(f"    {json.dumps(name)}: {json.dumps(entry)}")
    FILE.write_text(
        f'{{\n  "source": {json.dumps(source)},\n  "types": {{\n' + ",\n".join(lines) + "\n  }\n}\n", encoding="utf-8"
    )
    print(f"Wrote {len(listed)} types to {FILE}.")
    write_local_storage(types, shapes)


if __name__ == "__main__":
    main()
