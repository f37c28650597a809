"""A cgroup that bounds how many processes a host has, where the real root can make one: no other limit holds root.

It is a child of the runner's own, so that what bounds the runner bounds the job. Version 2 of cgroups lets only the
root of the hierarchy have processes beside such a child.
"""

from __future__ import annotations

import os

_GROUPS, _NAME = b"/sys/fs/cgroup/", b"local-runner-"
NO_GROUP = (b"", -1)


def make_group(index: int, most: int) -> tuple[bytes, int]:
    """A new cgroup for the host of that index, or NO_GROUP where none can be made.

    Whoever is to be in it writes a 0 to the descriptor; also in a user namespace, as the kernel asks who opened it.
    """
    with open("/proc/self/cgroup", "rb") as lines:
        own = dict(line.rstrip(b"\n").split(b":", 2)[1:] for line in lines)
    for controllers in (b"pids", b""):  # version 1, version 2
        parent = os.path.normpath(_GROUPS + controllers + own.get(controllers, b"/none"))
        group = b"%s/%s%d-%d" % (parent, _NAME, os.getpid(), index)
        try:
            _remove_dead(parent)
            os.mkdir(group)
            if not os.path.exists(group + b"/pids.max"):
                _write(parent + b"/cgroup.subtree_control", b"+pids")
            _write(group + b"/pids.max", b"%d" % most)
            return group, os.open(group + b"/cgroup.procs", os.O_WRONLY)
        except OSError:
            remove_group(group)
    return NO_GROUP


def remove_group(group: bytes) -> None:
    """Remove a cgroup without processes; one that has some, or is gone, is left alone."""
    try:
        os.rmdir(group)
    except OSError:
        pass


def _remove_dead(parent: bytes) -> None:
    """Remove those of launchers that were killed."""
    for entry in os.scandir(parent):
        launcher = entry.name.removeprefix(_NAME).partition(b"-")[0]
        if entry.name.startswith(_NAME) and not os.path.exists(b"/proc/" + launcher):
            remove_group(entry.path)


def _write(path: bytes, text: bytes) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text)
    finally:
        os.close(file)
