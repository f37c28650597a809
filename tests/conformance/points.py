"""The points of the conformance suite, one directory each: a scenario (``support/scenario.py``) and a ``point.toml``.

``point.toml`` has the ``title``, the ``part`` of docs/CONFORMANCE.md, the AWS ``source`` (a page or an API shape),
``our_choice`` (whether AWS documents nothing), and for each engine what its run comes to:

- ``as documented``, or ``our choice`` where AWS documents nothing: ``expected.json`` holds;
- ``as here``: the same, for the stock SDK where AWS documents nothing;
- ``refused: TEXT``: nothing runs, and a problem that is told has that text;
- ``refused as documented: TEXT``: the same, where the service refuses it too;
- ``differs: SENTENCE``: ``expected.json`` does not hold, and ``expected.ENGINE.json`` does;
- ``by the engine: SENTENCE``: ``expected.json`` holds, and not by what the stock SDK does;
- ``-``: not run, as the point is about the pipeline and the SDK's engine is given jobs only.

Reads these files. Runs nothing.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent
ENGINES = ("docker", "sandbox", "sdk")
STOCK_PART = "Training, Transform and Model"
PARTS = (
    "Configuration files",
    "Command and environment",
    "How a job ends",
    "Inputs",
    "Outputs",
    "Several hosts, network, limits",
    "Parameters and values",
    "Conditions",
    "Order, failures and retries",
    STOCK_PART,
    "Lambda, Callback and EMR",
    "Refused by name",
)


@dataclass(frozen=True)
class Point:
    """One point of the contract, and what each engine makes of it."""

    directory: Path
    title: str
    part: str
    source: str
    our_choice: bool
    outcomes: dict[str, str]

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.directory.name

    def kind(self, engine: str) -> str:
        """The outcome on an engine without what follows the colon."""
        return self.outcomes[engine].partition(": ")[0]

    def detail(self, engine: str) -> str:
        """The text of a refusal, or the sentence of a difference."""
        return self.outcomes[engine].partition(": ")[2]


@cache
def points() -> tuple[Point, ...]:
    """All points, in the order of the table."""
    found = [_point(file.parent) for file in sorted(DIRECTORY.glob("*/point.toml"))]
    return tuple(sorted(found, key=lambda point: (PARTS.index(point.part), point.name)))


def _point(directory: Path) -> Point:
    document = tomllib.loads((directory / "point.toml").read_text(encoding="utf-8"))
    outcomes = {engine: document.pop(engine) for engine in ENGINES}
    point = Point(directory, outcomes=outcomes, **document)
    agrees = {"our choice", "as here"} if point.our_choice else {"as documented"}
    for engine in ENGINES:
        kind = point.kind(engine)
        assert kind in {*agrees, "refused", "refused as documented", "differs", "by the engine", "-"}, (
            f"{directory.name}: {engine} = {kind!r}"
        )
        assert bool(point.detail(engine)) == (kind not in {*agrees, "-"}), f"{directory.name}: {engine}"
        assert kind != "-" or engine == "sdk", f"{directory.name}: only sdk may be left out"
    return point
