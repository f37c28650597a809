"""The runner itself under attack: what it is given, what it kept, when it is killed, and the disk that it is on."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from attacks.reliability import SHARE, Tally, attack
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.command_line import Running, in_process, local_runner
from support.definitions import daily, pipeline, processing, services, write
from support.executions import Project
from support.project import link_caches

from local_runner.cli.local import cli
from local_runner.engines.fake import FakeHost
from local_runner.errors import LocalRunnerError
from local_runner.settings import load_settings

pytestmark = pytest.mark.slow
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, which only root may")
Place = tuple[Any, ...]
SEED = os.environ.get("ATTACK_SEED", "1")


def many(tally: Tally) -> settings:
    return settings(
        max_examples=tally.count, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ what it is given
def places(value: Any, path: Place = ()) -> list[Place]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def put(value: Any, place: Place, new: Any) -> Any:
    """The value with something else at a place, or without it (``...``), where it still has the place."""
    if not place:
        return new
    key, rest = place[0], place[1:]
    if not (isinstance(value, dict) and key in value) and not (
        isinstance(value, list) and isinstance(key, int) and key < len(value)
    ):
        return value
    copy = dict(value) if isinstance(value, dict) else list(value)
    if not rest and new is ...:
        del copy[key]
    else:
        copy[key] = put(value[key], rest, new)
    return copy


DEFINITIONS = [daily(), services()]
WORDS = (
    *("s3://", "s3:///k", "s3://b", "s3://b/a//b", "s3://b/../x", "", "x" * 300, "é", "\0", "\ud800", "a/b", "..", "-"),
    *("Parameters.Count", "Steps.Gate.Outcome", "Execution.PipelineExecutionId", "Processing", "Condition", "Fail"),
)
NUMBERS = st.booleans() | st.integers() | st.floats(allow_nan=False)
LEAVES = st.none() | NUMBERS | st.text(max_size=8) | st.sampled_from(WORDS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Get", "Std:Join", "Std:JsonGet", "On", "Values", "Path", "x"]), inner)
    ),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    document = draw(st.sampled_from(DEFINITIONS))
    pieces = [place for place in places(document) if place]
    for _ in range(draw(st.integers(1, 3))):
        other = draw(st.sampled_from(pieces))
        moved: Any = document
        with suppress(KeyError, IndexError, TypeError):
            for key in other:
                moved = moved[key]
        document = put(document, draw(st.sampled_from(pieces)), draw(VALUES | st.just(...) | st.just(moved)))
    return document


def test_mutated_definitions(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(raw / "object.json", {"bad": {"ratio": 0.05}})

    def report(host: FakeHost) -> None:
        with suppress(Exception):  # the mutation has taken the output away
            host.write("quality", "quality.json", '{"bad": {"ratio": 0.05}}')

    with attack("Mutated definitions, planned and run", 20_000) as tally:

        @many(tally)
        @given(mutated())
        def run(document: Any) -> None:
            tally.tried += 1
            project = Project(tmp_path / "project")
            try:
                execution = project.run_document(document, {"Validate": report}, data={"s3://b/raw": raw}, cache=False)
            except LocalRunnerError as error:
                error.message.encode()
            else:
                said = " ".join(str(step.failure_reason) for step in execution.steps)
                assert "nternal error" not in said, said
                assert "defect" not in said, said
            assert not list((project.state / "runs").glob("*/work"))
            shutil.rmtree(project.state, ignore_errors=True)

        run()


TOML = st.sampled_from(
    [
        "''",
        "'x'",
        "5",
        "-1",
        "1.5",
        "true",
        "[]",
        "['a']",
        "{}",
        "{a=1}",
        "'s3://'",
        "1979-05-27",
        "'../..'",
        "'7d'",
        "{",
    ]
)
TABLES = [
    "pipeline",
    "local",
    "local.data",
    "local.parameters",
    "local.lambda",
    "local.callback",
    "image",
    "cache",
    "x",
]
KEYS = ["entry", "bucket", "region", "max_age", "max_size", "directory", "data", "secret", "also_reads", "log_size"]
LINE = (
    st.tuples(st.sampled_from([*KEYS, '"s3://b/x"', '"s3://"', "a.b", ""]), TOML).map(" = ".join)
    | st.sampled_from(TABLES).map("[{}]".format)
    | st.text(max_size=10)
)  # fmt: skip


def test_mutated_settings(tmp_path: Path) -> None:
    with attack("Mutated settings files", 3_000) as tally:

        @many(tally)
        @given(st.lists(LINE, max_size=8).map("\n".join).map(lambda text: text.encode(errors="surrogatepass")))
        def read(content: bytes) -> None:
            tally.tried += 1
            (tmp_path / "local_runner.toml").write_bytes(content)
            with suppress(LocalRunnerError):
                load_settings(tmp_path)

        read()


LOCAL = ("validate", "compile", "why", "run", "clean")
GIVEN = (
    *("", "-", "--", "x", "0", "-1", "1e999", "7d", "5GB", "A=B", "A=", "=", "s3://", "s3://=x", "s3://b/raw=.", "B"),
    *(
        "broken.json",
        "fine.json",
        "nowhere.py",
        "pipeline.py:",
        "First",
        "../..",
        "\udcff",  # a byte that is no UTF-8; a NUL cannot be in an argument
        "é",
        "/proc",
        "9" * 99,
    ),
)


def test_argument_lists(tmp_path: Path) -> None:
    write(tmp_path / "fine.json", pipeline(processing("First")))
    write(tmp_path / "broken.json", pipeline(processing("First", DependsOn=["Gone"])))
    # Those that would start an engine or ask AWS have no part in it: what they take is checked by the same types.
    options = {
        name: [text for each in cli.commands[name].params for text in each.opts if text.startswith("-")]
        for name in LOCAL
    }

    @st.composite
    def lists(draw: st.DrawFn) -> list[str]:
        command = draw(st.sampled_from(LOCAL))
        words = st.sampled_from([*GIVEN, *options[command]])
        target = ["broken.json"] if command == "run" else draw(st.lists(st.sampled_from(GIVEN), max_size=1))
        return [command, *target, *draw(st.lists(words, max_size=5)), "--state", str(tmp_path / "state")]

    with attack("Argument lists of validate, compile, why, run and clean", 3_000) as tally:

        @many(tally)
        @given(lists())
        def run(arguments: list[str]) -> None:
            tally.tried += 1
            done = in_process(*arguments, cwd=tmp_path)
            assert done.returncode in (0, 1, 2, 4), done

        run()


# ------------------------------------------------------------------------------------------- what it runs, really
CHAIN = pipeline(
    processing("First", "cat in/raw/* > out/o/f; echo 1 >> out/o/f; echo said", inputs={"raw": "s3://b/raw"},
               outputs={"o": "s3://b/first"}),
    processing("Second", "cat in/x/f in/x/f > out/o/g", inputs={"x": "s3://b/first"}, outputs={"o": "s3://b/second"},
               DependsOn=["First"]),
)  # fmt: skip
TRUTH = {"b/first/f": "raw\n1\n", "b/second/g": "raw\n1\nraw\n1\n"}


class Chain:
    """Two steps on a state directory of their own, as the program runs them."""

    def __init__(self, directory: Path, engine: str = "sandbox") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.engine, self.state = directory, engine, directory / "state"
        self.target = write(directory / "p.json", CHAIN)
        (directory / "raw").mkdir(exist_ok=True)
        (directory / "raw" / "object").write_text("raw\n")

    @property
    def arguments(self) -> list[str]:
        options = ["--map", f"s3://b/raw={self.directory}/raw", "--engine", self.engine, "--state", str(self.state)]
        return ["run", str(self.target), *options]

    def run(self) -> str:
        """Run it to its end, which must be the truth; what it said."""
        done = local_runner(*self.arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        published = {
            str(path.relative_to(self.state / "s3")): path.read_text()
            for path in (self.state / "s3").rglob("*")
            if path.is_file() and path.name != ".lock" and ".replaced" not in path.parts
        }
        assert published == TRUTH
        self.nothing_is_left()
        return done.stdout + done.stderr

    def nothing_is_left(self) -> None:
        assert not list((self.state / "runs").glob("*/work"))
        assert not [line for line in Path("/proc/mounts").read_text().splitlines() if f"{self.state}/runs" in line]
        if self.engine == "docker":
            listing = [
                shutil.which("docker") or "/usr/bin/docker",
                "ps",
                "-aq",
                "--filter",
                f"label=local-runner.state={self.state}",
            ]
            assert subprocess.run(listing, capture_output=True, text=True, check=True).stdout == ""


def ended_well(run: Running, seconds: float = 60) -> None:
    """It has ended, by itself or by a signal, and shown nothing of its inside."""
    assert run.end(seconds) in (0, 1, 2, 4, 130, -9)
    assert not re.search("^Traceback|a defect|nternal error", run.said, re.MULTILINE), run.said


ENGINES = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("sandbox", marks=pytest.mark.sandbox),
]


@pytest.fixture(params=ENGINES)
def chain(request: pytest.FixtureRequest, tmp_path: Path) -> Chain:
    request.getfixturevalue("environment" if request.param == "sandbox" else "processing_image")
    made = Chain(tmp_path / "chain", request.param)
    link_caches(made.state)
    return made


def test_killed_at_any_instant(chain: Chain) -> None:
    started = time.monotonic()
    chain.run()
    lasts = time.monotonic() - started
    dice = random.Random(SEED)
    with attack(f"Killed at a random instant, {chain.engine}", 200) as tally:
        for number in range(tally.count):
            shutil.rmtree(chain.state / "steps", ignore_errors=True)
            run = Running(chain.directory / "killed", *chain.arguments)
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(dice.uniform(0, lasts))
            run.process.kill()
            tally.tried += 1
            ended_well(run)
            if number % 3 == 2 or number == tally.count - 1:  # the next one may be killed as well
                chain.run()


def test_killed_in_a_watch(chain: Chain) -> None:
    dice = random.Random(SEED)
    with attack(f"Killed at a random instant of a watch, {chain.engine}", 20) as tally:
        for _ in range(tally.count if SHARE > 0.1 else 1):
            run = Running(chain.directory / "watch", "watch", *chain.arguments[1:])
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(dice.uniform(0.3, 4))
            run.process.kill()
            tally.tried += 1
            ended_well(run)
            chain.run()


def test_six_at_once(chain: Chain) -> None:
    with attack(f"Six runs at once on one state directory, {chain.engine}", 10) as tally:
        for _ in range(tally.count if SHARE > 0.1 else 1):
            runs = [Running(chain.directory / str(number), *chain.arguments) for number in range(6)]
            tally.tried += 1
            for run in runs:
                ended_well(run, 120)
                assert run.process.returncode == 0, run.said
            chain.run()


# -------------------------------------------------------------------------------------------------- what it kept
def kinds(state: Path) -> dict[str, list[Path]]:
    """The files that runs left, by kind: their paths without what is another in each run."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for path in state.rglob("*") if path.is_file() and not path.is_symlink()):
        name = re.sub(r"[0-9a-f]{16,}|(?<=runs/)\w{12}", "*", str(path.relative_to(state)))
        found.setdefault(name, []).append(path)
    return found


def spoil(path: Path, dice: random.Random) -> str:
    """Flip a bit of any byte of a file, or cut it anywhere; what was done."""
    content = bytearray(path.read_bytes())
    where = dice.randrange(len(content) + 1)
    if where == len(content) or dice.random() < 0.25:
        content, what = content[:where], f"cut at {where}"
    else:
        bit = dice.randrange(8)
        content[where] ^= 1 << bit
        what = f"bit {bit} of byte {where}"
    path.write_bytes(content)  # in place, as what hits a disk: a hard link of it is hit as well
    return f"{path}: {what}"


@pytest.mark.sandbox
@pytest.mark.usefixtures("environment")
def test_any_byte_of_any_kind_of_file(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "chain")
    link_caches(chain.state)
    chain.run()
    dice, spoiled = random.Random(SEED), Counter[str]()
    with attack("A byte flipped, or a file cut, in every kind of file of the state directory", 300) as tally:
        for number in range(tally.count):
            names = kinds(chain.state)
            name = min(sorted(names), key=lambda name: (spoiled[name], dice.random()))  # each kind in its turn
            spoiled[name] += 1
            done = spoil(dice.choice(names[name]), dice)
            tally.tried += 1
            try:
                chain.run()
            except AssertionError as error:
                raise AssertionError(f"{done}: {error}") from None
            if number % 4 == 0:  # so that all kinds of records are read
                resumed = local_runner(*chain.arguments, "--only", "Second")
                assert resumed.returncode in (0, 2, 4), (done, resumed)


def test_any_byte_of_a_compiled_definition(tmp_path: Path) -> None:
    """Compiled from the project's own pipeline.py, which takes seconds."""
    first = in_process("compile", "--state", tmp_path / "state")
    assert first.returncode == 0, first.stderr
    (kept,) = (tmp_path / "state" / "compiled").glob("*.json")
    whole = kept.read_bytes()
    dice = random.Random(SEED)
    with attack("A byte flipped, or the file cut, of a compiled definition", 20) as tally:
        for _ in range(tally.count if SHARE > 0.1 else 1):
            spoil(kept, dice)
            tally.tried += 1
            again = in_process("compile", "--state", tmp_path / "state")
            assert json.loads(again.stdout) == json.loads(first.stdout)
            assert kept.read_bytes() == whole or "compiling" in again.stderr


# --------------------------------------------------------------------------------------------------- where it is
@contextmanager
def disk(directory: Path, size: str) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


@root_only
@pytest.mark.programs("mount", "umount")
@pytest.mark.sandbox
@pytest.mark.usefixtures("environment")
def test_a_disk_that_fills_at_any_point(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "chain")
    dice = random.Random(SEED)
    with attack("The state directory on a disk that is full at some point", 60) as tally:
        for number in range(tally.count):
            with disk(chain.state, "100m"):
                link_caches(chain.state)
                chain.state.joinpath("filling").write_bytes(b"")
                # Pages are 4 kB: a run needs about forty of them.
                pages = number if SHARE > 0.5 else dice.randrange(60)
                subprocess.run(["mount", "-o", f"remount,size={4 * (pages + 4)}k", chain.state], check=True)
                run = Running(chain.directory / "full", *chain.arguments)
                tally.tried += 1
                ended_well(run)
                subprocess.run(["mount", "-o", "remount,size=100m", chain.state], check=True)
                chain.run()


@root_only
@pytest.mark.programs("mount", "umount")
@pytest.mark.sandbox
@pytest.mark.usefixtures("environment")
def test_a_state_directory_that_becomes_read_only_or_goes(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "chain")
    dice = random.Random(SEED)
    with attack("The state directory becomes read-only, or is deleted, while a run goes on", 30) as tally:
        for number in range(tally.count):
            with disk(chain.state, "100m"):
                link_caches(chain.state)
                run = Running(chain.directory / "gone", *chain.arguments)
                with suppress(subprocess.TimeoutExpired):
                    run.process.wait(dice.uniform(0, 1.5))
                if number % 2:
                    mount = ["mount", "-o", "remount,ro,force", chain.state]  # refused while files are open for writing
                    subprocess.run(mount, check=False, stderr=subprocess.DEVNULL)
                else:
                    empty(chain.state)
                tally.tried += 1
                ended_well(run)
                subprocess.run(["mount", "-o", "remount,rw", chain.state], check=True)
                empty(chain.state)
                link_caches(chain.state)
                chain.run()


def empty(directory: Path) -> None:
    """Remove all there is in a directory, which somebody may be filling."""
    for path in directory.iterdir():
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
