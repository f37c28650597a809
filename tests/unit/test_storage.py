"""Local S3: listings are textual as S3's are, publishing is all at once, mapped files never change."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runner.storage.local_s3 import DataError, Source, Storage, link_view, object_name


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def listed(storage: Storage, uri: str) -> dict[str, str]:
    return {item.name: item.path.read_text() for item in storage.list_objects(uri).objects}


def shown(layers: tuple[Path, ...]) -> set[str]:
    """What a union mount of the layers would show."""
    return {str(file.relative_to(layer)) for layer in layers for file in layer.rglob("*") if file.is_file()}


def test_a_mapped_directory_is_one_layer_and_no_copy(tmp_path: Path) -> None:
    data = write(tmp_path / "data", "dt=1/a.csv", "dt=2/b.csv")
    storage = Storage(tmp_path / "s3", (Source("s3://b/flights", data),))
    for uri in ("s3://b/flights", "s3://b/flights/"):
        listing = storage.list_objects(uri)
        assert [item.name for item in listing.objects] == ["dt=1/a.csv", "dt=2/b.csv"]
        assert listing.layers == (data,)
    assert storage.list_objects("s3://b/flights/dt=1/").layers == (data / "dt=1",)
    assert storage.list_objects("s3://b/flights/dt=1").layers == (data / "dt=1",)


@pytest.mark.parametrize("folder", ["in", "a" * 200])
def test_a_mapped_file_may_have_another_name_than_its_key(tmp_path: Path, folder: str) -> None:
    file = write(tmp_path, "here.csv") / "here.csv"
    storage = Storage(tmp_path / "s3", (Source(f"s3://b/{folder}/there.csv", file),))
    assert listed(storage, f"s3://b/{folder}/") == {"there.csv": "here.csv"}


@pytest.mark.parametrize("count", [3, 300])
def test_a_manifest_is_the_same_however_many_names_it_has(tmp_path: Path, count: int) -> None:
    names = [f"day={number % 7}/x{number}.csv" for number in range(count)]
    data = write(tmp_path / "data", *names, "day=1/not_named.csv")
    (tmp_path / "manifest").write_text(json.dumps([{"prefix": "s3://b/in/"}, *names]))
    sources = (Source("s3://b/in", data), Source("s3://b/m.json", tmp_path / "manifest"))
    found = Storage(tmp_path / "s3", sources).list_manifest("s3://b/m.json").objects
    assert {item.name: item.path.read_text() for item in found} == {name: name for name in names}
    assert [item.key for item in found] == sorted(f"in/{name}" for name in names)


def test_a_prefix_is_text_not_a_folder(tmp_path: Path) -> None:
    data = write(tmp_path / "data", "raw/a.csv", "raw2/b.csv", "raw.csv", "other/c.csv")
    storage = Storage(tmp_path / "s3", (Source("s3://b", data),))
    listing = storage.list_objects("s3://b/raw")
    assert [item.key for item in listing.objects] == ["raw.csv", "raw/a.csv", "raw2/b.csv"]
    assert listing.layers is None, "no directory shows exactly these"
    assert listed(storage, "s3://b/raw/") == {"a.csv": "raw/a.csv"}
    assert listed(storage, "s3://b/raw.csv") == {"raw.csv": "raw.csv"}
    assert listed(storage, "s3://b/nothing") == {}


def test_what_jobs_wrote_lies_over_the_mapping(tmp_path: Path) -> None:
    data = write(tmp_path / "data", "a.csv", "b.csv")
    storage = Storage(tmp_path / "s3", (Source("s3://b/in", data),))
    out = write(tmp_path / "out", "b.csv", "c.csv")
    (out / "b.csv").write_text("new")
    storage.publish(out, "s3://b/in")
    assert listed(storage, "s3://b/in") == {"a.csv": "a.csv", "b.csv": "new", "c.csv": "c.csv"}
    assert (data / "b.csv").read_text() == "b.csv"
    layers = storage.list_objects("s3://b/in").layers
    assert layers == (tmp_path / "s3/b/in", data)


def test_the_most_specific_mapping_provides_a_key(tmp_path: Path) -> None:
    wide, narrow = write(tmp_path / "wide", "x/a", "y/a"), write(tmp_path / "narrow", "b")
    storage = Storage(tmp_path / "s3", (Source("s3://b/k", wide), Source("s3://b/k/x/", narrow)))
    assert set(listed(storage, "s3://b/k")) == {"x/b", "y/a"}
    assert set(listed(storage, "s3://b/k/x")) == {"b"}


def test_a_mapping_can_be_one_file(tmp_path: Path) -> None:
    file = write(tmp_path, "one.csv") / "one.csv"
    storage = Storage(tmp_path / "s3", (Source("s3://b/k/data.csv", file),))
    assert listed(storage, "s3://b/k/data.csv") == {"data.csv": "one.csv"}
    assert listed(storage, "s3://b/k") == {"data.csv": "one.csv"}


def test_links_are_followed_and_never_mounted(tmp_path: Path) -> None:
    data = write(tmp_path / "data", "a.csv")
    write(tmp_path / "elsewhere", "b.csv")
    (data / "link.csv").symlink_to(tmp_path / "elsewhere/b.csv")
    (data / "loop").symlink_to(data)
    storage = Storage(tmp_path / "s3", (Source("s3://b/in", data),))
    listing = storage.list_objects("s3://b/in")
    assert {"a.csv", "link.csv"} <= {item.name for item in listing.objects}
    assert listing.layers is None
    view = link_view(listing.objects, tmp_path / "view")
    assert (view / "link.csv").read_text() == "b.csv"
    assert not (view / "link.csv").is_symlink()


def test_code_is_found_only_below_its_own_prefix(tmp_path: Path) -> None:
    project = write(tmp_path / "project", "processing/t.py", "secret")
    storage = Storage(tmp_path / "s3", (Source("s3://b/code", project, code=True),))
    assert listed(storage, "s3://b/code/processing/t.py") == {"t.py": "processing/t.py"}
    assert listed(storage, "s3://b/") == {}
    assert storage.is_code("s3://b/code/processing/t.py")
    assert not storage.is_code("s3://b/codex/t.py")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://b/in", True),
        ("s3://b/in/dt=9/", True),  # covered: a missing day is the job's to meet
        ("s3://b/", True),
        ("s3://b/other", False),
        ("s3://c/in", False),
        ("s3://b/code/nope.py", False),
        ("s3://b/code/t.py", True),
    ],
)
def test_provides(tmp_path: Path, uri: str, expected: bool) -> None:
    data, project = write(tmp_path / "data", "dt=1/a"), write(tmp_path / "project", "t.py")
    sources = (Source("s3://b/in", data), Source("s3://b/code", project, code=True))
    assert Storage(tmp_path / "s3", sources).provides(uri) is expected


@pytest.mark.parametrize(
    ("prefix", "key", "name"),
    [
        ("raw", "raw/a.csv", "a.csv"),
        ("raw/", "raw/x/a.csv", "x/a.csv"),
        ("raw/a.csv", "raw/a.csv", "a.csv"),
        ("raw/tr", "raw/train.csv", "train.csv"),
        ("", "raw/a.csv", "raw/a.csv"),
        ("raw/dt=2013-01-0", "raw/dt=2013-01-01/a.csv", "dt=2013-01-01/a.csv"),
    ],
)
def test_names_below_the_local_path(prefix: str, key: str, name: str) -> None:
    assert object_name(prefix, key) == name


def test_publish_keeps_other_keys_and_open_readers(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "s3")
    target = storage.publish(write(tmp_path / "one", "a", "dt=1/x"), "s3://b/out")
    reader = os.open(target, os.O_RDONLY)
    storage.publish(write(tmp_path / "two", "dt=1/x", "dt=2/y"), "s3://b/out/")
    assert set(listed(storage, "s3://b/out")) == {"a", "dt=1/x", "dt=2/y"}
    # Who had the directory open, as a mount has, keeps the state it had.
    assert {entry.name for entry in os.scandir(reader)} == {"a", "dt=1"}
    os.close(reader)
    storage.discard_replaced()
    assert set(listed(storage, "s3://b/out")) == {"a", "dt=1/x", "dt=2/y"}
    assert not (tmp_path / "two").exists()


def test_publish_refuses_what_a_tree_cannot_hold(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "s3")
    storage.publish(write(tmp_path / "one", "a"), "s3://b/out")
    with pytest.raises(DataError, match="object and a folder"):
        storage.publish(write(tmp_path / "two", "x"), "s3://b/out/a/below")


def test_manifest(tmp_path: Path) -> None:
    data = write(tmp_path / "data", "x/a.csv", "x/b.csv", "x/c.csv")
    manifest = json.dumps([{"prefix": "s3://b/in/x/"}, "a.csv", "c.csv"])
    (data / "m.json").write_text(manifest)
    storage = Storage(tmp_path / "s3", (Source("s3://b/in", data),))
    names = [item.name for item in storage.list_manifest("s3://b/in/m.json").objects]
    assert names == ["a.csv", "c.csv"]
    (data / "m.json").write_text(json.dumps([{"prefix": "s3://b/in/x/"}, "nope.csv"]))
    with pytest.raises(DataError, match=r"nope\.csv"):
        storage.list_manifest("s3://b/in/m.json")
    (data / "m.json").write_text("{}")
    with pytest.raises(DataError, match="not of the form"):
        storage.list_manifest("s3://b/in/m.json")


names = st.lists(st.sampled_from("ab=."), min_size=1, max_size=2).map("".join).filter(lambda n: n not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


@settings(max_examples=150, deadline=None)
@given(files=st.sets(paths, max_size=6), tree=st.sets(paths, max_size=3), prefix=paths, slash=st.booleans())
def test_listing_is_startswith_on_sorted_keys(
    tmp_path_factory: pytest.TempPathFactory, files: set[str], tree: set[str], prefix: str, slash: bool
) -> None:
    """Against the definition: every key that starts with the text, sorted; layers show just the same names."""
    root = tmp_path_factory.mktemp("s3")
    clash = {a for a in files | tree for b in files | tree if b.startswith(a + "/")}
    files, tree = files - clash, tree - clash
    data = write(root / "data", *files)
    data.mkdir(exist_ok=True)
    write(root / "s3" / "b" / "m", *tree)
    storage = Storage(root / "s3", (Source("s3://b/m", data),))
    text = f"m/{prefix}" + ("/" if slash else "")
    listing = storage.list_objects(f"s3://b/{text}")
    keys = sorted({f"m/{name}" for name in files | tree if f"m/{name}".startswith(text)}, key=str.encode)
    assert [item.key for item in listing.objects] == keys
    if listing.layers is not None:
        assert shown(listing.layers) == {item.name for item in listing.objects}
