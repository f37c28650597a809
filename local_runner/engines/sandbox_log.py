"""The output of one host, from bytes as they arrive to its log file and to whoever follows the lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

MAX_LINE = 64 * 1024
"""Bytes after which a line is passed on in pieces, so that output without line ends cannot fill the memory.
"""

_END = re.compile(rb"\r\n|\n|\r")


class LineSplitter:
    """Cuts a stream into lines. A carriage return ends a line too, as progress bars write it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes, without their ends; what is not UTF-8 is replaced."""
        data = self._rest + data
        held = b"\r" if data.endswith(b"\r") else b""  # its line feed may be still to come
        data = data[: len(data) - len(held)]
        lines: list[str] = []
        start = 0
        for end in _END.finditer(data):
            if end.start() > start or end.group() != b"\r":  # a bar that starts with a return has no line before it
                lines.extend(_pieces(data[start : end.start()]))
            start = end.end()
        data = data[start:]
        while len(data) > MAX_LINE:
            lines.append(_text(data[:MAX_LINE]))
            data = data[MAX_LINE:]
        self._rest = data + held
        return lines

    def end(self) -> list[str]:
        """What is left of a last line that was never ended."""
        rest = self._rest.removesuffix(b"\r")
        self._rest = b""
        return _pieces(rest) if rest else []


def _pieces(line: bytes) -> list[str]:
    return [_text(line[start : start + MAX_LINE]) for start in range(0, len(line), MAX_LINE)] or [""]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


class HostLog:
    """Appends a host's output to its log file and passes each line on. Raises OSError if the file cannot be
    opened.

    ``error`` says what went wrong where a later write failed (a full disk); the output is then read on
    regardless, since a job whose output nobody reads would stand still.
    """

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._on_line = on_line
        self._lines = LineSplitter()
        self.error: str | None = None

    def write(self, data: bytes) -> None:
        """Take what has just been read of the output."""
        if self.error is None:
            try:
                left = memoryview(data)
                while left:
                    left = left[self._file.write(left) :]
            except OSError as error:
                self.error = f"its log {self._file.name} could not be written: {error.strerror}"
        for line in self._lines.feed(data):
            self._on_line(line)

    def close(self) -> None:
        """Pass on an unfinished last line and close the file."""
        self._file.close()
        for line in self._lines.end():
            self._on_line(line)
