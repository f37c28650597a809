"""Inputs of mode Pipe: the bytes of their objects, fed to the named pipes that a job reads. Files and threads.

AWS documents for a processing job only that its input is streamed into named pipes, and not what they are called. Here
it is what AWS documents for training (developer guide, Access Training Data): the pipe of epoch 0 is
``<LocalPath>/<InputName>_0``, and whoever has read it to its end finds the same data once more in ``<InputName>_1``.
The objects come one after the other, by key.
"""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import select
import threading
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from local_runner.models import InputPipe, StagedJob

_CHUNK = 1 << 16
_POLL_SECONDS = 0.02


def make_pipe(directory: Path, name: str, epoch: int) -> Path:
    """The named pipe of an input's epoch, which any user of the image may read."""
    path = directory / f"{name}_{epoch}"
    os.mkfifo(path)
    path.chmod(0o666)
    return path


@contextmanager
def feeding(staged: StagedJob) -> Generator[list[str]]:
    """Feed the pipes of all hosts for as long as the context lasts; the list gets what could not be read, in words."""
    over = threading.Event()
    faults: list[str] = []
    feeders = [
        threading.Thread(target=_feed, args=(pipe, over, faults), name=f"pipe {host.name} {pipe.name}", daemon=True)
        for host in staged.hosts
        for pipe in host.pipes
    ]
    for feeder in feeders:
        feeder.start()
    try:
        yield faults
    finally:
        over.set()
        for feeder in feeders:
            feeder.join()


def _feed(pipe: InputPipe, over: threading.Event, faults: list[str]) -> None:
    """Feed one epoch after the other until the job is over. What cannot be read ends the data where it stands."""
    for epoch in itertools.count():
        path = pipe.directory / f"{pipe.name}_{epoch}"
        try:
            writer = _open(path, over)
        except OSError as error:
            faults.append(f"ClientError: the pipe {path.name} of input '{pipe.name}' is gone: {error.strerror}.")
            return
        if writer is None:
            return
        try:
            for chunk in _content(pipe):
                if not _write(writer, chunk, over):
                    break
        except (OSError, EOFError, zlib.error) as error:
            faults.append(f"ClientError: input '{pipe.name}' could not be streamed: {error}.")
        finally:
            # The next epoch is there before the reader sees the end of this one, which nobody can open again: there
            # would be no data in it, and no end of waiting for that.
            make_pipe(pipe.directory, pipe.name, epoch + 1)
            path.unlink(missing_ok=True)
            os.close(writer)


def _open(path: Path, over: threading.Event) -> int | None:
    """The pipe, once somebody reads it; None where the job ends before."""
    while not over.is_set():
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        over.wait(_POLL_SECONDS)
    return None


def _content(pipe: InputPipe) -> Iterator[bytes]:
    for path in pipe.objects:
        try:
            with gzip.open(path) if pipe.gzip else path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except gzip.BadGzipFile as error:
            raise OSError(f"{path.name} is not gzip data ({error})") from None
        except (EOFError, zlib.error) as error:
            raise OSError(f"{path.name} is damaged gzip data ({error})") from None


def _write(writer: int, chunk: bytes, over: threading.Event) -> bool:
    """Write it all, as fast as the job reads; False where it has stopped reading, or is over."""
    left = memoryview(chunk)
    while left:
        try:
            left = left[os.write(writer, left) :]
        except BlockingIOError:
            select.select((), (writer,), (), _POLL_SECONDS)
        except BrokenPipeError:
            return False
        if over.is_set():
            return False
    return True
