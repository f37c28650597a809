"""local_runner.toml -> the function that runs in place of each step of another service. Reads the functions' files."""

from __future__ import annotations

import ast

from local_runner.errors import Problem
from local_runner.models import PipelineDefinition, StandIn, Step
from local_runner.sagemaker_api.job_types import FUNCTION_KINDS
from local_runner.settings import Settings


def configured(definition: PipelineDefinition, settings: Settings) -> tuple[dict[str, StandIn], list[Problem]]:
    """What local_runner.toml says to run for the steps of the definition, by step, and what is wrong with it.

    Entries that fit no step are ignored: one project may hold several pipelines.
    """
    found: dict[str, StandIn] = {}
    problems: list[Problem] = []
    for step in definition.steps:
        table, keys = _keys(step)
        entries = settings.local.lambda_functions if table == "lambda" else settings.local.stand_ins
        key = next((key for key in keys if key in entries), None)
        if key is None:
            continue
        file, _, function = entries[key].rpartition(":")
        stand_in = StandIn(settings.root / file, function, entries[key])
        what = _fault(stand_in)
        if what:
            remedy = "Correct it in local_runner.toml, or the file."
            problems.append(Problem(f"[local.{table}] {key}", what, remedy, local=True))
        found[step.name] = stand_in
    return found, problems


def _keys(step: Step) -> tuple[str, tuple[str, ...]]:
    """The table of local_runner.toml for a step, and the keys it may stand under, the first one first."""
    if step.type == "Lambda":
        return "lambda", (step.name, step.function_arn or "", function_name(step))
    return "stand_ins", (step.name,) if step.type in FUNCTION_KINDS else ()


def function_name(step: Step) -> str:
    """The name of a Lambda step's function: ``clean`` of ``arn:aws:lambda:REGION:ACCOUNT:function:clean:ALIAS``."""
    parts = (step.function_arn or "").split(":")
    return parts[6] if len(parts) > 6 else parts[-1]


def _fault(stand_in: StandIn) -> str | None:
    """Why the function cannot be there, as far as the file's text says it."""
    try:
        body = ast.parse(stand_in.file.read_bytes())
    except OSError as error:
        return f"{stand_in.file} cannot be read: {error.strerror}."
    except (SyntaxError, ValueError) as error:
        return f"{stand_in.file} is not valid Python: {error}."
    names: set[str] = set()
    for node in ast.walk(body):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name)
            case _:
                pass
    return None if names & {stand_in.function, "*"} else f"{stand_in.file} has no function '{stand_in.function}'."
