"""pipeline.py -> its definition, offline. Reads the project; writes ``<state>/compiled`` and ``<state>/s3``.

The SDK takes seconds to import, so it is never imported here: ``program.py`` compiles in a process of
its own, and only when something that the last compile read has changed. Looking that up takes milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from local_runner.compile.dependencies import Dependency, unchanged
from local_runner.compile.interpreter import Interpreter, find_interpreter
from local_runner.errors import CompileError, without_sdk
from local_runner.settings import SETTINGS_FILE, Settings

ACCOUNT = "000000000000"
IMAGE_URI = "local/processing"
"""The project's own image in a local definition, a constant: another image is no other definition."""

_TARGET = re.compile(r"(?P<file>.+\.py)(?::(?P<function>[A-Za-z_]\w*))?")
_SOURCES = ("program.py", "dependencies.py", "sdk.py", "boto.py", "offline.py", "uploads.py", "compiler.py")
_DEFAULT_FUNCTION = "build"
_STDERR = 2


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
    account: str = ACCOUNT


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
    settings: Settings,
    target: str | None,
    state: Path,
    *,
    python: Path | None = None,
    use_cache: bool = True,
    progress: Callable[[str], None],
    debug: bool = False,
    values: BuildValues | None = None,
) -> Compiled:
    """The definition of ``target`` (FILE.py or FILE.py:FUNCTION; by default the entry of the settings).

    ``state`` is the state directory. ``python`` is the interpreter whose environment has the SDK (None: this one); see
    :func:`.find_interpreter`. ``progress`` gets one line if there is something to compile; ``debug``
    lets all that the SDK and pipeline.py print go to stderr. ``values`` are those of an environment (None: of a local
    run). Raises CompileError with the line that failed.
    """
    found = _find(settings, target)
    state = state.absolute()
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
        with tempfile.TemporaryDirectory(prefix="compile-", dir=entry_path.parent) as scratch:
            entry = _compile(interpreter, settings, found, state, Path(scratch), environment, values, debug)
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


def _cached(path: Path, root: Path, state: Path, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The entry, if what it was made from is unchanged and its uploads are there. A broken one is none."""
    try:
        entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        dependencies = [Dependency(*item) for item in entry["dependencies"]]
        whole = isinstance(entry["name"], str) and isinstance(entry["definition"], str)
        kept = all((state / upload).is_dir() for upload in entry["uploads"])
        return entry if whole and kept and unchanged(dependencies, root, environment) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, entry: Mapping[str, Any], scratch: Path) -> None:
    staged = scratch / "entry.json"
    staged.write_text(json.dumps(entry), encoding="utf-8")
    staged.replace(path)


def _compile(
    interpreter: Interpreter,
    settings: Settings,
    target: _Target,
    state: Path,
    scratch: Path,
    environment: Mapping[str, str],
    values: BuildValues,
    debug: bool,
) -> dict[str, Any]:
    """Run the compiling process and return its result. Raises CompileError with what it said."""
    opt_out = scratch / "sdk.yaml"  # for sessions that pipeline.py makes itself; JSON is YAML
    opt_out.write_text('{"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": true}}}}')
    environment = {**environment, "SAGEMAKER_USER_CONFIG_OVERRIDE": str(opt_out)}
    if environment.get("PYTHONDONTWRITEBYTECODE") and not interpreter.sdk_has_bytecode():
        # Without bytecode the import takes 10 s instead of 2. What was asked for is none beside the sources.
        del environment["PYTHONDONTWRITEBYTECODE"]
        environment.setdefault("PYTHONPYCACHEPREFIX", str(state / "cache" / "bytecode"))
    request = {
        "file": str(target.file),
        "function": target.function,
        "label": target.label,
        "root": str(settings.root),
        "state": str(state),
        "scratch": str(scratch),
        "account": values.account,
        "settings": _pipeline_settings(values),
        "debug": debug,
    }
    program = Path(__file__).with_name("program.py")
    output = scratch / "output.txt"
    with output.open("wb") as printed:
        process = subprocess.Popen(
            [interpreter.program, str(program), json.dumps(request)],
            cwd=settings.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=_STDERR if debug else printed,
            stderr=_STDERR if debug else printed,
        )
    try:
        exit_code = process.wait()
    except BaseException:  # Ctrl-C: it must not outlive this process, nor write into a directory that is gone
        process.kill()
        process.wait()
        raise
    try:
        result: dict[str, Any] = json.loads((scratch / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        result = {"error": f"{target.label} ended the process that compiled it (exit code {exit_code})"}
    if "error" in result:
        raise CompileError(result["error"] + _tail(output))
    return result


def _tail(output: Path, lines: int = 20) -> str:
    """The last lines that were printed, as an appendix to an error."""
    printed: Sequence[str] = output.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-lines:]
    return "\nIt printed:\n" + "\n".join(f"  {line}" for line in printed) if printed else ""
