"""Files and directories as an object of S3 comes to a job: mode 644, folders 755, the caller's, no attributes.

S3 keeps bytes under keys and nothing else, so that nothing else of a file of this machine may reach a job. A file that
is so already is linked; another is copied, with shared blocks where the file system can. Reads and writes files.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from local_runner.storage import job_tree
from local_runner.storage.files import link_or_copy
from local_runner.storage.job_tree import FILE_MODE, FOLDER_MODE

_FICLONE = 0x40049409
_OF_THE_SYSTEM = ("security.selinux", "security.SMACK64", "security.apparmor", "security.ima", "security.evm")


def show(source: str | Path, place: str | Path) -> None:
    """Put a file at ``place`` as a job is to see it: a link where it is uniform, else a copy. Raises OSError."""
    if not _is_uniform(str(source), os.stat(source), FILE_MODE):
        _copy(source, place)
        return
    link_or_copy(source, place)


def make_folder(path: str) -> None:
    """Make a directory and those above it that are missing, whatever the umask is. Raises OSError."""
    try:
        os.mkdir(path)
    except FileNotFoundError:
        make_folder(os.path.dirname(path))
        os.mkdir(path)
    except FileExistsError:
        if os.path.isdir(path):
            return
        raise
    os.chmod(path, FOLDER_MODE)


def corrected(layers: Sequence[Path], directory: Path) -> tuple[Path, ...]:
    """Layers that show what these do, uniformly: one more on top, in ``directory``, where something is not so.

    It holds copies of the files that differ, and the folders that do: of a folder that several layers have, the top
    one's attributes count. Raises OSError.
    """
    made = False
    for number, layer in enumerate(layers):
        for path, state in _differing(str(layer), ""):
            place = os.path.join(directory, path) if path else str(directory)
            if stat.S_ISDIR(state.st_mode):
                make_folder(place)
            elif any(os.path.lexists(above / path) for above in layers[:number]):
                continue
            else:
                make_folder(os.path.dirname(place))
                _copy(os.path.join(layer, path), place)
            made = True
    return (directory, *layers) if made else tuple(layers)


def make_uniform(directory: Path) -> None:
    """Give all below a directory of the caller's, which no job has yet, the modes of objects. Raises OSError."""
    directory.chmod(FOLDER_MODE)
    for _, folder, name, state in job_tree.entries(directory, own=True):
        if not stat.S_ISLNK(state.st_mode):
            os.chmod(name, FOLDER_MODE if stat.S_ISDIR(state.st_mode) else FILE_MODE, dir_fd=folder)


def _differing(layer: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """The files and folders of a layer that are not uniform, folders before what they hold; "" is the layer."""
    folder = os.path.join(layer, below)
    state = os.stat(folder)
    if not _is_uniform(folder, state, FOLDER_MODE):
        yield below, state
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _differing(layer, path)
        elif entry.is_file(follow_symlinks=False):
            state = entry.stat(follow_symlinks=False)
            if not _is_uniform(entry.path, state, FILE_MODE):
                yield path, state


def _is_uniform(path: str, state: os.stat_result, mode: int) -> bool:
    # Whether others may write is left as it is: a umask of 002 would have every file copied, each time.
    if stat.S_IMODE(state.st_mode) & ~0o022 != mode or state.st_uid != os.geteuid():
        return False
    if not hasattr(os, "listxattr"):
        return True
    try:
        return all(name in _OF_THE_SYSTEM for name in os.listxattr(path, follow_symlinks=False))
    except OSError:
        return True  # the file system has none


def _copy(source: str | Path, place: str | Path) -> None:
    """The bytes of a file and its times, in a file of the caller's."""
    with open(source, "rb") as original, open(place, "xb") as copy:
        try:
            fcntl.ioctl(copy, _FICLONE, original.fileno())
        except OSError:
            shutil.copyfileobj(original, copy, 1 << 20)
        state = os.fstat(original.fileno())
        os.fchmod(copy.fileno(), FILE_MODE)
    os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))
