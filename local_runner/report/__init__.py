"""Execution -> what people and programs read: the terminal (live, then the last screen) and the JSON object.

``listener`` picks who shows a run on a stream; rich is imported only where that is a terminal.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

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

    console = Console(file=cast("TextIO", _Lasting(stream)), stderr=stream is sys.stderr)
    with LiveListener(console, quiet=quiet) as live:
        yield live


class _Lasting:
    """A terminal that may be closed while the run goes on: what can no longer be written to it is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
