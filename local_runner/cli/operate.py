"""The commands for what was promoted, from ``status`` to ``retire``: arguments and printing.

What they do is in :mod:`local_runner.cloud`, which each imports for itself (docs/ARCHITECTURE.md, Start time).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from local_runner.cli.options import (
    Command,
    PairType,
    ask,
    break_lock_option,
    env_option,
    project_here,
    say,
    show,
    state_option,
)
from local_runner.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SUCCEEDED

if TYPE_CHECKING:
    from local_runner.cloud.target.target import Target
    from local_runner.events import Listener

EXIT_DIFFERENT = 3


def _common(command: Command) -> Command:
    """The options of every command here."""
    return env_option(state_option(command))


def _open(env: str, state: Path) -> Target:
    from local_runner.cloud.desired.release import open_target

    return open_target(project_here(state), env)


@click.command()
@_common
@click.option(
    "-p", "--param", "given", type=PairType("NAME=VALUE"), multiple=True, help="A pipeline parameter (repeatable)."
)
@click.option("--date", metavar="DAY", help="The day to process: sets the date parameter.")
@click.option("--wait", is_flag=True, help="Show the steps until the execution is over.")
@click.option("--stop-on-interrupt", is_flag=True, help="With --wait: Ctrl-C stops the execution.")
def trigger(
    env: str, state: Path, given: tuple[tuple[str, str], ...], date: str | None, wait: bool, stop_on_interrupt: bool
) -> None:
    """Start the promoted pipeline; print the execution's id, or with --wait what becomes of it.

    Ctrl-C leaves the execution running. Exit codes: 0 started, or with --wait succeeded; 1 it did not succeed.

    \b
    Examples:
      local-runner trigger --date 2026-01-31
      local-runner trigger --env prod -p MaxBadRatio=0.1 --wait
    """
    from local_runner.cloud.executions.api import describe_execution, describe_pipeline
    from local_runner.cloud.executions.follow import plan_of
    from local_runner.cloud.executions.trigger import start
    from local_runner.settings import load_settings

    target, parameters = _open(env, state), dict(given)
    if date is not None:
        parameters.setdefault(load_settings(Path.cwd()).local.date_parameter, date)
    pipeline = describe_pipeline(target)
    started = start(target.aws, pipeline, parameters, target.secrets, project_here(state).state / "cache")
    if not wait:
        show(started.id)
        say(f"Started {started.arn}\nFollow it: local-runner logs --env {env} {started.id} --follow")
        return
    execution = describe_execution(target.aws, started.arn)
    _follow(target, started.arn, plan_of(started.definition, execution, parameters), stop_on_interrupt)


def _follow(target: Target, arn: str, plan: Any, stop_on_interrupt: bool) -> None:
    from local_runner.cloud.executions.follow import follow
    from local_runner.cloud.executions.trigger import stop
    from local_runner.events import Masked
    from local_runner.report import listener

    def on_interrupt(shown: Listener) -> Callable[[], None]:
        def stop_it() -> None:
            stop(target.aws, arn)
            shown.note("Stopping the execution; its jobs take a while to end. Ctrl-C again leaves it.")

        return stop_it

    try:
        target.secrets.learn_named(plan.parameters)
        with listener(sys.stdout) as unmasked:
            shown = Masked(unmasked, target.secrets)
            result = follow(
                target.aws, arn, plan, shown, on_interrupt=on_interrupt(shown) if stop_on_interrupt else None
            )
    except KeyboardInterrupt:
        env, execution = target.names.environment, arn.rpartition("/")[2]
        say(
            f"Interrupted. Execution {execution} goes on.\n"
            f"Follow it: local-runner logs --env {env} {execution} --follow\n"
            f"Stop it:   aws sagemaker stop-pipeline-execution --region {target.aws.region} "
            f"--pipeline-execution-arn {arn}"
        )
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_SUCCEEDED if result.status == "Succeeded" else EXIT_FAILED)


@click.command()
@_common
@click.argument("execution", required=False)
@click.option("--step", "step_name", metavar="NAME", help="Only this step.")
@click.option("--follow", "follows", is_flag=True, help="Go on until the execution is over.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines of each host.")
def logs(env: str, state: Path, execution: str | None, step_name: str | None, follows: bool, tail: int | None) -> None:
    """Print what the jobs of EXECUTION (an id or ARN; default: the newest) have logged.

    \b
    Examples:
      local-runner logs
      local-runner logs --env prod abcdefghijkl --step Validate --tail 50
      local-runner logs --follow
    """
    from local_runner.cloud.executions.api import describe_pipeline, find_execution
    from local_runner.cloud.executions.logs import LogOptions, print_logs
    from local_runner.cloud.executions.trigger import definition_of

    target = _open(env, state)
    pipeline = describe_pipeline(target)
    found = find_execution(target.aws, pipeline, execution)
    say(f"Execution {found.id} of {target.names.pipeline_name}: {found.status}")
    print_logs(
        target.aws,
        found,
        definition_of(pipeline),
        LogOptions(step_name, follows, tail),
        lambda text: show(target.secrets.masked(text)),
        say,
    )


@click.command()
@_common
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--exit-code", is_flag=True, help="Exit with 3 where the account differs from the release.")
def status(env: str, state: Path, as_json: bool, exit_code: bool) -> None:
    """Show the release, its schedule and next starts, the last executions, and what somebody changed since.

    \b
    Examples:
      local-runner status
      local-runner status --env prod --json
    """
    from local_runner.cloud.operations.status import read_status
    from local_runner.cloud.operations.status_text import status_lines, status_record

    found = read_status(_open(env, state), state.absolute())
    show(json.dumps(status_record(found), default=str) if as_json else "\n".join(status_lines(found)))
    if exit_code and found.drift:
        sys.exit(EXIT_DIFFERENT)


@click.command()
@_common
def pause(env: str, state: Path) -> None:
    """Keep the schedule from starting the pipeline. Nothing else of it changes; what runs goes on.

    \b
    Example:
      local-runner pause --env prod
    """
    _set_state(env, state, paused=True)


@click.command()
@_common
def resume(env: str, state: Path) -> None:
    """Let the schedule start the pipeline again. Starts that were missed are not made up for.

    \b
    Example:
      local-runner resume --env prod
    """
    _set_state(env, state, paused=False)


def _set_state(env: str, state: Path, *, paused: bool) -> None:
    from local_runner.cloud.operations.pause import set_state
    from local_runner.cloud.schedules.description import describe_schedule

    target = _open(env, state)
    name = target.names.schedule
    changed = set_state(target.aws, name, "DISABLED" if paused else "ENABLED")
    if changed is None:
        show(f"The schedule {name} is {'paused' if paused else 'on'} already.")
    else:
        description = describe_schedule({key: value for key, value in changed.items() if key != "State"})
        show(f"The schedule {name} is {'paused' if paused else 'on again'}: {description}.")


@click.command()
@_common
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def releases(env: str, state: Path, as_json: bool) -> None:
    """List the releases, the newest first, which is the current one (*): when, by whom, commit, tested or not.

    \b
    Example:
      local-runner releases --env prod
    """
    from local_runner.cloud.operations.status_text import release_lines, release_record
    from local_runner.cloud.release.store import all_releases, without_secrets

    target = _open(env, state)
    found = all_releases(target)
    found = [without_secrets(release, target.secrets) for release in found]
    if as_json:
        click.echo(json.dumps([release_record(release, current=release is found[-1]) for release in found[::-1]]))
    elif found:
        show("\n".join(release_lines(found)))
    else:
        show(f"There are no releases yet. Make the first: local-runner promote --env {env}.")


@click.command()
@_common
@click.option("--to", "number", type=click.IntRange(min=1), metavar="N", help="The release.  [default: the one before]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@break_lock_option
def rollback(env: str, state: Path, number: int | None, yes: bool, break_lock: bool) -> None:
    """Bring an earlier release back: its definition, code, image and schedule. That becomes a new release.

    \b
    Examples:
      local-runner rollback --env prod
      local-runner rollback --env prod --to 7 --yes
    """
    from local_runner.cloud.operations.rollback import plan_rollback, restore
    from local_runner.cloud.release.lock import drop_left_lock

    target = _open(env, state)
    with target.aws.reading():
        found = plan_rollback(target, number)
        changes = found.plan(target.aws)
    if not changes and found.current.fingerprint == found.earlier.fingerprint:
        drop_left_lock(target)
        show(f"There is nothing to change: the account is as release {found.earlier.number} left it.")
        return
    show(f"Back from release {found.current.number} to {found.earlier.number} ({found.earlier.created}):")
    for change in changes:
        show(f"  {change.action} {change.resource} {change.name}: {change.summary}")
    if not yes:
        ask("Go on?")
    record = restore(target, found, break_lock=break_lock)
    show(f"Release {record.number} is what release {record.restores} was.")


@click.command()
@_common
@click.option("--stop-running", is_flag=True, help="Stop executions that are running, and wait for their end.")
@click.option("--yes-retire", metavar="PIPELINE", help="The pipeline's name, in place of the question.")
@break_lock_option
def retire(env: str, state: Path, stop_running: bool, yes_retire: str | None, break_lock: bool) -> None:
    """Take the pipeline out of the account: schedule, alerts, pipeline, and the roles made for it.

    Data, images, code and the records of releases stay. Running it again after it was cut off finishes it.

    \b
    Examples:
      local-runner retire --env dev
      local-runner retire --env dev --yes-retire FlightsDaily-dev
    """
    from local_runner.cloud.account.aws import CloudError
    from local_runner.cloud.operations import retire as retiring
    from local_runner.cloud.release.lock import drop_left_lock

    target = _open(env, state)
    aws, name = target.aws, target.names.pipeline_name
    with aws.reading():
        changes = retiring.plan_retirement(target)
        running = retiring.still_running(aws, name)
    if not changes:
        drop_left_lock(target)
        show(f"There is nothing of {name} in account {aws.account}, region {aws.region}.")
        return
    show(f"From account {aws.account}, region {aws.region}, these go:")
    for change in changes:
        show(f"  {change.resource} {change.name}: {change.summary}")
    show(f"These stay: data, images, s3://{target.bucket}/{target.prefix}/ with code and releases.")
    if running and not stop_running:
        raise CloudError(
            f"Executions are running: {', '.join(running)}. A pipeline cannot go while they do. Nothing was deleted. "
            "Wait for them, or add --stop-running."
        )
    if running:
        show(f"These are stopped: {', '.join(running)}.")
    typed = yes_retire if yes_retire is not None else click.prompt("Type the pipeline's name to go on", err=True)
    if typed != name:
        raise CloudError(f"'{typed}' is not '{name}'. Nothing was deleted.")
    retiring.retire(target, changes, show, stops=stop_running, break_lock=break_lock)


def register(cli: click.Group) -> None:
    """Add the commands to the command line."""
    for command in (status, trigger, logs, pause, resume, releases, rollback, retire):
        cli.add_command(command)
