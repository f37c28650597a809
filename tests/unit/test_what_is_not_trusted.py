"""What a job, an image or somebody's project may bring along, and what is made of it."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import threading
from pathlib import Path

import pytest
from support.jobs import processing_job

from local_runner.engines.docker.sweep import _is_left
from local_runner.engines.following import Ending
from local_runner.engines.host_log import HostLog
from local_runner.engines.hot.call import WorkerLostError, run_job
from local_runner.engines.hot.engine import _needs_cold
from local_runner.engines.hot.imports import imports_of
from local_runner.engines.sdk.program import _extract_files
from local_runner.errors import DataError
from local_runner.models import ProcessingJob
from local_runner.step_cache.digests import FileDigests
from local_runner.storage.files import read_regular
from local_runner.storage.local_s3 import S3Object, Source, Storage, link_view


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> tarfile.TarFile:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return tarfile.open(fileobj=io.BytesIO(file.getvalue()))


def member(name: str, kind: bytes = tarfile.REGTYPE, leads_to: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, leads_to, 0o6777
    return found


def test_a_models_archive_makes_regular_files_and_nothing_outside(tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    victim = tmp_path / "victim"
    victim.mkdir()
    # Names through a chain of links that is longer than a path may be are what tarfile's own filter was led around by.
    long = "d" * 200
    links = [(member("/".join(["a"] * number) + "/a", tarfile.SYMTYPE, long), b"") for number in range(1, 20)]
    with archive(
        *links,
        (member("way", tarfile.SYMTYPE, str(victim)), b""),
        (member("way/planted"), b"planted"),
        (member("hard", tarfile.LNKTYPE, "/etc/hostname"), b""),
        (member("pipe", tarfile.FIFOTYPE), b""),
        (member("./code/serve.py"), b"serve"),
        (member("/etc/absolute"), b"below"),
    ) as tar:
        _extract_files(tar, str(out))
    assert list(victim.iterdir()) == []
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert files == {"way/planted": b"planted", "code/serve.py": b"serve", "etc/absolute": b"below"}
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert {path.stat().st_mode & 0o7777 for path in out.rglob("*") if path.is_file()} == {0o755}
    with archive((member("a/../../victim/planted"), b"")) as tar, pytest.raises(ValueError, match="leads out of it"):
        _extract_files(tar, str(out))


def job(**environment: str) -> ProcessingJob:
    return processing_job("python3", "/opt/ml/processing/code/x.py", environment=environment)


def test_no_environment_leads_a_hot_worker_to_its_own_directories() -> None:
    assert _needs_cold(job(PYTHONPATH="/opt/ml/processing/code")) is None
    for name in ("PYTHONPATH", "LD_PRELOAD", "HOME", "ANYTHING"):
        assert _needs_cold(job(**{name: "/x/../.local-runner/0/s3/bucket"})) is not None


def test_a_script_makes_a_worker_import_modules_and_run_no_programs(tmp_path: Path) -> None:
    script = tmp_path / "x.py"
    script.write_text("import json, venv.__main__\nfrom _thread import lock\nfrom email import mime\n")
    assert imports_of(script) == ["email", "email.mime", "json"]
    script.write_text("if 1: pass\n" + "elif 2: pass\n" * 5_000)
    assert imports_of(script) == []


@pytest.mark.slow
def test_a_worker_that_stands_still_is_lost_and_holds_nobody_up(tmp_path: Path) -> None:
    directory = tmp_path / "worker"
    directory.mkdir()
    stop = threading.Event()
    stop.set()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "socket"))
        server.listen()
        log = HostLog(tmp_path / "log", lambda _: None)
        ending = Ending(60, stop, {"interrupted": 0.0, "max_runtime": 0.0})
        with pytest.raises(WorkerLostError, match="no longer answers"):
            run_job(directory, {}, log, ending)
        log.close()


def test_labels_of_an_image_are_nobodys_execution(tmp_path: Path) -> None:
    names = ("local-runner.run", "local-runner.state")
    assert not _is_left({})
    assert not _is_left({names[0]: "abc"})
    assert not _is_left({names[0]: "../..", names[1]: str(tmp_path)})
    assert _is_left({names[0]: "abcdefghijkl", names[1]: str(tmp_path)})


def test_of_a_project_its_code_is_served_and_nothing_hidden_or_outside(tmp_path: Path) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    for path in ("train.py", "d/helper.py", ".env", ".local_runner/secret.key", "d/.git/config"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(path)
    outside.mkdir()
    (outside / "id_rsa").write_text("private")
    (project / "d" / "again.py").symlink_to(project / "train.py")
    storage = Storage(tmp_path / "s3", (Source("s3://b/code", project, code=True),))
    assert [item.key for item in storage.list_objects("s3://b/code").objects] == [
        "code/d/again.py",
        "code/d/helper.py",
        "code/train.py",
    ]
    for uri in ("s3://b/code/.env", "s3://b/code/.local_runner/"):
        assert not storage.list_objects(uri).objects
    assert storage.list_objects("s3://b/code/d").layers is None


def test_an_object_that_is_a_folder_too_is_the_steps_failure(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    clash = [S3Object("a", "a", file), S3Object("a/b", "a/b", file)]
    with pytest.raises(DataError, match="an object and a folder at once"):
        link_view(clash, tmp_path / "view")
    assert [path.name for path in (tmp_path / "view").iterdir()] == ["a"]


@pytest.mark.parametrize("kind", ["FIFO", "device"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    """A FIFO would hold whoever opens it, and a device has no end."""
    path = tmp_path / "x"
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="no regular file"):
        read_regular(path)
    with pytest.raises(OSError, match="no regular file"):
        FileDigests(tmp_path / "digests").of([path])
