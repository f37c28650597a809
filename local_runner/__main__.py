"""``python -m local_runner`` and the console script: the command line, with its exit codes and without tracebacks.

Nothing slow is imported before the signals are taken, so that Ctrl-C ends also the imports without a traceback.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from io import StringIO
from types import FrameType

from local_runner.signals import handle, interrupt

_INTERRUPTED = 130  # errors.EXIT_INTERRUPTED, whose module imports click


def main() -> None:
    """Run the command line and exit as :mod:`local_runner.errors` says."""
    handle(_end_at_once)
    for name in ("stdout", "stderr"):  # one that was closed (>&-) takes nothing, and is no fault
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    interrupted: list[bool] = []
    atexit.register(_leave, interrupted)  # the first one that is registered is the last one that is called
    try:
        try:
            code = _command_line()
        finally:
            handle(_end_at_once)  # until the interpreter is gone: what it still does is not worth a traceback
    except KeyboardInterrupt:
        with suppress(OSError):  # the terminal may be what was closed
            os.write(2, b"Interrupted.\n")
        interrupted.append(True)
        code = _INTERRUPTED
    sys.exit(code)


def _leave(interrupted: list[bool]) -> None:
    """Exit as a command that was interrupted does.

    Python kills itself with SIGINT where a KeyboardInterrupt once passed through ``exec`` of a text, as dataclasses
    use it, and was handled further up.
    """
    if interrupted:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(_INTERRUPTED)


def _command_line() -> int:
    import click

    from local_runner.cli.local import cli
    from local_runner.cli.options import say
    from local_runner.errors import EXIT_FAILED, EXIT_USAGE, CompileError, debugging, system_trouble

    handle(interrupt)  # ends what comes before an execution; an execution has a handler of its own
    try:
        return cli.main(prog_name="local-runner", standalone_mode=False) or 0
    except SystemExit as end:
        return _code(end)
    except click.ClickException as error:
        if debugging() and not isinstance(error, CompileError):  # of which the traceback of pipeline.py was shown
            raise
        with StringIO() as text:
            error.show(text)
            say(text.getvalue().rstrip())
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        # Whoever read our output has gone (`local-runner compile | head`); there is nobody left to tell.
        sys.stderr.close()
        return EXIT_FAILED
    except OSError as error:  # a full disk, a directory that is not to be written to; steps keep theirs to themselves
        if debugging():
            raise
        say(f"Error: {system_trouble(error)} `local-runner --debug …` shows where.")
        return EXIT_USAGE
    except Exception as error:
        if debugging():
            raise
        say(f"Error: {type(error).__name__}: {error} (a defect; `local-runner --debug …` shows where)")
        return EXIT_FAILED


def _code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    sys.stderr.write(f"{end.code}\n")
    return 1


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """While modules are imported and when all is done: there is nothing to bring in order."""
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, b"Interrupted.\n")
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
