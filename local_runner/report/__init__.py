"""Execution -> what people and programs read: the terminal (live, then the last screen) and the JSON object.

``listener`` picks who shows a run on a stream; rich is imported only where that is a terminal.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

from local_runner.events import Listener
from local_runner.report.plain import PlainListener


@contextmanager
def listener(stream: TextIO, *, quiet: bool = False) -> Generator[Listener]:
    """Who shows a run on ``stream``: live where that is a terminal, else as plain lines.

    Leaving the context puts the terminal back in order, also when the run ends in an exception.
    """
    if not stream.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
        yield PlainListener(stream, quiet=quiet)
        return
    import sys

    from rich.console import Console

    from local_runner.report.terminal import LiveListener

    console = Console(file=stream, stderr=stream is sys.stderr)
    with LiveListener(console, quiet=quiet) as live:
        yield live
