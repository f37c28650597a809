"""Hot jobs against cold ones: the same scripts in a worker and in a container of their own come to the same."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from support.command_line import Running
from support.definitions import pipeline, processing, write
from support.jobs import processing_job
from support.project import PROJECT, link_caches

from local_runner.docker_host.connection import connect
from local_runner.engines import Engine
from local_runner.engines.docker.engine import DockerEngine
from local_runner.engines.host_log import limit_logs
from local_runner.engines.hot.engine import HotEngine
from local_runner.engines.hot.worker import end_workers
from local_runner.engines.instances import MOST_PROCESSES
from local_runner.execution.contract import collect, stage
from local_runner.models import ProcessingInput, ProcessingOutput
from local_runner.storage.local_s3 import Source, Storage
from local_runner.storage.runs import new_execution_id, open_run

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("hot")]

CODE, RAW, OUT = ("/opt/ml/processing/input/code", "/opt/ml/processing/raw", "/opt/ml/processing/out")


@dataclass(frozen=True)
class Seen:
    """What came of a job."""

    exit_code: int | None
    message: str | None
    stopped: str
    log: str
    outputs: Mapping[str, str]
    hot: bool


class Bench:
    """One cold and one hot engine over the same small input."""

    def __init__(self, root: Path, image: str) -> None:
        self.root = root
        self.notes: list[str] = []
        (root / "data/sub").mkdir(parents=True)
        for name in ("a", "sub/b"):
            (root / "data" / name).write_text(name)
        self.cold = DockerEngine(root / "state", lambda _: image)
        self.hot = HotEngine(self.cold, [root / "data", root / "code"], self.notes.append)
        self.count = 0

    def run(
        self,
        engine: Engine,
        code: str,
        *,
        files: Mapping[str, str] | None = None,
        stop: threading.Event | None = None,
        **changes: Any,
    ) -> Seen:
        self.count += 1
        scripts = self.root / "code" / str(self.count)
        scripts.mkdir(parents=True)
        for name, text in {"job.py": dedent(code), **(files or {})}.items():
            (scripts / name).write_text(text)
        storage = Storage(
            self.root / f"s3-{self.count}", (Source("s3://b/in", self.root / "data"), Source("s3://b/code", scripts))
        )
        given: dict[str, Any] = {
            "arguments": ("--one", "two words", "$HOME"),
            "environment": {"GIVEN": "a b"},
            "inputs": (ProcessingInput("raw", "s3://b/in", RAW), ProcessingInput("code", "s3://b/code", CODE)),
            "outputs": (ProcessingOutput("out", f"s3://b/out-{self.count}", OUT),),
        }
        job = processing_job("python3", f"{CODE}/job.py", **{**given, **changes})
        run = open_run(self.root / "state", new_execution_id())
        try:
            engine.prepare([job])
            staged = stage(job, run_id=run.id, step="Step", storage=storage, work=run.work, logs=run.logs("Step"))
            result = engine.run(staged, lambda host, line: None, stop or threading.Event())
            collected = collect(staged, result, storage)
            out = collected.outputs.get("out")
            found = (
                {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}
                if out
                else {}
            )
            log = staged.hosts[0].log.read_text()
            return Seen(collected.exit_code, collected.exit_message, result.stopped, log, found, result.hot)
        finally:
            run.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, processing_image: str) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("hot"), processing_image)
    yield made
    made.hot.close()
    end_workers(made.root / "state")


SCRIPTS = {
    "sees_what_a_process_sees": """
        import json, os, sys, stat
        import pandas
        def of_status(*names):
            lines = dict(line.rstrip().split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
            return {name: lines[name] for name in names}
        seen = {
            "argv": sys.argv, "orig": sys.orig_argv, "path": sys.path, "env": dict(os.environ), "cwd": os.getcwd(),
            "ids": [os.getuid(), os.getgid(), os.getpid(), os.getsid(0)], "groups": os.getgroups(),
            "status": of_status("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigBlk",
                                "SigIgn", "SigCgt"),
            "root": sorted(os.listdir("/")), "dev": sorted(os.listdir("/dev")), "tmp": os.listdir("/tmp"),
            "fds": sorted(os.listdir("/proc/self/fd")), "umask": os.umask(0), "stdin": sys.stdin.read(),
            "streams": [sys.stdout.write_through, sys.stdout.encoding, sys.stdout.isatty(), sys.stderr.errors],
            "ml": sorted(f"{folder} {oct(os.stat(folder).st_mode)}" for folder, _, _ in os.walk("/opt/ml")),
            "main": [__name__, __file__, __spec__, __doc__, sorted(globals())],
            "host": os.uname().nodename, "flags": list(sys.flags),
            "sys": oct(os.stat("/proc/sys").st_mode), "read_only": os.statvfs("/proc/sys").f_flag & os.ST_RDONLY,
            "kcore": open("/proc/kcore", "rb").read(1) == b"", "shm": os.statvfs("/dev/shm").f_blocks,
            "limits": open("/proc/self/limits").read(), "processors": sorted(os.sched_getaffinity(0)),
            "config": open("/opt/ml/config/resourceconfig.json").read(),
            "processes": sorted(name for name in os.listdir("/proc") if name.isdecimal()),
        }
        json.dump(seen, open("/opt/ml/processing/out/seen.json", "w"), indent=1, sort_keys=True)
    """,
    "leaves_files_open": """
        import sys
        held = open("/opt/ml/processing/out/held", "w")
        held.write("written at the end")
        def inner():
            sys.kept = open("/opt/ml/processing/out/kept", "w"); sys.kept.write("here")
        inner()
        sys.stdout.write("no newline")
    """,
    "says_at_the_end": """
        import atexit, threading, time
        atexit.register(print, "atexit")
        threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
        print("main")
    """,
    "leaves_a_message": """
        open("/opt/ml/output/message", "w").write("it is done")
        import sys; print("to stderr", file=sys.stderr); sys.exit(0)
    """,
    "raises": """
        import pandas
        def inner():
            raise ValueError("wrong") from KeyError("cause")
        inner()
    """,
    "does_not_compile": "x = (\n",
    "exits_with_a_text": "import sys; print('out'); sys.exit('why it failed')",
    "exits_with_a_number": "raise SystemExit(7)",
    "exits_with_a_large_number": "raise SystemExit(256 + 3)",
    "exits_with_minus_one": "import sys; sys.exit(-1)",
    "exits_with_nothing": "import sys; sys.exit()",
    "exits_at_once": "import os; print('lost?', flush=True); os._exit(5)",
    "is_interrupted": "raise KeyboardInterrupt",
    "has_its_own_hook": "import sys; sys.excepthook = lambda *a: print('hook', a[0]); 1/0",
    "writes_to_its_input": """
        import os
        open("/opt/ml/processing/raw/a", "a").write("!"); os.remove("/opt/ml/processing/raw/sub/b")
        open("/opt/ml/processing/raw/new", "w").write("n")
        print(sorted(os.listdir("/opt/ml/processing/raw")), open("/opt/ml/processing/raw/a").read())
    """,
    "starts_processes": """
        import subprocess, sys, multiprocessing
        if __name__ == "__main__":
            parent = [sys.executable, "-c", "import os; print(os.getppid())"]
            print(subprocess.run(parent, capture_output=True, text=True))
        def double(n): return 2 * n
        if __name__ == "__main__":
            print(multiprocessing.get_context("spawn").Pool(1).map(double, [1, 2]))
            subprocess.Popen(["sleep", "1000"])
    """,
    "is_refused_the_same_system_calls": """
        import ctypes, errno, os, subprocess
        libc = ctypes.CDLL(None, use_errno=True)
        def ask(number, *arguments):
            ctypes.set_errno(0)
            libc.syscall(*map(ctypes.c_long, (number, *arguments, 0, 0, 0)))
            return errno.errorcode.get(ctypes.get_errno())
        X86 = dict(mount=165, umount2=166, sethostname=170, setdomainname=171, quotactl=179, lookup_dcookie=212,
                   unshare=272, perf_event_open=298, fanotify_init=300, setns=308, bpf=321, syslog=103)
        ARM = dict(mount=40, umount2=39, sethostname=161, setdomainname=162, quotactl=60, lookup_dcookie=18,
                   unshare=97, perf_event_open=241, fanotify_init=262, setns=268, bpf=280, syslog=116)
        own = X86 if os.uname().machine == "x86_64" else ARM
        # -1 is no flag, address or descriptor: what is let through fails in another way.
        for name, number in own.items():
            print(name, ask(number, -1, -1, -1))
        clone = 56 if own is X86 else 220
        # CLONE_SIGHAND without CLONE_VM, so that what is let through makes nothing
        for flags in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
            print("clone", hex(flags), ask(clone, flags | 0x800 | 0x200))
        for number in range(424, 475):
            print(number, ask(number, -1, -1, -1) if number not in (434, 436) else None)
        if own is X86:
            for name, number in X86.items():
                print("x32", name, ask(0x40000000 | number, -1, -1, -1))
        for words in (["unshare", "-Urm", "true"], ["unshare", "-m", "true"], ["unshare", "-Un", "true"]):
            done = subprocess.run(words, capture_output=True, text=True)
            print(words, done.returncode, done.stderr)
        print(ask(-1), sum(1 for _ in os.scandir("/proc/self/fd")))
    """,
    "has_the_same_limits": """
        import os, resource
        for name in sorted(name for name in dir(resource) if name.startswith("RLIMIT_")):
            print(name, resource.getrlimit(getattr(resource, name)))
        for line in open("/proc/self/status"):
            if line.startswith(("NoNewPrivs", "Cap", "Speculation", "Groups", "Uid", "Gid")):
                print(line, end="")
        for line in open("/proc/self/cgroup"):
            print(line.split(":")[:2])
        for path in ("/proc/keys", "/proc/kcore", "/proc/timer_list", "/sys/firmware", "/proc/acpi",
                     "/proc/sysrq-trigger", "/sys", "/proc/sys", "/sys/fs/cgroup"):
            if os.path.exists(path):
                flags = os.statvfs(path).f_flag
                empty = os.listdir(path) == [] if os.path.isdir(path) else os.stat(path).st_rdev
                print(path, empty, flags & os.ST_RDONLY)
        for name in sorted(os.listdir("/dev")):
            status = os.lstat("/dev/" + name)
            print(name, oct(status.st_mode), status.st_rdev, os.statvfs("/dev/" + name).f_flag)
        print(os.statvfs("/dev").f_blocks, open("/etc/hostname").read(), oct(os.stat("/etc/hosts").st_mode))
        print(os.openpty())
        for path in ("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"):
            if os.path.exists(path):
                print(path, open(path).read())
    """,
    "tries_to_get_out": """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        for call, arguments in (("unshare", (0x20000,)), ("umount2", (b"/opt/ml/processing/raw", 2)),
                                ("mount", (None, b"/", None, 1 << 18, None)), ("sethostname", (b"x", 1))):
            print(call, getattr(libc, call)(*arguments), os.strerror(ctypes.get_errno()))
        print(os.path.exists("/.local-runner"), os.path.exists("/proc/2"))
        try:
            open("/proc/sys/kernel/hostname", "w")
        except OSError as error:
            print(error)
    """,
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_hot_is_as_cold(bench: Bench, name: str) -> None:
    """Exit code, message, log and outputs are the same, and the input is what it was."""
    cold = bench.run(bench.cold, SCRIPTS[name])
    hot = bench.run(bench.hot, SCRIPTS[name])
    assert (cold.hot, hot.hot) == (False, True), bench.notes
    if "seen.json" in cold.outputs:
        wanted, found = json.loads(cold.outputs["seen.json"]), json.loads(hot.outputs["seen.json"])
        assert {key: found[key] for key in wanted if found[key] != wanted[key]} == {}, wanted
    # Two streams come over two pipes: which of their lines arrives first is chance, in both.
    hot, cold = (replace(seen, log="\n".join(sorted(seen.log.split("\n")))) for seen in (hot, cold))
    assert replace(hot, hot=False, outputs={}) == replace(cold, outputs={})
    if "seen.json" not in cold.outputs:
        assert hot.outputs == cold.outputs
    assert {name: (bench.root / "data" / name).read_text() for name in ("a", "sub/b")} == {"a": "a", "sub/b": "sub/b"}
    assert not (bench.root / "data/new").exists()


def test_nothing_of_one_job_is_there_for_the_next(bench: Bench) -> None:
    """Files, modules of the user's and environment variables are as they were for the first job."""
    code = """
        import ctypes, os, sys, helper, pandas
        print(helper.VALUE, *map(os.path.exists, ("/tmp/left", "/usr/left")), os.environ.get("LEFT"),
              hasattr(pandas, "left"))
        for path in ("/tmp/left", "/usr/left", "/dev/shm/left"): open(path, "w").write("x")
        print(os.listdir("/dev/shm"))
        print(os.path.exists("/dev/left"), "left" in open("/etc/hosts").read(), os.listdir("/dev/mqueue"))
        open("/dev/left", "w").write("x"); open("/etc/hosts", "a").write("127.0.0.1 left\\n")
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mq_open(b"/left", os.O_CREAT | os.O_RDWR, 0o600, None)
        os.environ["LEFT"] = "x"; pandas.left = True
    """
    for value in ("1", "2"):
        seen = bench.run(bench.hot, code, files={"helper.py": f"VALUE = {value}"})
        assert seen.log == f"{value} False False None False\n['left']\nFalse False []\n"
        assert seen.hot


def test_random_numbers_differ(bench: Bench) -> None:
    """Python's and numpy's generators are seeded anew for each job."""
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    first, second = (bench.run(bench.hot, code).log.split() for _ in range(2))
    assert first[0] != second[0]
    assert first[1] != second[1]


COLD = {
    "several instances": {"instance_count": 2},
    "no network": {"network_isolation": True},
    "arguments for the image's own entrypoint": {"entrypoint": None, "arguments": ("python3", f"{CODE}/job.py")},
    "a shell": {"entrypoint": ("/bin/sh", "-c", "echo x"), "arguments": None},
    "an option": {"entrypoint": ("python3", "-u", f"{CODE}/job.py")},
    "a script that is not there": {"entrypoint": ("python3", f"{CODE}/other.py")},
}


@pytest.mark.parametrize("what", COLD)
def test_what_cannot_be_run_hot_runs_cold_and_says_so_once(bench: Bench, what: str) -> None:
    """The job runs all the same, and the reason is told one time."""
    bench.notes.clear()
    bench.hot._noted.clear()
    for _ in range(2):
        assert not bench.run(bench.hot, "print('x')", **COLD[what]).hot
    assert len([note for note in bench.notes if "runs cold" in note]) == 1


def test_an_image_with_a_user_makes_the_job_cold(tmp_path: Path, processing_image: str) -> None:
    """What a job may do is its user's, hot or cold."""
    client, tag = connect(), "local-runner-test/hot-user"
    dockerfile = io.BytesIO(f"FROM {processing_image}\nUSER 65534".encode())
    client.images.build(fileobj=dockerfile, tag=tag, rm=True)
    bench = Bench(tmp_path, tag)
    try:
        seen = bench.run(bench.hot, "import os; print(os.getuid())")
        assert (seen.hot, seen.log.split()) == (False, ["65534"])
        assert any("USER 65534" in note for note in bench.notes)
    finally:
        bench.hot.close()
        end_workers(tmp_path / "state")
        client.images.remove(tag, force=True)
        client.close()


def test_a_file_named_as_a_loaded_package_makes_the_job_cold(bench: Bench) -> None:
    """In a worker the package would win over the user's file, which it does not in a process of its own."""
    bench.run(bench.hot, "import pandas")
    seen = bench.run(bench.hot, "import pandas; print(pandas.VALUE)", files={"pandas.py": "VALUE = 'own'"})
    assert (seen.log, seen.hot) == ("own\n", False)


def test_the_runtime_limit_and_stop_end_a_hot_job(bench: Bench) -> None:
    """MaxRuntime, the user, and SIGINT to scripts that handle it, or what Python makes of it."""
    loop = "import time; print('on', flush=True); time.sleep(600)"
    began = time.monotonic()
    assert bench.run(replace(bench.hot, at_once=True), loop, max_runtime=60, stop=_after(0.5)).stopped == "interrupted"
    assert time.monotonic() - began < 5
    handles = """
        import signal, sys, time
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            print("interrupted")
        signal.signal(signal.SIGINT, lambda *_: (print("asked"), sys.exit(3)))
        signal.raise_signal(signal.SIGINT)
    """
    seen = bench.run(bench.hot, handles, max_runtime=1)
    assert (seen.stopped, seen.log, seen.exit_code) == ("max_runtime", "interrupted\nasked\n", 3)


def _after(seconds: float) -> threading.Event:
    event = threading.Event()
    threading.Timer(seconds, event.set).start()
    return event


def test_memory_is_limited(bench: Bench) -> None:
    """A hot job that wants more than its instance has is killed, and the worker goes on."""
    seen = bench.run(bench.hot, "held = bytearray(5 << 30)", instance_type="ml.t3.medium")
    assert (seen.exit_code, seen.hot) == (137, True)
    assert bench.run(bench.hot, "print('on')").log == "on\n"


FORKS = """
    import os, signal, time
    made = 0
    try:
        while made < 20000:
            if not os.fork():
                signal.pause()
            made += 1
    finally:
        print(made, flush=True)
"""


LIMIT = """
    from pathlib import Path
    own = Path("/sys/fs/cgroup/pids.max")
    print((own if own.exists() else Path("/sys/fs/cgroup/pids/pids.max")).read_text(), end="")
"""


@pytest.fixture
def few_processes(bench: Bench) -> Iterator[Bench]:
    """The engines with a limit that costs this machine nothing to reach."""
    before, bench.cold.most_processes = bench.cold.most_processes, 200
    yield bench
    bench.cold.most_processes = before


@pytest.mark.parametrize("hot", [False, True])
def test_a_container_has_the_limit_of_processes(bench: Bench, hot: bool) -> None:
    assert bench.run(bench.hot if hot else bench.cold, LIMIT).log == f"{MOST_PROCESSES}\n"


@pytest.mark.parametrize("hot", [False, True])
def test_a_fork_bomb_ends_the_job_and_no_more(few_processes: Bench, hot: bool) -> None:
    """It gets no process more than the limit, fails, and the next job runs."""
    bench = few_processes
    engine = bench.hot if hot else bench.cold
    seen = bench.run(engine, FORKS)
    made = int(next(line for line in seen.log.splitlines() if line.isdecimal()))
    assert 100 < made < 200
    assert (seen.exit_code, seen.hot) == (1, hot)
    assert "BlockingIOError" in seen.log
    after = bench.run(engine, "print('x')")
    assert (after.exit_code, after.hot, after.log) == (0, hot, "x\n")


@pytest.mark.parametrize("hot", [False, True])
def test_a_log_is_bounded(bench: Bench, hot: bool) -> None:
    """The first and the last lines are kept, of 3 MB."""
    limit_logs(100_000)
    try:
        seen = bench.run(bench.hot if hot else bench.cold, "for n in range(300_000): print('line', n)")
    finally:
        limit_logs(64 * 10**6)
    assert (seen.exit_code, seen.hot) == (0, hot)
    assert len(seen.log) < 101_000
    assert seen.log.startswith("line 0\nline 1\n")
    assert seen.log.endswith("\nline 299999\n")
    assert "bytes of output are left out here" in seen.log


def test_killed_runner_takes_its_hot_job_along(tmp_path: Path, processing_image: str) -> None:
    """After SIGKILL the job is gone at once, and the worker is there for the next run."""
    state = link_caches(tmp_path / "state")
    code = tmp_path / "code"
    code.mkdir()
    (code / "job.py").write_text(
        "import time\nwhile True: open('/opt/ml/processing/out/o/beat', 'w').write(str(time.time())); time.sleep(0.05)"
    )
    step = processing("Loop", inputs={"code": "s3://b/code"}, outputs={"o": "s3://b/o"})
    step["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = ["python3", "/opt/ml/processing/in/code/job.py"]
    target = write(tmp_path / "definition.json", pipeline(step))
    arguments: Sequence[str | Path] = ("run", target, "--hot", "--state", state, "--map", f"s3://b/code={code}")
    try:
        running = Running(tmp_path / "run", *arguments, "--engine", "docker")
        beat = _eventually(lambda: next(state.glob("runs/*/work/Loop/algo-1/output-0/beat"), None))
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        time.sleep(0.5)
        last = beat.read_text()
        time.sleep(0.5)
        assert beat.read_text() == last
        assert len(list(state.glob("hot/*/socket"))) == 1
    finally:
        assert end_workers(state) == 1


def _eventually(look: Any, seconds: float = 30) -> Any:
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)
    return found


def test_a_hot_run_is_marked_and_takes_nothing_to_a_cold_one(state: Path, processing_image: str) -> None:
    """``hot`` in the record; what a hot run left in the step cache is not taken by a full run."""
    from support.command_line import local_runner

    def run(*more: str) -> dict[str, Any]:
        done = local_runner("run", "--engine", "docker", "--json", "--state", state, *more, cwd=PROJECT)
        return json.loads(done.stdout)

    try:
        first, again, cold = run("--hot"), run("--hot"), run()
    finally:
        end_workers(state)
    jobs = [[step for step in record["steps"] if step["type"] == "Processing"] for record in (first, again, cold)]
    assert [record["hot"] for record in (first, again, cold)] == [True, True, False]
    assert [{(step["hot"], step["cached"]) for step in steps} for steps in jobs] == [
        {(True, False)},
        {(True, True)},
        {(False, False)},
    ]
