"""Local S3: a directory tree, plus directories of this machine mapped in. Reads and writes files; nothing else.

``s3://<bucket>/<key>`` is ``<root>/<bucket>/<key>``. A mapping lends a directory (or one file) to a URI, read-only: as
with mount points, the most specific mapping provides a key, and what jobs wrote to the tree lies over every mapping.
Mapped files are never written to.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from local_runner.errors import DataError
from local_runner.jsontext import as_list, as_object, kind, parse_json
from local_runner.names import is_relative_path
from local_runner.storage import job_tree, uniform
from local_runner.storage.clashes import refuse_clashes
from local_runner.storage.files import exchange, link_or_copy
from local_runner.storage.s3_uri import s3_problem, split_uri
from local_runner.storage.scan import KeyFolder, Scan, of_project, scan

_FEW = 100  # names of a manifest that are looked up one by one; of more, all below its prefix are listed once

CODE_PREFIX = "code"
"""Key prefix in the local bucket under which the project's own files stand (what the SDK would upload)."""

_SURELY_A_KEY = job_tree.MOST_FOLDERS  # characters of a key below which neither its length nor its folders are too many


class S3Object(NamedTuple):  # a tuple: there may be a million
    """An object: its key, the name it has below the input's LocalPath, and the file that holds its bytes."""

    key: str
    name: str
    file: str | Path

    @property
    def path(self) -> Path:
        """The file that holds its bytes."""
        return Path(self.file)


@dataclass(frozen=True)
class Listing:
    """The objects of an S3 URI. ``folders`` are those of one directory each, with the path their names have below.

    ``layers`` are directories that, laid over each other (the first on top), show exactly these objects under their
    names; None where no whole directories do, so that somebody has to build one.
    """

    folders: tuple[tuple[str, KeyFolder], ...]
    layers: tuple[Path, ...] | None

    def __bool__(self) -> bool:
        return bool(self.folders)

    @cached_property
    def objects(self) -> tuple[S3Object, ...]:
        """Each object, in S3's order: by the bytes of the keys, which is that of their texts."""
        found = [
            S3Object(folder.key + name, path + name, f"{folder.directory}/{file}")
            for path, folder in self.folders
            for name, file in zip(folder.names, folder.files, strict=True)
        ]
        return tuple(sorted(found))


@dataclass(frozen=True)
class Source:
    """A mapping: ``uri`` stands for ``path``. A ``code`` source answers only for URIs below its own."""

    uri: str
    path: Path
    code: bool = False

    @property
    def location(self) -> tuple[str, str]:
        """Bucket and key, the key without a slash at its end."""
        bucket, key = split_uri(self.uri)
        return bucket, key.rstrip("/")


def object_name(prefix: str, key: str) -> str:
    """The path an object gets below the LocalPath when ``prefix`` was asked for.

    ``raw`` or ``raw/`` and ``raw/a.csv`` give ``a.csv``; an object asked for by its own key keeps its base name. AWS
    does not document what a prefix that ends inside a name gives (``raw/tr`` and ``raw/train.csv``): here the
    name stays whole (``train.csv``).
    """
    folder = prefix.rstrip("/")
    if folder and key.startswith(folder + "/") and key != folder + "/":
        return key[len(folder) + 1 :]
    return key[prefix.rfind("/") + 1 :]


@dataclass(frozen=True)
class Storage:
    """The local S3 of one state directory. ``root`` is its tree; ``sources`` are the mappings, in no order."""

    root: Path
    sources: tuple[Source, ...] = ()
    _lock_name: str = field(default=".lock", repr=False)

    def with_sources(self, sources: Mapping[str, Path]) -> Storage:
        """The same local S3 with these mappings, too: a file or directory for each URI."""
        return replace(self, sources=(*self.sources, *(Source(uri, path) for uri, path in sources.items())))

    # ------------------------------------------------------------------------------------------------ reading
    def path(self, uri: str) -> Path:
        """Where the tree keeps what is written to ``uri``. Raises S3UriError where it can keep nothing under it."""
        bucket, key = split_uri(uri)
        return self.root / bucket / key.strip("/")

    def provides(self, uri: str) -> bool:
        """Whether a mapping covers ``uri`` (or part of it), or the tree holds an object there.

        A covered URI without objects counts: that is a missing day, which the job meets as it would in the cloud.
        Raises DataError as list_objects does.
        """
        bucket, prefix = split_uri(uri)
        folder = prefix.rstrip("/")
        for source in self.sources:
            source_bucket, key = source.location
            below = folder == key or folder.startswith(key + "/") or (not key and not source.path.is_file())
            above = key.startswith(prefix) and not source.code
            if bucket == source_bucket and (below or above):
                return not source.code or bool(self.list_objects(uri))
        return bool(self.list_objects(uri))

    def list_objects(self, uri: str) -> Listing:
        """Every object whose URI starts with ``uri``, as text (S3DataType S3Prefix), in S3's order: by key bytes.

        Raises DataError where ``uri`` is no S3 URI (S3UriError) or a file's name is no text that S3 has as a key.
        """
        bucket, prefix = split_uri(uri)
        scans: list[Scan] = []
        for base, path, hidden in self._sources_of(bucket, prefix):
            found = scan(base, path, prefix, hidden)
            if any(
                source.code and source.location == (bucket, base) and path == source.path for source in self.sources
            ):
                found = of_project(found, base)
            if found.folders:
                scans.append(_without_odd_names(found, self.root / bucket))
        folders = scans[0].folders if len(scans) == 1 else _overlaid(scans)
        layers = [each.whole for each in scans if each.whole is not None]
        named = tuple((object_name(prefix, folder.key + "x")[:-1], folder) for folder in folders)
        shown = len(layers) == len(scans) and not (len(layers) > 1 and _clashing(folders))
        return Listing(named, tuple(layers) if shown else None)

    def list_manifest(self, uri: str) -> Listing:
        """The objects that a manifest names (S3DataType ManifestFile): ``[{"prefix": "s3://…/"}, "suffix", …]``.

        Names below the LocalPath are the suffixes. Raises DataError where the manifest or an object is missing, and
        where it is of another form: jobs write manifests, too.
        Source: SageMaker API reference, S3DataSource, S3DataType.
        """
        prefix, names = _manifest(self.read(uri), uri)
        keys: dict[str, str] = {}
        for name in names:
            problem = s3_problem(prefix + name)
            if problem or not is_relative_path(name.lstrip("/")):
                what = problem or f"{kind(name)} is no name of a file below its prefix."
                raise DataError(f"ClientError: the manifest {uri} names what cannot be an object: {what}")
            keys[name.lstrip("/")] = split_uri(prefix + name).key
        wanted = frozenset(keys.values())
        uris = [prefix + name for name in names] if len(names) <= _FEW else [prefix]
        there = {item.key: item for each in uris for item in self.list_objects(each).objects if item.key in wanted}
        for name, key in keys.items():
            if key not in there:
                raise DataError(f"The manifest {uri} names {prefix}{name}, and there is no such object.")
        return _listing(there[key]._replace(name=name) for name, key in keys.items())

    def read(self, uri: str) -> bytes:
        """The bytes of one object. Raises DataError where there is none."""
        key = split_uri(uri).key
        for item in self.list_objects(uri).objects:
            if item.key == key:
                return item.path.read_bytes()
        raise DataError(f"There is no object {uri}.")

    def is_code(self, uri: str) -> bool:
        """Whether ``uri`` names files of the project itself."""
        return s3_problem(uri) is None and any(
            source.code and (uri + "/").startswith(source.uri.rstrip("/") + "/") for source in self.sources
        )

    def _sources_of(self, bucket: str, prefix: str) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
        """(base key, file or directory, keys hidden by more specific mappings), the tree first."""
        tree = self.root / bucket
        if tree.is_dir():
            yield "", tree, ()
        bases = [source.location[1] for source in self.sources if source.location[0] == bucket]
        for source in sorted(self.sources, key=lambda source: -len(source.location[1])):
            source_bucket, base = source.location
            if source_bucket != bucket or (source.code and not (prefix + "/").startswith(base + "/")):
                continue
            within = base + "/" if base else ""
            yield base, source.path, tuple(key for key in bases if key != base and key.startswith(within))

    # ------------------------------------------------------------------------------------------------ writing
    def publish(self, directory: Path, uri: str) -> Path:
        """Move what is in ``directory`` to ``uri``, all at once; objects already there under other keys stay.

        ``directory`` is gone afterwards. Whoever lists the URI sees the state before or the state after, also when
        this process is killed in between. Returns the local directory of the URI. Raises ClashError where a key is
        both an object and a folder of others, which S3 can hold and a file system cannot.
        """
        return self.publish_all([(directory, uri)])[0]

    def publish_all(self, directories: Sequence[tuple[Path, str]]) -> list[Path]:
        """Publish several directories, each as ``publish`` does. Where one cannot be (ClashError), none is."""
        moves = [(directory, self.path(uri)) for directory, uri in directories]
        if not moves:
            return []
        with self._locked():
            refuse_clashes(self.root, moves)
            for directory, target in moves:
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.is_dir():
                    directory.rename(target)
                elif next(directory.iterdir(), None) is not None:
                    self._merge(directory, target)
                else:
                    directory.rmdir()
        return [target for _, target in moves]

    def holds(self, files: Mapping[str, Path], uri: str) -> bool:
        """Whether the tree has each of these files (not their copies) at its path below ``uri`` already."""
        target = self.path(uri)
        try:
            return target.is_dir() and all(
                os.path.samefile(file, f"{target}/{name}")  # noqa: PTH121 (texts)
                for name, file in files.items()
            )
        except OSError:
            return False

    def discard_replaced(self) -> None:
        """Delete directories that ``publish`` replaced. Only safe while no job has one of them as its input."""
        shutil.rmtree(self.root / ".replaced", ignore_errors=True)

    def _merge(self, directory: Path, target: Path) -> None:
        """Build the merged directory out of hard links, then exchange it with the old one in one step."""
        replaced = self.root / ".replaced"
        replaced.mkdir(exist_ok=True)
        merged = replaced / uuid.uuid4().hex
        shutil.copytree(target, merged, copy_function=link_or_copy, symlinks=True)
        for file in _files_below(directory):
            place = merged / file.relative_to(directory)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir():
                shutil.rmtree(place)  # there are no objects in it
            file.replace(place)
        exchange(merged, target)
        shutil.rmtree(directory)

    @contextmanager
    def _locked(self) -> Generator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / self._lock_name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _without_odd_names(found: Scan, tree: Path) -> Scan:
    """Without what lies in the tree and can be no object: it came there by another way.

    Raises DataError for mapped files, which somebody means to be objects.
    """
    odd = [folder for folder in found.folders if not _surely_keys(folder)]
    if not odd:
        return found
    kept = [folder for folder in found.folders if folder not in odd]
    whole = found.whole
    for folder in odd:
        pairs: list[tuple[str, str]] = []
        for name, file in zip(folder.names, folder.files, strict=True):
            try:
                job_tree.check_key(folder.key + name)
            except job_tree.NotAKeyError as error:
                place = Path(folder.directory, file)
                if not place.is_relative_to(tree):
                    what = f"The file {os.fsencode(place)!r} cannot be an object: {error}. Rename or remove it."
                    raise DataError(f"ClientError: {what}") from None
                whole = None
            else:
                pairs.append((name, file))
        if pairs:
            names, files = zip(*pairs, strict=True)
            kept.append(KeyFolder(folder.key, folder.directory, names, files))
    return Scan(kept, whole)


def _surely_keys(folder: KeyFolder) -> bool:
    """Whether all names can be keys, without a look at each of them."""
    try:
        f"{folder.key}{''.join(folder.names)}".encode()
    except UnicodeEncodeError:
        return False
    return len(folder.key) + max(map(len, folder.names)) < _SURELY_A_KEY


def _overlaid(scans: Sequence[Scan]) -> list[KeyFolder]:
    """The folders of several sources, of which the first that has a key provides it."""
    seen: set[str] = set()
    folders: list[KeyFolder] = []
    for found in scans:
        for folder in found.folders:
            pairs = zip(folder.names, folder.files, strict=True)
            kept = [(name, file) for name, file in pairs if folder.key + name not in seen]
            if kept:
                names, files = zip(*kept, strict=True)
                folders.append(KeyFolder(folder.key, folder.directory, names, files))
        for folder in found.folders:
            seen.update([folder.key + name for name in folder.names])
    return folders


def _clashing(folders: Sequence[KeyFolder]) -> bool:
    """Whether one of the keys is a folder of others."""
    above = {key for folder in folders for key in _and_above(folder.key.rstrip("/"))}
    return any(folder.key + name in above for folder in folders for name in folder.names)


def _and_above(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _listing(objects: Iterable[S3Object]) -> Listing:
    """The listing of single objects, each of whose keys ends in its name."""
    folders: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for key, name, file in objects:
        last = name[name.rfind("/") + 1 :]
        directory, _, kept = str(file).rpartition("/")
        path = name[: len(name) - len(last)], key[: len(key) - len(last)], directory
        folders.setdefault(path, []).append((last, kept))
    found: list[tuple[str, KeyFolder]] = []
    for (path, key, directory), pairs in folders.items():
        names, files = zip(*sorted(pairs), strict=True)
        found.append((path, KeyFolder(key, directory, names, files)))
    return Listing(tuple(found), None)


def link_view(objects: Iterable[S3Object], directory: Path) -> Path:
    """A directory that shows these objects under their names, as S3 gives them: links, copies where need be.

    Raises DataError where one is a folder of others, which no job could be given in the cloud, either; OSError.
    """
    uniform.make_folder(str(directory))
    made = {""}
    for item in objects:
        folder = item.name.rpartition("/")[0]
        try:
            if folder not in made:
                uniform.make_folder(f"{directory}/{folder}")
                made.add(folder)
            uniform.show(item.file, f"{directory}/{item.name}")
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            what = "is an object and a folder at once, which a directory cannot show"
            raise DataError(f"ClientError: {item.name} {what}.") from None
    return directory


def _manifest(content: bytes, uri: str) -> tuple[str, list[str]]:
    """Prefix and suffixes of a manifest. Raises DataError."""
    try:
        manifest = as_list(parse_json(content.decode()))
    except UnicodeDecodeError:
        raise DataError(f"ClientError: the manifest {uri} is not UTF-8 text.") from None
    except ValueError as error:
        raise DataError(f"ClientError: the manifest {uri} {error}") from None
    head = as_object(manifest[0]) if manifest else None
    prefix = (head or {}).get("prefix")
    names = [name for name in (manifest or [])[1:] if isinstance(name, str)]
    if not isinstance(prefix, str) or len(names) != len(manifest or ()) - 1:
        form = '[{"prefix": "s3://…/"}, "suffix", …]'
        raise DataError(f"ClientError: the manifest {uri} is not of the form {form}.")
    return prefix, names


def _files_below(directory: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(directory):
        for name in names:
            yield Path(folder) / name


def list_input(name: str, s3_uri: str, s3_data_type: str, storage: Storage) -> Listing:
    """The objects of an input, in S3's order. Raises DataError where there are none, as the cloud's job would fail."""
    listing = storage.list_manifest(s3_uri) if s3_data_type == "ManifestFile" else storage.list_objects(s3_uri)
    if not listing.folders:
        raise DataError(
            f"ClientError: input '{name}' found no objects under {s3_uri} "
            "(the cloud says: No S3 objects found under S3 URL given in input data source)."
        )
    for path, folder in listing.folders:
        found = path + ".." if ".." in folder.names else path
        if found.startswith("/") or ".." in found.split("/"):
            raise DataError(f"ClientError: input '{name}' has an object named {found!r}, which is no path.")
    return listing
