"""Every error a user can meet, and the exit code each carries. No I/O.

    click.ClickException
    └── LocalRunnerError            exit code 2: usage or configuration
        ├── SettingsError           local_runner.toml, flags, files that are not there
        ├── CompileError            pipeline.py could not be turned into a definition
        ├── InvalidPipelineError    problems of the definition or the parameters, all of them; 4 where all are local
        └── EngineError             4: no engine or image can run this; what to install

A step that fails is data in the Execution (exit code 1), not an exception; DataError carries it inside a run.
Ctrl-C is exit code 130.
Every message says what is wrong, where it stands, and what to do.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

EXIT_SUCCEEDED = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_LACKING = 4  # 3 is that of `plan` and `status` with --exit-code: there are differences
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a definition or its parameters, found before anything runs.

    ``where`` is the path in the definition (``Steps[0].Arguments.AppSpecification.ImageUri``), ``what`` a sentence,
    ``remedy`` what the reader does about it. ``local`` is whether AWS would take it: only this machine lacks something.
    """

    where: str
    what: str
    remedy: str = ""
    local: bool = False

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} {self.remedy}" if self.remedy else text


def debugging() -> bool:
    """Whether the command line was given ``--debug``, which shows tracebacks."""
    return "--debug" in sys.argv


NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
UNWRITABLE = (errno.EROFS, errno.EACCES)


def says_no_room(reason: str) -> bool:
    """Whether a failure's reason is that a disk is full: the system's message, which jobs repeat, too."""
    return any(os.strerror(number) in reason for number in NO_ROOM)


COMPILE_EXTRA = "pip install 'local-runner[compile]'"
"""What installs the SageMaker SDK, which is an extra."""


def without_sdk(what: str) -> str:
    """The message where the SDK is needed and not installed. ``what`` is a subject: who needs it."""
    return f"{what} needs the SageMaker SDK, which is not installed here. Install the extra: {COMPILE_EXTRA}"


def system_trouble(error: OSError, place: object = None) -> str:
    """What the operating system refused, where, and what to do. ``place`` is where, if the error does not say."""
    where = error.filename2 or error.filename or place
    at = f"{where}: " if where else ""
    remedy = {
        errno.ENOSPC: "Free space there, or keep the state elsewhere: --state DIR.",
        errno.EDQUOT: "Free space there, or keep the state elsewhere: --state DIR.",
        errno.EACCES: "Give yourself access to it, or use another.",
        errno.EROFS: "Use a place that can be written to, such as --state DIR.",
        errno.EISDIR: "A directory has the name of a file here: remove or rename it, then run again.",
        errno.EMFILE: "Raise the limit (ulimit -n), or run fewer steps at once: --max-parallel N.",
    }.get(error.errno or 0, "")
    return f"{at}{error.strerror or error}. {remedy}".rstrip()


class DataError(Exception):
    """Data a step needs is missing or cannot be kept; the text is the step's FailureReason."""


class LocalRunnerError(click.ClickException):
    """The root of the tree; shown as ``Error: <message>`` without a traceback."""

    exit_code = EXIT_USAGE


class SettingsError(LocalRunnerError):
    """Settings, flags or files of the project are wrong or missing."""


class CompileError(LocalRunnerError):
    """The pipeline module could not be compiled to a definition."""


class EngineError(LocalRunnerError):
    """No engine can be had, or the chosen one cannot run this pipeline."""

    exit_code = EXIT_LACKING


class InvalidPipelineError(LocalRunnerError):
    """The definition or its parameters have problems; carries every one of them, the local ones last."""

    def __init__(self, target: str, problems: Sequence[Problem]) -> None:
        self.target = target
        self.problems = tuple(sorted(problems, key=lambda problem: problem.local))
        wrong = [problem for problem in problems if not problem.local]
        self.exit_code = EXIT_USAGE if wrong else EXIT_LACKING  # pyright: ignore[reportAttributeAccessIssue]
        lines: list[str] = []
        for number, problem in enumerate(self.problems, 1):
            if number in (1, len(wrong) + 1):
                count = len(problems) - len(wrong) if problem.local else len(wrong)
                only_here = " on this machine only, and not on AWS" if problem.local else ""
                lines.append(f"{target} has {count} problem{'' if count == 1 else 's'}{only_here}:")
            lines.append(f"  {number}. {problem}")
        super().__init__("\n".join(lines))
