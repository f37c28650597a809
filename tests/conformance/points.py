"""The points of the conformance suite: ``PART/NAME/`` with a scenario (``support/scenario.py``) and a ``point.toml``.

What a step runs is a file of its own, ``data/given/code/run.sh`` or ``run.py``, an input of the step; one command may
stand in ``definition.json``. ``point.toml`` has the ``title``, the AWS ``source`` (a page or an API shape),
``our_choice`` (whether AWS documents nothing), ``generated`` where the pipeline reads more than 4 KB (by path below
``data/``, a ``text`` and how many ``times`` it is repeated), and for each engine what its run comes to:

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

import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

DIRECTORY = Path(__file__).resolve().parent
ENGINES = ("docker", "sandbox", "sdk")
STOCK_PART = "stock"
PARTS = {
    "config": "Configuration files",
    "command": "Command and environment",
    "end": "How a job ends",
    "input": "Inputs",
    "output": "Outputs",
    "hosts": "Several hosts, network, limits",
    "value": "Parameters and values",
    "condition": "Conditions",
    "order": "Order, failures and retries",
    "stock": "Training, Transform and Model",
    "function": "Lambda, Callback and EMR",
    "refused": "Refused by name",
}
"""The directories of the points, and the heading of each in docs/CONFORMANCE.md."""


class Generated(TypedDict):
    """What a file of a point's data holds: ``text``, as many ``times``."""

    text: str
    times: int


@dataclass(frozen=True)
class Point:
    """One point of the contract, and what each engine makes of it."""

    directory: Path
    title: str
    source: str
    our_choice: bool
    outcomes: dict[str, str]
    generated: Mapping[str, Generated]

    @property
    def part(self) -> str:
        """One of PARTS."""
        return self.directory.parent.name

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.directory.name

    def data(self, scratch: Path) -> Path:
        """The directory of its buckets: its own, or a copy in ``scratch`` where there is data to generate."""
        own = self.directory / "data"
        if not self.generated:
            return own
        if own.is_dir():
            shutil.copytree(own, scratch, dirs_exist_ok=True)
        for name, content in self.generated.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_text(content["text"] * content["times"], encoding="utf-8")
        return scratch

    def kind(self, engine: str) -> str:
        """The outcome on an engine without what follows the colon."""
        return self.outcomes[engine].partition(": ")[0]

    def detail(self, engine: str) -> str:
        """The text of a refusal, or the sentence of a difference."""
        return self.outcomes[engine].partition(": ")[2]


@cache
def points() -> tuple[Point, ...]:
    """All points, in the order of the table."""
    order = list(PARTS)
    found = [_point(file.parent) for file in sorted(DIRECTORY.glob("*/*/point.toml"))]
    return tuple(sorted(found, key=lambda point: (order.index(point.part), point.name)))


def _point(directory: Path) -> Point:
    document = tomllib.loads((directory / "point.toml").read_text(encoding="utf-8"))
    outcomes = {engine: document.pop(engine) for engine in ENGINES}
    point = Point(directory, outcomes=outcomes, generated=document.pop("generated", {}), **document)
    agrees = {"our choice", "as here"} if point.our_choice else {"as documented"}
    for engine in ENGINES:
        kind = point.kind(engine)
        assert kind in {*agrees, "refused", "refused as documented", "differs", "by the engine", "-"}, (
            f"{directory.name}: {engine} = {kind!r}"
        )
        assert bool(point.detail(engine)) == (kind not in {*agrees, "-"}), f"{directory.name}: {engine}"
        assert kind != "-" or engine == "sdk", f"{directory.name}: only sdk may be left out"
    return point
