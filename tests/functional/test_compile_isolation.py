"""pipeline.py that tries to get out of the process that compiles it: network, sockets, home, what is run outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.machine import cannot

from local_runner.engines.sandbox import engine as sandbox

REPOSITORY = Path(__file__).resolve().parents[2]
ABSTRACT = f"local-runner-test-{os.getpid()}"


PIPELINE = """
import ctypes, json, os, socket, struct, subprocess, sys
from pathlib import Path

from sagemaker.mlops.workflow.pipeline import Pipeline

PORT, ABSTRACT = int(os.environ["TEST_PORT"]), os.environ["TEST_ABSTRACT"]
HOME = os.environ["TEST_HOME"]
got = {}


def attempt(function):
    try:
        got[function.__name__] = function() or "through"
    except BaseException as error:
        got[function.__name__] = ""


@attempt
def c_call():
    libc = ctypes.CDLL(None, use_errno=True)
    address = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", PORT, bytes([127, 0, 0, 1]))
    assert libc.connect(libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0), address, len(address)) == 0


@attempt
def program():
    code = f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 5)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@attempt
def abstract_socket():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\\0" + ABSTRACT)


@attempt
def docker_socket():
    os.stat("/var/run/docker.sock")


@attempt
def docker_socket_elsewhere():
    os.stat("/run/docker.sock")


@attempt
def credentials():
    return Path("~/.aws/credentials").expanduser().read_text()


@attempt
def credentials_by_path():
    return Path(HOME, ".aws", "credentials").read_text()


@attempt
def home_listing():
    assert "private.txt" in os.listdir(HOME)


@attempt
def another_process():
    os.kill(int(os.environ["TEST_PID"]), 0)


@attempt
def runners_environment():
    assert b"TEST_PORT" in Path("/proc", os.environ["TEST_PID"], "environ").read_bytes()


@attempt
def system_write():
    os.close(os.open("/etc", os.O_TMPFILE | os.O_WRONLY))  # which leaves nothing where it succeeds


for name, path in {
    "home_write": os.path.join(HOME, "written"),
    "home_overwrite": os.path.join(HOME, "private.txt"),
    "settings_write": "local_runner.toml",
    "git_hook": ".git/hooks/pre-commit",
    "environment_write": ".venv/bin/python",
    "state_write": os.path.join(os.environ["TEST_STATE"], "s3", "planted"),
}.items():
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        Path(path).write_text("changed by pipeline.py")
    except OSError:
        pass

Path("generated.py").write_text("print(1)\\n")
print(json.dumps(got))
Path("got.json").write_text(json.dumps(got))


def build(session, settings):
    return Pipeline(name="P", steps=[], sagemaker_session=session)
"""

NORMAL = """
from sagemaker.core.processing import FrameworkProcessor
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep

from helpers.names import NAME

print("the file is", __file__)


def build(session, settings):
    common = dict(role="r", image_uri=settings.image_uri, instance_count=1, instance_type="ml.m5.large")
    processor = FrameworkProcessor(command=["python3"], sagemaker_session=session, **common)
    steps = [ProcessingStep("Step", step_args=processor.run(code="train.py", source_dir="training"))]
    return Pipeline(name=NAME, steps=steps, sagemaker_session=session)
"""

COMPILE = """
import json, sys
from pathlib import Path
from local_runner.compile.compiler import compile_pipeline
from local_runner.project import Project
from local_runner.storage.records import unsealed
root, state = Path(sys.argv[1]), Path(sys.argv[2])
notes = []
done = compile_pipeline(Project.at(root, state, notes.append), None, use_cache=len(sys.argv) < 4)
entries = [json.loads(unsealed(path.read_bytes())) for path in (state / "compiled").glob("*.json")]
print(json.dumps({"definition": done.definition, "cached": done.cached, "notes": notes, "entries": entries}))
"""

# No namespaces at all below this: seccomp would be needed to refuse them to root; the limit is enough for everybody.
WITHOUT = ["unshare", "--user", "--map-root-user", "sh", "-c"]
LIMIT = 'echo 0 > /proc/sys/user/max_user_namespaces; echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"'

pytestmark = [pytest.mark.sandbox, pytest.mark.programs("unshare")]


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if reason := sandbox.available(network_isolation=True):
        cannot(reason)


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


def compiled(
    root: Path, state: Path, variables: dict[str, str] | None = None, prefix: tuple[str, ...] = (), again: bool = False
) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(variables or {})}
    command = [*prefix, sys.executable, "-c", COMPILE, str(root), str(state), *(["again"] if again else [])]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port on loopback and an abstract socket, and who came."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + ABSTRACT)
        abstract.listen()

        def accept(server: socket.socket, name: str) -> None:
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return
                came.append(name)

        threads = [
            threading.Thread(target=accept, args=(server, name), daemon=True)
            for server, name in ((port, "port"), (abstract, "abstract"))
        ]
        for thread in threads:
            thread.start()
        yield port.getsockname()[1], came
        for server in (port, abstract):
            server.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()  # one that still accepts keeps the abstract name


@pytest.mark.parametrize("layout", ["apart", "in the home", "is the home"])
def test_nothing_gets_out(layout: str, tmp_path: Path, listener: tuple[int, list[str]]) -> None:
    port, came = listener
    home = tmp_path / "home"
    root = {"apart": tmp_path / "project", "in the home": home / "my prüject", "is the home": home}[layout]
    protected = {
        "local_runner.toml": "",
        ".git/hooks/pre-commit": "the hook",
        ".venv/pyvenv.cfg": "",
        ".venv/bin/python": "the interpreter",
    }
    write(root, {**protected, "pipeline.py": PIPELINE})
    private = {".aws/credentials": "[default]\naws_secret_access_key = hidden\n"}
    write(home, private if layout == "is the home" else {**private, "private.txt": "private"})
    state = tmp_path / "state"
    variables = {
        "HOME": str(home),
        "TEST_HOME": str(home),
        "TEST_PORT": str(port),
        "TEST_ABSTRACT": ABSTRACT,
        "TEST_PID": str(os.getpid()),
        "TEST_STATE": str(state),
    }
    compiled(root, state, variables)
    got = json.loads((root / "got.json").read_text())
    assert {name for name, value in got.items() if value} == set()
    assert len(got) == 11
    assert came == []
    for name, content in protected.items():
        assert (root / name).read_text() == content
    assert (home / ".aws/credentials").read_text() == private[".aws/credentials"]
    if layout != "is the home":
        assert (home / "private.txt").read_text() == "private"
        assert not (home / "written").exists()
    assert not (state / "s3/planted").exists()
    assert (root / "generated.py").read_text() == "print(1)\n"
    assert {path.suffix for path in (state / "compiled").iterdir()} <= {".json"}


@pytest.mark.parametrize("again", [False, True])
def test_the_definition_is_the_same_without_namespaces(again: bool, tmp_path: Path) -> None:
    root = tmp_path / "a project"
    write(
        root,
        {
            "pipeline.py": NORMAL,
            "helpers/names.py": "NAME = 'Flights'\n",
            "training/train.py": "print(2)\n",
            "training/requirements.txt": "",
        },
    )
    (tmp_path / "link").symlink_to(root)
    inside = compiled(tmp_path / "link", tmp_path / "inside")
    outside = compiled(root, tmp_path / "outside", prefix=(*WITHOUT, LIMIT, "sh"))
    assert inside["definition"] == outside["definition"]
    assert inside["entries"] == outside["entries"]
    assert len(inside["notes"]) == 1
    assert len(outside["notes"]) == 2
    assert "without namespaces" in outside["notes"][1]
    if again:
        assert compiled(root, tmp_path / "inside")["cached"]
        second = compiled(root, tmp_path / "outside", prefix=(*WITHOUT, LIMIT, "sh"), again=True)
        assert len(second["notes"]) == 1  # it was said


def test_what_is_read_outside_of_the_project_has_to_be_named(tmp_path: Path) -> None:
    root, names = tmp_path / "project", tmp_path / "shared" / "name.txt"
    text = f"open({str(names)!r}).read()\nfrom helper import build\n"
    write(root, {"pipeline.py": text, "helper.py": NORMAL, "helpers/names.py": "NAME = 'Flights'\n"})
    write(root, {"training/train.py": "print(2)\n", "training/requirements.txt": ""})
    write(tmp_path, {"shared/name.txt": "x"})
    with pytest.raises(AssertionError, match=r"add it to also_reads = \[\S+name.txt"):
        compiled(root, tmp_path / "state")
    write(root, {"local_runner.toml": f"[pipeline]\nalso_reads = [{json.dumps(str(names.parent))}]\n"})
    assert compiled(root, tmp_path / "state")["definition"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_however_the_runner_ends_nothing_stays(number: signal.Signals, tmp_path: Path) -> None:
    write(tmp_path, {"pipeline.py": "import time\nopen('started', 'w').close()\ntime.sleep(600)\n"})
    state = tmp_path / "state"
    runner = subprocess.Popen(
        [sys.executable, "-c", COMPILE, str(tmp_path), str(state)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: (tmp_path / "started").exists())
    assert processes_of(tmp_path)
    runner.send_signal(number)
    runner.wait(timeout=60)
    wait_for(lambda: not processes_of(tmp_path) and not list((state / "compiled").iterdir()))


def wait_for(condition: object, seconds: float = 120) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_of(root: Path) -> list[str]:
    """The processes whose command line names that directory."""
    found: list[str] = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(root) in command:
                found.append(process.name)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.programs("setpriv")
def test_an_ordinary_user_compiles_isolated() -> None:
    python = "/usr/bin/python3"  # this one may lie where others cannot go
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    code = (
        "import sys; print('%d.%d' % sys.version_info[:2]); import sys; sys.path.append(sys.argv[1]); import pydantic"
    )
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    asked = subprocess.run([*become, python, "-c", code, packages], text=True, capture_output=True)
    if asked.returncode or asked.stdout.strip() != f"{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip(f"{python} cannot use this environment's packages as another user")
    place = Path("/tmp") / f"local-runner-user-{os.getpid()}"
    script = "import os\nopen('seen', 'w').write(str(os.listdir('/var')))\nraise SystemExit(3)\n"
    try:
        write(place, {"pipeline.py": script})
        for path in (place, *place.rglob("*")):
            os.chown(path, 65534, 65534)
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{packages}", "HOME": str(place / "home")}
        done = subprocess.run(
            [*become, python, "-c", COMPILE, str(place), str(place / "state")],
            env=environment,
            text=True,
            capture_output=True,
        )
        assert "it ends the program (exit code 3)" in done.stderr, done.stderr
        assert "pipeline.py, line 3" in done.stderr
        assert (place / "seen").read_text() == "['tmp']"
        assert not list((place / "state/compiled").iterdir())
    finally:
        shutil.rmtree(place, ignore_errors=True)
