"""Measures what a run costs for each object of its input, from a thousand to a million (`make bench`).

Prints a table, and puts it into RESULTS.md.

    .venv/bin/python benchmarks/objects.py [MOST]      (1000000 objects unless MOST says fewer)

One step on the sandbox, which does nothing with its input: files of a few bytes in folders of a thousand. Wall times
and peak memory of whole processes; the machine's other work is in them. All is made in a scratch state directory.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

from cached import ROOT, RUNNER, definition, step, timed

RESULTS = Path(__file__).with_name("RESULTS.md")
BEGIN, END = "<!-- objects.py: begin -->\n", "<!-- objects.py: end -->\n"
RUNS = 3
FOLDER = 1000
OUTPUTS = 100_000


def make(directory: Path, count: int) -> Path:
    """A directory of so many files."""
    folder = directory
    for number in range(count):
        if number % FOLDER == 0:
            folder = directory / f"{number // FOLDER:04}"
            folder.mkdir(parents=True)
        (folder / f"{number:07}.csv").write_text(f"{number}\n")
    return directory


def one_step(path: Path, hosts: int, script: str) -> Path:
    """A definition of one step that reads ``s3://data``, which is dealt to its hosts where they are several."""
    one = json.loads(json.dumps(step(0)))
    arguments = one["Arguments"]
    arguments["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = hosts
    arguments["AppSpecification"]["ContainerEntrypoint"] = ["/bin/sh", "-c", script]
    s3_input = {
        "S3Uri": "s3://data",
        "LocalPath": "/opt/ml/processing/input",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": "ShardedByS3Key" if hosts > 1 else "FullyReplicated",
    }
    arguments["ProcessingInputs"] = [{"InputName": "in", "S3Input": s3_input}]
    return definition(path, [one])


def measured(state: Path, file: Path, data: Path) -> tuple[tuple[float, float], list[tuple[float, float]]]:
    """The first run, and the unchanged ones after it: seconds and MB."""
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir()
    (state / "cache").symlink_to(ROOT / ".local_runner/cache")
    command = (RUNNER, "run", file, "--state", state, "--engine", "sandbox", "--quiet", "--map", f"s3://data={data}")
    return timed(*command), [timed(*command) for _ in range(RUNS)]


def main() -> None:
    """Measure everything."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    lines = [
        "# Cost of an object\n",
        "Written by `make bench` (`objects.py` says how). Wall time and peak memory of whole runs on the",
        "sandbox; the unchanged run is the median of three.\n",
        "| Objects | Hosts | First run | An object | Unchanged run | An object | Peak memory, first and unchanged |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory(prefix="objects-", dir=ROOT / ".local_runner") as directory:
        scratch = Path(directory)
        timed(RUNNER, "run", "--state", scratch / "warm", "--engine", "sandbox", "--quiet")
        count = 100
        while count <= most:
            data = make(scratch / f"data-{count}", count)
            for hosts in (1, 4):
                file = one_step(scratch / "definition.json", hosts, "echo > /opt/ml/processing/output/$$")
                (first, memory), again = measured(scratch / "state", file, data)
                usual = median(seconds for seconds, _ in again)
                peak = max(memory for _, memory in again)
                lines.append(
                    f"| {count:,} | {hosts} | {first:.2f} s | {first / count * 1e6:,.0f} us | {usual:.2f} s "
                    f"| {usual / count * 1e6:,.0f} us | {memory:.0f} MB, {peak:.0f} MB |"
                )
                print(lines[-1], flush=True)
            if count < most:
                shutil.rmtree(data)
            count *= 10
        few = make(scratch / "few", 1)
        script = f"cd /opt/ml/processing/output; seq {OUTPUTS} | split --lines=1 --suffix-length=6"
        (first, memory), again = measured(scratch / "state", one_step(scratch / "definition.json", 1, script), few)
        alone = timed("bash", "-c", f"mkdir {scratch}/alone; cd {scratch}/alone; {script.partition('; ')[2]}")[0]
        usual, peak = median(seconds for seconds, _ in again), max(memory for _, memory in again)
        lines.append(
            f"\nA step that writes {OUTPUTS:,} files: {first:.2f} s the first time, {memory:.0f} MB (the script alone, "
            f"outside: {alone:.2f} s); {usual:.2f} s from the cache, {peak:.0f} MB."
        )
        print(lines[-1], flush=True)
    before, _, rest = RESULTS.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    body = "\n".join(lines)
    RESULTS.write_text(f"{before.rstrip()}\n\n{BEGIN}{body}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
