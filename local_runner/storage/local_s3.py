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
from pathlib import Path

from local_runner.errors import DataError
from local_runner.jsontext import as_list, as_object, kind, parse_json
from local_runner.names import is_relative_path
from local_runner.storage import job_tree, uniform
from local_runner.storage.clashes import refuse_clashes
from local_runner.storage.files import exchange, link_or_copy
from local_runner.storage.s3_uri import s3_problem, split_uri
from local_runner.storage.scan import of_project, scan

CODE_PREFIX = "code"
"""Key prefix in the local bucket under which the project's own files stand (what the SDK would upload)."""


_SURELY_A_KEY = job_tree.MOST_FOLDERS
"""Characters of a key below which neither its length nor its folders can be too many (keys of UTF-8 only)."""


@dataclass(frozen=True)
class S3Object:
    """An object: its key, the name it has below the input's LocalPath, and the file that holds its bytes."""

    key: str
    name: str
    path: Path


@dataclass(frozen=True)
class Listing:
    """The objects of an S3 URI in key order.

    ``layers`` are directories that, laid over each other (the first on top), show exactly these objects under their
    names; None where no whole directories do, so that somebody has to build one.
    """

    objects: tuple[S3Object, ...]
    layers: tuple[Path, ...] | None


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
                return not source.code or bool(self.list_objects(uri).objects)
        return bool(self.list_objects(uri).objects)

    def list_objects(self, uri: str) -> Listing:
        """Every object whose URI starts with ``uri``, as text (S3DataType S3Prefix), in S3's order: by key bytes.

        Raises DataError where ``uri`` is no S3 URI (S3UriError) or a file's name is no text that S3 has as a key.
        """
        bucket, prefix = split_uri(uri)
        found: dict[str, Path] = {}
        layers: list[Path] = []
        whole = True
        for base, path, hidden in self._sources_of(bucket, prefix):
            found_here = scan(base, path, prefix, hidden)
            if any(
                source.code and source.location == (bucket, base) and path == source.path for source in self.sources
            ):
                found_here = of_project(found_here, base)
            if found_here.files:
                whole = whole and found_here.whole is not None
                layers += [found_here.whole] if found_here.whole else []
            for key, file in found_here.files:
                found.setdefault(key, file)
        keys: list[str] = []
        try:
            keys = sorted(found, key=str.encode)
            odd = max(map(len, keys), default=0) >= _SURELY_A_KEY
        except UnicodeEncodeError:
            odd = True
        if odd:
            whole = self._without_odd_names(found, self.root / bucket) and whole
            keys = sorted(found, key=str.encode)
        objects = tuple(S3Object(key, object_name(prefix, key), found[key]) for key in keys)
        return Listing(objects, tuple(layers) if whole and not (len(layers) > 1 and _clashing(found)) else None)

    @staticmethod
    def _without_odd_names(found: dict[str, Path], tree: Path) -> bool:
        """Take away what lies in the tree and can be no object: it came there by another way. Whether nothing did.

        Raises DataError for mapped files, which somebody means to be objects.
        """
        none = True
        for key, file in list(found.items()):
            try:
                job_tree.check_key(key)
            except job_tree.NotAKeyError as error:
                if not file.is_relative_to(tree):
                    what = f"The file {os.fsencode(file)!r} cannot be an object: {error}. Rename or remove it."
                    raise DataError(f"ClientError: {what}") from None
                del found[key]
                none = False
        return none

    def list_manifest(self, uri: str) -> Listing:
        """The objects that a manifest names (S3DataType ManifestFile): ``[{"prefix": "s3://…/"}, "suffix", …]``.

        Names below the LocalPath are the suffixes. Raises DataError where the manifest or an object is missing, and
        where it is of another form: jobs write manifests, too.
        Source: SageMaker API reference, S3DataSource, S3DataType.
        """
        prefix, names = _manifest(self.read(uri), uri)
        objects: dict[str, S3Object] = {}
        for name in names:
            problem = s3_problem(prefix + name)
            if problem or not is_relative_path(name.lstrip("/")):
                what = problem or f"{kind(name)} is no name of a file below its prefix."
                raise DataError(f"ClientError: the manifest {uri} names what cannot be an object: {what}")
            key = split_uri(prefix + name).key
            match = [item for item in self.list_objects(prefix + name).objects if item.key == key]
            if not match:
                raise DataError(f"The manifest {uri} names {prefix}{name}, and there is no such object.")
            objects[name.lstrip("/")] = replace(match[0], name=name.lstrip("/"))
        return Listing(tuple(sorted(objects.values(), key=lambda item: item.key.encode())), None)

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
            return target.is_dir() and all(file.samefile(target / name) for name, file in files.items())
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


def _clashing(keys: Iterable[str]) -> bool:
    """Whether one of the keys is a folder of others."""
    found = set(keys)
    folders = {key.rpartition("/")[0] for key in found}
    return any(folder in found for each in folders for folder in _and_above(each))


def _and_above(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


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
            uniform.show(item.path, f"{directory}/{item.name}")
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
    if not listing.objects:
        raise DataError(
            f"ClientError: input '{name}' found no objects under {s3_uri} "
            "(the cloud says: No S3 objects found under S3 URL given in input data source)."
        )
    for entry in listing.objects:
        if entry.name.startswith("/") or ".." in entry.name.split("/"):
            raise DataError(f"ClientError: input '{name}' has an object named {entry.name!r}, which is no path.")
    return listing
