"""The watch as a real process, in a project of its own: files are saved, and what it shows is looked at."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from support.command_line import PROGRAM, environment
from support.machine import needs_program
from support.project import PROJECT, link_caches

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("hot")]


PIPELINE = """
    from sagemaker.core.processing import ScriptProcessor
    from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
    from sagemaker.mlops.workflow.pipeline import Pipeline
    from sagemaker.mlops.workflow.steps import ProcessingStep
    from pathlib import Path

    HERE = Path(__file__).parent / "processing"

    def build(session, settings):
        def step(name, source):
            processor = ScriptProcessor(
                image_uri=settings.image_uri, command=["python3"], role=settings.role_arn,
                instance_type="ml.m5.large", instance_count=1, sagemaker_session=session,
            )
            read = ProcessingS3Input(
                s3_uri=source, local_path="/opt/ml/processing/in", s3_data_type="S3Prefix", s3_input_mode="File"
            )
            write = ProcessingS3Output(
                s3_uri=f"s3://{settings.bucket}/{name}", local_path="/opt/ml/processing/out", s3_upload_mode="EndOfJob"
            )
            return ProcessingStep(name=name, step_args=processor.run(
                code=str(HERE / f"{name.lower()}.py"),
                inputs=[ProcessingInput(input_name="in", s3_input=read)],
                outputs=[ProcessingOutput(output_name="out", s3_output=write)],
            ))
        first = step("First", "s3://sagemaker-local/data")
        out = first.properties.ProcessingOutputConfig.Outputs["out"].S3Output.S3Uri
        steps = [first, step("Second", out), step("Beside", "s3://sagemaker-local/data")]
        return Pipeline(name="Watched", steps=steps, sagemaker_session=session)
"""
SCRIPT = """
from pathlib import Path
text = "{name} of " + " ".join(sorted(path.read_text() for path in Path("/opt/ml/processing/in").iterdir()))
print(text)
Path("/opt/ml/processing/out/text").write_text(text)
"""


class Watched:
    """A small project, and the watch of it."""

    def __init__(self, root: Path, image: str) -> None:
        self.root = root
        root.mkdir()
        (root / "pipeline.py").write_text(dedent(PIPELINE))
        (root / "data").mkdir()
        (root / "data/a").write_text("A")
        (root / "processing").mkdir()
        for name in ("Dockerfile", "requirements.txt"):
            shutil.copy(PROJECT / "processing" / name, root / "processing")
        for name in ("First", "Second", "Beside"):
            (root / "processing" / f"{name.lower()}.py").write_text(SCRIPT.format(name=name))
        (root / "local_runner.toml").write_text('[local.data]\n"s3://sagemaker-local/data" = "data"\n')
        self.out = root.parent / "out"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                [*PROGRAM, "watch", "--image", image, "--state", str(link_caches(root / ".local_runner"))],
                cwd=root,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.read = 0

    def next(self, until: str = "Waiting for a save", seconds: float = 60) -> str:
        """What it shows from here to the end of the next run."""
        end = time.monotonic() + seconds
        while until not in (said := self.out.read_text()[self.read :]):
            assert self.process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.02)
        self.read += said.index(until) + len(until)
        return said[: said.index(until)]

    def save(self, name: str, text: str) -> str:
        """Save a file as editors do, by a rename, and return what comes of it."""
        self.write(name, text)
        return self.next()

    def write(self, name: str, text: str) -> None:
        temporary = self.root / f"{name}.tmp"
        temporary.write_text(text)
        temporary.replace(self.root / name)

    def script(self, name: str) -> str:
        return (self.root / "processing" / f"{name}.py").read_text()

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, processing_image: str) -> Iterator[Watched]:
    made = Watched(tmp_path_factory.mktemp("watch") / "watched", processing_image)
    yield made
    if made.process.poll() is None:
        made.end(signal.SIGINT)


def ran(said: str) -> set[str]:
    """The steps that ran."""
    return set(re.findall(r"^  [^ \w] (\w+)  \d+\.\d\d s", said, re.MULTILINE))


def test_a_day_with_the_watch(watched: Watched) -> None:
    """One process from the first run to Ctrl-C: each kind of save runs what it affects, and no more."""
    first = watched.next(seconds=120)
    assert ran(first) == {"First", "Second", "Beside"}
    assert " s hot" in first

    # A script: its step, and what reads its output.
    edited = watched.script("first").replace("First of", "1st of")
    assert "1st of" not in first
    said = watched.save("processing/first.py", edited.replace('"First', '"1st'))
    assert ran(said) == {"First", "Second"}
    assert "1st of A" in said
    assert "Second of 1st of A" in said
    seconds = re.search(r"(\d+\.\d\d) s from the save", said)
    assert seconds is not None
    assert float(seconds[1]) < 3  # benchmarks/RESULTS.md has how fast it is on a machine with nothing else to do

    # Nothing that matters, and what editors leave.
    (watched.root / "processing/.first.py.swp").write_text("x")
    (watched.root / "processing/__pycache__").mkdir()
    (watched.root / "processing/__pycache__/first.pyc").write_text("x")

    # Data: its readers.
    said = watched.save("data/a", "B")
    assert ran(said) == {"First", "Second", "Beside"}
    assert "Beside of B" in said

    # A syntax error, in a script and in the pipeline: shown, and the watch goes on.
    good = watched.script("beside")
    said = watched.save("processing/beside.py", "x = (\n")
    assert ran(said) == {"Beside"}
    assert "SyntaxError: '(' was never closed" in said
    assert "Failed, 1 step ran" in said
    pipeline = (watched.root / "pipeline.py").read_text()
    assert "cannot be compiled: SyntaxError" in watched.save("pipeline.py", "x = (\n")
    assert "Failed" in watched.save("pipeline.py", pipeline)  # the script's error is still there
    said = watched.save("processing/beside.py", good)
    assert "Succeeded, nothing to run" in said  # as it was

    # The pipeline: compiled again, and what is new in it runs.
    said = watched.save(
        "pipeline.py", pipeline.replace('step("Beside", "s3', 'step("Beside", out), step("First2", "s3')
    )
    assert "compiling pipeline.py" in said
    assert "first2.py" in said
    said = watched.save("pipeline.py", pipeline)
    assert "Succeeded, nothing to run" in said

    # A newer save ends the run in progress.
    watched.write("processing/second.py", "import time; print('long', flush=True); time.sleep(600)")
    watched.next("processing/second.py")
    time.sleep(0.7)
    began = time.monotonic()
    said = watched.save("processing/second.py", SCRIPT.format(name="Second").replace('"Second', '"2nd'))
    assert time.monotonic() - began < 10
    assert "Stopped: something newer was saved" in said
    assert "2nd of 1st of B" in said

    assert watched.end(signal.SIGINT) == 130
    _nothing_left(watched)


def _nothing_left(watched: Watched) -> None:
    """No worker, no scratch space, no process."""
    label = f"label=local-runner.hot={watched.root / '.local_runner'}"
    until = time.monotonic() + 10
    while subprocess.run(
        [needs_program("docker"), "ps", "-aq", "--filter", label], capture_output=True, text=True
    ).stdout:
        assert time.monotonic() < until, "its worker is still there"
        time.sleep(0.1)
    assert not list((watched.root / ".local_runner").glob("runs/*/work"))
    with pytest.raises(ProcessLookupError):
        os.kill(watched.process.pid, 0)
