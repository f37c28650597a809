"""docs/CONFORMANCE.md out of the points: ``make conformance`` runs them all, then this writes the document."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from points import DIRECTORY, ENGINES, PARTS, Point, points

DOCUMENT = DIRECTORY.parents[1] / "docs" / "CONFORMANCE.md"

_HEAD = """# Conformance

<!-- Written by `make conformance` out of tests/conformance. Do not edit: change a point, and run it again. -->

{count} points of the contract of Processing jobs, of Training, Transform and Model steps, and of the pipeline
language. Each is a directory of `tests/conformance`, a pipeline with its data and what must come of it, and was run on
each engine; the tests run them again and fail where one comes to anything else, or where this table says anything else.

- **as documented**: statuses, reasons, exit messages and every file of every output are what the AWS source says.
- **our choice**: AWS documents nothing; this is what [CONTRACT.md](CONTRACT.md) says. **as here**: stock local mode
  does the same.
- **refused**: nothing runs, and the run says why before it starts; **refused as documented** where the service does.
- **differs**: the run comes to something else, and the suite holds it to what the sentence says.
- **by the engine**: it comes to what is expected, by what `--engine sdk` does beside stock local mode.
- **—**: not run. The stock SDK is the SageMaker Python SDK's local mode as `--engine sdk` gives it one job at a time;
  conditions, parameters and the order of steps are this runner's on every engine. Training, Transform and Model steps
  run in it whichever engine runs the other steps.

Outputs are compared byte for byte with one expected tree for all engines. *Guide* is the SageMaker AI Developer
Guide, *Container* its page "How to Build Your Own Processing Container", *API* the API reference.
"""


def render(of: Iterable[Point]) -> str:
    """The whole document."""
    of = list(of)
    return "\n".join([_HEAD.format(count=len(of)), *_sections(of), *_missing()])


def _sections(of: list[Point]) -> Iterator[str]:
    for part, heading in PARTS.items():
        rows = [point for point in of if point.part == part]
        if rows:
            yield f"## {heading}\n"
            yield "| Point | AWS source | docker | sandbox | stock SDK |\n|---|---|---|---|---|"
            yield from map(_row, rows)
            yield ""


def _row(point: Point) -> str:
    source = f"not documented ({point.source})" if point.our_choice else point.source
    cells = [f"{point.title} (`{point.name}`)", source, *(_cell(point, engine) for engine in ENGINES)]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _cell(point: Point, engine: str) -> str:
    kind, detail = point.kind(engine), point.detail(engine)
    if kind == "-":
        return "—"
    if kind.startswith("refused"):
        return f"{kind} (“{detail}”)"
    return f"{kind}: {detail}" if detail else kind


def _missing() -> Iterator[str]:
    """What has no point yet, out of ``not_yet.toml``."""
    listed = tomllib.loads((DIRECTORY / "not_yet.toml").read_text(encoding="utf-8"))["points"]
    yield "## Not yet\n"
    yield "Points of the contract that this suite does not try:\n"
    yield from (f"- {point}" for point in listed)
    yield ""


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(render(points()), encoding="utf-8")
    print(f"Wrote {DOCUMENT.relative_to(Path.cwd()) if DOCUMENT.is_relative_to(Path.cwd()) else DOCUMENT}.")


if __name__ == "__main__":
    main()
