"""``python -m local_runner`` and the console script: the command line, with its exit codes and without tracebacks."""

from __future__ import annotations

import signal
import sys
from types import FrameType

import click

from local_runner.cli import cli
from local_runner.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, debugging, system_trouble


def main() -> None:
    """Run the command line and exit as :mod:`local_runner.errors` says."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(cli.main(prog_name="local-runner", standalone_mode=False))
    except click.ClickException as error:
        if debugging():
            raise
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone (`local-runner compile | head`); there is nobody left to tell.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
    except OSError as error:  # a full disk, a directory that is not to be written to; steps keep theirs to themselves
        if debugging():
            raise
        click.echo(f"Error: {system_trouble(error)} `local-runner --debug …` shows where.", err=True)
        sys.exit(EXIT_USAGE)
    except Exception as error:
        if debugging():
            raise
        click.echo(f"Error: {type(error).__name__}: {error} (a defect; `local-runner --debug …` shows where)", err=True)
        sys.exit(EXIT_FAILED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends what comes before an execution as Ctrl-C does; an execution has a handler of its own."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
