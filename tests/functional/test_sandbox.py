"""The sandbox engine, by what jobs see and leave behind. Real namespaces, no network, no Docker."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from support.jobs import processing_job

import local_runner
from local_runner.engines.host_log import limit_logs
from local_runner.engines.instances import MOST_PROCESSES
from local_runner.engines.sandbox.engine import DIFFERENCES, SandboxEngine, available
from local_runner.errors import EngineError
from local_runner.models import BindMount, InputMount, JobResult, ProcessingJob, StagedHost, StagedJob
from local_runner.storage import job_tree

pytestmark = pytest.mark.sandbox
ENVIRONMENT = Path(sys.prefix)


class Sandbox:
    """A directory to stage jobs in, and what the last one said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / "scratch"
        self.scratch.mkdir()
        self.engine = SandboxEngine(ENVIRONMENT, hidden=(root / "project",))
        self.lines: list[tuple[str, str]] = []

    def run(
        self,
        job: ProcessingJob,
        inputs: Sequence[tuple[str, Sequence[Path]]] = (),
        binds: Sequence[tuple[str, Path]] = (),
        stop: threading.Event | None = None,
        on_line: Callable[[str, str], object] = lambda host, line: None,
    ) -> JobResult:
        self.lines.clear()

        def follow(host: str, line: str) -> None:
            self.lines.append((host, line))
            on_line(host, line)

        return self.engine.run(self.stage(job, inputs, binds), follow, stop or threading.Event())

    def stage(
        self,
        job: ProcessingJob,
        inputs: Sequence[tuple[str, Sequence[Path]]],
        binds: Sequence[tuple[str, Path]],
    ) -> StagedJob:
        hosts: list[StagedHost] = []
        for name in job.hosts:
            mounts: list[InputMount] = []
            for number, (local_path, layers) in enumerate(inputs):
                scratch = self.root / "inputs" / f"{name}-{number}"
                scratch.mkdir(parents=True, exist_ok=True)
                mounts.append(InputMount(local_path, tuple(layers), scratch))
            bound = tuple(BindMount(local_path, source) for local_path, source in binds)
            hosts.append(StagedHost(name, tuple(mounts), bound, self.log(name)))
        return StagedJob(job, "abc", "Step", self.scratch, tuple(hosts))

    def log(self, host: str = "algo-1") -> Path:
        return self.root / "logs" / f"{host}.log"

    def said(self, host: str = "algo-1") -> list[str]:
        return [line for name, line in self.lines if name == host]

    def sh(self, script: str, *, environment: Mapping[str, str] = {}, **arguments: Any) -> list[str]:
        """What a shell script printed; it must succeed."""
        job = processing_job("/bin/sh", "-c", script, environment=environment)
        result = self.run(job, **arguments)
        assert result.succeeded, (result, self.said())
        return self.said()


@pytest.fixture
def sandbox(tmp_path: Path):
    reason = available()
    if reason:
        pytest.fail(f"The sandbox cannot run here. {reason}")
    yield Sandbox(tmp_path)
    assert not list((tmp_path / "scratch").iterdir()), "a job left its scratch directory behind"
    for scratch in (tmp_path / "inputs").glob("*"):
        assert not list(scratch.iterdir()), "a job left what it wrote into its inputs"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# ------------------------------------------------------------------------------------------------- exit codes
@pytest.mark.parametrize(
    ("entrypoint", "code"),
    [
        (("/bin/true",), 0),
        (("false",), 1),
        (("sh", "-c", "exit 42"), 42),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -SEGV $$"), 139),
        (("no-such-command",), 127),
        (("/opt/ml/no-such-script",), 127),
        (("/etc/hosts",), 126),
    ],
)
def test_exit_code_is_that_of_the_job(sandbox: Sandbox, entrypoint: tuple[str, ...], code: int):
    result = sandbox.run(processing_job(*entrypoint))
    assert (result.hosts[0].exit_code, result.hosts[0].error, result.stopped) == (code, None, "")


def test_missing_command_is_named_in_the_log(sandbox: Sandbox):
    sandbox.run(processing_job("no-such-command"))
    assert "cannot run 'no-such-command': not found on PATH" in sandbox.log().read_text()


def test_missing_interpreter_of_a_script_is_said(sandbox: Sandbox, tmp_path: Path):
    script = tree(tmp_path / "code", {"run.sh": "#!/no/such/shell\n"}) / "run.sh"
    script.chmod(0o755)
    result = sandbox.run(processing_job("/opt/ml/code/run.sh"), binds=[("/opt/ml/code", script.parent)])
    assert result.hosts[0].exit_code == 127
    assert "interpreter" in sandbox.said()[0]


def test_arguments_follow_the_entrypoint(sandbox: Sandbox):
    job = processing_job("printf", "%s|")
    words = ("", "two words", "ünï", "$HOME", "'\"\\")
    result = sandbox.run(type(job)(**{**vars(job), "arguments": words}))
    assert result.succeeded
    assert sandbox.said() == ["".join(f"{word}|" for word in words)]


# --------------------------------------------------------------------------------------- what the job can see
def test_environment_is_the_jobs_alone(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "HTTPS_PROXY", "PYTHONPATH"):
        monkeypatch.setenv(name, "host's")
    lines = sandbox.sh("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'", environment={"NAME": 'vàlue = "1"'})
    assert not [line for line in lines if "host's" in line]
    names = {line.split("=")[0] for line in lines}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "PYTHONUNBUFFERED",
        "HOSTNAME",
        "NAME",
    }
    assert 'NAME=vàlue = "1"' in lines
    assert "HOSTNAME=algo-1" in lines


def test_project_and_home_are_not_there(sandbox: Sandbox, tmp_path: Path):
    secret = tree(tmp_path / "project", {"secret.txt": "x"}) / "secret.txt"
    test_file = Path(__file__)
    script = f"test ! -e '{secret}' && test ! -e '{test_file}' && test ! -e ~/.aws && pwd"
    assert sandbox.sh(script) == ["/"]
    for path in Path.home().iterdir():
        if not Path(sys.base_prefix).is_relative_to(path) and not ENVIRONMENT.is_relative_to(path):
            assert sandbox.sh(f"test ! -e '{path}'") == []


def test_hidden_directories_below_the_system_are_empty(sandbox: Sandbox, tmp_path: Path):
    hidden = Path("/usr/share")  # stands for a project below /usr or /opt
    engine = SandboxEngine(ENVIRONMENT, hidden=(hidden,))
    sandbox.engine = engine
    assert sandbox.sh("ls -A /usr/share | wc -l; touch /usr/share/x 2>/dev/null || echo read-only") == [
        "0",
        "read-only",
    ]


def test_system_is_read_only_and_scratch_places_are_writable(sandbox: Sandbox):
    script = """
        python=$(dirname "$(readlink -f "$(command -v python)")")
        for d in /usr /etc /sys/kernel /proc/sys/kernel "$python" "${PATH%%:*}"; do
            if touch $d/x 2>/dev/null; then echo "wrote into $d"; fi
        done
        for d in / /tmp /var/tmp /run ~ /opt/ml /dev/shm; do echo x > $d/x || echo "no $d"; done
        echo x > /dev/null; head -c 8 /dev/urandom > /tmp/random; exec 3<>/dev/ptmx
    """
    assert sandbox.sh(script) == []


def test_processing_environment_comes_first(sandbox: Sandbox):
    assert sandbox.sh("command -v python; python -c 'import sys, click; print(sys.prefix)'") == [
        f"{ENVIRONMENT}/bin/python",
        str(ENVIRONMENT),
    ]


def test_processes_of_the_host_are_not_there(sandbox: Sandbox):
    assert sandbox.sh("kill -0 $PPID; echo $PPID $$; ls /proc | grep -c '^[0-9]'; hostname") == [
        "1 2",
        "4",
        "algo-1",
    ]


# ----------------------------------------------------------------------------------------------------- mounts
def test_inputs_are_writable_and_their_source_stays(sandbox: Sandbox, tmp_path: Path):
    data = tree(tmp_path / "data", {"a.csv": "a", "keep/b.csv": "b", "gone/c.csv": "c"})
    (data / "a.csv").chmod(0o444)
    lines = sandbox.sh(
        "cd /opt/ml/processing/input && cat a.csv keep/b.csv && echo && echo changed > a.csv"
        " && echo new > new.csv"
        " && rm -r gone && mkdir gone && chmod 000 keep && cat a.csv && ls gone | wc -l",
        inputs=[("/opt/ml/processing/input", [data])],
    )
    assert lines == ["ab", "changed", "0"]
    assert sorted(str(path.relative_to(data)) for path in data.rglob("*")) == [
        "a.csv", "gone", "gone/c.csv", "keep", "keep/b.csv",
    ]  # fmt: skip
    assert (data / "a.csv").read_text() == "a"


def test_layers_are_joined_the_first_on_top(sandbox: Sandbox, tmp_path: Path):
    layers = [
        tree(tmp_path / "top", {"same": "top", "dir/top": "1"}),
        tree(tmp_path / "middle", {"same": "middle", "dir/middle": "2"}),
        tree(tmp_path / "bottom", {"same": "bottom", "dir/bottom": "3"}),
    ]
    lines = sandbox.sh("cd /opt/ml/in && cat same && echo && cat dir/* && ls dir", inputs=[("/opt/ml/in", layers)])
    assert lines == ["top", "321bottom", "middle", "top"]


def test_an_input_without_layers_is_an_empty_directory(sandbox: Sandbox):
    assert sandbox.sh("ls -A /opt/ml/in | wc -l; echo x > /opt/ml/in/x", inputs=[("/opt/ml/in", [])]) == ["0"]


def test_where_there_is_no_overlay_the_input_is_copied(sandbox: Sandbox, tmp_path: Path):
    # The kernel joins at most 500 layers: a refusal that can be had on every machine.
    top = tree(tmp_path / "top", {"a": "top", "kind": "file"})
    bottom = tree(tmp_path / "bottom", {"a": "bottom", "b": "below", "kind/x": "directory"})
    (top / "link").symlink_to("a")
    many = [
        top,
        *(tree(tmp_path / "many" / str(number), {f"n{number}": "n"}) for number in range(510)),
        bottom,
    ]
    lines = sandbox.sh(
        "cd /opt/ml/in && cat a b kind link && echo && ls | wc -l && echo x > a",
        inputs=[("/opt/ml/in", many)],
    )
    assert "the input was copied" in lines[0]
    assert lines[1:] == ["topbelowfiletop", "514"]
    assert (top / "a").read_text() == "top"


def test_nested_local_paths(sandbox: Sandbox, tmp_path: Path):
    data = tree(tmp_path / "data", {"a": "a"})
    output, config = tmp_path / "output", tree(tmp_path / "config", {"c.json": "{}"})
    output.mkdir()
    lines = sandbox.sh(
        "cat /opt/ml/processing/a /opt/ml/processing/deep/in/a && echo && cat /opt/ml/config/c.json && echo"
        " && echo result > /opt/ml/processing/deep/in/out/result",
        inputs=[("/opt/ml/processing/deep/in", [data]), ("/opt/ml/processing", [data])],
        binds=[("/opt/ml/processing/deep/in/out", output), ("/opt/ml/config", config)],
    )
    assert lines == ["aa", "{}"]
    assert (output / "result").read_text() == "result\n"
    assert [path.name for path in data.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "name", ["ünïcødé ☃", "a:b,c\\d=e", "with space\tand tab", "quo\"te's", "new\nline", "x" * 250]
)
def test_odd_paths(sandbox: Sandbox, tmp_path: Path, name: str):
    data = tree(tmp_path / name, {f"{name[:200]}.csv": "odd"})
    output = tmp_path / f"out {name[:200]}"
    output.mkdir()
    local_path = f"/opt/ml/processing/{name}"
    sandbox.sh(
        'cp "$IN"/*.csv "$OUT"',
        inputs=[(local_path, [data, tree(tmp_path / f"{name[:200]}2", {"x": "x"})])],
        binds=[(f"{local_path}/out", output)],
        environment={"IN": local_path, "OUT": f"{local_path}/out"},
    )
    assert [path.read_text() for path in output.iterdir()] == ["odd"]


def test_a_missing_source_is_an_error_that_names_it(sandbox: Sandbox, tmp_path: Path):
    for result in (
        sandbox.run(processing_job("true"), binds=[("/opt/ml/output", tmp_path / "nowhere")]),
        sandbox.run(processing_job("true"), inputs=[("/opt/ml/in", [tmp_path / "nowhere"])]),
    ):
        assert result.hosts[0].exit_code is None
        assert f"{tmp_path}/nowhere" in str(result.hosts[0].error)


# ------------------------------------------------------------------------------------- several hosts, network
TALK = textwrap.dedent("""
    import os, socket, time
    me, port = socket.gethostname(), 45871
    if me == "algo-1":
        server = socket.create_server((me, port))
        for _ in range(2):
            connection, _ = server.accept()
            print(connection.makefile().readline().strip(), flush=True)
    else:
        for _ in range(100):
            try:
                socket.create_connection(("algo-1", port)).sendall(f"hello from {me}\\n".encode())
                break
            except OSError:
                time.sleep(0.05)
        assert len({socket.gethostbyname(f"algo-{n}") for n in (1, 2, 3)}) == 3
""")


@pytest.mark.parametrize("isolated", [False, True])
def test_hosts_resolve_and_reach_each_other(sandbox: Sandbox, isolated: bool):
    result = sandbox.run(processing_job("python", "-c", TALK, instance_count=3, network_isolation=isolated))
    assert result.succeeded, (result, sandbox.lines)
    assert sorted(sandbox.said()) == ["hello from algo-2", "hello from algo-3"]
    assert [host.host for host in result.hosts] == ["algo-1", "algo-2", "algo-3"]


def test_each_host_has_its_own_result_log_and_files(sandbox: Sandbox):
    script = "echo I am $HOSTNAME; test ! -e /tmp/mine && touch /tmp/mine; sleep 0.2; test $HOSTNAME != algo-2"
    result = sandbox.run(processing_job("sh", "-c", script, instance_count=3))
    assert [host.exit_code for host in result.hosts] == [0, 1, 0]
    assert not result.succeeded
    assert [sandbox.log(f"algo-{n}").read_text() for n in (1, 2, 3)] == [f"I am algo-{n}\n" for n in (1, 2, 3)]


def test_network_isolation_leaves_only_loopback(sandbox: Sandbox):
    script = textwrap.dedent("""
        import socket, sys
        try:
            socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
            print("connected")
        except OSError:
            print("refused")
        print(*(name for _, name in socket.if_nameindex()))
    """)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert sandbox.run(processing_job("python", "-c", script, port)).succeeded
        assert sandbox.said()[0] == "connected"
        assert sandbox.run(processing_job("python", "-c", script, port, network_isolation=True)).succeeded
        assert sandbox.said()[0] == "refused"
        assert sandbox.said()[1].split()[0] == "lo"


# --------------------------------------------------------------------------------------------------- stopping
def test_stop_asks_first(sandbox: Sandbox):
    stop = threading.Event()
    script = "trap 'echo tidying up; exit 3' INT; echo ready; while :; do sleep 0.05; done"
    result = sandbox.run(processing_job("sh", "-c", script), stop=stop, on_line=lambda *_: stop.set())
    assert sandbox.said() == ["ready", "tidying up"]
    assert (result.hosts[0].exit_code, result.stopped, result.succeeded) == (3, "interrupted", False)


def test_stop_kills_what_does_not_listen(tmp_path: Path):
    sandbox = Sandbox(tmp_path)
    stop = threading.Event()
    token = f"1{uuid.uuid4().int % 10**8}"
    script = f"trap '' INT; setsid sleep {token} & echo ready; sleep {token}; sleep {token}"
    started = time.monotonic()

    def both_ready(host: str, line: str) -> None:
        if len(sandbox.lines) == 2:
            stop.set()

    result = sandbox.run(processing_job("sh", "-c", script, instance_count=2), stop=stop, on_line=both_ready)
    assert time.monotonic() - started < 10
    assert [host.exit_code for host in result.hosts] == [137, 137]
    assert result.stopped == "interrupted"
    assert not processes_with(token)


def test_max_runtime(sandbox: Sandbox):
    result = sandbox.run(processing_job("sleep", "60", max_runtime=1))
    assert (result.hosts[0].exit_code, result.stopped) == (130, "max_runtime")


def test_background_processes_end_with_the_job(sandbox: Sandbox):
    token = f"1{uuid.uuid4().int % 10**8}"
    assert sandbox.sh(f"setsid sleep {token} & echo done") == ["done"]
    assert not processes_with(token)


def test_a_failing_follower_ends_the_job(sandbox: Sandbox):
    token = f"1{uuid.uuid4().int % 10**8}"

    def fail(host: str, line: str) -> None:
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="ready"):
        sandbox.run(processing_job("sh", "-c", f"echo ready; exec sleep {token}"), on_line=fail)
    assert not processes_with(token)


def processes_with(token: str) -> list[str]:
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if token.encode() in words:
            found.append(path.parent.name)
    return found


# ---------------------------------------------------------------------------------- other users, other deaths
DRIVER = textwrap.dedent("""
    import os, pathlib, sys, threading
    from local_runner.engines.sandbox.engine import SandboxEngine
    from local_runner.models import BindMount, InputMount, ProcessingJob, StagedHost, StagedJob

    root, environment, *entrypoint = sys.argv[1:]
    root = pathlib.Path(root)
    for name in ("scratch", "input", "output", "data"):
        (root / name).mkdir()
    (root / "data" / "a").write_text("a")
    job = ProcessingJob("j", "i", tuple(entrypoint), None, {}, (), (), 1, "t", 600, False, {})
    host = StagedHost(
        "algo-1",
        (InputMount("/opt/ml/processing/input", (root / "data",), root / "input"),),
        (BindMount("/opt/ml/processing/output", root / "output"),),
        root / "log",
    )
    engine = SandboxEngine(pathlib.Path(environment))
    staged = StagedJob(job, "r", "s", root / "scratch", (host,))
    result = engine.run(staged, lambda host, line: print(line, flush=True), threading.Event())
    print(result)
    sys.exit(0 if result.succeeded else 1)
""")


def test_an_ordinary_user_owns_what_the_job_leaves(sandbox: Sandbox, open_directory: Path):
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    script = (
        "set -e; id -u; cd /opt/ml/processing; cat input/a; echo; echo b > input/a; mkdir -m 0 input/shut;"
        " mkdir output/d; echo x > output/d/x; mkdir -m 0 /tmp/shut; ! touch /usr/x 2>/dev/null"
    )
    done = subprocess.run(
        [
            open_directory / "venv/bin/python",
            "-c",
            DRIVER,
            open_directory / "state",
            open_directory / "venv",
            "sh",
            "-c",
            script,
        ],
        env={"PYTHONPATH": str(open_directory / "lib")},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **user,  # type: ignore[arg-type]
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[:2] == ["0", "a"]
    state = open_directory / "state"
    owner = user.get("user", os.geteuid())
    assert {path.stat().st_uid for path in (state / "output").rglob("*")} == {owner}
    assert (state / "output/d/x").read_text() == "x\n"
    assert (state / "data/a").read_text() == "a"
    assert not list((state / "input").iterdir())
    assert not list((state / "scratch").iterdir())


@pytest.fixture
def open_directory():
    """A directory any user can use, with a venv and what the engine imports; a checkout may be closed."""
    root = Path(tempfile.mkdtemp(prefix="sandbox-test-", dir="/tmp"))
    root.chmod(0o755)
    (root / "state").mkdir()
    (root / "state").chmod(0o777)
    for package in (local_runner, click):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, root / "lib" / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    interpreters = [os.path.realpath(sys.executable), "/usr/bin/python3"]
    program = next(path for path in interpreters if usable_by_anyone(Path(path)))
    subprocess.run([program, "-m", "venv", "--without-pip", root / "venv"], check=True)
    yield root
    shutil.rmtree(root)


def usable_by_anyone(program: Path) -> bool:
    return program.exists() and all(parent.stat().st_mode & 0o001 for parent in program.parents)


def test_the_job_dies_with_its_runner(sandbox: Sandbox, tmp_path: Path):
    token = f"1{uuid.uuid4().int % 10**8}"
    root = tmp_path / "killed"
    root.mkdir()
    script = f"echo x > /opt/ml/processing/input/a; echo ready; setsid sleep {token} & sleep {token}"
    runner = subprocess.Popen(
        [sys.executable, "-c", DRIVER, root, ENVIRONMENT, "sh", "-c", script],
        env={"PYTHONPATH": str(Path(local_runner.__file__).parents[1])},
        stdout=subprocess.PIPE,
    )
    assert runner.stdout
    assert runner.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and len(processes_with(token)) < 2:
        time.sleep(0.02)
    assert len(processes_with(token)) == 2
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    runner.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (processes_with(token) or list((root / "scratch").iterdir())):
        time.sleep(0.02)
    assert not processes_with(token)
    assert not list((root / "scratch").iterdir())
    assert not list((root / "input").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's job has no second user to give files to")
def test_outputs_given_to_another_user_come_back(sandbox: Sandbox, tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    script = "cd /opt/ml/output; mkdir d; touch d/x; ln -s nowhere d/link; chown -hR 1234:1234 d; stat -c %u d"
    assert sandbox.sh(script, binds=[("/opt/ml/output", output)]) == ["1234"]
    job_tree.take(output, str(tmp_path / "taken"))
    assert {path.lstat().st_uid for path in (tmp_path / "taken").rglob("*")} == {0}


# ----------------------------------------------------------------------------------------------------- output
def test_a_job_ignores_no_signal_whatever_its_runner_ignores(sandbox: Sandbox):
    """As what a shell runs in its background ignores SIGINT, which is what stops a job."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        (line,) = sandbox.sh("grep SigIgn /proc/self/status")
        ignored = {number + 1 for number in range(64) if int(line.split()[1], 16) >> number & 1}
        assert ignored <= {32, 33}, "the C library keeps these for itself, and lets nobody set them"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_every_line_arrives_and_is_logged(sandbox: Sandbox):
    assert sandbox.run(processing_job("sh", "-c", "seq 100000; seq 5 >&2")).succeeded
    expected = [str(number) for number in (*range(1, 100001), *range(1, 6))]
    assert sandbox.said() == expected
    assert sandbox.log().read_text() == "".join(f"{line}\n" for line in expected)


def test_lines_arrive_while_the_job_runs(sandbox: Sandbox):
    arrived: dict[str, float] = {}
    sandbox.run(
        processing_job("sh", "-c", "echo one; sleep 0.5; printf two"),
        on_line=lambda _, line: arrived.setdefault(line, time.monotonic()),
    )
    assert arrived["two"] - arrived["one"] > 0.3


def test_a_log_that_cannot_be_opened_is_a_result(sandbox: Sandbox):
    sandbox.log().mkdir(parents=True)
    result = sandbox.run(processing_job("true"))
    assert result.hosts[0].exit_code is None
    assert "algo-1.log" in str(result.hosts[0].error)


def test_a_full_disk_for_the_log_is_said(sandbox: Sandbox):
    sandbox.log().parent.mkdir()
    sandbox.log().symlink_to("/dev/full")
    result = sandbox.run(processing_job("echo", "something"))
    assert result.hosts[0].exit_code == 0
    assert "No space left" in str(result.hosts[0].error)
    assert sandbox.said() == ["something"]


# ------------------------------------------------------------------------------------------------- the engine
def test_jobs_without_entrypoint_are_a_problem():
    job = processing_job()
    no_entrypoint = type(job)(**{**vars(job), "entrypoint": None, "arguments": ("--x",)})
    problems = SandboxEngine(ENVIRONMENT).problems([("Steps[0]", no_entrypoint), ("Steps[1]", processing_job("true"))])
    assert [problem.where for problem in problems] == ["Steps[0].Arguments.AppSpecification"]
    assert "--engine docker" in str(problems[0])


def test_an_argument_is_never_run_as_the_entrypoint(sandbox: Sandbox):
    job = processing_job()
    result = sandbox.run(type(job)(**{**vars(job), "entrypoint": None, "arguments": ("true",)}))
    assert result.hosts[0].exit_code is None
    assert "no entrypoint" in str(result.hosts[0].error)


def test_prepare_wants_the_environment(tmp_path: Path):
    SandboxEngine(ENVIRONMENT).prepare([])
    with pytest.raises(EngineError, match="has no bin/python"):
        SandboxEngine(tmp_path).prepare([])


def test_engine_can_be_closed_twice_and_says_its_differences(sandbox: Sandbox):
    sandbox.engine.close()
    sandbox.engine.close()
    assert all(sentence.endswith(".") for sentence in DIFFERENCES)


@pytest.mark.programs("unshare")
@pytest.mark.parametrize("limits", [["user", "mnt"], ["user", "pid"], ["user", "uts"]])
def test_available_says_why_not(limits: list[str]):
    # A user namespace of the test's own in which the kernel's limits can be set to none.
    script = "".join(f"echo 0 > /proc/sys/user/max_{kind}_namespaces; " for kind in limits) + 'exec "$@"'
    program = "from local_runner.engines.sandbox.engine import available; print(available())"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(local_runner.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sysctl -w user.max_user_namespaces" in done.stdout
    assert "cannot make a new" in done.stdout


def test_many_jobs_at_once(sandbox: Sandbox):
    results: list[JobResult] = []

    def one(number: int) -> None:
        root = sandbox.root / str(number)
        job = processing_job("sh", "-c", f"exit {number}")
        staged = StagedJob(job, str(number), "Step", root, (StagedHost("algo-1", (), (), root / "log"),))
        results.append(sandbox.engine.run(staged, lambda host, line: None, threading.Event()))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.hosts[0].exit_code or 0 for result in results) == list(range(12))


def test_what_is_in_memory_is_bounded(sandbox: Sandbox):
    """No tmpfs that the job can write to is larger than what the documentation says; /dev/shm is as Docker's."""
    script = "while read -r _ at kind how _; do [ $kind != tmpfs ] || echo $at $how; done </proc/self/mounts"
    mounts = dict(line.split() for line in sandbox.sh(script))
    writable = {path: options for path, options in mounts.items() if "rw" in options.split(",")}
    assert {"/", "/dev/shm"} <= set(writable)
    for path, options in writable.items():
        sizes = [option for option in options.split(",") if option.startswith("size=")]
        assert sizes, (path, options)
        assert int(sizes[0][5:].rstrip("k")) <= 256 * 1024, (path, options)
    assert "size=65536k" in writable["/dev/shm"]
    full = sandbox.run(processing_job("/bin/sh", "-c", "head -c 100000000 /dev/zero > /dev/shm/x"))
    assert not full.succeeded
    assert any("No space left" in line for line in sandbox.said())


def test_a_log_is_bounded(sandbox: Sandbox):
    """The first and the last lines are kept; all are passed on."""
    limit_logs(100_000)
    try:
        said = sandbox.sh("seq 300000")
    finally:
        limit_logs(64 * 10**6)
    log = sandbox.log().read_text()
    assert len(log) < 101_000
    assert log.startswith("1\n2\n")
    assert log.endswith("\n300000\n")
    assert "bytes of output are left out here" in log
    assert len(said) == 300_001


def test_a_job_has_the_limit_of_processes(sandbox: Sandbox):
    """The hard limit too, so that a job cannot raise it; where the runner's own is lower, that one."""
    own = [limit for limit in resource.getrlimit(resource.RLIMIT_NPROC) if limit != resource.RLIM_INFINITY]
    most = min([MOST_PROCESSES, *own])
    (line,) = sandbox.sh("grep '^Max processes' /proc/self/limits")
    assert line.split()[2:4] == [str(most)] * 2


def test_the_real_root_is_held_to_it_by_a_cgroup_of_the_job(sandbox: Sandbox):
    """Where one can be made, and it is gone with the job."""
    places = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    own = [Path(f"/sys/fs/cgroup/pids{path}") for _, controllers, path in places if controllers == "pids"]
    if os.geteuid() or not own or not os.access(own[0], os.W_OK):
        pytest.skip("a pids cgroup of version 1 that root can write to is needed")
    (own[0] / "local-runner-0-0").mkdir()  # of a launcher that was killed
    (path, most) = sandbox.sh(
        "p=$(sed -n s/^[0-9]*:pids://p /proc/self/cgroup); echo $p; cat /sys/fs/cgroup/pids$p/pids.max"
    )
    assert most == str(MOST_PROCESSES)
    assert Path(path).name.startswith("local-runner-")
    assert not (own[0] / Path(path).name).exists()
    assert not (own[0] / "local-runner-0-0").exists()


@pytest.mark.programs("prlimit")
def test_a_fork_bomb_of_an_ordinary_user_ends_the_job(sandbox: Sandbox, open_directory: Path):
    """The kernel holds everybody but the real root to the limit, here a lower one of the runner's own; a shell that
    cannot fork ends.
    """
    most = 300
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    bomb = "i=0; while [ $i -lt 20000 ]; do sleep 1000 & i=$((i+1)); [ $((i % 100)) != 0 ] || echo $i; done"
    places = (open_directory / "state", open_directory / "venv")
    done = subprocess.run(
        [
            "prlimit",
            f"--nproc={most}",
            open_directory / "venv/bin/python",
            "-c",
            DRIVER,
            *places,
            "/bin/sh",
            "-c",
            bomb,
        ],
        env={"PYTHONPATH": str(open_directory / "lib")},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **user,  # type: ignore[arg-type]
    )
    assert done.returncode == 1, done
    made = [int(line) for line in done.stdout.splitlines() if line.isdecimal()]
    assert 100 <= made[-1] < most, done
