"""Why a step would run again, or not: two signatures compared, as lines for people. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from local_runner.jsondiff import ABSENT, json_differences
from local_runner.jsontext import as_list, as_object
from local_runner.step_cache.digests import FolderContent
from local_runner.step_cache.key import Files, InputContent, Signature


@dataclass(frozen=True)
class Difference:
    """One thing of a key that changed. ``what`` is its place: ``image``, ``request.Environment.LEVEL``,
    ``inputs.data/a.csv``; ``change`` is ``added``, ``removed`` or ``changed``.
    """

    what: str
    change: str
    before: Any = None
    now: Any = None

    def __str__(self) -> str:
        if self.before is None and self.now is None:
            return f"{self.what}: {self.change}"
        return f"{self.what}: {self.change} ({_shown(self.before)} -> {_shown(self.now)})"


def differences(before: Signature, now: Signature) -> list[Difference]:
    """What of the key is not what it was; empty only where the keys are equal."""
    found = [
        Difference(name, "changed", was, vars(now.machine)[name])
        for name, was in vars(before.machine).items()
        if was != vars(now.machine)[name]
    ]
    found += _of_json(before.request, now.request, "request")
    for name in sorted({*before.inputs, *now.inputs}):
        found += _of_input(before.inputs.get(name), now.inputs.get(name), f"inputs.{name}")
    return found


def _of_input(before: InputContent | None, now: InputContent | None, where: str) -> Iterator[Difference]:
    if before is None or now is None:
        yield Difference(where, "added" if before is None else "removed")
    elif before.digest == now.digest:
        return
    elif before.files is None or now.files is None:
        yield from _of_folders(dict(before.folders), dict(now.folders), where)
    else:
        yield from _of_files(before.files, now.files, where)


def _of_folders(
    before: Mapping[str, FolderContent], now: Mapping[str, FolderContent], where: str
) -> Iterator[Difference]:
    for path in sorted({*before, *now}):
        was, is_now = before.get(path), now.get(path)
        if was is None or is_now is None:
            yield Difference(f"{where}/{path}", "added" if was is None else "removed")
        elif was.digest != is_now.digest:
            counts = (
                (f"{was.objects} files", f"{is_now.objects} files") if was.objects != is_now.objects else (None, None)
            )
            yield Difference(f"{where}/{path}", "changed", *counts)


def _of_files(before: Files, now: Files, where: str) -> Iterator[Difference]:
    for name in sorted({*before, *now}):
        was, is_now = before.get(name), now.get(name)
        if was is None or is_now is None:
            yield Difference(f"{where}/{name}", "added" if was is None else "removed")
        elif was.sha256 != is_now.sha256:
            sizes = (f"{was.size} bytes", f"{is_now.size} bytes") if was.size != is_now.size else (None, None)
            yield Difference(f"{where}/{name}", "changed", *sizes)


def _of_json(before: Any, now: Any, where: str) -> Iterator[Difference]:
    for found in json_differences(before, now, where, same=_same):
        if found.before is ABSENT:
            yield Difference(found.path, "added", None, found.after)
        elif found.after is ABSENT:
            yield Difference(found.path, "removed", found.before, None)
        else:
            yield Difference(found.path, "changed", found.before, found.after)


def _same(before: Any, now: Any) -> bool:
    """Whether two values give the same key: 1, 1.0 and true are equal in Python, and other texts in JSON."""
    return before == now and type(before) is type(now)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# -------------------------------------------------------------------------------------- SageMaker's own step cache
CLOUD_KEY = ("AppSpecification", "Environment", "ProcessingInputs")
"""What SageMaker compares of a Processing step (developer guide, Default cache key attributes by pipeline step type).
"""


_UNLESS = {"ProcessingInputs": ", so it is another one unless the step that writes it hits as well"}


@dataclass(frozen=True)
class CloudCache:
    """Whether SageMaker would take the step from its own cache in an execution like this one, and why."""

    hits: bool
    reasons: tuple[str, ...]


def cloud_cache(
    config: Mapping[str, Any] | None, before: Signature | None, now: Signature | None, code: frozenset[str]
) -> CloudCache:
    """What SageMaker's cache would do after a promotion, if the last execution had been there.

    ``config`` is the step's CacheConfig; ``code`` are the inputs that hold the project's own files, which go to
    another URI when they change.
    """
    if not config or config.get("Enabled") is not True:
        return CloudCache(False, ("CacheConfig is not enabled for this step.",))
    if before is None or now is None:
        return CloudCache(False, ("There is no earlier execution of this step to compare with.",))
    reasons: list[str] = []
    for attribute in CLOUD_KEY:
        changed = list(_of_json(before.request.get(attribute), now.request.get(attribute), attribute))
        reasons += [f"{each}." for each in changed]
        places = _bound(now.request.get(attribute), attribute)
        reasons += [f"{place} belongs to one execution{_UNLESS.get(attribute, '')}." for place in places]
    for name in sorted(code):
        if list(_of_input(before.inputs.get(name), now.inputs.get(name), name)):
            reasons.append(f"The code of input '{name}' changed, and so does its S3Uri.")
    if reasons:
        return CloudCache(False, tuple(reasons))
    reasons = [f"{', '.join(CLOUD_KEY)} are what they were."]
    data = [
        name
        for name in now.inputs
        if name not in code and list(_of_input(before.inputs.get(name), now.inputs[name], name))
    ]
    if data:
        reasons.append(f"SageMaker compares URIs and not contents: it would not see that {', '.join(data)} changed.")
    if config.get("ExpireAfter"):
        reasons.append(f"It expires after {config['ExpireAfter']}.")
    return CloudCache(True, tuple(reasons))


def _bound(value: Any, where: str) -> Iterator[str]:
    """Where a value holds the placeholder of something that belongs to one execution."""
    if isinstance(value, str):
        if any(f"<{name}>" in value for name in ("PipelineExecutionId", "StartDateTime", "CurrentDateTime", "JobName")):
            yield where
        return
    for key, item in (as_object(value) or {}).items():
        yield from _bound(item, f"{where}.{key}")
    for index, item in enumerate(as_list(value) or ()):
        yield from _bound(item, f"{where}[{index}]")
