"""The program that compiles: a pipeline file in, its definition out. Run as a file, in a process of its own.

    python program.py REQUEST     (a JSON object, see ``Request``)

Writes one JSON object to ``<scratch>/result.json``: the definition with all that it was made from, or an
``error`` to show. Reads the project, and writes what pipeline.py uploads under ``<scratch>/s3``. Where there are
namespaces it is in some (``isolation.py``); everywhere it refuses what would reach a network. Beside the SDK it
needs only the standard library, so that another interpreter can run it.
"""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import inspect
import json
import linecache
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

PACKAGE = Path(__file__).resolve().parent
if not __package__:  # run as a file: the package's other modules are beside this one, but not on the path
    sys.path[0] = str(PACKAGE.parents[1])

from local_runner.compile.dependencies import Watch
from local_runner.compile.uploads import Uploads

if not __package__:
    del sys.path[0]


@dataclass(frozen=True)
class Request:
    """What to compile. Paths are absolute; ``label`` is how messages name the file."""

    file: str
    function: str
    label: str
    root: str
    state: str
    scratch: str
    account: str
    settings: dict[str, str]
    debug: bool = False


@dataclass(frozen=True)
class PipelineSettings:
    """What a pipeline is built for; the second argument of FUNCTION(session, settings)."""

    environment: str
    region: str
    bucket: str
    role_arn: str
    image_uri: str


class BuildError(Exception):
    """The pipeline file is not what it has to be; the text is for its author."""


class _ProjectLoader(importlib.machinery.SourceFileLoader):
    """Loads the project's modules from their source, always.

    Bytecode is matched by its source's size and second: the first of two quick edits would be used.
    """

    def path_stats(self, path: Any) -> Any:
        raise OSError("no bytecode for the project's modules")


def main(request: Request) -> dict[str, Any]:
    """Compile, and return what result.json is to hold."""
    file, root, state = Path(request.file), Path(request.root), Path(request.state)
    watch = Watch((root, file.parent), (Path(sys.prefix), root / ".venv", state, PACKAGE))
    sys.addaudithook(_refuse_network)
    watch.start()
    if not request.debug:
        warnings.simplefilter("ignore")
        _quieten()
    try:
        compile(file.read_bytes(), str(file), "exec", dont_inherit=True)  # before seconds are spent on the SDK
    except (SyntaxError, ValueError) as error:
        return {"error": _explain(error, request.label, root, watch)}
    try:
        from local_runner.compile import sdk
    except ImportError as error:
        return {
            "error": f"the SageMaker Python SDK cannot be imported by {sys.executable}: {error}\n"
            "Install it there (make setup, or pip install 'sagemaker>=3.27,<4'), or name another Python: --python PATH."
        }
    if not request.debug:
        _quieten()  # also the loggers whose level the SDK's own modules set
    scratch = Path(request.scratch)  # the state is not writable here; whoever started this takes the uploads there
    uploads = Uploads(root, scratch, scratch, watch)
    settings = PipelineSettings(**request.settings)
    session = sdk.session(settings.bucket, settings.role_arn, request.account, uploads)
    try:
        function = _function(_load(file, root, watch), request.function)
        pipeline = function(session, settings)
        if not sdk.is_pipeline(pipeline):
            raise BuildError(
                f"{request.function}(session, settings) returned {_what(pipeline)}, and has to return the "
                "Pipeline (sagemaker.mlops.workflow.pipeline.Pipeline, or version 2's)."
            )
        definition = uploads.settle(sdk.definition_of(pipeline))
    except BuildError as error:
        return {"error": f"{request.label}: {error}"}
    except (Exception, SystemExit) as error:
        if request.debug:
            _show_traceback(error)
        return {"error": _explain(error, request.label, root, watch)}
    return {
        "name": str(pipeline.name),
        "definition": json.dumps(definition, indent=2, ensure_ascii=False),
        "dependencies": watch.dependencies(),
        "uploads": uploads.kept,
        "programs": watch.programs,
    }


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Say plainly that a pipeline is compiled offline. Sockets of this machine (a path) may be used.

    A guard against accidents and no boundary: C calls and other programs get past it.
    """
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if isinstance(address, tuple):
            raise RuntimeError(f"this connects to {address[0]}, and a pipeline is compiled offline")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"this looks up the host {arguments[0]}, and a pipeline is compiled offline")


def _quieten() -> None:
    """Leave out what the SDK says about every pipeline; it is in no reader's power to change."""
    for name in ("sagemaker", "sagemaker.config", *logging.root.manager.loggerDict):
        if name.startswith(("sagemaker", "boto")):
            logging.getLogger(name).setLevel(logging.ERROR)


def _load(file: Path, root: Path, watch: Watch) -> ModuleType:
    """Import the pipeline file under its name, with the project's root and its own directory on the path."""
    loaders = [
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (_ProjectLoader, importlib.machinery.SOURCE_SUFFIXES),
    ]
    finder = importlib.machinery.FileFinder.path_hook(*loaders)

    def hook(path: str) -> Any:
        if not watch.covers(os.path.abspath(path)):
            raise ImportError("not a directory of the project")
        return finder(path)

    sys.path_hooks.insert(0, hook)
    directories = list(dict.fromkeys((str(root), str(file.parent))))
    sys.path[:0] = [path for path in directories if path not in sys.path]
    for path in directories:
        sys.path_importer_cache.pop(path, None)
    name = file.stem if file.stem not in sys.modules else f"_{file.stem}"
    loader = _ProjectLoader(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def _function(module: ModuleType, name: str) -> Callable[..., Any]:
    """The function of that name, which takes (session, settings). BuildError says what there is instead."""
    function = getattr(module, name, None)
    if not callable(function):
        names = [
            f"{key}{inspect.signature(value)}"
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        there = f"It has {', '.join(names)}." if names else "It has no functions at all."
        raise BuildError(
            f"there is no function {name!r}. {there}\n"
            f"Write {name}(session, settings), which returns the Pipeline, or name another: FILE.py:FUNCTION."
        )
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise BuildError(
            f"{name}{inspect.signature(function)} is called as {name}(session, settings). Give it these two arguments."
        ) from None
    return function


def _what(value: object) -> str:
    return "nothing (None)" if value is None else f"an object of the type {type(value).__name__}"


def _show_traceback(error: BaseException) -> None:
    """On stderr, from the first line of pipeline.py on: what called it is this program's own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    traceback.print_exception(error.with_traceback(trace))


def _explain(error: BaseException, label: str, root: Path, watch: Watch) -> str:
    """What went wrong, the project's own lines on the way to it, and the step that was being built."""
    if isinstance(error, SyntaxError) and error.filename and watch.covers(error.filename):
        place = _place(error.filename, error.lineno, "", root)
        return f"{label} cannot be compiled: SyntaxError: {error.msg}\n{place}\n    {(error.text or '').strip()}"
    frames = list(traceback.walk_tb(error.__traceback__))
    step = _step(error.__traceback__)
    missing = _missing_code(step)
    if missing:
        return (
            f"{label}: step {step.name!r} runs {missing}, and there is no such file in {root}. "
            "Create it, or correct the step's 'code'."
        )
    subject = f"{label}: step {step.name!r} cannot be compiled" if step is not None else f"{label} cannot be compiled"
    message = str(error).strip()
    if isinstance(error, SystemExit):
        message = f"it ends the program (exit code {error.code})"
    elif not message or not type(error).__name__.endswith("OfflineError"):
        message = f"{type(error).__name__}: {message}".rstrip(": ")
    lines = [f"{subject}: {message}"]
    for frame, number in frames:
        code = frame.f_code
        if watch.covers(code.co_filename):
            lines.append(_place(code.co_filename, number, code.co_name, root))
            lines.append(f"    {linecache.getline(code.co_filename, number).strip()}")
    if isinstance(error, ImportError) and "removed in the SageMaker Python SDK v3" in message:
        lines.append("It is written for version 2 of the SDK: name a Python that has it, --python PATH.")
    return "\n".join(lines)


def _place(file: str, line: int | None, function: str, root: Path) -> str:
    path = Path(file)
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    return f"  {name}, line {line}" + (f", in {function}" if function not in ("", "<module>") else "")


def _step(trace: TracebackType | None) -> Any:
    """The step that the SDK was building: it calls a step's run() long after the line that wrote it."""
    step = None
    for frame, _ in traceback.walk_tb(trace):
        if frame.f_code.co_name == "_build_step":
            step = frame.f_locals.get("step")
    return step if hasattr(step, "name") else None


def _missing_code(step: Any) -> str:
    """The script or source directory of a step that is not there, or ''."""
    arguments = getattr(getattr(step, "step_args", None), "func_kwargs", {})
    for name in ("source_dir", "code"):
        value = arguments.get(name)
        if isinstance(value, str) and "://" not in value:
            base = arguments.get("source_dir") if name == "code" else None
            candidates = [Path(value), Path(base, value)] if isinstance(base, str) else [Path(value)]
            if not any(path.exists() for path in candidates):
                return value
    return ""


if __name__ == "__main__":
    gc.disable()  # a process of seconds: collecting costs a third of the SDK's import
    request = Request(**json.loads(sys.argv[1]))
    try:
        result = main(request)
    except KeyboardInterrupt:
        os._exit(130)
    Path(request.scratch, "result.json").write_text(json.dumps(result), encoding="utf-8")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the SDK's own tidying up takes longer than a second
