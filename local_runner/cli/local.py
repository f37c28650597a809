"""The command line: arguments and printing, nothing else. What a command does is in :mod:`local_runner.run`.

Modules that cost time to import are imported by the command that needs them (docs/ARCHITECTURE.md, Start time).
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from local_runner.cli import export, machine, operate, promote
from local_runner.cli.options import (
    FaultType,
    limits_option,
    parameter_options,
    project_here,
    python_option,
    request_of,
    run_options,
    say,
    selection_options,
    show,
    state_option,
    target_argument,
)
from local_runner.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SUCCEEDED, InvalidPipelineError

EXIT_CODES = {"Succeeded": EXIT_SUCCEEDED, "Stopped": EXIT_INTERRUPTED}


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
    from local_runner.run.definition import load_definition

    loaded = load_definition(project_here(state), target, python)
    if loaded.problems:
        raise InvalidPipelineError(target or "the pipeline", loaded.problems)
    document = json.dumps(loaded.document, indent=2)
    if output is None:
        click.echo(document)
    else:
        from local_runner.storage.files import write_atomically

        write_atomically(output, document + "\n")
        say(f"Wrote {output}.")


@cli.command()
@target_argument
@parameter_options
@selection_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: problems (where, what, ...) and notes.")
@python_option
@state_option
def validate(as_json: bool, state: Path, **options: Any) -> None:
    """List every problem of TARGET: the definition, its parameters, its data, the API's limits. Runs nothing.

    What AWS would take, and only this machine cannot run, is listed apart: a type of step, data that is not mapped, a
    function. In JSON such a problem is `local`.

    Exit codes: 0 valid, 2 the definition or its parameters are wrong, 4 only this machine lacks something.

    \b
    Examples:
      local-runner validate
      local-runner validate definition.json -p MaxBadRatio=0.1 --map s3://bucket/raw=data/sample
      local-runner validate --to Fit --json
    """
    from local_runner.run.engine import notes_on_images
    from local_runner.run.planned import plan_run

    project, request = project_here(state), request_of(options)
    try:
        planned = plan_run(project, request)
    except InvalidPipelineError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"problems": [asdict(problem) for problem in error.problems], "notes": []}))
        sys.exit(error.exit_code)
    plan = planned.plan
    notes = [*plan.notes, *notes_on_images(project, request, planned.jobs)]
    if as_json:
        click.echo(json.dumps({"problems": [], "notes": notes}))
        return
    for note in notes:
        say(f"Note: {note}")
    show(f"{plan.pipeline.name} is valid: {len(plan.steps)} steps, {len(plan.pipeline.parameters)} parameters.")


@cli.command()
@click.argument("step")
@target_argument
@parameter_options
@run_options("docker", "sandbox", engine_help="The engine that the run would be on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@python_option
@state_option
def why(step: str, as_json: bool, state: Path, **options: Any) -> None:
    """Say whether a run would take STEP from the cache, and what changed since the last run, file by file.

    It also says whether SageMaker's own cache (CacheConfig) would hit after promotion. Runs nothing.

    \b
    Examples:
      local-runner why Fit
      local-runner why Validate --date 2013-01-02 --json
    """
    from local_runner.run.why import explain

    found = explain(project_here(state), request_of(options, cache=True), step)
    show(json.dumps(found.record()) if as_json else "\n".join(found.lines()))


@cli.command()
@target_argument
@parameter_options
@run_options(
    "docker",
    "sandbox",
    "sdk",
    engine_help="auto is docker where an engine answers, else the sandbox; sdk is the SageMaker SDK's own local mode.",
)
@click.option("--max-parallel", type=click.IntRange(min=1), help="Steps side by side.  [default: the cores]")
@limits_option
@click.option(
    "--inject-fault",
    "faults",
    type=FaultType(),
    multiple=True,
    help="Let the first COUNT attempts (default: 1) at a step end in an exception of the service (repeatable).",
)
@click.option("--hot", is_flag=True, help="Run Python scripts in workers that stay up with the imports done (docker).")
@selection_options
@click.option("--resume", is_flag=True, help="Continue the last execution, keeping what succeeded in it.")
@click.option("--no-cache", is_flag=True, help="Run every step, and keep none of them in the step cache.")
@click.option("--refresh", metavar="STEP", multiple=True, help="Run this step even if it is cached (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object to stdout, all else to stderr.")
@click.option("--quiet", is_flag=True, help="Only failures and the final line.")
@python_option
@state_option
def run(as_json: bool, quiet: bool, state: Path, **options: Any) -> None:
    """Run TARGET on this machine: a pipeline.py (default: the project's) or any pipeline definition JSON.

    Exit codes: 0 succeeded, 1 the pipeline failed, 2 usage or configuration, 4 only this machine lacks something,
    130 interrupted.

    \b
    Examples:
      local-runner run
      local-runner run --date 2013-01-02 -p ProcessingInstanceCount=3
      local-runner run --engine sandbox --json
      local-runner run definition.json --map s3://bucket/raw=data/sample --image python:3.11
      local-runner run --from Fit
      local-runner run --inject-fault Fit=SageMaker.CAPACITY_ERROR:2
    """
    from local_runner.project import Project
    from local_runner.report import listener
    from local_runner.report.record import to_record
    from local_runner.run.pipeline import run_pipeline

    request = request_of(options, faults=options["faults"], cache=not options["no_cache"], refresh=options["refresh"])
    # With --json, stdout is the object's alone.
    with listener(sys.stderr if as_json else sys.stdout, quiet=quiet) as shown:
        _, execution = run_pipeline(Project.at(Path.cwd(), state, shown.note), request, shown)
    if as_json:
        click.echo(json.dumps(to_record(execution)))
    sys.exit(EXIT_CODES.get(execution.status, EXIT_FAILED))


@cli.command()
@target_argument
@parameter_options
@run_options(
    "docker",
    "sandbox",
    engine_help="auto is docker where an engine answers, else the sandbox, which has no hot workers.",
)
@limits_option
@python_option
@state_option
def watch(state: Path, **options: Any) -> None:
    """Run TARGET again at each save: what the saved file affects, in hot workers (as `run --hot`). Ctrl-C ends it.

    A newer save ends the run in progress. An error is shown, and the watch goes on.

    \b
    Examples:
      local-runner watch
      local-runner watch --date 2013-01-02
    """
    from local_runner.run.watch import watch as watch_project

    watch_project(Path.cwd(), request_of(options), state, sys.stdout)
    sys.exit(EXIT_INTERRUPTED)


for commands in (machine, promote, export, operate):
    commands.register(cli)
