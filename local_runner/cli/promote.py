"""The commands that bring the project to an AWS account: plan, promote. Arguments and printing, nothing else."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from local_runner.cli.options import Command, ask, break_lock_option, env_option, project_here, say, show, state_option

if TYPE_CHECKING:
    from local_runner.cloud.operations.promote import Gate, Options, ReleasePlan
    from local_runner.cloud.release.model import DesiredRelease

EXIT_CHANGES = 3


def register(cli: click.Group) -> None:
    """Add the commands to the command line."""
    cli.add_command(plan)
    cli.add_command(promote)


def _options(command: Command) -> Command:
    """The options of both commands."""
    for option in (
        state_option,
        click.option("--adopt", is_flag=True, help="Take over a pipeline of that name that is not this project's."),
        click.option("--image-uri", metavar="URI", help="An image that is built elsewhere; none is pushed."),
        env_option,
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class _Prepared:
    desired: DesiredRelease
    gate: Gate
    options: Options


def _prepare(name: str, state: Path, adopt: bool, image_uri: str | None, reason: str | None = None) -> _Prepared:
    """What both commands begin with: the release that is wanted, and whether it was tested."""
    from local_runner.cloud.account.aws import Aws
    from local_runner.cloud.desired.release import desired_release
    from local_runner.cloud.operations.promote import Options, gate_of
    from local_runner.cloud.target.load import load_environment
    from local_runner.cloud.target.region import region_of
    from local_runner.image.build import ensure_image

    project = project_here(state)
    environment = load_environment(project.settings.root, name)
    aws = Aws(region_of(environment), environment.profile)
    desired = desired_release(project, environment, aws, image_uri)
    options = Options(lambda: ensure_image(project), say, adopt, reason)
    return _Prepared(desired, gate_of(desired, project.state), options)


@click.command()
@_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--exit-code", "exit_code", is_flag=True, help="Exit with 3 where there are changes.")
def plan(env: str, image_uri: str | None, adopt: bool, state: Path, as_json: bool, exit_code: bool) -> None:
    """Show what a promotion would change in the AWS account. Reads only.

    Exit codes: 0 (with --exit-code: nothing to change), 2 usage, configuration or AWS, 3 changes (with --exit-code).

    \b
    Examples:
      local-runner plan
      local-runner plan --env prod --exit-code
      local-runner plan --json
    """
    from local_runner.cloud.operations.plan_text import plan_record
    from local_runner.cloud.operations.promote import plan_release

    prepared = _prepare(env, state, adopt, image_uri)
    planned = plan_release(prepared.desired, prepared.gate, prepared.options)
    if as_json:
        click.echo(json.dumps(plan_record(planned, prepared.desired), default=str))
    else:
        _show(planned, prepared)
    if exit_code and planned.changes:
        sys.exit(EXIT_CHANGES)


@click.command()
@_options
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can answer.")
@click.option(
    "--allow-unverified",
    "reason",
    metavar="REASON",
    help="Promote what has not succeeded in a local run; REASON stays in the release's record.",
)
@break_lock_option
def promote(
    env: str, image_uri: str | None, adopt: bool, state: Path, yes: bool, reason: str | None, break_lock: bool
) -> None:
    """Bring to the AWS account what succeeded in a local run, with its schedule. Shows the plan, asks, does it.

    Safe to repeat: one that was cut off goes on where it was.

    \b
    Examples:
      local-runner promote
      local-runner promote --env prod --yes
    """
    from local_runner.cloud.operations.promote import UnverifiedError, apply, plan_release
    from local_runner.cloud.release.lock import drop_left_lock

    if reason is not None and not reason.strip():
        raise click.UsageError("--allow-unverified needs a reason; it stays in the release's record.")
    began = time.monotonic()
    prepared = _prepare(env, state, adopt, image_uri, reason)
    if prepared.gate.verified_by is None and not reason:
        raise UnverifiedError(prepared.gate.refusal())
    planned = plan_release(prepared.desired, prepared.gate, prepared.options)
    _show(planned, prepared)
    if not planned.changes:
        drop_left_lock(prepared.desired.target)
        return
    if not yes:
        ask(f"\nMake these changes in the account {prepared.desired.target.aws.account}?")
    done = apply(planned, prepared.desired, prepared.options, break_lock=break_lock)
    seconds = time.monotonic() - began
    show(f"\nRelease {done.number} of {prepared.desired.target.names.pipeline_name} is in place ({seconds:.1f} s).")


def _show(planned: ReleasePlan, prepared: _Prepared) -> None:
    from local_runner.cloud.operations.plan_text import plan_lines

    show("\n".join(plan_lines(planned, prepared.desired)))
