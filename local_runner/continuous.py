"""Outputs of upload mode Continuous: files go to local S3 while the job still writes others. Files and a thread.

AWS documents that files are uploaded "as they are added" and not when a file counts as added. Here it does when it has
not changed between two looks, ``LOOK_SECONDS`` apart; one that changes later is uploaded again. What is left when the
job ends, however it ends, is :func:`local_runner.contract.collect`'s.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from local_runner.models import StagedJob
from local_runner.storage import DataError, Storage

LOOK_SECONDS = 0.5

_Identity = tuple[int, int, int]


@contextmanager
def uploading(staged: StagedJob, storage: Storage) -> Generator[None]:
    """Upload what the job's Continuous outputs hold for as long as the context lasts."""
    outputs = [
        _Output(bind.source, output.s3_uri, staged.work / f"upload-{host.name}-{number}")
        for number, output in enumerate(staged.job.outputs)
        for host in staged.hosts
        for bind in host.binds
        if output.upload_mode == "Continuous" and bind.local_path == output.local_path
    ]
    if not outputs:
        yield
        return
    over = threading.Event()
    looking = threading.Thread(target=_look, args=(outputs, storage, over), name="continuous upload", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


@dataclass
class _Output:
    """One host's output: where it writes, where that goes, and what each file was when it was last seen, and sent."""

    directory: Path
    s3_uri: str
    scratch: Path
    seen: dict[Path, _Identity] = field(default_factory=dict[Path, _Identity])
    sent: dict[Path, _Identity] = field(default_factory=dict[Path, _Identity])

    def upload(self, storage: Storage) -> None:
        """Send what has not changed since the last look and has not been sent as it is."""
        files = dict(_files(self.directory))
        settled = [path for path, now in files.items() if self.seen.get(path) == now != self.sent.get(path)]
        self.seen = files
        sent: dict[Path, _Identity] = {}
        for path in settled:
            # A copy, as the job may write on to its file. One that changes meanwhile is for another time.
            copy = self.scratch / path.relative_to(self.directory)
            with suppress(OSError):
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)
                if _identity(path.lstat()) == files[path]:
                    sent[path] = files[path]
                    continue
            copy.unlink(missing_ok=True)
        if sent:
            storage.publish(self.scratch, self.s3_uri)
            self.sent |= sent


def _look(outputs: list[_Output], storage: Storage, over: threading.Event) -> None:
    """Look until the job is over. What cannot be sent now, for want of room or rights, is sent at the end."""
    while not over.wait(LOOK_SECONDS):
        for output in outputs:
            with suppress(DataError, OSError):
                output.upload(storage)


def _files(directory: Path) -> Iterator[tuple[Path, _Identity]]:
    """The regular files below a directory. Links are not followed, as in an upload at the end."""
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder) / name
            with suppress(OSError):
                state = path.lstat()
                if path.is_file() and not path.is_symlink():
                    yield path, _identity(state)


def _identity(state: os.stat_result) -> _Identity:
    return state.st_ino, state.st_size, state.st_mtime_ns
