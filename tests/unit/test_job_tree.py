"""Trees that a job made: what is taken out of them, and that nothing outside is ever read, written or removed."""

from __future__ import annotations

import ctypes
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runner.storage import job_tree

VICTIM = b"what only the host may read"
NAMES = st.sampled_from(["a", "b", "c", "d"])
THINGS = st.sampled_from(["file", "setuid", "link", "link to folder", "pipe", "hard link", "folder", "shut folder"])
TREES = st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=4), THINGS), max_size=12)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory of the host, with a file."""
    directory = tmp_path / "victim"
    directory.mkdir()
    (directory / "secret").write_bytes(VICTIM)
    return directory


def make(job: Path, victim: Path, tree: list[tuple[list[str], str]]) -> None:
    """Make what a job could have left; what does not fit is left out."""
    for parts, thing in tree:
        path = job.joinpath(*parts)
        if os.path.lexists(path) or any(parent.is_symlink() for parent in path.parents):
            continue
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if thing in ("file", "setuid"):
                path.write_text("/".join(parts))
                path.chmod(0o6777 if thing == "setuid" else 0o600)
            elif thing == "link":
                path.symlink_to(victim / "secret")
            elif thing == "link to folder":
                path.symlink_to(victim)
            elif thing == "pipe":
                os.mkfifo(path)
            elif thing == "hard link":
                for file in [each for each in sorted(job.rglob("*")) if each.is_file() and not each.is_symlink()][:1]:
                    path.hardlink_to(file)
            else:
                path.mkdir()
                path.chmod(0 if thing == "shut folder" else 0o755)


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_what_is_taken_are_the_regular_files_with_uniform_modes(tree: list[tuple[list[str], str]]) -> None:
    with TemporaryDirectory() as name:
        job, victim, taken = (Path(name, each) for each in ("job", "victim", "taken"))
        job.mkdir()
        victim.mkdir()
        (victim / "secret").write_bytes(VICTIM)
        make(job, victim, tree)
        wanted = {
            path.relative_to(job): path.read_bytes()
            for path in job.rglob("*")
            if path.is_file() and not path.is_symlink() and not any(each.is_symlink() for each in path.parents)
        }
        job_tree.take(job, str(taken))
        found = [path for path in taken.rglob("*") if not path.is_dir()]
        assert {path.relative_to(taken): path.read_bytes() for path in found} == wanted
        assert {stat.S_IMODE(path.lstat().st_mode) for path in found} <= {job_tree.FILE_MODE}
        assert not any(path.is_symlink() for path in taken.rglob("*"))
        job_tree.remove(job)
        assert not job.exists()
        assert (victim / "secret").read_bytes() == VICTIM


@pytest.mark.slow
def test_a_tree_deeper_than_any_path_can_be_removed(tmp_path: Path) -> None:
    top = tmp_path / "job"
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(5_000):
        os.mkdir("deep", dir_fd=folder)
        inner = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    with pytest.raises(job_tree.NotAKeyError, match="more than 100 folders"):
        job_tree.take(top, str(tmp_path / "taken"))
    job_tree.remove(top)
    assert not top.exists()


def test_only_what_can_be_a_key_is_taken(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "job") + b"/\xff")).touch()
    with pytest.raises(job_tree.NotAKeyError, match="not UTF-8"):
        job_tree.take(tmp_path / "job", str(tmp_path / "taken"))


def test_removing_a_link_leaves_what_it_leads_to(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "link").symlink_to(victim)
    job_tree.remove(tmp_path / "link")
    job_tree.clear(tmp_path / "link")
    assert (victim / "secret").read_bytes() == VICTIM
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to somebody else")
def test_files_of_other_users_become_the_callers_own(tmp_path: Path) -> None:
    job = tmp_path / "job"
    (job / "folder").mkdir(parents=True)
    (job / "folder" / "file").touch()
    job_tree.give(job, 1234, 1234)
    assert job_tree.all_owned_by(job, 1234)
    job_tree.take(job, str(tmp_path / "taken"))
    assert job_tree.all_owned_by(tmp_path / "taken", 0)


@contextmanager
def exchanging(one: Path, other: Path) -> Iterator[None]:
    """Exchange two names for as long as the context lasts, as fast as can be."""
    libc, over = ctypes.CDLL(None), threading.Event()

    def exchange() -> None:
        while not over.is_set():
            libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("what", ["file", "folder"])
def test_nothing_outside_is_read_while_names_are_exchanged(tmp_path: Path, victim: Path, what: str) -> None:
    job = tmp_path / "job"
    job.mkdir()
    if what == "file":
        (job / "x").write_bytes(b"own")
        (job / "y").symlink_to(victim / "secret")
        paths = ["x", "y"]
    else:
        (job / "x").mkdir()
        (job / "x" / "secret").write_bytes(b"own")
        (job / "y").symlink_to(victim)
        paths = ["x/secret", "y/secret"]
    read: set[bytes] = set()
    with exchanging(job / "x", job / "y"):
        for round in range(2_000):
            with suppress(OSError), os.fdopen(job_tree.open_file(job, paths[round % 2]), "rb") as file:
                read.add(file.read())
            for path, *_ in job_tree.entries(job):
                assert path in ("x", "y", *paths)
    assert read == {b"own"}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["file", "folder"])
def test_nothing_outside_is_taken_or_removed_while_names_are_exchanged(tmp_path: Path, victim: Path, what: str) -> None:
    for round in range(60):
        job, taken = tmp_path / f"job-{round}", tmp_path / f"taken-{round}"
        job.mkdir()
        for number in range(20):
            folder = job / f"{number}"
            folder.mkdir()
            (folder / "secret").write_bytes(b"own")
        (job / "x").mkdir()
        (job / "x" / "secret").write_bytes(b"own")
        (job / "y").symlink_to(victim if what == "folder" else victim / "secret")
        with exchanging(job / "x", job / "y"):
            job_tree.take(job, str(taken))
            job_tree.remove(job)
        assert {path.read_bytes() for path in taken.rglob("*") if path.is_file()} <= {b"own"}
        assert not any(path.is_symlink() for path in taken.rglob("*"))
        assert (victim / "secret").read_bytes() == VICTIM
