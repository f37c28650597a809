"""A job that fills the disk is stopped while there is still room for everybody else. Reads file systems; a thread.

Quotas are not to be had: a bind mount and an overlay have none, and project quotas need root and a file system that
was made with them. So the disk that has the job's scratch space and outputs is looked at while the job runs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LEAST_FREE = 256 << 20
"""Bytes that a job leaves free. A disk that has not twice as much when the job starts is not looked at."""

LOOK_SECONDS = 0.1


@dataclass
class Room:
    """``stop`` is set when the job is to be stopped, for want of room with a ``fault`` that says so."""

    stop: threading.Event
    fault: str = ""


@contextmanager
def leaving_room(directory: Path, stop: threading.Event, least: int = LEAST_FREE) -> Generator[Room]:
    """Watch the disk of a directory for as long as the context lasts; ``stop`` stops the job, too, and the other way
    round: who sets the job's own event stops the execution.
    """
    if _free(directory) < 2 * least:
        yield Room(stop)
        return
    room, over = Room(threading.Event()), threading.Event()
    threading.Thread(target=_watch, args=(directory, stop, least, room, over), name="room", daemon=True).start()
    try:
        yield room
    finally:
        over.set()  # the thread, which may wait for the other event, ends within a look
        if room.stop.is_set() and not room.fault:
            stop.set()


def _watch(directory: Path, stop: threading.Event, least: int, room: Room, over: threading.Event) -> None:
    while not stop.wait(LOOK_SECONDS):
        if over.is_set():
            return
        if _free(directory) < least:
            room.fault = (
                f"The job was stopped, as the disk of {directory} has less than {least >> 20} MB left. "
                "Make room, or let the job write less."
            )
            break
    room.stop.set()


def _free(directory: Path) -> int:
    try:
        found = os.statvfs(directory)
    except OSError:
        return 0  # it is gone: the job is over
    return found.f_bavail * found.f_frsize
