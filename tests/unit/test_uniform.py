"""What a file of this machine is on its way to a job: its bytes and its time, and nothing else of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from local_runner.storage.uniform import corrected, make_uniform, show

ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Made:
    """What is drawn of a file or folder: its text, and what S3 does not have of it."""

    text: str
    mode: int
    stranger: bool
    attribute: bool


def drawn(modes: Sequence[int]) -> st.SearchStrategy[Made]:
    strangers = st.booleans() if ROOT else st.just(False)
    return st.builds(Made, st.sampled_from(["", "one", "two"]), st.sampled_from(modes), strangers, st.booleans())


files = drawn([0o644, 0o664, 0o666, 0o600, 0o755, 0o444, 0o4755, 0o700])
folders = drawn([0o755, 0o775, 0o777, 0o700, 0o750, 0o2755, 0o1777])
trees = st.tuples(
    st.dictionaries(st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join), files, max_size=4),
    st.dictionaries(st.sampled_from([".", "a", "b", "a/a", "a/b"]), folders),
)
Tree = tuple[dict[str, Made], dict[str, Made]]


def make(root: Path, tree: Tree, beside: Sequence[Path] = ()) -> Path:
    """The objects, as far as no other one, of this tree or those beside it, is a folder of theirs, or below them.

    The runner lays nothing else on each other, and no folders that hold no object.
    """
    root.mkdir()
    for name, made in tree[0].items():
        places = [layer / name for layer in (root, *beside)]
        if any(place.is_dir() or any(parent.is_file() for parent in place.parents) for place in places):
            continue
        places[0].parent.mkdir(parents=True, exist_ok=True)
        places[0].write_text(made.text)
        os.utime(places[0], (1_000_000, 1_000_000))
    for name, made in sorted((tree[1] | tree[0]).items(), reverse=True):
        path = root / name
        if not path.exists() or path.is_dir() != (name in tree[1] and name not in tree[0]):
            continue
        if made.attribute:
            with suppress(OSError):  # the file system has none
                os.setxattr(path, "user.of_this_machine", b"x")
        if made.stranger:
            os.chown(path, 1234, 1234)
        path.chmod(made.mode)
    return root


def attributes(path: Path) -> tuple[object, ...]:
    """All that a file or folder is beside its content."""
    state = path.stat()
    return (state.st_mode, state.st_uid, state.st_gid, sorted(os.listxattr(path)))


def everything(root: Path) -> dict[str, tuple[object, ...]]:
    """Every file and folder below a directory, itself included, with its attributes and content."""
    return {
        str(path.relative_to(root)): (*attributes(path), path.read_text() if path.is_file() else None)
        for path in (root, *root.rglob("*"))
    }


def is_uniform(path: Path) -> bool:
    """Whether a job may see it. A group or others that may write are let be: a umask of 002 makes them so."""
    mode, owner, _, names = attributes(path)
    assert isinstance(mode, int)
    expected = 0o755 if stat.S_ISDIR(mode) else 0o644
    return stat.S_IMODE(mode) & ~0o022 == expected and owner == os.geteuid() and names == []


@contextmanager
def careful() -> Iterator[None]:
    """With the umask of somebody who shares nothing."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def joined(layers: Sequence[Path]) -> dict[str, Path]:
    """What a job sees of layers, the first on top: of a folder that several have, the top one's attributes count."""
    return {str(path.relative_to(layer)): path for layer in reversed(layers) for path in (layer, *layer.rglob("*"))}


def contents(view: Mapping[str, Path]) -> dict[str, tuple[str, float] | None]:
    return {name: (path.read_text(), path.stat().st_mtime) if path.is_file() else None for name, path in view.items()}


@settings(max_examples=60)
@given(st.lists(trees, min_size=1, max_size=3))
def test_layers_are_joined_to_the_same_files_uniformly(trees: list[Tree]) -> None:
    with TemporaryDirectory() as directory:
        layers: list[Path] = []
        for number, tree in enumerate(trees):
            layers.append(make(Path(directory, str(number)), tree, layers))
        before = [everything(layer) for layer in layers]
        with careful():
            seen = corrected(layers, Path(directory, "corrected"))
        assert contents(joined(seen)) == contents(joined(layers))
        assert [name for name, path in joined(seen).items() if not is_uniform(path)] == []
        assert [everything(layer) for layer in layers] == before
        if all(is_uniform(path) for layer in layers for path in (layer, *layer.rglob("*"))):
            assert seen == tuple(layers)


@settings(max_examples=30)
@given(files)
def test_a_file_is_shown_uniformly_and_stays_as_it_is(made: Made) -> None:
    with TemporaryDirectory() as directory:
        source, place = make(Path(directory, "in"), ({"a": made}, {})) / "a", Path(directory, "shown")
        before = everything(source.parent)
        was_uniform = is_uniform(source)
        with careful():
            show(source, place)
        assert is_uniform(place)
        assert (place.read_text(), place.stat().st_mtime) == (made.text, source.stat().st_mtime)
        assert place.samefile(source) == was_uniform
        assert everything(source.parent) == before


@settings(max_examples=30)
@given(trees)
def test_a_copy_is_made_uniform_where_it_is(tree: Tree) -> None:
    """Modes only: a copy is the runner's own already."""
    with TemporaryDirectory() as directory:
        root = make(Path(directory, "copy"), tree)
        before = contents(joined([root]))
        make_uniform(root)
        assert {stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*")) if path.is_dir()} == {0o755}
        assert {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("*") if path.is_file()} <= {0o644}
        assert contents(joined([root])) == before
