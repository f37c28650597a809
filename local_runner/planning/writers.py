"""Which steps write what lies at an S3 URI. No I/O."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate, islice, takewhile


class Writers:
    """The S3 URIs under which steps write: each with a slash at its end, by its number in their order."""

    def __init__(self) -> None:
        self._steps: list[str] = []
        self._places: list[tuple[str, int]] = []
        self._sorted = True

    def add(self, step: str, uris: Iterable[str]) -> None:
        """The step writes under these."""
        for uri in uris:
            self._places.append((f"{uri.rstrip('/')}/", len(self._steps)))
            self._steps.append(step)
            self._sorted = False

    def of(self, uri: str) -> list[str]:
        """The steps whose output reading ``uri`` (all keys that start so) may find, in their order."""
        if not self._sorted:
            self._places.sort()
            self._sorted = True
        found = self._from(uri, lambda under: under.startswith(uri))
        # And what is written above it: to one of the folders that the URI names.
        for folder in accumulate(uri.split("/"), lambda above, name: f"{above}/{name}"):
            above = f"{folder}/"
            if above != uri and uri.startswith(above):
                found += self._from(above, above.__eq__)
        return [self._steps[number] for number in sorted(found)]

    def _from(self, begin: str, belongs: Callable[[str], bool]) -> list[int]:
        """Which belong, from that place on until the first that does not."""
        after = islice(self._places, bisect_left(self._places, (begin, -1)), None)
        return [number for _, number in takewhile(lambda item: belongs(item[0]), after)]
