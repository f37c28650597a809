"""Outputs of upload mode Continuous: files go to local S3 while the job still writes others. Files and a thread.

AWS documents that files are uploaded "as they are added" and not when a file counts as added. Here it does when it has
not changed between two looks, ``LOOK_SECONDS`` apart; one that changes later is uploaded again. What is left when the
job ends, however it ends, is :func:`local_runner.execution.contract.collect`'s.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from local_runner.models import StagedJob
from local_runner.storage import job_tree
from local_runner.storage.local_s3 import DataError, Storage
from local_runner.storage.s3_uri import key_prefix

LOOK_SECONDS = 0.5
_CHUNK = 1 << 20

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
    seen: dict[str, _Identity] = field(default_factory=dict[str, _Identity])
    sent: dict[str, _Identity] = field(default_factory=dict[str, _Identity])

    def upload(self, storage: Storage) -> None:
        """Send what has not changed since the last look and has not been sent as it is."""
        prefix = key_prefix(self.s3_uri)
        files = {
            path: _identity(state)
            for path, _, _, state in job_tree.entries(self.directory)
            if stat.S_ISREG(state.st_mode) and job_tree.is_key(prefix + path)
        }
        settled = [path for path, now in files.items() if self.seen.get(path) == now != self.sent.get(path)]
        self.seen = files
        sent: dict[str, _Identity] = {}
        for path in settled:
            with suppress(OSError):
                if self._copied(path, files[path]):
                    sent[path] = files[path]
        if sent:
            storage.publish(self.scratch, self.s3_uri)
            self.sent |= sent

    def _copied(self, path: str, wanted: _Identity) -> bool:
        """Copy a file aside, as the job may write on to its own. One that changes meanwhile is for another time."""
        copy = self.scratch / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        whole = False
        try:
            with os.fdopen(job_tree.open_file(self.directory, path), "rb") as file, copy.open("wb") as kept:
                if _identity(os.fstat(file.fileno())) == wanted:
                    shutil.copyfileobj(file, kept, _CHUNK)
                    whole = _identity(os.fstat(file.fileno())) == wanted
            copy.chmod(job_tree.FILE_MODE)
        finally:
            if not whole:
                copy.unlink(missing_ok=True)
        return whole


def _look(outputs: list[_Output], storage: Storage, over: threading.Event) -> None:
    """Look until the job is over. What cannot be sent now, for want of room or rights, is sent at the end."""
    while not over.wait(LOOK_SECONDS):
        for output in outputs:
            with suppress(DataError, OSError):
                output.upload(storage)


def _identity(state: os.stat_result) -> _Identity:
    return state.st_ino, state.st_size, state.st_mtime_ns
