"""Run the pipeline and draw the last screen of that run: the picture in README.md.

    .venv/bin/python docs/picture.py [FILE]

Writes FILE (default: docs/local-run.svg). Runs with the settings of the project, on the engine that `local-runner run`
would choose, in the project's own state directory; what the run says goes to stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path

from local_runner.project import STATE_DIRECTORY, Project
from local_runner.report import listener
from local_runner.report.terminal import render_svg
from local_runner.run.pipeline import run_pipeline
from local_runner.run.request import RunRequest
from local_runner.storage.files import write_atomically

PROJECT = Path(__file__).resolve().parent.parent
WIDTH = 104
"""Cells: the longest line of the example, the path of an output, is not broken."""


def main(target: Path) -> int:
    with listener(sys.stderr) as shown:
        plan, execution = run_pipeline(Project.at(PROJECT, PROJECT / STATE_DIRECTORY, shown.note), RunRequest(), shown)
    if execution.status != "Succeeded":
        return 1
    svg = render_svg(plan, execution, title="make local-run", width=WIDTH, cwd=PROJECT)
    write_atomically(target, svg)
    target.chmod(0o644)  # atomic writes go through a private file
    print(f"Wrote {target}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("local-run.svg")))
