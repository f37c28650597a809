"""The commands about what this machine has: the image, the gaps, what can be removed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from local_runner.cli.options import MeasuredType, project_here, show, state_option
from local_runner.errors import EXIT_FAILED, EXIT_SUCCEEDED


def register(cli: click.Group) -> None:
    """Add the commands to the command line."""
    for command in (image, doctor, clean):
        cli.add_command(command)


@click.command()
@state_option
def image(state: Path) -> None:
    """Build the processing image if its content changed; print its tag as the last line.

    \b
    Example:
      docker run --rm -it "$(local-runner image)" python3
    """
    from local_runner.image.build import ensure_image

    show(ensure_image(project_here(state)))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@state_option
def doctor(as_json: bool, state: Path) -> None:
    """Show what this machine has, what a run will use, and the command that mends each gap. Changes nothing.

    Exit codes: 0 a run is possible, 1 it is not.

    \b
    Example:
      local-runner doctor
    """
    from local_runner.report.table import ASCII, symbols_for
    from local_runner.run.doctor.diagnosis import diagnose

    found = diagnose(Path.cwd(), state.absolute())
    if as_json:
        click.echo(json.dumps(found.record()))
    else:
        shown = symbols_for(sys.stdout.encoding)
        symbols = {"ok": shown.succeeded, "gap": shown.failed, "none": "-" if shown is ASCII else "\N{EN DASH}"}
        width = max(len(check.name) for check in found.checks)
        for check in found.checks:
            detail = check.detail.replace("\n", "\n" + " " * (width + 4))
            lines = [f"{symbols[check.state]} {check.name:<{width}}  {detail}"]
            lines += [f"{'':<{width + 4}}fix: {check.fix}"] if check.fix else []
            show("\n".join(lines))
    sys.exit(EXIT_SUCCEEDED if found.possible else EXIT_FAILED)


@click.command()
@click.option("--cache", "of_cache", is_flag=True, help="The step cache only.")
@click.option("--runs", "of_runs", is_flag=True, help="Records, logs and code of executions that are over, only.")
@click.option("--older-than", type=MeasuredType("AGE"), help="Only what was not used for so long, such as 7d or 12h.")
@click.option("--max-size", type=MeasuredType("SIZE"), help="Of the step cache only what goes beyond, such as 5GB.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@state_option
def clean(
    of_cache: bool, of_runs: bool, older_than: int | None, max_size: int | None, dry_run: bool, state: Path
) -> None:
    """Remove the step cache and the records of executions that are over; local S3 and the images stay.

    Without an option it also ends the hot workers of `run --hot`.

    \b
    Examples:
      local-runner clean --cache
      local-runner clean --older-than 7d --dry-run
      local-runner clean --cache --max-size 5GB
    """
    from local_runner.step_cache.prune import prune_runs, prune_steps

    state = state.absolute()
    what = "would be removed" if dry_run else "removed"
    if not (of_cache or of_runs or dry_run or older_than or max_size):
        from local_runner.engines.hot.worker import end_workers

        if workers := end_workers(state):
            show(f"Hot workers: {workers} ended.")
        from local_runner.run.engine import sweep_docker

        sweep_docker()
    if of_cache or not of_runs:
        # With neither age nor size, all of it goes.
        limit = 0 if max_size is None and older_than is None else max_size
        pruned = prune_steps(state, max_age=older_than, max_size=limit, dry_run=dry_run)
        show(f"Step cache: {pruned.removed} of {pruned.of} entries {what} ({pruned.size / 1e6:.1f} MB).")
    if of_runs or not (of_cache or max_size is not None):
        pruned = prune_runs(state, max_age=older_than, dry_run=dry_run)
        show(f"Executions: {pruned.removed} of {pruned.of} records {what} ({pruned.size / 1e6:.1f} MB).")
