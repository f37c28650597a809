"""The files of one directory that stands for a part of local S3, by their keys. Reads directories."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Scan:
    """Keys with their files; ``whole`` is a directory that shows just these below the prefix, None where none does."""

    files: list[tuple[str, Path]]
    whole: Path | None


def of_project(found: Scan, base: str) -> Scan:
    """Of the project's files those that are its code: not what is hidden.

    The definition may be somebody else's, and a state directory, a virtual environment and ``.env`` lie in the project.
    """
    kept = [
        (key, file)
        for key, file in found.files
        if not any(part.startswith(".") for part in key[len(base) :].split("/"))
    ]
    return found if len(kept) == len(found.files) else Scan(kept, None)


def scan(base: str, path: Path, prefix: str, hidden: tuple[str, ...]) -> Scan:
    """The files of one source whose keys start with ``prefix``; ``whole`` if one directory shows just these."""
    if path.is_file():
        return Scan([(base, path)] if base.startswith(prefix) else [], None)
    start = f"{base}/" if base else ""
    if start.startswith(prefix):
        rest = ""
        whole = prefix.rstrip("/") == base
    elif prefix.startswith(start):
        rest = prefix[len(start) :]
        whole = rest.endswith("/")
    else:
        return Scan([], None)
    folder, _, _ = rest.rpartition("/")
    directory = path / folder
    files: list[tuple[str, Path]] = []
    aligned = _walk(directory, start + (folder + "/" if folder else ""), prefix, hidden, files, set())
    if rest and not whole:
        # "raw" without a slash is text: it is the folder raw/ only if nothing else starts with that text.
        directory = path / rest
        whole = bool(files) and all(key.startswith(prefix + "/") for key, _ in files)
    return Scan(files, directory if whole and aligned else None)


def _walk(
    directory: Path,
    key: str,
    prefix: str,
    hidden: tuple[str, ...],
    files: list[tuple[str, Path]],
    seen: set[int],
) -> bool:
    """Collect files whose keys start with ``prefix``; False if a mount of ``directory`` would show something else.

    Symbolic links are followed, as an upload does, but would dangle in a mount; empty folders do not exist in S3.
    """
    wanted = prefix[len(key) :]  # what names have to begin with, where this is a folder above the prefix's end
    try:
        with os.scandir(directory) as found:
            entries = [e for e in found if e.name.startswith(wanted) or wanted.startswith(e.name + "/")]
    except (FileNotFoundError, NotADirectoryError):
        return False
    aligned = bool(entries)
    for entry in entries:
        entry_key = key + entry.name
        folder = entry.is_dir()
        reach = entry_key + "/"
        if entry_key in hidden:
            aligned = False
        elif not (entry_key.startswith(prefix) or (folder and (reach.startswith(prefix) or prefix.startswith(reach)))):
            continue  # beside the prefix: no part of the listing, and above every directory that is mounted
        elif folder:
            link = entry.is_symlink()
            inode = entry.stat().st_ino
            if not link or inode not in seen:
                below = seen | {inode} if link else seen
                inner = _walk(Path(entry.path), entry_key + "/", prefix, hidden, files, below)
                aligned = aligned and inner and not link
        elif entry.is_file():
            files.append((entry_key, Path(entry.path)))
            aligned = aligned and not entry.is_symlink()
        else:
            aligned = False
    return aligned
