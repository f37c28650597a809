"""The files of one directory that stands for a part of local S3, by their keys. Reads directories."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeyFolder:
    """Files of one directory: the key of each is ``key`` and its name. ``files`` are what they are called there.

    A million objects are a thousand of these and their names, and no object each.
    """

    key: str
    directory: str
    names: Sequence[str]
    files: Sequence[str]


@dataclass(frozen=True)
class Scan:
    """Keys with their files; ``whole`` is a directory that shows just these below the prefix, None where none does."""

    folders: list[KeyFolder]
    whole: Path | None


def of_project(found: Scan, base: str) -> Scan:
    """Of the project's files those that are its code: not what is hidden.

    The definition may be somebody else's, and a state directory, a virtual environment and ``.env`` lie in the project.
    """
    kept: list[KeyFolder] = []
    for folder in found.folders:
        if any(part.startswith(".") for part in folder.key[len(base) :].split("/")):
            continue
        names = [name for name in folder.names if not name.startswith(".")]
        if len(names) == len(folder.names):
            kept.append(folder)
        elif names:
            kept.append(KeyFolder(folder.key, folder.directory, names, names))
    return found if kept == found.folders else Scan(kept, None)


def scan(base: str, path: Path, prefix: str, hidden: tuple[str, ...]) -> Scan:
    """The files of one source whose keys start with ``prefix``; ``whole`` if one directory shows just these."""
    if path.is_file():
        key, slash, name = base.rpartition("/")
        found = KeyFolder(key + slash, str(path.parent), (name,), (path.name,))
        return Scan([found] if base.startswith(prefix) else [], None)
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
    folders: list[KeyFolder] = []
    aligned = _walk(str(directory), start + (folder + "/" if folder else ""), prefix, hidden, folders, set())
    if rest and not whole:
        # "raw" without a slash is text: it is the folder raw/ only if nothing else starts with that text.
        directory = path / rest
        whole = bool(folders) and all(found.key.startswith(prefix + "/") for found in folders)
    return Scan(folders, directory if whole and aligned else None)


def _walk(
    directory: str,
    key: str,
    prefix: str,
    hidden: tuple[str, ...],
    folders: list[KeyFolder],
    seen: set[int],
) -> bool:
    """Collect files whose keys start with ``prefix``; False if a mount of ``directory`` would show something else.

    Symbolic links are followed, as an upload does, but would dangle in a mount; empty folders do not exist in S3.
    """
    below = key.startswith(prefix)
    wanted = prefix[len(key) :]  # what names have to begin with, where this is a folder above the prefix's end
    names: list[str] = []
    inner: list[tuple[str, set[int]]] = []
    aligned, empty = True, True
    try:
        with os.scandir(directory) as found:
            for entry in found:
                name = entry.name
                if not below and not (name.startswith(wanted) or wanted.startswith(name + "/")):
                    continue
                empty = False
                if hidden and key + name in hidden:
                    aligned = False
                elif entry.is_dir():
                    reach = key + name + "/"
                    if not (below or reach.startswith(prefix) or prefix.startswith(reach)):
                        continue
                    link = entry.is_symlink()
                    inode = entry.stat().st_ino if link else 0
                    if link:
                        aligned = False
                    if not link or inode not in seen:
                        inner.append((name, seen | {inode} if link else seen))
                elif not below and not (key + name).startswith(prefix):
                    continue  # beside the prefix: no part of the listing, and above every directory that is mounted
                elif entry.is_file():
                    names.append(name)
                    aligned = aligned and not entry.is_symlink()
                else:
                    aligned = False
    except (FileNotFoundError, NotADirectoryError):
        return False
    if names:
        names.sort()
        folders.append(KeyFolder(key, directory, names, names))
    for name, before in inner:
        aligned = _walk(f"{directory}/{name}", f"{key}{name}/", prefix, hidden, folders, before) and aligned
    return aligned and not empty
