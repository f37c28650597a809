"""Objects that would be folders of others: S3 holds both under one name, a tree cannot. Reads directories."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from local_runner.errors import DataError


class ClashError(DataError):
    """A key would be an object and a folder of others at once. ``number`` is that of the move it comes from."""

    def __init__(self, number: int, key: str) -> None:
        self.number = number
        what = "would be an object and a folder of others at once, which local S3 cannot hold"
        super().__init__(f"ClientError: {key!r} {what}. Write one of them under another name.")

    def of_output(self, name: str) -> DataError:
        """The same, said of an output."""
        return DataError(f"ClientError: output '{name}' cannot be uploaded: {str(self).partition(': ')[2]}")


def refuse_clashes(root: Path, moves: Sequence[tuple[Path, Path]]) -> None:
    """Raises ClashError where directories cannot all be merged into their targets below ``root``.

    Looks only at what has a namesake: a target that is not there yet costs one look.
    """
    for number, (directory, target) in enumerate(moves):
        found = _above(root, target) if _has_files(directory) else None
        found = found or _clash(str(directory), str(target))
        if found:
            raise ClashError(number, os.path.relpath(found, root))
    for (one, other), swapped in ((pair, swap) for pair in combinations(range(len(moves)), 2) for swap in (0, 1)):
        upper, lower = (moves[other], moves[one]) if swapped else (moves[one], moves[other])
        if not lower[1].is_relative_to(upper[1]):
            continue
        inside = upper[0] / lower[1].relative_to(upper[1])
        found = _above(upper[0], inside) if inside != upper[0] and _has_files(lower[0]) else None
        found = found or _clash(str(lower[0]), str(inside))
        if found:
            place = upper[1] / os.path.relpath(found, upper[0])
            raise ClashError(max(one, other), os.path.relpath(place, root))


def _above(root: Path, target: Path) -> str | None:
    """A file where ``target`` needs a folder, itself included."""
    path = str(root)
    for part in target.relative_to(root).parts:
        path = os.path.join(path, part)
        if not os.path.isdir(path):
            return path if os.path.lexists(path) else None
    return None


def _clash(new: str, old: str) -> str | None:
    """The path below ``old`` of what is a file there and a folder in ``new``, or the reverse."""
    try:
        with os.scandir(new) as found:
            entries = list(found)
    except FileNotFoundError:
        return None
    for entry in entries if os.path.isdir(old) else ():
        place = os.path.join(old, entry.name)
        if entry.is_dir(follow_symlinks=False):
            if os.path.isdir(place):
                inner = _clash(entry.path, place)
                if inner:
                    return inner
            elif os.path.lexists(place) and _has_files(entry.path):
                return place
        elif os.path.isdir(place) and _has_files(place):
            return place
    return None


def _has_files(directory: str | Path) -> bool:
    return any(names for _, _, names in os.walk(directory))
