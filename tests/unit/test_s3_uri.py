"""S3 URIs, manifests and JSON that a job wrote: whatever they hold, nothing outside of local S3 is ever touched."""

from __future__ import annotations

import ast
import json
import os
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import local_runner
from local_runner.errors import DataError
from local_runner.jsontext import NESTING, parse_json
from local_runner.names import is_file_name, is_relative_path
from local_runner.storage.local_s3 import Source, Storage
from local_runner.storage.s3_uri import S3UriError, s3_problem, split_uri

HALF = "\ud800"  # of a surrogate pair
ANY_VALUE = st.none() | st.integers() | st.lists(st.text(), max_size=2) | st.just("s3://") | st.just("s3:///k")


# ------------------------------------------------------------------------------------------------- the parser
def test_no_other_module_takes_an_s3_uri_apart() -> None:
    """Found is the scheme as an argument of a method or of a pattern, and what parses any URL."""
    package = Path(local_runner.__file__).parent
    found: list[str] = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
                method = getattr(node.func, "attr", getattr(node.func, "id", ""))
                parses = method in ("startswith", "removeprefix", "partition", "split", "compile", "match", "fullmatch")
                if parses and any(isinstance(text, str) and "s3:" in text for text in texts):
                    found.append(f"{path.relative_to(package)}:{node.lineno}")
                if method in ("urlparse", "urlsplit") and "storage" in path.parts:
                    found.append(f"{path.relative_to(package)}:{node.lineno}")
    assert found == []


@given(st.text(alphabet="s3:/ab.%?#\\ \ud800\0", max_size=12) | st.text().map("s3://".__add__) | ANY_VALUE)
def test_any_value_is_an_s3_uri_or_has_one_problem(value: Any) -> None:
    problem = s3_problem(value)
    if problem is None:
        place = split_uri(value)
        assert value == f"s3://{place.bucket}" + (f"/{place.key}" if value.count("/") > 2 else "")
    else:
        assert problem.endswith(".")
        with pytest.raises(S3UriError):
            split_uri(value)


@pytest.mark.parametrize(
    ("uri", "bucket", "key"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        ("s3://b/a/b.csv", "b", "a/b.csv"),
        ("s3://My_old.bucket/dt=1/", "My_old.bucket", "dt=1/"),
        ("s3://b/a:b?c#d e/..x", "b", "a:b?c#d e/..x"),
        ("s3://b/" + "/".join(["k" * 255] * 4), "b", "/".join(["k" * 255] * 4)),
    ],
)
def test_a_uri_is_a_bucket_and_a_key(uri: str, bucket: str, key: str) -> None:
    assert split_uri(uri) == (bucket, key)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://", "no valid bucket name"),
        ("s3:///x", "no valid bucket name"),
        ("s3:////x", "no valid bucket name"),
        ("s3://../x", "no valid bucket name"),
        ("s3://./x", "no valid bucket name"),
        ("s3://.replaced/x", "no valid bucket name"),
        ("s3://a..b/x", "no valid bucket name"),
        ("s3://b\0/x", "no valid bucket name"),
        ("s3://b/../../../etc", "dotted part '..'"),
        ("s3://b/a/./b", "dotted part '.'"),
        ("s3://b/a/..", "dotted part '..'"),
        ("s3://b//etc/passwd", "dotted part ''"),
        ("s3://b/a//b", "dotted part ''"),
        ("s3://b/a//", "dotted part ''"),
        ("s3://b/a\0b", "no file system"),
        ("s3://b/" + "k" * 256, "no file system"),
        ("s3://b/" + "k/" * 600, "1200 bytes"),
        (f"s3://b/{HALF}", "surrogate"),
        ("S3://b/x", "no s3:// URI"),
        ("file:///etc/passwd", "no s3:// URI"),
        ("", "no s3:// URI"),
        (None, "null is no s3:// URI"),
        (7, "the number 7 is no s3:// URI"),
        (["s3://b/x"], "a list is no s3:// URI"),
    ],
)
def test_what_local_s3_cannot_hold_is_refused_with_what_to_write(uri: Any, says: str) -> None:
    assert says in str(s3_problem(uri))
    with pytest.raises(S3UriError, match=r"s3://BUCKET/KEY") as raised:
        split_uri(uri)
    assert says in str(raised.value)


SEGMENTS = st.sampled_from(
    ["..", ".", "", "a", "in", "secret", "out", "é", "\0", HALF, "x" * 256, "..a", "a..", "%2e%2e", "\n", "b", "m.json"]
)
URIS = st.one_of(
    st.text(),
    st.builds(
        lambda scheme, segments: scheme + "/".join(segments),
        st.sampled_from(["s3://", "s3://b/", "s3://b/in/", "s3:/", "s3:", "", "/", "file://", "S3://b/"]),
        st.lists(SEGMENTS, max_size=6),
    ),
)


@given(URIS)
def test_a_uri_that_is_taken_leads_to_below_its_bucket(uri: str) -> None:
    problem = s3_problem(uri)
    if problem is None:
        bucket, key = split_uri(uri)
        assert uri == f"s3://{bucket}/{key}" or uri == f"s3://{bucket}"
        assert is_file_name(bucket)
        assert not key or is_relative_path(key.removesuffix("/"))
    else:
        assert problem.endswith(".")
        problem.encode()  # it can be shown


# ---------------------------------------------------------------------------------------- nothing outside is touched
_touched: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _touched is not None and event in ("open", "os.scandir", "os.listdir", "os.mkdir", "os.rename", "os.link"):
        places = arguments[:2] if event in ("os.rename", "os.link") else arguments[:1]
        _touched.extend(os.fsdecode(place) for place in places if isinstance(place, str | bytes))


sys.addaudithook(_hook)


@contextmanager
def touching() -> Generator[list[str]]:
    """What Python opens, lists, makes, renames or links while the context lasts."""
    global _touched
    _touched = []
    try:
        yield _touched
    finally:
        _touched = None


class World:
    """A local S3 with a mapping, and beside them files that are nobody's business."""

    def __init__(self, root: Path) -> None:
        # Deeper than any URI here climbs.
        self.root = Path(os.path.realpath(root)) / "1/2/3/4/5/6/7"
        for file in ("secret/a", "a", "s3/b/in/a", "s3/b/in/secret", "s3/own/manifest", "mapped/out/a", "mapped/a"):
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            (self.root / file).write_text("content")
        self.storage = Storage(self.root / "s3", (Source("s3://b/mapped", self.root / "mapped"),))

    def manifest(self, content: bytes) -> str:
        (self.root / "s3/own/manifest").write_bytes(content)
        return "s3://own/manifest"

    def output(self) -> Path:
        directory = Path(tempfile.mkdtemp(dir=self.root / "s3"))
        (directory / "left").write_text("by a job")
        return directory

    def check(self, touched: list[str]) -> None:
        inside = (f"{self.root}/s3", f"{self.root}/mapped")
        places = [os.path.realpath(place) for place in touched if "\0" not in place]
        outside = [
            place for place in places if not (place in inside or place.startswith(tuple(f"{i}/" for i in inside)))
        ]
        assert not [place for place in outside if not place.endswith((".py", ".pyc", "__pycache__"))]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@settings(max_examples=300)
@given(URIS)
def test_no_uri_leads_out_of_local_s3(world: World, uri: str) -> None:
    storage = world.storage
    calls: list[Callable[[str], Any]] = [
        storage.path,
        storage.provides,
        storage.list_objects,
        storage.list_manifest,
        storage.read,
        lambda uri: storage.holds({"x": world.root / "a"}, uri),
        lambda uri: storage.publish(world.output(), uri),
    ]
    with suppress(DataError):
        # First, so that a fault here fails the test before anything is listed or moved where it leads.
        assert os.path.normpath(storage.path(uri)).startswith(f"{storage.root}/")
    with touching() as touched:
        for call in calls:
            try:
                call(uri)
            except DataError:
                continue
    world.check(touched)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), URIS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["prefix", "a"]), inner, max_size=2),
    max_leaves=8,
)
MANIFESTS = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.tuples(URIS, st.lists(URIS | st.integers(), max_size=3)).map(
        lambda parts: json.dumps([{"prefix": parts[0]}, *parts[1]]).encode()
    ),
    st.sampled_from([b"[" * 100_000, b"[" * 900 + b"]" * 900, b"1" * 5000, b"\xff\xfe[]", b'[{"prefix": 1e999}]']),
)


@settings(max_examples=300)
@given(MANIFESTS)
def test_no_manifest_leads_out_of_local_s3(world: World, content: bytes) -> None:
    uri = world.manifest(content)
    with touching() as touched:
        try:
            listing = world.storage.list_manifest(uri)
        except DataError as error:
            str(error).encode()
        else:
            assert all(is_relative_path(entry.name) for entry in listing.objects)
            touched += [str(entry.path) for entry in listing.objects]
    world.check(touched)


def test_a_suffix_that_climbs_out_of_its_prefix_is_no_name(world: World) -> None:
    """``a`` + ``../in/a`` is the key ``a../in/a``, which is one; below the LocalPath it would climb."""
    (world.root / "s3/b/a..").mkdir(exist_ok=True)
    (world.root / "s3/b/a../a").write_text("x")
    with pytest.raises(DataError, match="no name of a file"):
        world.storage.list_manifest(world.manifest(b'[{"prefix": "s3://b/a"}, "../a"]'))
    with pytest.raises(DataError, match="no name of a file"):
        world.storage.list_manifest(world.manifest(b'[{"prefix": "s3://b/in/a"}, ""]'))


def test_an_object_that_a_manifest_names_twice_is_there_once(world: World) -> None:
    listing = world.storage.list_manifest(world.manifest(b'[{"prefix": "s3://b/in/"}, "a", "a"]'))
    assert [entry.name for entry in listing.objects] == ["a"]


def test_a_name_that_is_no_text_cannot_be_a_key(tmp_path: Path) -> None:
    folder = tmp_path / "s3" / "b" / "in"
    folder.mkdir(parents=True)
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))).write_text("x")
    (folder / "a").write_text("x")
    assert [item.key for item in Storage(tmp_path / "s3").list_objects("s3://b/in/").objects] == ["in/a"]
    with pytest.raises(DataError, match="not UTF-8"):
        Storage(tmp_path / "none").with_sources({"s3://b/in": folder}).list_objects("s3://b/in/")


# ------------------------------------------------------------------------------------------------------- JSON
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * (NESTING + 1) + "1" + "]" * (NESTING + 1), "nested too deeply"),
        ('{"a":' * (NESTING + 1) + "1" + "}" * (NESTING + 1), "nested too deeply"),
        ("9" * 5000, "5000 digits"),
        ("-" + "9" * 2000, "digits"),
        ("1e999", "too large"),
        ("NaN", "NaN is no JSON number"),
        ('"\\ud800"', "surrogate"),
    ],
)
def test_json_that_cannot_be_worked_with_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(text)


def test_brackets_in_texts_are_no_nesting() -> None:
    assert parse_json(json.dumps("[" * 10_000)) == "[" * 10_000
    assert parse_json("[" * NESTING + "1" + "]" * NESTING)


# ------------------------------------------------------------------------------------------------ rules of the code
def sources() -> list[tuple[str, ast.AST]]:
    root = Path(local_runner.__file__).parent
    files = sorted(root.rglob("*.py"))
    return [(file.relative_to(root).as_posix(), ast.parse(file.read_bytes())) for file in files]


@pytest.mark.slow
def test_one_place_takes_s3_uris_apart() -> None:
    """Nothing else partitions, splits or strips what starts with s3://, so that nothing else can forget a rule."""
    apart = {"partition", "rpartition", "split", "removeprefix", "urlparse", "urlsplit"}
    found: list[str] = []
    for name, tree in sources():
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=attr) | ast.Name(id=attr), args=[ast.Constant(value=str(text)), *_]
                ):
                    if attr in apart and "s3:" in text:
                        found.append(f"{name}:{node.lineno}")
                case _:
                    pass
    assert found == []


@pytest.mark.slow
def test_one_place_reads_json_that_others_wrote() -> None:
    """``json.loads`` lets through what breaks this program later: these are the places that read what nobody else
    writes, or what AWS answers; anything else goes through parse_json or read_record.
    """
    found = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("loads", "load")
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "json"
    }
    told = {name for name in found if not name.startswith(("cloud/", "compile/", "engines/"))}
    assert told == {
        "docker_host/address.py",  # the docker command's own settings, of the user
        "execution/functions/call.py",  # the request of this program, in a process that imports nothing of it
        "jsontext.py",
        "notebook/session.py",  # what the SDK has just written
        "run/definition.py",  # the definition, which was parsed before
        "storage/records.py",
    }
