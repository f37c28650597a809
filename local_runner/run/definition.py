"""A target -> its definition: compiled where it is a ``.py``, read from a file anywhere else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from local_runner.compile.compiler import compile_pipeline
from local_runner.definition.parser import inspect_definition
from local_runner.errors import Problem, SettingsError
from local_runner.models import PipelineDefinition
from local_runner.project import Project
from local_runner.sagemaker_api.service_rules import pipeline_name_problems
from local_runner.storage.files import keep_private


@dataclass(frozen=True)
class Loaded:
    """A definition: parsed as far as it could be, with its problems, and as JSON text."""

    definition: PipelineDefinition
    problems: list[Problem]
    text: str

    @cached_property
    def document(self) -> Any:
        """The JSON of a definition that has no problems."""
        return json.loads(self.text)


def load_definition(project: Project, target: str | None, python: Path | None = None) -> Loaded:
    """The definition of a target (None: the project's own). ``python`` compiles it, by default this one.

    Raises CompileError, or SettingsError for a file that cannot be read.
    """
    keep_private(project.state)
    if target is None or re.search(r"\.py(:\w+)?$", target):
        compiled = compile_pipeline(project, target, python=python)
        loaded = from_text(compiled.name, compiled.definition)
        # Of a file the name is only its own, unless it says one that the service has taken already.
        loaded.problems[:0] = pipeline_name_problems(compiled.name, "the pipeline's name")
        return loaded
    return from_text(Path(target).stem, _read(target))


def from_text(name: str, text: str) -> Loaded:
    """A definition that is there as JSON; ``name`` is for one that says none itself."""
    return Loaded(*inspect_definition(text, name), text)


def _read(target: str) -> str:
    try:
        return Path(target).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{target} is no pipeline definition: it is not UTF-8 text.") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"{target} cannot be read: {why}. TARGET is a pipeline.py or a definition JSON file."
        ) from None
