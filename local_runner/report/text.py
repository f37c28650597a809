"""Text as a terminal shows it: without control characters, measured in cells, cut to fit. No I/O.

rich is loaded for text that is not ASCII only, and of it just the table of cell widths.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from unicodedata import category

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC and other strings: titles, links
    r"|[ -/]*[0-~])"
)
_UNPRINTABLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""The Unicode categories of what moves the cursor, ends a line, reorders or hides the text around it, or is half of a
surrogate pair."""
_HARMLESS = "\n\u200c\u200d"
"""Of these categories: line breaks, and the joiners in emoji and in Persian or Indian words."""
_NOT_ASCII = re.compile("[^ -~]")


def printable(text: str) -> str:
    """The text with its line breaks but with nothing in it that moves the cursor, colours or reorders.

    Of a line that a progress bar has written over and over, the last state is left. What cannot be printed
    becomes U+FFFD; escape sequences go without a trace.
    """
    if "\x1b" in text:
        text = _ESCAPE.sub("", text)
    text = text.replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    if "\t" in text:
        text = text.expandtabs(4)
    return text if text.isprintable() else _NOT_ASCII.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    character = found[0]
    kept = character in _HARMLESS or category(character) not in _UNPRINTABLE
    return character if kept else "\N{REPLACEMENT CHARACTER}"


def one_line(text: str) -> str:
    """The printable text on one line, each run of blanks and line breaks a single blank."""
    return " ".join(printable(text).split())


def first_line(text: str) -> str:
    """The first line of the printable text that is not blank ('' where there is none)."""
    return next((line.strip() for line in printable(text).split("\n") if line.strip()), "")


def encodable(text: str, encoding: str | None) -> str:
    """The text with a question mark for each character that the encoding (None: any) lacks."""
    return text.encode(encoding, "replace").decode(encoding) if encoding else text


def cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """The text, cut to at most ``width`` cells; a cut shows as the ellipsis where that fits."""
    if cells(text) <= width:
        return text
    ellipsis = ellipsis if len(ellipsis) < width else ""
    room = max(width - len(ellipsis), 0)
    text = text[: room * 4]  # no more than this can be shown; a character takes up to four code points, hardly more
    while cells(text) > room:
        text = text[: -max(1, (cells(text) - room) // 2)]
    return text.rstrip() + ellipsis


def pad(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in exactly ``width`` cells: cut, or filled up with blanks on the right."""
    text = fit(text, width, ellipsis)
    return text + " " * (width - cells(text))


def duration(seconds: float) -> str:
    """``4.2 s``, ``3 m 07 s`` or ``2 h 05 m``: at most nine characters for anything below 100 hours."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} m"


def shown_path(path: Path, cwd: Path) -> str:
    """The path relative to ``cwd`` where that is shorter, else absolute."""
    absolute = os.path.normpath(cwd / path)
    relative = os.path.relpath(absolute, cwd)
    return printable(min(relative, absolute, key=len))
