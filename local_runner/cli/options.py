"""What commands have in common: the types of their values, the options that say what is run, the project."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from local_runner.errors import EXIT_FAILED
from local_runner.names import is_text

if TYPE_CHECKING:
    from local_runner.models import Fault
    from local_runner.project import Project
    from local_runner.run.request import RunRequest

Command = TypeVar("Command", bound=Callable[..., Any])


def say(text: str) -> None:
    """One line to stderr, as a terminal may show it: stdout is for what a command is asked for."""
    _echo(text, sys.stderr)


def show(text: str) -> None:
    """Lines to stdout, as a terminal may show them. Documents, which are for programs, go to ``click.echo``."""
    _echo(text, sys.stdout)


def _echo(text: str, stream: TextIO) -> None:
    from local_runner.report.text import encodable, printable

    click.echo(encodable(printable(text), stream.encoding), file=stream)


def project_here(state: Path) -> Project:
    """The project in the current directory. Raises SettingsError."""
    from local_runner.project import Project

    return Project.at(Path.cwd(), state, say)


# ------------------------------------------------------------------------------------------------------ types
class PairType(click.ParamType[tuple[str, str]]):
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


class MapType(click.ParamType[tuple[str, Path]]):
    """``S3URI=PATH``; both sides may hold equals signs (``dt=2013-01-01``), so the path is the one that exists."""

    name = "S3URI=PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        from local_runner.storage.s3_uri import is_s3_uri, s3_problem

        parts = str(value).split("=")
        splits = [("=".join(parts[:cut]), "=".join(parts[cut:])) for cut in range(1, len(parts))]
        if not splits or not is_s3_uri(parts[0]):
            self.fail(f"{value!r} is not of the form s3://BUCKET/KEY=PATH.", param, ctx)
        found = [(uri, Path(path)) for uri, path in splits if path and Path(path).exists()]
        if not found:
            self.fail(f"{value!r}: there is no file or directory {splits[-1][1]!r}.", param, ctx)
        problem = s3_problem(found[0][0])
        if problem:
            self.fail(f"{problem} Write it as s3://BUCKET/KEY=PATH.", param, ctx)
        return found[0]


class ImageType(click.ParamType[tuple[str, str]]):
    """``TAG`` (for every image of the pipeline) or ``URI=TAG``."""

    name = "[URI=]TAG"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        uri, _, tag = str(value).rpartition("=")
        return (uri, tag) if tag else self.fail(f"{value!r} names no tag.", param, ctx)


class FaultType(click.ParamType["Fault"]):
    """``STEP=EXCEPTION`` or ``STEP=EXCEPTION:COUNT``."""

    name = "STEP=EXCEPTION[:COUNT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fault:
        from local_runner.planning.faults import parse_fault

        try:
            return parse_fault(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class MeasuredType(click.ParamType[int]):
    """``7d`` or ``5GB``, as in local_runner.toml."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from local_runner import settings

        try:
            return settings.age(value) if self.name == "AGE" else settings.size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


# ---------------------------------------------------------------------------------------------------- options
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

env_option = click.option(
    "--env", default="dev", show_default=True, metavar="NAME", help="[environments.NAME] of local_runner.toml."
)
break_lock_option = click.option(
    "--break-lock", is_flag=True, help="Take the lock that a promotion left that was cut off."
)


def parameter_options(command: Command) -> Command:
    """The options that give a pipeline its values and its data."""
    command = click.option(
        "--map",
        "data",
        type=MapType(),
        multiple=True,
        help="A file or directory that stands for an S3 URI (repeatable; over [local.data]).",
    )(command)
    command = click.option("--date", metavar="DAY", help="The day to process: sets the date parameter.")(command)
    return click.option(
        "-p",
        "--param",
        "parameters",
        type=PairType("NAME=VALUE"),
        multiple=True,
        help="A pipeline parameter (repeatable).",
    )(command)


def ask(question: str) -> None:
    """Go on only where somebody says yes. No ends the command with exit code 1.

    Raises UsageError where nobody can be asked.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked here. Look at what is planned above, then repeat with --yes.")
    if not click.confirm(question, err=True):
        say("Nothing was changed.")
        sys.exit(EXIT_FAILED)


def selection_options(command: Command) -> Command:
    """The options that say which steps of a pipeline run."""
    for option in (
        click.option(
            "--allow-mixed",
            is_flag=True,
            help="Go on from an execution that had other values of parameters that its outputs depend on.",
        ),
        click.option("--to", "end", metavar="STEP", multiple=True, help="Run this step and all that lead to it."),
        click.option("--from", "start", metavar="STEP", multiple=True, help="Run this step and all that follow it."),
        click.option("--only", metavar="STEP", multiple=True, help="Run this step and no others (repeatable)."),
    ):
        command = option(command)
    return command


def run_options(*engines: str, engine_help: str) -> Callable[[Command], Command]:
    """The options that say where a pipeline is run."""

    def add(command: Command) -> Command:
        for option in (
            click.option(
                "--image", "images", type=ImageType(), multiple=True, help="The local image for one URI, or for all."
            ),
            click.option(
                "--engine",
                type=click.Choice(["auto", *engines]),
                default="auto",
                show_default=True,
                help=engine_help,
            ),
        ):
            command = option(command)
        return command

    return add


limits_option = click.option(
    "--no-limits", is_flag=True, help="Do not limit jobs to the memory and CPUs of their instance type."
)


def request_of(options: Mapping[str, Any], **more: Any) -> RunRequest:
    """The options of a command that say what is run, as a request. A command has some of them, or all."""
    from local_runner.planning.selection import Selection
    from local_runner.run.request import RunRequest

    pairs = {name: dict(options.get(name, ())) for name in ("parameters", "data", "images")}
    same = {
        name: options[name] for name in ("target", "date", "engine", "python", "max_parallel", "hot") if name in options
    }
    chosen = {name: options[name] for name in ("only", "start", "end", "resume", "allow_mixed") if name in options}
    return RunRequest(
        **pairs, **same, selection=Selection(**chosen), limits=not options.get("no_limits", False), **more
    )
