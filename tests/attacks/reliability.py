"""What the attacks on the runner itself have come to: each adds a row, and ``make attack`` writes docs/RELIABILITY.md.

``ATTACK_SHARE`` is how much of the full number each tries (``make attack``: 1; in ``make test`` a small part).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "RELIABILITY.md"
SHARE = float(os.environ.get("ATTACK_SHARE", "0.002"))

_HEAD = """# Reliability

<!-- Written by `make attack` out of tests/attacks. Do not edit: run it again. -->

What was tried with the runner itself, and how often it failed. To fail is: a traceback or an internal error, a result
other than that of an undisturbed run, anything left behind (containers, mounts, processes, scratch space), or to hang.
`make test` tries a small part of each.

| Attack | Full number | Tried | Failed |
|---|---|---|---|
"""


@dataclass
class Tally:
    """One attack: how often it was tried, and what failed."""

    title: str
    full: int
    tried: int = 0
    failed: list[str] = field(default_factory=list[str])

    @property
    def count(self) -> int:
        """How often to try now."""
        return max(2, round(self.full * SHARE))


@contextmanager
def attack(title: str, full: int) -> Iterator[Tally]:
    """Tells of one attack when it is over; fails where something did."""
    tally = Tally(title, full)
    try:
        yield tally
    except BaseException as error:
        tally.failed.append(repr(error))
        raise
    finally:
        if rows := os.environ.get("ATTACK_ROWS"):
            with Path(rows).open("a", encoding="utf-8") as file:
                file.write(json.dumps([title, full, tally.tried, len(tally.failed)]) + "\n")
    assert tally.failed == []


def render(rows: list[str]) -> str:
    """The document of the rows of a run."""
    cells = [json.loads(row) for row in rows]
    return _HEAD + "".join(f"| {title} | {full:,} | {tried:,} | {failed} |\n" for title, full, tried, failed in cells)


if __name__ == "__main__":
    DOCUMENT.write_text(render(Path(os.environ["ATTACK_ROWS"]).read_text(encoding="utf-8").splitlines()))
