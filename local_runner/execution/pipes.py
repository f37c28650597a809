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


def offer(pipe: InputPipe, epoch: int) -> None:
    """Make the named pipe of an epoch, which any user of the image may read, and let the job find it under its name.

    The pipe lies in the runner's own directory, and the job gets another name of it: whatever the job then puts under
    that name, the runner writes to the pipe that it made. Raises OSError, where the job has something there already.
    """
    own = _own(pipe, epoch)
    os.mkfifo(own)
    own.chmod(0o666)
    folder = os.open(pipe.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.link(own, _name(pipe, epoch), dst_dir_fd=folder)
    finally:
        os.close(folder)


def _withdraw(pipe: InputPipe, epoch: int) -> None:
    """Take the pipe of an epoch away, so that nobody opens it again."""
    folder = os.open(pipe.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if _is_there(pipe, epoch, folder):
            os.unlink(_name(pipe, epoch), dir_fd=folder)
    finally:
        os.close(folder)
    _own(pipe, epoch).unlink(missing_ok=True)


def _is_there(pipe: InputPipe, epoch: int, folder: int) -> bool:
    """Whether the job still has the pipe under its name, in the folder of that descriptor."""
    try:
        found = os.stat(_name(pipe, epoch), dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(found, _own(pipe, epoch).lstat())


def _own(pipe: InputPipe, epoch: int) -> Path:
    return pipe.own / f"epoch-{epoch}"


def _name(pipe: InputPipe, epoch: int) -> str:
    return f"{pipe.name}_{epoch}"


@contextmanager
def feeding(staged: StagedJob) -> Generator[list[str]]:
    """Feed the pipes of all hosts for as long as the context lasts; the list gets what could not be read."""
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
        try:
            writer = _open(pipe, epoch, over)
        except OSError as error:
            faults.append(f"ClientError: the pipe {_name(pipe, epoch)} of input '{pipe.name}' is gone: {error}.")
            return
        if writer is None:
            return
        more = True
        try:
            for chunk in _content(pipe):
                if not _write(writer, chunk, over):
                    break
        except (OSError, EOFError, zlib.error) as error:
            faults.append(f"ClientError: input '{pipe.name}' could not be streamed: {error}.")
        finally:
            # The next epoch is there before the reader sees the end of this one, which nobody can open again: there
            # would be no data in it, and no end of waiting for that.
            try:
                offer(pipe, epoch + 1)
                _withdraw(pipe, epoch)
            except OSError as error:
                # The reader sees the end of the data all the same.
                what = f"the pipe {_name(pipe, epoch + 1)}, for who reads it again, cannot be made"
                faults.append(f"ClientError: input '{pipe.name}': {what}: {error.strerror}.")
                more = False
            os.close(writer)
        if not more:
            return


def _open(pipe: InputPipe, epoch: int, over: threading.Event) -> int | None:
    """The pipe, once somebody reads it; None where the job ends before. Raises OSError where the job removed it."""
    folder = os.open(pipe.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        while True:
            # Looked for first: who has opened it may remove it.
            there = _is_there(pipe, epoch, folder)
            try:
                return os.open(_own(pipe, epoch), os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            if not there:
                raise OSError("the job has removed or replaced it")
            if over.wait(_POLL_SECONDS):
                return None
    finally:
        os.close(folder)


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
