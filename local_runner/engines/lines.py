"""A job's output, chunk by chunk, into its log file and line by line to whoever watches. Writes that one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_LONGEST_LINE = 64 * 1024


class LineWriter:
    """Writes bytes to ``log`` as they come and calls ``on_line`` with each line, without its end.

    A carriage return ends a line too (progress bars); a line beyond 64 KiB is handed on in pieces, so that a job that
    never ends its lines does not fill the memory.
    """

    def __init__(self, log: Path, on_line: Callable[[str], None]) -> None:
        self._file = log.open("wb", buffering=0)
        self._on_line = on_line
        self._rest = b""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the output."""
        self._file.write(chunk)
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._on_line(line.decode(errors="replace"))
        if len(self._rest) > _LONGEST_LINE:
            self._on_line(self._rest.decode(errors="replace"))
            self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rest:
            self._on_line(self._rest.decode(errors="replace"))
        self._file.close()
