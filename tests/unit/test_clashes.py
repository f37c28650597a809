"""Keys that would be an object and a folder of others at once, held against a model: sets of keys."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runner.storage.clashes import ClashError, refuse_clashes

keys = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)
sets = st.frozensets(keys, max_size=4)


def below(key: str, other: str) -> bool:
    return key.startswith(f"{other}/")


def possible(wanted: Iterable[str]) -> set[str]:
    """Of the keys those that one tree can hold, the first ones first."""
    held: set[str] = set()
    for key in wanted:
        if not any(below(key, other) or below(other, key) for other in held):
            held.add(key)
    return held


def tree(root: Path, objects: Iterable[str], folders: Iterable[str]) -> Path:
    """A directory of these objects, and of folders that hold none, where there is room for them."""
    root.mkdir(parents=True)
    for key in objects:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_text(key)
    for key in possible([*objects, *folders]) - set(objects):
        (root / key).mkdir(parents=True, exist_ok=True)
    return root


@settings(max_examples=60)
@given(sets, sets, st.lists(st.tuples(sets, sets, st.sampled_from(["", "a", "a/b", "b"])), min_size=1, max_size=3))
def test_what_no_tree_can_hold_is_refused_and_nothing_else(
    there: frozenset[str], empty: frozenset[str], drawn: list[tuple[frozenset[str], frozenset[str], str]]
) -> None:
    with TemporaryDirectory() as directory:
        objects = possible(sorted(there))
        root = tree(Path(directory, "s3"), objects, sorted(empty))
        moves: list[tuple[Path, Path]] = []
        every = set(objects)
        for number, (made, hollow, prefix) in enumerate(drawn):
            new = possible(sorted(made))
            source = tree(Path(directory, f"taken-{number}"), new, sorted(hollow))
            moves.append((source, root / prefix))
            every |= {f"{prefix}/{key}".lstrip("/") for key in new}
        clashing = {other for key in every for other in every if below(key, other)}
        if clashing:
            with pytest.raises(ClashError) as caught:
                refuse_clashes(root, moves)
            assert any(repr(key) in str(caught.value) for key in clashing)
        else:
            refuse_clashes(root, moves)
