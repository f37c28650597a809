"""Directories that a job can write to, as the runner may touch them: by descriptors, and never by a path twice.

A job may put a link to a file of this machine under any name below its directories, at any moment. So whatever lies
there is reached from the descriptor of its directory, a name at a time and without following links; what a file is
says ``fstat`` of the open file. What a job left is moved out of its reach (``take``) before all else.

Standard library of any Python 3.8, and nothing that is slow to import: the sandbox's launcher and the hot worker use
this file as well, without the rest of the package.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself is slow to import
    from collections.abc import Iterator

    AnyPath = str | bytes | os.PathLike[str]

LONGEST_KEY = 1024
"""Bytes of UTF-8 that an object's key may have (S3 user guide, Naming Amazon S3 objects)."""

MOST_FOLDERS = 100
"""Folders that an object of local S3 may lie in. S3 knows no folders; a file system's calls take only so many."""

FILE_MODE, FOLDER_MODE = 0o644, 0o755
"""What objects have: S3 keeps no modes, so that none travels from one job to the next."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC


class NotAKeyError(ValueError):
    """A name that no object of S3 can have; the message says which, and why."""


def entries(directory: AnyPath, own: bool = False) -> Iterator[tuple[str, int, str, os.stat_result]]:
    """All below a directory: (path, descriptor of its folder, name, what lstat says); folders before what they hold.

    Folders whose path is longer than a key can be are not entered. With ``own``, those of the caller's that lack the
    owner's rights get them. What goes away, or cannot be entered, is skipped. Raises OSError for the top alone.
    """
    root = _open_folder(directory, None, own)
    try:
        pending = [""]
        while pending:
            folder = pending.pop()
            try:
                descriptor = _below(root, folder, own)
            except OSError:
                continue
            try:
                with os.scandir(descriptor) as found:
                    names = [entry.name for entry in found]
                for name in names:
                    try:
                        state = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    except OSError:
                        continue
                    path = folder + "/" + name if folder else name
                    if stat.S_ISDIR(state.st_mode) and is_key(path):
                        pending.append(path)
                    yield path, descriptor, name, state
            finally:
                os.close(descriptor)
    finally:
        os.close(root)


def open_file(directory: AnyPath, path: str) -> int:
    """A descriptor to read a regular file below a directory by. Raises OSError for anything else, links included."""
    root = _open_folder(directory)
    try:
        folder, _, name = path.rpartition("/")
        parent = _below(root, folder)
        try:
            # Looked at before it is opened: opening a device can do something, and opening a pipe can take for ever.
            looked = os.open(name, _LOOK, dir_fd=parent)
            try:
                if not stat.S_ISREG(os.fstat(looked).st_mode):
                    raise OSError(0, "is no regular file", path)
                if not hasattr(os, "O_PATH"):
                    return os.dup(looked)
                return os.open(f"/proc/self/fd/{looked}", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.close(looked)
        finally:
            os.close(parent)
    finally:
        os.close(root)


def take(source: AnyPath, target: str, prefix: str = "") -> None:
    """Move the regular files below ``source``, which a job made, to ``target``, which no job can reach.

    They get the caller as owner, uniform modes (no setuid), the present time and no extended attributes. Links, pipes,
    devices and empty folders are no objects and stay behind. A file that is there already is replaced. Raises
    ValueError for a name that, behind ``prefix``, is no key, OSError (ENOTDIR, EISDIR) where a file of ``target`` is a
    folder of ``source``, or the reverse.
    """
    made = {""}
    os.makedirs(target, FOLDER_MODE, exist_ok=True)
    for path, folder, name, state in entries(source, own=True):
        if stat.S_ISDIR(state.st_mode) or stat.S_ISREG(state.st_mode):
            check_key(prefix + path)
        if not stat.S_ISREG(state.st_mode):
            continue
        parent = path.rpartition("/")[0]
        if parent not in made:
            os.makedirs(os.path.join(target, parent), FOLDER_MODE, exist_ok=True)
            made.add(parent)
        place = os.path.join(target, path)
        os.rename(name, place, src_dir_fd=folder)
        # Only now is it certain what it is: until it was moved, the job could exchange it.
        state = os.lstat(place)
        if not stat.S_ISREG(state.st_mode):
            remove(place)
            continue
        if state.st_uid != os.geteuid():
            os.chown(place, os.geteuid(), os.getegid())
        os.chmod(place, FILE_MODE)
        os.utime(place)
        for attribute in os.listxattr(place) if hasattr(os, "listxattr") else ():
            try:  # those of the system's that cannot be taken away
                os.removexattr(place, attribute)
            except OSError:
                pass


def check_key(path: str) -> None:
    """Raises NotAKeyError for a path that no object can have as its key."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise NotAKeyError(f"{path!r} is no key of S3: it is not UTF-8") from None
    if path.count("/") > MOST_FOLDERS:
        raise NotAKeyError(f"{path[:80]}... lies in more than {MOST_FOLDERS} folders, which is all that local S3 holds")
    if size > LONGEST_KEY:
        raise NotAKeyError(f"{path[:80]}... is longer than the {LONGEST_KEY} bytes that a key of S3 may have")


def is_key(path: str) -> bool:
    """Whether an object of S3 can have that name."""
    try:
        check_key(path)
    except NotAKeyError:
        return False
    return True


def give(directory: AnyPath, user: int, group: int) -> None:
    """Make all below a directory somebody's own, so that they can move and remove it. Needs root; raises OSError."""
    top = _open_folder(directory)
    try:
        os.fchown(top, user, group)
    finally:
        os.close(top)
    for _, folder, name, _ in entries(directory):
        try:
            os.chown(name, user, group, dir_fd=folder, follow_symlinks=False)
        except OSError:
            pass


def all_owned_by(directory: AnyPath, user: int) -> bool:
    """Whether a directory and all below it are that user's. Raises OSError where the directory is not there."""
    return os.lstat(directory).st_uid == user and all(
        state.st_uid == user and is_key(path) for path, *_, state in entries(directory, own=True)
    )


def remove(path: AnyPath) -> None:
    """Remove a file or a tree, however deep it is. What cannot be removed is left, without an error.

    A folder that is not empty is moved to the top before it is emptied, so that neither depth nor a path's length
    matters. No link is followed.
    """
    try:
        os.unlink(path)
    except (IsADirectoryError, PermissionError):
        clear(path)
        try:
            os.rmdir(path)
        except OSError:
            pass
    except OSError:
        return


def clear(directory: AnyPath) -> None:
    """Remove all below a directory, as :func:`remove` does."""
    try:
        root = _open_folder(directory, None, own=True)
    except OSError:
        return
    try:
        aside = os.urandom(8).hex()
        moved = _empty(root, root, aside, 0)
        done = 0
        while done < moved:
            name = f"{aside}-{done}"
            done += 1
            try:
                folder = _open_folder(name, root, own=True)
            except OSError:
                continue
            try:
                moved = _empty(folder, root, aside, moved)
            finally:
                os.close(folder)
            try:
                os.rmdir(name, dir_fd=root)
            except OSError:
                pass
    finally:
        os.close(root)


def _empty(folder: int, root: int, aside: str, moved: int) -> int:
    """Remove what a folder holds; folders that are not empty become ``<aside>-<number>`` in ``root``.

    ``moved`` of them are there already; returns how many there are then.
    """
    with os.scandir(folder) as found:
        names = [entry.name for entry in found if folder != root or not entry.name.startswith(aside)]
    for name in names:
        try:
            os.unlink(name, dir_fd=folder)
            continue
        except OSError:
            pass  # a folder, or nothing that can be removed
        try:
            os.rmdir(name, dir_fd=folder)
            continue
        except OSError:
            pass  # not empty, or no folder
        for attempt in range(2):
            try:
                os.rename(name, f"{aside}-{moved}", src_dir_fd=folder, dst_dir_fd=root)
                moved += 1
                break
            except OSError:
                # To move a folder to another, one has to be able to write to itself.
                if attempt or not _allow(name, folder):
                    break
    return moved


def _below(root: int, path: str, own: bool = False) -> int:
    """A descriptor of a folder below another, entered a name at a time. Raises OSError, also for a link."""
    descriptor = os.dup(root)
    for name in path.split("/") if path else ():
        try:
            inner = _open_folder(name, descriptor, own)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


def _open_folder(path: AnyPath, parent: int | None = None, own: bool = False) -> int:
    try:
        descriptor = os.open(path, _FOLDER, dir_fd=parent)
    except PermissionError:
        if not own or not _allow(path, parent):
            raise
        return os.open(path, _FOLDER, dir_fd=parent)
    if own:
        state = os.fstat(descriptor)
        if state.st_mode & 0o700 != 0o700 and state.st_uid == os.geteuid():
            try:
                os.fchmod(descriptor, 0o700)
            except OSError:
                pass
    return descriptor


def _allow(path: AnyPath, parent: int | None) -> bool:
    """Give the owner's rights to a folder that cannot be opened (overlay's ``work`` has none); whether that worked."""
    if not hasattr(os, "O_PATH"):
        return False
    try:
        looked = os.open(path, _LOOK | os.O_DIRECTORY, dir_fd=parent)
    except OSError:
        return False
    try:
        os.chmod(f"/proc/self/fd/{looked}", 0o700)
    except OSError:
        return False
    finally:
        os.close(looked)
    return True
