"""The same two steps in stock local mode and in every way of this runner, in one run (`make bench`).

Same image, scripts and data (two_steps.py). Every number is wall time as somebody at a terminal waits for it: of whole
processes, and for the watch from the save of a file to the line that says how the run ended. All are measured in turn.
Starts containers, sandboxes and an S3 emulator (moto_server) on this machine; writes RESULTS.md and a picture.

    make bench                                    everything, 9 times each; takes about 10 minutes
    RUNS=3 .venv/bin/python benchmarks/side_by_side.py     this part only
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from statistics import median

import boto3
from overhead import CACHE, QUIET, ROOT, RUNNER, RUNS, in_turn, machine, wall

from local_runner.storage.files import write_atomically

HERE = Path(__file__).resolve().parent
RESULTS, PICTURE = HERE / "RESULTS.md", HERE / "side-by-side.svg"
BEGIN, END = "<!-- side_by_side.py: begin -->", "<!-- side_by_side.py: end -->"
BUCKET = "sagemaker-local"
STOCK_NETWORK = "sagemaker-local"

# Both scripts at once, in one container that is up already.
SCRIPTS_ALONE = """
import os, subprocess, sys, time
for name in ("clean", "quality", "profile"):
    os.makedirs("/opt/ml/processing/output/" + name)
began = time.monotonic()
scripts = [subprocess.Popen(["python3", "/scripts/" + name, "--date", "2013-01-01"], stdout=subprocess.DEVNULL)
           for name in ("validate.py", "profile_day.py")]
codes = [script.wait() for script in scripts]
print(time.monotonic() - began)
sys.exit(any(codes))
"""


@dataclass(frozen=True)
class Way:
    """One way to run the steps. ``target`` is the ratio to stock local mode that it is to stay below, None: none."""

    name: str
    what: str
    target: float | None = None


WAYS = (
    Way("stock", "The SDK's stock local mode (docker compose, S3 emulated)"),
    Way("docker", "`run`, docker, nothing cached", 0.35),
    Way("sandbox", "`run --engine sandbox`, nothing cached", 0.25),
    Way("hot", "`run --hot`, nothing cached, workers up"),
    Way("again", "`run` again, nothing changed", 0.04),
    Way("watch", "`watch`, one script saved, save to result", 0.03),
    Way("alone", "The two scripts alone, side by side, in a container that is up"),
)


@dataclass
class Bench:
    """A project of the two steps, with a state directory for each way."""

    root: Path
    image: str
    endpoint: str
    watch: subprocess.Popen[str] | None = None
    edits: int = 0
    out: Path = field(init=False)
    watched: Path = field(init=False)

    def __post_init__(self) -> None:
        self.out = self.root.parent / "watch.out"
        # What is saved under the watch is no change for the others.
        self.watched = self.root.parent / "watched" / self.root.name
        for root in (self.root, self.watched):
            shutil.copytree(ROOT / "processing", root / "processing", ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copytree(ROOT / "data/sample", root / "data")
            shutil.copy(HERE / "two_steps.py", root)
            settings = f'[pipeline]\nentry = "two_steps.py:build"\n[local.data]\n"s3://{BUCKET}/flights" = "data"\n'
            (root / "local_runner.toml").write_text(settings)
        client = boto3.client("s3", endpoint_url=self.endpoint, **_CREDENTIALS)
        client.create_bucket(Bucket=BUCKET)
        for path in (self.root / "data").rglob("*.csv"):
            client.upload_file(str(path), BUCKET, f"flights/{path.relative_to(self.root / 'data')}")

    def state(self, name: str) -> Path:
        state = self.root.parent / f"state-{name}"
        if not state.exists():
            state.mkdir()
            (state / "cache").symlink_to(CACHE)
        return state

    def run(self, name: str, *arguments: str) -> float:
        command = (RUNNER, "run", "--quiet", "--state", self.state(name), *arguments)
        return wall(*command, cwd=self.root)

    def stock(self) -> float:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        before = _docker("ps", "--all", "--quiet", "--filter", f"network={STOCK_NETWORK}")
        try:
            return wall(sys.executable, HERE / "stock.py", self.image, BUCKET, cwd=self.root, environment=environment)
        finally:  # it removes neither its containers nor its network
            after = _docker("ps", "--all", "--quiet", "--filter", f"network={STOCK_NETWORK}")
            _docker("rm", "--force", *(after - before))
            if not before:
                _docker("network", "rm", STOCK_NETWORK)

    def saved(self) -> float:
        """From a save of one script to the line that says how the run of it ended, as read from the watch."""
        if self.watch is None:
            with self.out.open("w") as out:
                command = [str(RUNNER), "watch", "--state", str(self.state("watch"))]
                self.watch = subprocess.Popen(command, cwd=self.watched, stdout=out, stderr=out, text=True)
            self._next_result(0)
        self.edits += 1
        script = self.watched / "processing/profile_day.py"
        text = f"{(ROOT / 'processing/profile_day.py').read_text()}\n# edit {self.edits}\n"
        read = self.out.stat().st_size
        began = time.monotonic()
        script.write_text(text)
        self._next_result(read)
        return time.monotonic() - began

    def _next_result(self, read: int) -> None:
        until = time.monotonic() + 60
        while " from the save" not in (said := self.out.read_bytes()[read:].decode()):
            if time.monotonic() > until or (self.watch is not None and self.watch.poll() is not None):
                raise RuntimeError(f"the watch came to no result:\n{said}")
            time.sleep(0.002)
        if "Succeeded" not in said:
            raise RuntimeError(f"the watch failed:\n{said}")

    def alone(self) -> float:
        up = ["docker", "run", "--rm", "--detach", "--entrypoint", "sleep"]
        up += ["--volume", f"{self.root}/data:/opt/ml/processing/input/flights:ro"]
        up += ["--volume", f"{ROOT}/processing:/scripts:ro", self.image, "600"]
        container = subprocess.run(up, check=True, capture_output=True, text=True).stdout.strip()
        try:
            command = ["docker", "exec", container, "python3", "-c", SCRIPTS_ALONE]
            return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        finally:
            subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)

    def close(self) -> None:
        from local_runner.engines.hot.worker import end_workers

        if self.watch is not None:
            self.watch.send_signal(signal.SIGINT)
            self.watch.wait(30)
        end_workers(self.state("hot"))

    def ways(self) -> dict[str, Callable[[], float]]:
        return {
            "stock": self.stock,
            "docker": lambda: self.run("docker", "--engine", "docker", "--no-cache"),
            "sandbox": lambda: self.run("sandbox", "--engine", "sandbox", "--no-cache"),
            "hot": lambda: self.run("hot", "--engine", "docker", "--no-cache", "--hot"),
            "again": lambda: self.run("again", "--engine", "docker"),
            "watch": self.saved,
            "alone": self.alone,
        }


_CREDENTIALS = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench", "region_name": "us-east-1"}


def _docker(*arguments: str) -> set[str]:
    """The words that the docker command prints."""
    return set(subprocess.run(["docker", *arguments], capture_output=True, text=True).stdout.split())


@contextmanager
def emulator() -> Iterator[str]:
    """moto_server on a free port of this machine; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            if time.monotonic() > until or server.poll() is not None:
                raise RuntimeError("moto_server does not answer")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def table(samples: Mapping[str, list[float]]) -> str:
    """The rows, each with its ratio to the median of stock local mode."""
    stock = median(samples["stock"])
    rows = ["| What | Median | Spread | Runs | To stock | Target | Met |", "|---|---|---|---|---|---|---|"]
    for way in WAYS:
        seconds = samples[way.name]
        ratio = median(seconds) / stock
        target = "" if way.target is None else f"<= {way.target:g}"
        met = "" if way.target is None else ("yes" if ratio <= way.target else "**no**")
        spread = f"{min(seconds):.3f} - {max(seconds):.3f}"
        rows.append(
            f"| {way.what} | {median(seconds):.3f} s | {spread} | {len(seconds)} | {ratio:.3f} | {target} | {met} |"
        )
    return "\n".join(rows)


def picture(samples: Mapping[str, list[float]]) -> str:
    """A bar for each way, with a line from its fastest to its slowest run."""
    longest = max(max(seconds) for seconds in samples.values())
    left, width, height = 430, 440, 30
    parts: list[str] = []
    for number, way in enumerate(WAYS):
        seconds, top = samples[way.name], 10 + number * height
        at = [left + value / longest * width for value in (min(seconds), median(seconds), max(seconds))]
        colour = "#b0b0b0" if way.name in ("stock", "alone") else "#2f7d4f"
        middle = top + 10
        parts += [
            f'<text x="{left - 10}" y="{top + 15}" text-anchor="end">{escape(way.what.replace("`", ""))}</text>',
            f'<rect x="{left}" y="{top}" width="{at[1] - left:.1f}" height="20" fill="{colour}"/>',
            f'<line x1="{at[0]:.1f}" x2="{at[2]:.1f}" y1="{middle}" y2="{middle}" stroke="#202020"/>',
            f'<text x="{at[2] + 8:.1f}" y="{top + 15}">{median(seconds):.2f} s</text>',
        ]
    size = f'width="{left + width + 80}" height="{len(WAYS) * height + 20}"'
    style = 'font-family="sans-serif" font-size="13"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def section(samples: Mapping[str, list[float]]) -> str:
    """The part of RESULTS.md that this program writes."""
    return "\n".join(
        [
            BEGIN,
            "# Side by side with stock local mode",
            "",
            "Written by `make bench` (`side_by_side.py` says how each number is taken): two independent steps,",
            "the same image, scripts and data, all ways in turn in one run. *To stock* is the ratio of medians.",
            "",
            *machine(),
            "",
            table(samples),
            "",
            f"![A bar for each row of the table.]({PICTURE.name})",
            "",
            "Stock local mode is `stock.py`: version 3 of the SDK, with what it lacks to run a pipeline.",
            "The last row is the floor: what the scripts themselves take.",
            END,
        ]
    )


def write(samples: Mapping[str, list[float]]) -> None:
    """Put the section at the head of RESULTS.md, in the place of the last one, and write the picture."""
    known = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    rest = known.partition(END)[2] if END in known else f"\n\n{known}"
    write_atomically(RESULTS, section(samples) + rest)
    write_atomically(PICTURE, picture(samples))


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    said = subprocess.run([RUNNER, "image"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / ".local_runner") as directory, emulator() as endpoint:
        root = Path(directory) / ROOT.name  # images are named after the directory: so it is the project's own
        bench = Bench(root, said.split()[-1], endpoint)
        try:
            samples = in_turn(bench.ways(), RUNS)
        finally:
            bench.close()
    print(table(samples))
    if "--print" not in sys.argv:
        write(samples)
    print(f"{QUIET.found} of {QUIET.asked} samples were taken on a quiet machine.")


if __name__ == "__main__":
    main()
