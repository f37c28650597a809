"""Which texts can be the name of a file: asked before a name out of a definition becomes part of a path. No I/O."""

from __future__ import annotations

MAX_NAME_BYTES = 255
"""The longest name in a directory (NAME_MAX of Linux's and macOS's file systems), in bytes of UTF-8."""


def is_file_name(text: str) -> bool:
    """Whether a directory can have an entry of that name: one that stays in that directory and is not too long."""
    if text in ("", ".", "..") or "/" in text or "\0" in text:
        return False
    return is_text(text) and len(text.encode()) <= MAX_NAME_BYTES


def is_text(text: str) -> bool:
    """Whether the text can be written as UTF-8: an argument of the command line may be any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_relative_path(text: str) -> bool:
    """Whether the text is names with slashes between them, and so leads to somewhere below where it starts."""
    return all(map(is_file_name, text.split("/")))
