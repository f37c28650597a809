"""What ``docker compose up`` prints, taken apart: the lines of each host, and what compose says itself. No I/O."""

from __future__ import annotations

import re

# The SDK calls its containers <10 characters>-algo-N-<5 characters>; compose pads the name, and may colour it.
_NAME = rb"(?:[a-z0-9]{10}-)?algo-(\d+)-[a-z0-9]{5}"
_COLOUR = rb"(?:\x1b\[[0-9;]*m)*"
_PREFIX = re.compile(_COLOUR + _NAME + rb" *(?:\|\x1b\[0m |\| \x1b\[0m|\| )")
_ENDED = re.compile(_COLOUR + _NAME + rb" exited with code \d+" + _COLOUR + rb"$")
_ANY_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_KEPT_LINES = 20
_MOST_HELD = 64 * 1024
"""Bytes after which a line is passed on in pieces, so that output without line ends cannot fill the memory."""


class ComposeOutput:
    """Cuts compose's output into (host, line); lines are bytes, with the carriage returns that a job wrote.

    ``own_lines`` are the last lines of compose's own, for the case that it fails.
    """

    def __init__(self) -> None:
        self._rest = b""
        self.own_lines: list[str] = []

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The lines that ``data`` completes; no data completes the last one."""
        *lines, self._rest = (self._rest + data).split(b"\n") if data else (self._rest, b"")
        if len(self._rest) > _MOST_HELD:
            prefix = _PREFIX.match(self._rest)
            lines.append(self._rest)
            self._rest = prefix.group() if prefix else b""
        return [found for line in lines if (found := self._line(line))]

    def _line(self, line: bytes) -> tuple[str, bytes] | None:
        prefix = _PREFIX.match(line)
        if not prefix:
            own = _ANY_COLOUR.sub(b"", line).decode(errors="replace").strip()
            self.own_lines = [*self.own_lines, *([own] if own else [])][-_KEPT_LINES:]
            return None
        text = line[prefix.end() :]
        # A last line without an end has compose's own next line right behind it.
        ended = _ENDED.search(text)
        if ended:
            text = text[: ended.start()]
        return f"algo-{prefix[1].decode()}", text.removesuffix(b"\r")  # a terminal ends lines with both
