"""What a local run proves of a pipeline, and what a promotion asks for: definition, code and image, whatever the
environment. Reads the code's files and ``runs/<id>/fingerprint.json``; no AWS.

Two compiles of one pipeline for different environments have the same fingerprint: what an environment decides (bucket,
role, image, region, account) is replaced by placeholders before anything is hashed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_runner.compile.compiler import BuildValues
from local_runner.jsondiff import Members, json_differences, members
from local_runner.jsontext import as_list, as_object
from local_runner.secrets import DEFAULT_NAMES, SecretNames
from local_runner.storage.local_s3 import CODE_PREFIX, Storage
from local_runner.storage.records import Each, RecordError, read_record, write_record

FILE = "fingerprint.json"
_SHOWN = 8
_REGISTRY = re.compile(r"\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/")


@dataclass(frozen=True)
class Fingerprint:
    """``definition`` is normalised; ``code`` maps paths in the project to SHA-256; ``image`` is its content's tag.

    ``image`` is None where the definition does not use the project's own image.
    """

    definition: Mapping[str, Any]
    code: Mapping[str, str]
    image: str | None

    @property
    def value(self) -> str:
        """64 hexadecimal digits."""
        parts = {"definition": self.definition, "code": dict(self.code), "image": self.image}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprint_of(
    definition: Any, values: BuildValues, storage: Storage, image: str | None, secret: SecretNames = DEFAULT_NAMES
) -> Fingerprint:
    """The fingerprint of a definition (parsed JSON) that was compiled for ``values``; its code is what ``storage`` has.

    What has a ``secret`` name is left out: a run proves the pipeline for any value of it.
    """
    document = secret.without(definition)
    texts = list(texts_of(document))
    code: dict[str, str] = {}
    for uri in sorted({text for text in texts if storage.is_code(text)}):
        for entry in storage.list_objects(uri).objects:
            code[entry.key.removeprefix(f"{CODE_PREFIX}/")] = hashlib.sha256(entry.path.read_bytes()).hexdigest()
    used = image if any(values.image_uri in text for text in texts) else None
    return Fingerprint(normalised(document, values), code, used)


def normalised(value: Any, values: BuildValues) -> Any:
    """The definition with placeholders for what an environment decides. Longer values are looked for first."""
    replaced = {
        values.role_arn: "{role_arn}",
        values.image_uri: "{image_uri}",
        values.bucket: "{bucket}",
        values.account: "{account}",
        values.region: "{region}",
    }
    known = sorted(filter(None, replaced), key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(text)}(?![\w-])" for text in known))

    def text(value: str) -> str:
        return _REGISTRY.sub("{registry}/", pattern.sub(lambda match: replaced[match[0]], value))

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return text(value)
        if (table := as_object(value)) is not None:
            return {text(key): walk(item) for key, item in table.items()}
        if (items := as_list(value)) is not None:
            return [walk(item) for item in items]
        return value

    return walk(value)


def texts_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    for item in (as_object(value) or {}).values():
        yield from texts_of(item)
    for item in as_list(value) or ():
        yield from texts_of(item)


# ------------------------------------------------------------------------------------------------------- runs
@dataclass(frozen=True)
class Verified:
    """A local execution that succeeded, and what it proves."""

    execution_id: str
    ended: str
    fingerprint: Fingerprint


_KEPT = {
    "fingerprint": str,
    "ended": str,
    "definition": Each(object),
    "code": Each(str),
    "image": (str, type(None)),
}


def keep(directory: Path, fingerprint: Fingerprint, ended: str) -> None:
    """Keep what a run proves in its directory. Raises OSError."""
    kept = {
        "fingerprint": fingerprint.value,
        "ended": ended,
        "definition": fingerprint.definition,
        "code": dict(fingerprint.code),
        "image": fingerprint.image,
    }
    write_record(directory / FILE, kept)


def verified_runs(state: Path) -> list[Verified]:
    """What the state directory's successful runs prove, the latest first; files that are damaged prove nothing."""
    found: list[Verified] = []
    for path in (state / "runs").glob(f"*/{FILE}"):
        try:
            kept = read_record(path, _KEPT)
            fingerprint = Fingerprint(kept["definition"], kept["code"], kept["image"])
            if fingerprint.value == kept["fingerprint"]:
                found.append(Verified(path.parent.name, kept["ended"], fingerprint))
        except (OSError, RecordError):
            continue
    return sorted(found, key=lambda run: run.ended, reverse=True)


def differences(tested: Fingerprint, wanted: Fingerprint) -> list[str]:
    """In which respects ``wanted`` is not what was tested, as lines for people."""
    lines: list[str] = []
    for path in sorted({*tested.code, *wanted.code}):
        if path not in wanted.code:
            lines.append(f"{path} is not used any more")
        elif path not in tested.code:
            lines.append(f"{path} is new")
        elif tested.code[path] != wanted.code[path]:
            lines.append(f"{path} changed")
    if tested.image != wanted.image:
        lines.append(f"the image changed (content {tested.image or 'none'} -> {wanted.image or 'none'})")
    found = json_differences(tested.definition, wanted.definition, members=_members)
    places = sorted(each.path for each in found)
    lines += [f"the definition changed at {place}" for place in places[:_SHOWN]]
    if len(places) > _SHOWN:
        lines.append(f"and at {len(places) - _SHOWN} more places")
    return lines


def _members(one: Any, other: Any) -> Members:
    """A list that has become longer or shorter is one place: all behind the item that came or went would be others."""
    old, new = as_list(one), as_list(other)
    return None if old is not None and new is not None and len(old) != len(new) else members(one, other)
