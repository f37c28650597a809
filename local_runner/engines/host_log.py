"""The output of one host, from bytes as they arrive to its log file and to whoever follows the lines."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local_runner.secrets import Secrets

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
    """Appends a host's output to its log file, line by line, and passes each line on.

    stdout and stderr may come from two ``sources``; a line of one is never written into the middle of the other's.
    ``error`` says what went wrong where a write failed (a full disk); the output is then read on regardless, since a
    job whose output nobody reads would stand still. ``secrets`` are masked in both. Raises OSError if the file cannot
    be opened.
    """

    def __init__(self, path: Path, on_line: Callable[[str], None], secrets: Secrets | None = None) -> None:
        secrets = secrets or Secrets()
        self._masked = (secrets.stream(), secrets.stream())
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._on_line = on_line
        self._lines = (LineSplitter(), LineSplitter())
        self._unended = [b"", b""]
        self.error: str | None = None

    def write(self, data: bytes, source: int = 0) -> None:
        """Take what has just been read of the output."""
        self._take(self._masked[source].feed(data), source)

    def _take(self, data: bytes, source: int) -> None:
        data_so_far = self._unended[source] + data
        ended = data_so_far.rfind(b"\n") + 1
        if len(data_so_far) - ended > MAX_LINE:
            ended = len(data_so_far)
        self._append(data_so_far[:ended])
        self._unended[source] = data_so_far[ended:]
        for line in self._lines[source].feed(data):
            self._on_line(line)

    def close(self) -> None:
        """Pass on unfinished last lines and close the file."""
        for source, masked in enumerate(self._masked):
            self._take(masked.end(), source)
        for source, unended in enumerate(self._unended):
            self._append(unended)
            for line in self._lines[source].end():
                self._on_line(line)
        self._file.close()

    def _append(self, data: bytes) -> None:
        if self.error is None:
            try:
                left = memoryview(data)
                while left:
                    left = left[self._file.write(left) :]
            except OSError as error:
                self.error = f"its log {self._file.name} could not be written: {error.strerror}"


@contextmanager
def step_log(
    logs: Sequence[Path], directory: Path, on_line: Callable[[str, str], None]
) -> Generator[tuple[Path, Callable[[str, str], None]]]:
    """The one file to show for a step: its host's log, or for several hosts all their lines in order of arrival."""
    if len(logs) == 1:
        yield logs[0], on_line
        return
    combined = directory / "all-hosts.log"
    lock = threading.Lock()
    with combined.open("a", encoding="utf-8") as file:

        def both(host: str, text: str) -> None:
            with lock:
                file.write(f"{host} | {text}\n")
            on_line(host, text)

        yield combined, both
