"""pipeline.py -> its definition, offline. Reads the project; writes ``<state>/compiled`` and ``<state>/s3``.

The SDK takes seconds to import, so it is never imported here: ``program.py`` compiles in a process of
its own, and only when something that the last compile read has changed. Looking that up takes milliseconds.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runner.compile.dependencies import Dependency, unchanged
from local_runner.compile.interpreter import Interpreter, find_interpreter
from local_runner.errors import CompileError, debugging, without_sdk
from local_runner.project import Project
from local_runner.settings import LOCAL_ACCOUNT, SETTINGS_FILE, Settings
from local_runner.storage.marks import is_marked, mark
from local_runner.storage.records import read_record, sealed

if TYPE_CHECKING:
    from local_runner.compile.isolation import Compiling

IMAGE_URI = "local/processing"
"""The project's own image in a local definition, a constant: another image is no other definition."""

_TARGET = re.compile(r"(?P<file>.+\.py)(?::(?P<function>[A-Za-z_]\w*))?")
_SOURCES = (
    "program.py",
    "dependencies.py",
    "sdk.py",
    "boto.py",
    "offline.py",
    "uploads.py",
    "compiler.py",
    "../names.py",
    "isolation.py",
)
_DEFAULT_FUNCTION = "build"
_STDERR = 2
_UPLOAD = re.compile(r"s3/(?!\.\.?/)[^/\0]+/uploads/[0-9a-f]{16}")


@dataclass(frozen=True)
class Compiled:
    """A pipeline's name and definition (JSON text). ``cached`` says that nothing had to be compiled."""

    name: str
    definition: str
    cached: bool


@dataclass(frozen=True)
class BuildValues:
    """What a pipeline is built for: what FUNCTION(session, settings) gets to see, and the account."""

    environment: str
    region: str
    bucket: str
    role_arn: str
    image_uri: str = IMAGE_URI
    account: str = LOCAL_ACCOUNT


def local_values(settings: Settings) -> BuildValues:
    """The values of a local run."""
    local = settings.local
    return BuildValues("local", local.region, local.bucket, local.role_arn)


@dataclass(frozen=True)
class _Target:
    file: Path
    function: str
    label: str


def compile_pipeline(
    project: Project,
    target: str | None,
    *,
    python: Path | None = None,
    use_cache: bool = True,
    debug: bool = False,
    values: BuildValues | None = None,
) -> Compiled:
    """The definition of ``target`` (FILE.py or FILE.py:FUNCTION; by default the entry of the settings).

    ``python`` is the interpreter whose environment has the SDK (None: this one); see :func:`.find_interpreter`. The
    project's ``note`` gets one line if there is something to compile; ``debug`` lets all that the SDK
    and pipeline.py print go to stderr. ``values`` are those of an environment (None: of a local run). Raises
    CompileError with the line that failed.
    """
    settings, state, progress = project.settings, project.state.resolve(), project.note
    found = _find(settings, target)
    values = values or local_values(settings)
    environment = _environment(values)
    interpreter = find_interpreter(python, environment)
    entry_path = state / "compiled" / f"{_key(settings, found, interpreter, values)}.json"
    if use_cache:
        entry = _cached(entry_path, settings.root, state, environment)
        if entry is not None:
            return Compiled(entry["name"], entry["definition"], cached=True)
    if python is None and not interpreter.has_sdk():  # another Python says so itself: program.py
        raise CompileError(without_sdk(f"Compiling {found.label}"))
    progress(f"compiling {found.label} with the SageMaker SDK (about 3 s, only when it changed)")
    try:
        entry_path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="compile-", dir=entry_path.parent))
            job = _Job(interpreter, settings, found, state, Path(scratch), values, debug or debugging())
            entry = _compile(job, environment, progress, stack)
            if entry["programs"]:
                program = entry["programs"][0]
                progress(f"{found.label} runs {program} when it is compiled, so the result is not kept")
            else:
                _write(entry_path, entry, Path(scratch))
    except OSError as error:
        raise CompileError(f"The definition cannot be kept in {entry_path.parent}: {error}") from None
    return Compiled(entry["name"], entry["definition"], cached=False)


def _find(settings: Settings, target: str | None) -> _Target:
    """The file and function that a target means: a path from the current directory, else from the root."""
    entry = _TARGET.fullmatch(settings.pipeline.entry)
    assert entry is not None  # the settings have checked it
    match = entry if target is None else _TARGET.fullmatch(target)
    if match is None:
        raise CompileError(
            f"{target!r} is no pipeline file. Give FILE.py or FILE.py:FUNCTION, such as pipeline.py:build."
        )
    name = match["file"]
    places = [settings.root / name] if target is None else [Path.cwd() / name, settings.root / name]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        if target is None and not (settings.root / SETTINGS_FILE).exists():
            where = "Run this in a project's directory, or name a TARGET: a pipeline.py, or a definition JSON file."
        elif target is None:
            where = f"'entry' in [pipeline] of {SETTINGS_FILE} names it."
        else:
            where = f"The project is {settings.root}."
        raise CompileError(f"There is no file {name}. {where}")
    file = file.resolve()
    label = file.relative_to(settings.root).as_posix() if file.is_relative_to(settings.root) else str(file)
    return _Target(file, match["function"] or entry["function"] or _DEFAULT_FUNCTION, label)


def _pipeline_settings(values: BuildValues) -> dict[str, str]:
    """What FUNCTION(session, settings) gets to see."""
    return {key: value for key, value in asdict(values).items() if key != "account"}


def _environment(values: BuildValues) -> dict[str, str]:
    """This process's environment without anything of AWS, and with what keeps the SDK to this machine."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return environment | {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": values.region,
        "AWS_REGION": values.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": os.devnull,
        "PYTHONHASHSEED": "0",
        "PYTHONSAFEPATH": "",
    }


def _key(settings: Settings, target: _Target, interpreter: Interpreter, values: BuildValues) -> str:
    """What makes a definition another one, apart from what pipeline.py reads."""
    package = Path(__file__).parent
    parts = {
        "target": [str(target.file), target.function],
        "root": str(settings.root),
        "settings": _pipeline_settings(values),
        "account": values.account,
        "python": [interpreter.program, interpreter.version],
        "sdk": interpreter.sdk_versions(),
        "compiler": [hashlib.sha256((package / name).read_bytes()).hexdigest() for name in _SOURCES],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


_ENTRY = {"name": str, "definition": str, "dependencies": [[(str, type(None))]], "uploads": [str]}


def _cached(path: Path, root: Path, state: Path, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The entry, if what it was made from is unchanged and its uploads are there. A broken one is none."""
    try:
        entry: dict[str, Any] = read_record(path, _ENTRY)
        dependencies = [Dependency(*item) for item in entry["dependencies"]]
        kept = all((state / upload).is_dir() for upload in entry["uploads"])
        return entry if kept and unchanged(dependencies, root, environment) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, entry: Mapping[str, Any], scratch: Path) -> None:
    staged = scratch / "entry.json"
    staged.unlink(missing_ok=True)  # the process may have left a link there
    with staged.open("x", encoding="utf-8") as file:
        file.write(sealed(json.dumps(entry)))
    staged.replace(path)


@dataclass(frozen=True)
class _Job:
    """One compile. ``scratch`` is an empty directory of its own below ``state``."""

    interpreter: Interpreter
    settings: Settings
    target: _Target
    state: Path
    scratch: Path
    values: BuildValues
    debug: bool


def _compile(
    job: _Job, environment: Mapping[str, str], progress: Callable[[str], None], stack: ExitStack
) -> dict[str, Any]:
    """Run the compiling process, keep its uploads, and return its result. CompileError carries its message.

    ``stack`` ends whatever is left of the process; until then ``scratch`` is there.
    """
    scratch, target = job.scratch, job.target
    opt_out = scratch / "sdk.yaml"  # for sessions that pipeline.py makes itself; JSON is YAML
    opt_out.write_text('{"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": true}}}}')
    environment = {**environment, "SAGEMAKER_USER_CONFIG_OVERRIDE": str(opt_out)}
    bytecode = job.state / "cache" / "bytecode"
    if not job.interpreter.sdk_has_bytecode():
        # Without bytecode the import takes 10 s instead of 2; beside the sources it may not, or cannot, be written.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
        if not is_marked(bytecode):  # Python looks at a source's time, and not at what it has compiled
            shutil.rmtree(bytecode, ignore_errors=True)
        bytecode.mkdir(parents=True, exist_ok=True)
    request = {
        "file": str(target.file),
        "function": target.function,
        "label": target.label,
        "root": str(job.settings.root),
        "state": str(job.state),
        "scratch": str(scratch),
        "account": job.values.account,
        "settings": _pipeline_settings(job.values),
        "debug": job.debug,
    }
    argv = [job.interpreter.program, str(Path(__file__).with_name("program.py")), json.dumps(request)]
    from local_runner.compile.isolation import Compiling  # only where there is something to compile

    compiling = Compiling(
        root=job.settings.root,
        file=target.file,
        state=job.state,
        program=job.interpreter.program,
        path=job.interpreter.path,
        writable=(scratch, bytecode),
        also_reads=[Path(os.path.normpath(job.settings.root / path)) for path in job.settings.pipeline.also_reads],
    )
    output = scratch / "output.txt"
    with output.open("wb") as printed:
        log = _STDERR if job.debug else printed.fileno()
        exit_code = _run(compiling, argv, environment, scratch, log, progress, stack)
    with suppress(OSError):  # there is none, or no room: it is made anew
        mark(bytecode)
    try:
        result: dict[str, Any] = json.loads(_read(scratch / "result.json"))
    except (OSError, ValueError):
        result = {"error": f"{target.label} ended the process that compiled it (exit code {exit_code})"}
    if "error" in result:
        raise CompileError(result["error"] + _out_of_sight(result["error"], job.settings) + _tail(output))
    for upload in result["uploads"]:
        _publish(scratch, job.state, upload)
    return result


def _out_of_sight(error: str, settings: Settings) -> str:
    """What to do about a path in an error that is there, but outside of what an isolated compile sees."""
    if "no such file" not in error.lower():
        return ""
    for name in re.findall(r"(?:/|\.\./)[^\s'\",;:]+", error):
        path = Path(os.path.normpath(settings.root / name))
        if path.exists() and not path.is_relative_to(settings.root):
            return (
                f"\n{name} is outside of the project, and a compile may not see it there: "
                f'add it to also_reads = ["{name}"] under [pipeline] of {SETTINGS_FILE}.'
            )
    return ""


def _run(
    compiling: Compiling,
    argv: Sequence[str],
    environment: Mapping[str, str],
    scratch: Path,
    log: int,
    progress: Callable[[str], None],
    stack: ExitStack,
) -> int:
    """Run the process in namespaces, or without where this machine has none, and return its exit code."""
    from local_runner.compile.isolation import IsolatedProcess, NoNamespacesError, unavailable

    if sys.platform == "linux":
        try:
            return stack.enter_context(IsolatedProcess(compiling, argv, environment, scratch, log)).wait()
        except NoNamespacesError as error:
            if unavailable() is None:
                # Never without them where they are to be had: the project could bring about what failed.
                raise CompileError(f"The namespaces to compile {compiling.file} in cannot be made: {error}") from None
    _say_once(compiling.state / "cache" / "not-isolated", progress)
    process = subprocess.Popen(
        argv, cwd=compiling.root, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    try:
        return process.wait()
    except BaseException:  # Ctrl-C: it must not outlive this process, nor write into a directory that is gone
        process.kill()
        process.wait()
        raise


def _say_once(marker: Path, progress: Callable[[str], None]) -> None:
    """Say that this machine has no namespaces to compile in, once for each machine that uses the state directory."""
    machine = platform.node()
    with suppress(OSError):
        if machine in marker.read_text(encoding="utf-8").splitlines():
            return
    progress("this machine compiles without namespaces: only a guard keeps pipeline.py offline (doctor says why)")
    marker.parent.mkdir(exist_ok=True)
    with marker.open("a", encoding="utf-8") as file:
        file.write(f"{machine}\n")


def _publish(scratch: Path, state: Path, upload: object) -> None:
    """Put an upload where local S3 has it. The process is not trusted with that, nor with what it names."""
    if not isinstance(upload, str) or not _UPLOAD.fullmatch(upload):
        raise CompileError(f"The compile named {upload!r} as an upload, which cannot be one.")
    source, target = scratch / upload, state / upload
    if target.is_dir():
        return  # what is there has the same content: the name is its hash
    parts = [path for path in (*source.parents, source) if path != scratch and path.is_relative_to(scratch)]
    for path in (*parts, *source.rglob("*")):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise CompileError(f"The compile left neither a file nor a directory in its uploads: {path}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _move(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # compiled/ is on another file system: a link, as the fixture local_run has one to the project's.
        with tempfile.TemporaryDirectory(prefix=".upload-", dir=state) as beside:
            _move(shutil.copytree(source, Path(beside) / "copy"), target)


def _move(source: Path, target: Path) -> None:
    """Move a directory, unless another compile was quicker. Raises OSError."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _read(path: Path) -> bytes:
    """What the process left there, if that is a file and no link to one."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _tail(output: Path, lines: int = 20) -> str:
    """The last lines that were printed, as an appendix to an error."""
    printed: Sequence[str] = _read(output).decode(errors="replace").rstrip().splitlines()[-lines:]
    return "\nIt printed:\n" + "\n".join(f"  {line}" for line in printed) if printed else ""
