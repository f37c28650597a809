"""Measures what the runner itself costs, and writes RESULTS.md beside this file (`make bench`, after side_by_side.py).

Every number is the wall time of whole processes, as somebody at a terminal waits for them. What is compared is
measured in turn, not one after the other, and each turn waits (not for ever) for the machine to be quiet.
Starts containers and sandboxes; the first run of all (`fresh`) also needs the network and takes some minutes.

    make bench ARGS="own containers"   measures these parts only, and only prints
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from local_runner.engines.fake import FakeEngine
from local_runner.events import Silent
from local_runner.project import Project
from local_runner.run.pipeline import run_pipeline
from local_runner.run.request import RunRequest
from local_runner.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
RUNNER = ROOT / ".venv/bin/local-runner"
CACHE = ROOT / ".local_runner/cache"
RUNS = int(os.environ.get("RUNS", "9"))
ENGINES = ("docker", "sandbox")

CONDITION_ONLY = """
from sagemaker.core.workflow.conditions import ConditionEquals
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.pipeline import Pipeline


def build(session, settings):
    equal = ConditionStep(name="Equal", conditions=[ConditionEquals(left=1, right=1)], if_steps=[], else_steps=[])
    return Pipeline(name="ConditionOnly", steps=[equal], sagemaker_session=session)
"""

# The example's scripts as the pipeline arranges them, in one container that is up already.
SCRIPTS_ALONE = """
import os, subprocess, sys, time
P = "/opt/ml/processing/"
for name in ("clean", "quality", "profile", "model", "train", "test"):
    os.makedirs(P + "output/" + name)
for name in ("clean", "model"):
    os.symlink(P + "output/" + name, P + "input/" + name)
def start(script, *arguments):
    return subprocess.Popen(["python3", "/scripts/" + script, *arguments], stdout=subprocess.DEVNULL)
day = ("--date", "2013-01-01")
began = time.monotonic()
profile = start("profile_day.py", *day)
codes = [start("validate.py", *day).wait(), start("fit.py").wait(), start("transform.py").wait(), profile.wait()]
print(time.monotonic() - began)
sys.exit(any(codes))
"""


@dataclass(frozen=True)
class Measurement:
    """One number: samples in seconds, and the target in seconds for their median (None: only for comparison)."""

    what: str
    samples: list[float]
    target: float | None = None

    def row(self) -> str:
        target = "" if self.target is None else f"<= {self.target:g} s"
        met = "" if self.target is None else ("yes" if median(self.samples) <= self.target else "**no**")
        spread = f"{min(self.samples):.3f} - {max(self.samples):.3f}"
        return f"| {self.what} | {median(self.samples):.3f} s | {spread} | {len(self.samples)} | {target} | {met} |"


# ------------------------------------------------------------------------------------------------- measuring
def wall(*command: object, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> float:
    """How long the command takes, in seconds. Raises RuntimeError with what it printed where it fails."""
    own = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MAKELEVEL")}
    began = time.monotonic()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=own if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return seconds


def in_turn(measured: Mapping[str, Callable[[], float]], runs: int = RUNS) -> dict[str, list[float]]:
    """The samples of each: all of them once, unmeasured, and then ``runs`` times in turn."""
    for once in measured.values():
        once()
    samples: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(runs):
        for name, once in measured.items():
            QUIET.wait()
            samples[name].append(once())
    return samples


@dataclass
class Quiet:
    """Waits before each sample until others use less than a tenth of the processors, ``patience`` seconds in all."""

    patience: float = 300
    asked: int = 0
    found: int = 0

    def wait(self) -> None:
        self.asked += 1
        while True:
            before = _processor_times()
            time.sleep(0.3)
            idle, total = (now - then for now, then in zip(_processor_times(), before, strict=True))
            if idle > 0.9 * total:
                self.found += 1
                return
            self.patience -= 0.3
            if self.patience < 0:
                return


QUIET = Quiet()


def _processor_times() -> tuple[int, int]:
    """Idle and all time of the processors so far, in ticks (proc(5), /proc/stat)."""
    ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


# ---------------------------------------------------------------------------------------------- what is run
def definition(
    steps: int, *, s3_uri: str = "s3://bench/in", distribution: str = "FullyReplicated", instances: int = 1
) -> str:
    """A pipeline definition of Processing steps in a row, each with one input and one output, that do nothing."""

    def step(number: int) -> dict[str, object]:
        s3_input = {
            "S3Uri": s3_uri,
            "LocalPath": "/opt/ml/processing/input",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": distribution,
        }
        s3_output = {
            "S3Uri": f"s3://bench/out/{number}",
            "LocalPath": "/opt/ml/processing/output",
            "S3UploadMode": "EndOfJob",
        }
        cluster = {"InstanceType": "ml.m5.xlarge", "InstanceCount": instances, "VolumeSizeInGB": 30}
        return {
            "Name": f"Step{number}",
            "Type": "Processing",
            "DependsOn": [f"Step{number - 1}"] if number else [],
            "Arguments": {
                "ProcessingResources": {"ClusterConfig": cluster},
                "AppSpecification": {"ImageUri": "local/processing", "ContainerEntrypoint": ["true"]},
                "RoleArn": "arn:aws:iam::000000000000:role/local-runner",
                "ProcessingInputs": [{"InputName": "in", "AppManaged": False, "S3Input": s3_input}],
                "ProcessingOutputConfig": {
                    "Outputs": [{"OutputName": "out", "AppManaged": False, "S3Output": s3_output}]
                },
            },
        }

    equal = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}
    first = {
        "Name": "Equal",
        "Type": "Condition",
        "Arguments": {"Conditions": [equal], "IfSteps": [], "ElseSteps": []},
    }
    jobs = [step(number) for number in range(steps)]
    return json.dumps({"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": [first, *jobs]})


@dataclass(frozen=True)
class Bench:
    """A scratch directory beside the project's own state, and the processing image. The caches are the project's."""

    directory: Path
    image: str

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def data(self, name: str, files: int, size: int, *, sparse: bool) -> Path:
        """A directory of ``files`` files that together have ``size`` bytes."""
        directory = self.directory / name
        directory.mkdir()
        for number in range(files):
            with (directory / f"{number}.bin").open("wb") as file:
                if sparse:
                    file.truncate(size // files)
                else:
                    for _ in range(size // files >> 20):
                        file.write(os.urandom(1 << 20))
        return directory

    def run(self, engine: str, target: Path, *arguments: object) -> float:
        quiet = ("--engine", engine, "--state", self.state, "--no-cache", "--quiet")
        return wall(RUNNER, "run", target, *quiet, *arguments)


def own_cost(bench: Bench) -> Iterable[Measurement]:
    """A pipeline.py without jobs: what every run pays."""
    pipeline = bench.write("pipeline.py", CONDITION_ONLY)
    samples = in_turn({engine: lambda engine=engine: bench.run(engine, pipeline) for engine in ENGINES})
    for engine in ENGINES:
        yield Measurement(f"A run without jobs, unchanged pipeline.py, {engine}", samples[engine], 0.35)


def containers(bench: Bench) -> Iterable[Measurement]:
    """What each job adds: many jobs in a row that do nothing, less the run that has none."""
    data = bench.data("small", 2, 1 << 20, sparse=False)
    count = {"docker": 10, "sandbox": 30}
    none = bench.write("none.json", definition(0))
    measured: dict[str, Callable[[], float]] = {}
    for engine in ENGINES:
        some = bench.write(f"some-{engine}.json", definition(count[engine]))
        mapped = ("--map", f"s3://bench/in={data}")
        measured[engine] = lambda engine=engine, some=some, mapped=mapped: (
            (bench.run(engine, some, *mapped) - bench.run(engine, none)) / count[engine]
        )
    measured["floor"] = lambda: wall("docker", "run", "--rm", bench.image, "true")
    samples = in_turn(measured)
    yield Measurement("Per container, docker", samples["docker"], 0.35)
    yield Measurement("For comparison: `docker run --rm IMAGE true`", samples["floor"])
    yield Measurement("Per job, sandbox", samples["sandbox"], 0.05)


def input_size(bench: Bench) -> Iterable[Measurement]:
    """One job whose input has two files of different sizes together."""
    sizes = {
        "1 MB": bench.data("1mb", 2, 1 << 20, sparse=False),
        "1 GB": bench.data("1gb", 2, 1 << 30, sparse=False),
        "5 GB (sparse)": bench.data("5gb", 2, 5 << 30, sparse=True),
    }
    for engine in ENGINES:
        for distribution, instances in (("FullyReplicated", 1), ("ShardedByS3Key", 2)):
            target = bench.write(f"{distribution}.json", definition(1, distribution=distribution, instances=instances))
            samples = in_turn(
                {
                    size: lambda engine=engine, target=target, path=path: bench.run(
                        engine, target, "--map", f"s3://bench/in={path}"
                    )
                    for size, path in sizes.items()
                },
                5,
            )
            smallest = median(samples["1 MB"])
            for size in sizes:
                # The same, give or take what one start differs from the next.
                target_seconds = None if size == "1 MB" else round(smallest * 1.15, 2)
                what = f"A run of one job, {size} of input, {distribution}, {engine}"
                yield Measurement(what, samples[size], target_seconds)


def many_steps(bench: Bench) -> Iterable[Measurement]:
    """200 steps on an engine that does nothing: the runner's own work for each."""
    data = bench.data("tiny", 2, 2 << 20, sparse=False)
    target = bench.write("many.json", definition(200))
    settings = load_settings(ROOT)

    def once() -> float:
        request = RunRequest(str(target), data={"s3://bench/in": data})
        began = time.monotonic()
        _, execution = run_pipeline(Project(settings, bench.state, Silent().note), request, Silent(), FakeEngine())
        assert execution.status == "Succeeded", execution.failure_reason
        return time.monotonic() - began

    yield Measurement("200 steps that do nothing, fake engine", in_turn({"fake": once})["fake"], 1.0)


def second_run(bench: Bench) -> Iterable[Measurement]:
    """`make local-run` with nothing changed, against its scripts alone in a container that is up."""

    def scripts() -> float:
        up = ["docker", "run", "--rm", "--detach", "--entrypoint", "sleep"]
        flights = f"{ROOT}/data/sample:/opt/ml/processing/input/flights:ro"
        up += ["--volume", flights, "--volume", f"{ROOT}/processing:/scripts:ro", bench.image, "600"]
        container = subprocess.run(up, check=True, capture_output=True, text=True).stdout.strip()
        try:
            command = ["docker", "exec", container, "python3", "-c", SCRIPTS_ALONE]
            # As in a step's own container, where the files of the image are in no cache but the engine's.
            return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        finally:
            subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)

    samples = in_turn(
        {"run": lambda: wall("make", "local-run", "ENGINE=docker", "ARGS=--no-cache"), "scripts": scripts}
    )
    difference = [run - alone for run, alone in zip(samples["run"], samples["scripts"], strict=True)]
    yield Measurement("Second `make local-run`, docker", samples["run"])
    yield Measurement("Its scripts alone, in one container that is up", samples["scripts"])
    yield Measurement("Difference", difference, 1.0)


def first_run(bench: Bench) -> Iterable[Measurement]:
    """`make local-run` in a fresh clone, with empty caches and without the base image."""
    with tempfile.TemporaryDirectory(prefix="first-run-") as scratch:
        clone = Path(scratch) / "first-run"
        wall("git", "clone", "--quiet", ROOT, clone)
        # The base image is known by its recipe: one more label makes it another one, to be built from nothing, and
        # leaves that of this machine alone; on it, nothing of the processing image's build is in the engine's cache.
        module = next(path for path in clone.glob("local_runner/**/*.py") if "_IMPORT_CHANGES = [" in path.read_text())
        recipe = module.read_text()
        label = f"local-runner.bench={time.time_ns()}"
        module.write_text(recipe.replace("_IMPORT_CHANGES = [", f'_IMPORT_CHANGES = ["LABEL {label}", '))
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("ARGS", "MAKEFLAGS", "MAKELEVEL", "VIRTUAL_ENV")
        }
        environment |= {"UV_CACHE_DIR": f"{scratch}/uv", "PIP_NO_CACHE_DIR": "1", "XDG_CACHE_HOME": f"{scratch}/cache"}
        try:
            QUIET.wait()
            seconds = wall("make", "local-run", "ENGINE=docker", cwd=clone, environment=environment)
        finally:
            # What was built upon the base image has its label; nothing else on this machine has.
            made = ["docker", "images", "--quiet", "--no-trunc", "--filter", f"label={label}"]
            for image in dict.fromkeys(
                subprocess.run(made, capture_output=True, text=True).stdout.split()
            ):  # last first
                subprocess.run(["docker", "rmi", "--force", image], capture_output=True)
    yield Measurement("Fresh clone to the end of the first `make local-run`, docker", [seconds], 180)


PARTS: dict[str, Callable[[Bench], Iterable[Measurement]]] = {
    "own": own_cost,
    "containers": containers,
    "size": input_size,
    "many": many_steps,
    "second": second_run,
    "fresh": first_run,
}


# ------------------------------------------------------------------------------------------------ reporting
def imported(bench: Bench, engine: str) -> list[str]:
    """Where the start of a run goes: the slowest imports of a run without jobs, with what they import themselves."""
    target = bench.write("none.json", definition(0))
    command = [sys.executable, "-X", "importtime", "-m", "local_runner", "run", target, "--engine", engine]
    done = subprocess.run([*command, "--state", bench.state], cwd=ROOT, capture_output=True, text=True)
    rows = [line.removeprefix("import time:").split("|") for line in done.stderr.splitlines() if "|" in line][1:]
    slowest = sorted(((int(whole), name) for _, whole, name in rows), reverse=True)[:25]
    return [f"{whole / 1000:7.1f} ms {name.rstrip()}" for whole, name in slowest]


def calls(bench: Bench, engine: str) -> list[str]:
    """Where the rest goes: what a run of five jobs that do nothing waits for, by cProfile, in the main thread."""
    data = bench.data(f"profiled-{engine}", 2, 2 << 20, sparse=False)
    target = bench.write("five.json", definition(5))
    program = (
        "import cProfile, pstats, sys; from local_runner.cli.local import cli; profile = cProfile.Profile();"
        "arguments = sys.argv[1:]\n"
        "try: profile.runcall(cli.main, arguments, standalone_mode=False)\n"
        "except SystemExit: pass\n"
        "pstats.Stats(profile).strip_dirs().sort_stats('cumulative').print_stats(30)"
    )
    command = [sys.executable, "-c", program, "run", target, "--engine", engine, "--state", bench.state, "--quiet"]
    done = subprocess.run([*command, "--map", f"s3://bench/in={data}"], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip().startswith("ncalls"))
    return [line for line in lines[start:] if line.strip()]


def machine() -> list[str]:
    engine = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True
    ).stdout.strip()
    driver = subprocess.run(
        ["docker", "info", "--format", "{{.Driver}}"], capture_output=True, text=True
    ).stdout.strip()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    packages = ", ".join(f"{name} {version(name)}" for name in ("click", "docker", "sagemaker"))
    return [
        f"- {datetime.now(UTC):%Y-%m-%d}, commit {commit}",
        f"- {platform.system()} {platform.release()}, {os.cpu_count()} processors, "
        f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 30} GB of memory",
        f"- Docker engine {engine} ({driver}); Python {platform.python_version()}; {packages}",
        f"- {QUIET.found} of {QUIET.asked} samples were taken when others used less than a tenth of the processors "
        f"(load average at the end: {os.getloadavg()[0]:.1f})",
    ]


HEAD = """# What the runner itself costs

Written by `make bench` (`overhead.py` says how each number is taken). Seconds of wall time of whole processes; medians
of the runs, what is compared taken in turn. A sample taken while others used the processors says little about the
runner: the list below says how many were not.

"""

NOTES = """
## How the numbers are put together

- **Per container, per job**: a run of 10 (docker) or 30 (sandbox) steps in a row whose entrypoint is `true`, each with
  one input and one output, less a run without jobs, divided by the number of steps.
- **Input size**: the target is the median for 1 MB and 15 %, a tolerance that was chosen and not derived; look at the
  spreads. Sharded means two hosts.
- **Its scripts alone**: the example's four scripts in one container that is up, in the pipeline's order (Profile beside
  the others), timed inside. Nothing of starting that container counts.
- **Fresh clone**: a new directory, empty caches of uv and pip, and a recipe for the base image that differs from this
  machine's by one label, so that the base image, the processing image and `.venv` are all made anew; the pull that no
  registry answers is part of it. mmdebstrap was installed already;
  installing it with apt-get, as a machine without it needs, is not in the number.

## Where the time goes

Taken once, at the end, and slowed down by the profiler: read the proportions, not the times.
"""


def report(measurements: list[Measurement], profiles: Mapping[str, list[str]]) -> str:
    rows = ["| What | Median | Spread | Runs | Target | Met |", "|---|---|---|---|---|---|"]
    rows += [measurement.row() for measurement in measurements]
    sections = [f"\n### {title}\n\n```text\n" + "\n".join(lines) + "\n```\n" for title, lines in profiles.items()]
    body = "\n".join([*machine(), "", *rows]) + "\n"
    return HEAD + body + NOTES + "".join(sections)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)} (default: all)")
    parts = parser.parse_args().parts
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # without bytecode every import takes three times as long
    image = subprocess.run([RUNNER, "image"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[
        -1
    ]
    CACHE.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / ".local_runner"))
    measurements: list[Measurement] = []
    try:
        bench = Bench(directory, image)
        bench.state.mkdir()
        (bench.state / "cache").symlink_to(CACHE)
        for part in parts or PARTS:
            for measurement in PARTS[part](bench):
                print(measurement.row(), flush=True)
                measurements.append(measurement)
        if not parts:
            profiles = {
                f"{title}, {engine}": show(bench, engine)
                for title, show in (("Imports of a run without jobs", imported), ("Calls of a run of five jobs", calls))
                for engine in ENGINES
            }
            path = Path(__file__).with_name("RESULTS.md")
            # The first part is side_by_side.py's, up to its mark.
            first, mark, _ = path.read_text().partition("<!-- side_by_side.py: end -->")
            path.write_text((f"{first}{mark}\n\n" if mark else "") + report(measurements, profiles))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
