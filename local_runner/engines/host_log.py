"""The output of one host, from bytes as they arrive to its log file and to whoever follows the lines."""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from local_runner.secrets import Secrets

MAX_LINE = 64 * 1024
"""Bytes after which a line is passed on in pieces, so that output without line ends cannot fill the memory.
"""

LEAST_KEPT = 4096
_keep = 64 * 10**6
_MOVED = 1 << 20
_ERROR_LINES, _ERROR_CHARACTERS = 100, 500
_NOTICE = "\n[local-runner: {:>16} bytes of output are left out here; log_size of [local] says how much is kept]\n"

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


def limit_logs(size: int) -> None:
    """Set for this process how many bytes of each log that is opened from now on are kept (at least LEAST_KEPT)."""
    global _keep
    _keep = max(size, LEAST_KEPT)


class BoundedLog:
    """A log file that keeps the first and the last of what is written to it, and says between them what it left out.

    It is never larger than ``limit_logs`` says and a notice's length. All of it is on disk at any time: once it is
    full, all but the first half and the last quarter is given up. Raises OSError if the file cannot be opened, or
    written to.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.left_out = 0
        self._most = _keep
        self._head = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._size = os.lseek(self._file, 0, os.SEEK_END)

    def write(self, data: bytes) -> None:
        """Append it, in whole or, where it alone is more than is kept, in parts."""
        left = memoryview(data)
        while left:
            self._size += (written := os.write(self._file, left[: self._most // 4]))
            left = left[written:]
            if self._size > self._most:
                self._shorten()

    def close(self) -> None:
        os.close(self._file)

    def _shorten(self) -> None:
        """Keep the first half, a notice, and the last quarter: the rest is room for what comes."""
        if not self.left_out:
            self._head = self._line_end(self._most // 2 - MAX_LINE, self._most // 2) or self._most // 2
        notice = len(_NOTICE.format(0))
        begin = self._head + (notice if self.left_out else 0)
        tail = max(begin, self._size - self._most // 4)
        tail = self._line_end(tail, tail + MAX_LINE, first=True) or tail
        self.left_out += tail - begin
        target = self._head + notice
        os.pwrite(self._file, _NOTICE.format(self.left_out).encode(), self._head)
        while data := os.pread(self._file, _MOVED, tail):
            written = os.pwrite(self._file, data, target)  # in front of all that is still to be read
            tail, target = tail + written, target + written
        os.ftruncate(self._file, target)
        self._size = os.lseek(self._file, target, os.SEEK_SET)

    def _line_end(self, begin: int, end: int, *, first: bool = False) -> int:
        """The offset behind the first, else the last line end between two offsets; 0 where there is none."""
        begin = max(begin, 0)
        data = os.pread(self._file, min(end, self._size) - begin, begin)
        found = data.find(b"\n") if first else data.rfind(b"\n")
        return begin + found + 1 if found >= 0 and begin + found + 1 < self._size else 0


class HostLog:
    """Appends a host's output to its log file, line by line, and passes each line on.

    All lines are passed on; the file keeps the first and the last of them, and whoever follows gets one line about it.

    stdout (0) and stderr (1) may come from two sources; a line of one is never written into the middle of the other's.
    ``errors`` are the last lines of stderr alone.
    ``error`` says what went wrong where a write failed (a full disk); the output is then read on regardless, since a
    job whose output nobody reads would stand still. ``secrets`` are masked in both. Raises OSError if the file cannot
    be opened.
    """

    def __init__(self, path: Path, on_line: Callable[[str], None], secrets: Secrets | None = None) -> None:
        secrets = secrets or Secrets()
        self._masked = (secrets.stream(), secrets.stream())
        self._file = BoundedLog(path)
        self._on_line = on_line
        self._lines = (LineSplitter(), LineSplitter())
        self._unended = [b"", b""]
        self.error: str | None = None
        self.errors: deque[str] = deque(maxlen=_ERROR_LINES)

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
            if source:
                self.errors.append(line[:_ERROR_CHARACTERS])
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
                noted = self._file.left_out
                self._file.write(data)
                if self._file.left_out and not noted:
                    self._on_line(
                        f"[local-runner: the output is large; {self._file.path.name} keeps its first and last part]"
                    )
            except OSError as error:
                self.error = f"its log {self._file.path} could not be written: {error.strerror}"


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
    with closing(BoundedLog(combined)) as file:

        def both(host: str, text: str) -> None:
            with lock:
                file.write(f"{host} | {text}\n".encode())
            on_line(host, text)

        yield combined, both
