"""A script run as ``python3 SCRIPT ARGUMENTS`` would run it, in a process that was forked with its imports done.

Runs inside the worker's container, on the image's Python (3.8 or newer), with its standard library only.
"""

import atexit
import gc
import importlib
import importlib.machinery
import io
import os
import sys
import threading
import types

_FLUSH_FAILED = 120  # what Python exits with


def hidden_modules(directories):
    """Modules that are loaded already and that a file of the user's has the name of: the script would get another."""
    names = set()
    for directory in directories:
        try:
            names.update(entry.partition(".")[0] for entry in os.listdir(directory))
        except OSError:
            continue
    return sorted(name for name in names if name in sys.modules and name != "__main__")


def search_path(script):
    """The directories of the user's that ``import`` looks into: the script's, and those of PYTHONPATH."""
    own = [] if getattr(sys.flags, "safe_path", False) else [os.path.dirname(os.path.realpath(script))]
    return own, [path for path in sys.path if path.startswith("/opt/ml/")]


def run(program, script, arguments, own_path):
    """Run the script as __main__; returns its exit code when all that Python does at the end of a process is done."""
    sys.argv = [script, *arguments]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [program, script, *arguments]
    sys.path[:0] = own_path
    for path in [path for path in sys.path_importer_cache if path.startswith("/opt/ml/")]:
        del sys.path_importer_cache[path]
    importlib.invalidate_caches()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()  # Python's own generator sees to itself after a fork
    before = set(sys.modules)
    code = _execute(script)
    return _end(code, before)


def _execute(script):
    main = types.ModuleType("__main__")
    main.__dict__.update(
        __file__=script,
        __builtins__=sys.modules["builtins"],
        __annotations__={},
        __cached__=None,
        __loader__=importlib.machinery.SourceFileLoader("__main__", script),
    )
    sys.modules["__main__"] = main
    try:
        with open(script, "rb") as file:
            code = compile(file.read(), script, "exec", dont_inherit=True)
        exec(code, main.__dict__)
    except SystemExit as error:
        return _exit_code(error.code)
    except BaseException as error:
        traceback = error.__traceback__.tb_next if error.__traceback__ else None  # without this function's frame
        try:
            sys.excepthook(type(error), error.with_traceback(traceback), traceback)
        except SystemExit as again:
            return _exit_code(again.code)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _exit_code(value):
    """What the process ends with after sys.exit(value)."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value & 0xFF if -(1 << 63) <= value < 1 << 63 else 0xFF
    print(value, file=sys.stderr)
    return 1


def _end(code, before):
    """Wait for threads, call what atexit holds, and drop the user's objects: open files are written then."""
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    whole = _flush(sys.stdout) & _flush(sys.stderr)
    for name, module in list(sys.modules.items()):
        if name == "__main__" or (name not in before and str(getattr(module, "__file__", "")).startswith("/opt/ml/")):
            module.__dict__.clear()
    gc.collect()
    for item in gc.get_objects():  # those of the job only: what was loaded before is frozen
        if isinstance(item, (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            _flush(item)
    whole &= _flush(sys.stdout) & _flush(sys.stderr)
    return code if whole else _FLUSH_FAILED


def _flush(stream):
    try:
        if stream is not None and not stream.closed:
            stream.flush()
    except (OSError, ValueError):
        return False
    return True
