"""The command line: arguments and printing, nothing else. What a command does is in :mod:`local_runner.run.pipeline`.

Modules that cost time to import are imported by the command that needs them (docs/ARCHITECTURE.md, Start time).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from local_runner.cli import export as export_commands
from local_runner.cli import operate as life_commands
from local_runner.cli import promote as cloud_commands
from local_runner.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SUCCEEDED, EngineError, InvalidPipelineError
from local_runner.names import is_text

if TYPE_CHECKING:
    from local_runner.models import Fault
    from local_runner.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_CODES = {"Succeeded": EXIT_SUCCEEDED, "Stopped": EXIT_INTERRUPTED}


# ------------------------------------------------------------------------------------------------- arguments
class _Pair(click.ParamType[tuple[str, str]]):
    """``NAME=VALUE``, split at the first equals sign."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, separator, text = str(value).partition("=")
        if not separator or not name:
            self.fail(f"{value!r} is not of the form {self.name}.", param, ctx)
        if not is_text(text) or not is_text(name):
            self.fail(f"{value!r} is not UTF-8 text.", param, ctx)
        return name, text


class _Map(click.ParamType[tuple[str, Path]]):
    """``S3URI=PATH``; both sides may hold equals signs (``dt=2013-01-01``), so the path is the one that exists."""

    name = "S3URI=PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        from local_runner.storage.s3_uri import s3_problem

        parts = str(value).split("=")
        splits = [("=".join(parts[:cut]), "=".join(parts[cut:])) for cut in range(1, len(parts))]
        if not splits or not parts[0].startswith("s3://"):
            self.fail(f"{value!r} is not of the form s3://BUCKET/KEY=PATH.", param, ctx)
        found = [(uri, Path(path)) for uri, path in splits if path and Path(path).exists()]
        if not found:
            self.fail(f"{value!r}: there is no file or directory {splits[0][1]!r}.", param, ctx)
        problem = s3_problem(found[0][0])
        if problem:
            self.fail(f"{problem} Write it as s3://BUCKET/KEY=PATH.", param, ctx)
        return found[0]


class _Image(click.ParamType[tuple[str, str]]):
    """``TAG`` (for every image of the pipeline) or ``URI=TAG``."""

    name = "[URI=]TAG"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        uri, _, tag = str(value).rpartition("=")
        return (uri, tag) if tag else self.fail(f"{value!r} names no tag.", param, ctx)


class _Fault(click.ParamType["Fault"]):
    """``STEP=EXCEPTION`` or ``STEP=EXCEPTION:COUNT``."""

    name = "STEP=EXCEPTION[:COUNT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fault:
        from local_runner.planning.faults import parse_fault

        try:
            return parse_fault(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Measured(click.ParamType[int]):
    """``7d`` or ``5GB``, as in local_runner.toml."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from local_runner import settings

        try:
            return settings.age(value) if self.name == "AGE" else settings.size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


target_argument = click.argument("target", required=False)
python_option = click.option(
    "--python",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The Python that compiles a pipeline.py, or its environment: for one that has the SDK's version 2.",
)
state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".local_runner"),
    show_default=True,
    help="Where local S3, runs, logs and caches are kept.",
)


def parameter_options(command: Command) -> Command:
    """The options that give a pipeline its values and its data."""
    command = click.option(
        "--map",
        "data",
        type=_Map(),
        multiple=True,
        help="A file or directory that stands for an S3 URI (repeatable; over [local.data]).",
    )(command)
    command = click.option("--date", metavar="DAY", help="The day to process: sets the date parameter.")(command)
    return click.option(
        "-p",
        "--param",
        "parameters",
        type=_Pair("NAME=VALUE"),
        multiple=True,
        help="A pipeline parameter (repeatable).",
    )(command)


def _settings() -> Settings:
    from local_runner.settings import load_settings

    return load_settings(Path.cwd())


def _say(text: str) -> None:
    click.echo(text, err=True)


# -------------------------------------------------------------------------------------------------- commands
@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="local-runner")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Run a SageMaker pipeline on this machine: the definition itself, on Docker or in a sandbox, without AWS.

    \b
    Examples:
      local-runner run                         the project's pipeline, on the sample data
      local-runner run --date 2013-01-02       another day
      local-runner validate                    every problem of the pipeline, before anything runs
      local-runner compile -o definition.json  what the cloud would be given

    Shell completion: eval "$(_LOCAL_RUNNER_COMPLETE=bash_source local-runner)" (or zsh_source, fish_source).
    """


@cli.command()
@target_argument
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to FILE, not to stdout.")
@python_option
@state_option
def compile(target: str | None, output: Path | None, python: Path | None, state: Path) -> None:
    """Compile TARGET (default: the project's pipeline.py) to its definition JSON.

    Offline, in namespaces where this machine has some.

    \b
    Examples:
      local-runner compile
      local-runner compile pipeline.py:build -o definition.json
      local-runner compile --python ../theirs/.venv
    """
    from local_runner.run.pipeline import load_definition

    loaded = load_definition(_settings(), target, state.absolute(), _say, python)
    if loaded.problems:
        raise InvalidPipelineError(target or "the pipeline", loaded.problems)
    document = json.dumps(json.loads(loaded.text), indent=2)
    if output is None:
        click.echo(document)
    else:
        from local_runner.storage.files import write_atomically

        write_atomically(output, document + "\n")
        _say(f"Wrote {output}.")


@cli.command()
@target_argument
@parameter_options
@python_option
@state_option
def validate(
    target: str | None,
    parameters: tuple[tuple[str, str], ...],
    date: str | None,
    data: tuple[tuple[str, Path], ...],
    python: Path | None,
    state: Path,
) -> None:
    """List every problem of TARGET: the definition, its parameters, its data, the API's limits. Runs nothing.

    \b
    Examples:
      local-runner validate
      local-runner validate definition.json -p MaxBadRatio=0.1 --map s3://bucket/raw=data/sample
    """
    from local_runner.run.pipeline import RunRequest, load_definition, make_plan

    settings, state = _settings(), state.absolute()
    loaded = load_definition(settings, target, state, _say, python)
    request = RunRequest(target=target, parameters=dict(parameters), date=date, data=dict(data))
    plan, _ = make_plan(settings, loaded, request, state)
    definition = loaded.definition
    for note in plan.notes:
        _say(f"Note: {note}")
    click.echo(f"{definition.name} is valid: {len(plan.steps)} steps, {len(definition.parameters)} parameters.")


@cli.command()
@state_option
def image(state: Path) -> None:
    """Build the processing image if its content changed; print its tag as the last line.

    \b
    Example:
      docker run --rm -it "$(local-runner image)" python3
    """
    from local_runner.image.build import ensure_image

    click.echo(ensure_image(_settings(), state.absolute(), _say))


@cli.command()
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
    from local_runner.report.text import encodable
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
            click.echo(encodable("\n".join(lines), sys.stdout.encoding))
    sys.exit(EXIT_SUCCEEDED if found.possible else EXIT_FAILED)


@cli.command()
@click.option("--cache", "of_cache", is_flag=True, help="The step cache only.")
@click.option("--runs", "of_runs", is_flag=True, help="Records, logs and code of executions that are over, only.")
@click.option("--older-than", type=_Measured("AGE"), help="Only what was not used for so long, such as 7d or 12h.")
@click.option("--max-size", type=_Measured("SIZE"), help="Of the step cache only what goes beyond, such as 5GB.")
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
            click.echo(f"Hot workers: {workers} ended.")
        from local_runner.docker_host.connection import connect
        from local_runner.engines.docker.sweep import sweep_quietly

        with suppress(EngineError), closing(connect()) as client:  # without an engine there is nothing in it
            sweep_quietly(client.api)
    if of_cache or not of_runs:
        # With neither age nor size, all of it goes.
        limit = 0 if max_size is None and older_than is None else max_size
        gone = prune_steps(state, max_age=older_than, max_size=limit, dry_run=dry_run)
        click.echo(f"Step cache: {gone.removed} of {gone.of} entries {what} ({gone.size / 1e6:.1f} MB).")
    if of_runs or not (of_cache or max_size is not None):
        gone = prune_runs(state, max_age=older_than, dry_run=dry_run)
        click.echo(f"Executions: {gone.removed} of {gone.of} records {what} ({gone.size / 1e6:.1f} MB).")


@cli.command()
@click.argument("step")
@target_argument
@parameter_options
@click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "sandbox"]),
    default="auto",
    show_default=True,
    help="The engine that the run would be on.",
)
@click.option("--image", "images", type=_Image(), multiple=True, help="The local image for one URI, or for all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@python_option
@state_option
def why(
    step: str,
    target: str | None,
    parameters: tuple[tuple[str, str], ...],
    date: str | None,
    data: tuple[tuple[str, Path], ...],
    engine: str,
    images: tuple[tuple[str, str], ...],
    as_json: bool,
    python: Path | None,
    state: Path,
) -> None:
    """Say whether a run would take STEP from the cache, and what changed since the last run, file by file.

    It also says whether SageMaker's own cache (CacheConfig) would hit after promotion. Runs nothing.

    \b
    Examples:
      local-runner why Fit
      local-runner why Validate --date 2013-01-02 --json
    """
    from local_runner.run.pipeline import RunRequest
    from local_runner.run.why import explain

    request = RunRequest(
        target=target, parameters=dict(parameters), date=date, engine=engine, data=dict(data), images=dict(images),
        python=python, cache=True,
    )  # fmt: skip
    found = explain(_settings(), request, step, state.absolute(), _say)
    click.echo(json.dumps(found.record()) if as_json else "\n".join(found.lines()))


@cli.command()
@target_argument
@parameter_options
@click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "sandbox", "sdk"]),
    default="auto",
    show_default=True,
    help="auto is docker where an engine answers, else the sandbox; sdk is the SageMaker SDK's own local mode.",
)
@click.option("--image", "images", type=_Image(), multiple=True, help="The local image for one URI, or for all.")
@click.option("--max-parallel", type=click.IntRange(min=1), help="Steps side by side.  [default: the cores]")
@click.option("--no-limits", is_flag=True, help="Do not limit jobs to the memory and CPUs of their instance type.")
@click.option(
    "--inject-fault",
    "faults",
    type=_Fault(),
    multiple=True,
    help="Let the first COUNT attempts (default: 1) at a step end in an exception of the service (repeatable).",
)
@click.option("--hot", is_flag=True, help="Run Python scripts in workers that stay up with the imports done (docker).")
@click.option("--only", metavar="STEP", multiple=True, help="Run this step and no others (repeatable).")
@click.option("--from", "start", metavar="STEP", multiple=True, help="Run this step and all that follow it.")
@click.option("--to", "end", metavar="STEP", multiple=True, help="Run this step and all that lead to it.")
@click.option("--resume", is_flag=True, help="Go on from the last execution, keeping what succeeded in it.")
@click.option("--no-cache", is_flag=True, help="Run every step, and keep none of them in the step cache.")
@click.option("--refresh", metavar="STEP", multiple=True, help="Run this step even if it is cached (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object to stdout, all else to stderr.")
@click.option("--quiet", is_flag=True, help="Only failures and the final line.")
@python_option
@state_option
def run(
    target: str | None,
    parameters: tuple[tuple[str, str], ...],
    date: str | None,
    data: tuple[tuple[str, Path], ...],
    engine: str,
    images: tuple[tuple[str, str], ...],
    max_parallel: int | None,
    no_limits: bool,
    faults: tuple[Fault, ...],
    hot: bool,
    only: tuple[str, ...],
    start: tuple[str, ...],
    end: tuple[str, ...],
    resume: bool,
    no_cache: bool,
    refresh: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    python: Path | None,
    state: Path,
) -> None:
    """Run TARGET on this machine: a pipeline.py (default: the project's) or any pipeline definition JSON.

    Exit codes: 0 succeeded, 1 the pipeline failed, 2 usage or configuration, 130 interrupted.

    \b
    Examples:
      local-runner run
      local-runner run --date 2013-01-02 -p ProcessingInstanceCount=3
      local-runner run --engine sandbox --json
      local-runner run definition.json --map s3://bucket/raw=data/sample --image python:3.11
      local-runner run --from Fit
      local-runner run --inject-fault Fit=SageMaker.CAPACITY_ERROR:2
    """
    from local_runner.planning.selection import Selection
    from local_runner.report import listener
    from local_runner.report.record import to_record
    from local_runner.run.pipeline import RunRequest, run_pipeline

    request = RunRequest(
        target=target,
        parameters=dict(parameters),
        date=date,
        engine=engine,
        data=dict(data),
        images=dict(images),
        max_parallel=max_parallel,
        limits=not no_limits,
        faults=faults,
        python=python,
        hot=hot,
        selection=Selection(only, start, end, resume),
        cache=not no_cache,
        refresh=refresh,
    )
    # With --json, stdout is the object's alone.
    with listener(sys.stderr if as_json else sys.stdout, quiet=quiet) as shown:
        _, execution = run_pipeline(_settings(), request, state, shown)
    if as_json:
        click.echo(json.dumps(to_record(execution)))
    sys.exit(EXIT_CODES.get(execution.status, EXIT_FAILED))


@cli.command()
@target_argument
@parameter_options
@click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "sandbox"]),
    default="auto",
    show_default=True,
    help="auto is docker where an engine answers, else the sandbox, which has no hot workers.",
)
@click.option("--image", "images", type=_Image(), multiple=True, help="The local image for one URI, or for all.")
@click.option("--no-limits", is_flag=True, help="Do not limit jobs to the memory and CPUs of their instance type.")
@python_option
@state_option
def watch(
    target: str | None,
    parameters: tuple[tuple[str, str], ...],
    date: str | None,
    data: tuple[tuple[str, Path], ...],
    engine: str,
    images: tuple[tuple[str, str], ...],
    no_limits: bool,
    python: Path | None,
    state: Path,
) -> None:
    """Run TARGET again at each save: what the saved file affects, in hot workers (as `run --hot`). Ctrl-C ends it.

    A newer save ends the run in progress. An error is shown, and the watch goes on.

    \b
    Examples:
      local-runner watch
      local-runner watch --date 2013-01-02
    """
    from local_runner.run.pipeline import RunRequest
    from local_runner.run.watch import watch as watch_project

    request = RunRequest(
        target=target,
        parameters=dict(parameters),
        date=date,
        engine=engine,
        data=dict(data),
        images=dict(images),
        limits=not no_limits,
        python=python,
    )
    watch_project(Path.cwd(), request, state, sys.stdout)
    sys.exit(EXIT_INTERRUPTED)


cloud_commands.register(cli)
export_commands.register(cli)
life_commands.register(cli)
