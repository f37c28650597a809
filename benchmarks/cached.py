"""Measures runs in which nothing changed, against what the step cache has to reach (`make bench`).

Prints a table, and puts it into RESULTS.md, at the end of the part that side_by_side.py writes.

    .venv/bin/python benchmarks/cached.py

Wall times and peak memory of whole processes; the machine's other work is in them. Everything is made in a scratch
state directory, on the sandbox or docker (the first run needs the processing image or environment).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
RUNNER = ROOT / ".venv/bin/local-runner"
RUNS = int(os.environ.get("RUNS", "5"))
RESULTS = Path(__file__).with_name("RESULTS.md")
BEGIN, END = "<!-- cached.py: begin -->\n", "<!-- side_by_side.py: end -->"
TABLE: list[str] = []


def line(text: str) -> None:
    """A line of the table, shown at once."""
    print(text, flush=True)
    TABLE.append(text)


def write() -> None:
    """Put the table into RESULTS.md, in the place of the last one."""
    first, mark, rest = RESULTS.read_text(encoding="utf-8").partition(END)
    first = first.partition(BEGIN)[0].rstrip("\n")
    told = "## Nothing changed\n\nWhat a run costs that takes every step from the step cache.\n\n"
    RESULTS.write_text(f"{first}\n\n{BEGIN}{told}" + "\n".join(TABLE) + f"\n{mark}{rest}", encoding="utf-8")


def timed(*command: object) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a command."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=printed, stderr=printed)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        printed.seek(0)
        if status:
            raise RuntimeError(f"{command} failed:\n{printed.read().decode()[-2000:]}")
    return seconds, usage.ru_maxrss / 1024


def row(what: str, command: tuple[object, ...], seconds: float) -> None:
    """One line of the table: the median of the runs, and what it may be."""
    samples = [timed(*command) for _ in range(RUNS)]
    times = [each for each, _ in samples]
    peak = max(memory for _, memory in samples)
    spread = f"{min(times):.2f} - {max(times):.2f}"
    line(f"| {what} | {median(times):.2f} s | {spread} | <= {seconds:g} s | {peak:.0f} MB (<= 150) |")


def step(number: int) -> dict[str, object]:
    """A step that writes a few bytes, and reads those of the step before it."""
    s3_input = {
        "S3Uri": f"s3://bench/out/{number - 1:04}",
        "LocalPath": "/opt/ml/processing/input",
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    s3_output = {
        "S3Uri": f"s3://bench/out/{number:04}",
        "LocalPath": "/opt/ml/processing/output",
        "S3UploadMode": "EndOfJob",
    }
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30}
    entrypoint = ["/bin/sh", "-c", "echo > /opt/ml/processing/output/file"]
    follows = number % 50 != 0
    return {
        "Name": f"Step{number}",
        "Type": "Processing",
        "DependsOn": [f"Step{number - 1}"] if follows else [],
        "Arguments": {
            "ProcessingResources": {"ClusterConfig": cluster},
            "AppSpecification": {"ImageUri": "local/processing", "ContainerEntrypoint": entrypoint},
            "RoleArn": "arn:aws:iam::000000000000:role/local-runner",
            "ProcessingInputs": [{"InputName": "in", "AppManaged": False, "S3Input": s3_input}] if follows else [],
            "ProcessingOutputConfig": {"Outputs": [{"OutputName": "out", "AppManaged": False, "S3Output": s3_output}]},
        },
    }


def definition(path: Path, steps: list[dict[str, object]]) -> Path:
    """A definition file of these steps."""
    path.write_text(json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": steps}))
    return path


def fill(state: Path, file: Path) -> None:
    """A first run of a definition, on the engine without processes: what is measured is the run after it."""
    from local_runner.engines.fake import FakeEngine, FakeHost
    from local_runner.events import Silent
    from local_runner.project import Project
    from local_runner.run.pipeline import run_pipeline
    from local_runner.run.request import RunRequest
    from local_runner.settings import load_settings

    def write(host: FakeHost) -> None:
        host.write("out", "file", "\n")

    class Sandbox(FakeEngine):
        """Its entries are found by runs on the sandbox."""

        def image_id(self, uri: str) -> str:
            from local_runner.image.sandbox_packages import environment_directory
            from local_runner.image.source import read_image_source

            return environment_directory(read_image_source(load_settings(ROOT)), state).name

    names = [each["Name"] for each in json.loads(file.read_text())["Steps"]]
    engine = Sandbox(dict.fromkeys(names, write), name="sandbox")
    run_pipeline(Project.at(ROOT, state, Silent().note), RunRequest(target=str(file), cache=True), Silent(), engine)


def main() -> None:
    """Measure everything."""
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory(prefix="cached-", dir=ROOT / ".local_runner") as directory:
        state = Path(directory)
        (state / "cache").symlink_to(ROOT / ".local_runner/cache")
        line("| What | Median | Spread | Target | Peak memory |\n|---|---|---|---|---|")
        example = (RUNNER, "run", "--state", state, "--quiet")
        timed(*example)
        row("the example's pipeline again", example, 0.35)
        many = definition(state / "many.json", [step(number) for number in range(1000)])
        fill(state, many)
        row("1,000 cached steps", (RUNNER, "run", many, "--state", state, "--engine", "sandbox", "--quiet"), 2)
        data = state / "data"
        for number in range(10_000):
            place = data / f"{number // 100:03}" / f"{number}.csv"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{number}\n" * 20)
        program = (
            "import sys, time; from pathlib import Path; from local_runner.step_cache.digests import FileDigests\n"
            "files = [str(p) for p in Path(sys.argv[1]).rglob('*.csv')]\nbegan = time.monotonic()\n"
            "digests = FileDigests(Path(sys.argv[2])); digests.of(files); print(time.monotonic() - began)\n"
            "print(digests.hashed); digests.save()"
        )
        for name, target in (("hashing 10,000 files, the first time", ""), ("hashing 10,000 files again", "<= 0.3 s")):
            command = [sys.executable, "-c", program, data, state / "digests"]
            said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
            line(f"| {name} | {float(said[0]):.2f} s | one run, {said[1]} files read | {target} | |")
        lone = step(0)
        s3_input = {
            "S3Uri": "s3://data",
            "LocalPath": "/opt/ml/processing/input",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
        }
        lone["Arguments"]["ProcessingInputs"] = [{"InputName": "in", "S3Input": s3_input}]  # type: ignore[index]
        one = definition(state / "one.json", [lone])
        command = (RUNNER, "run", one, "--state", state, "--quiet", "--map", f"s3://data={data}")
        timed(*command)
        row("one cached step with 10,000 input files", command, 1)
    write()


if __name__ == "__main__":
    main()
