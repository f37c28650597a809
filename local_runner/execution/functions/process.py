"""Runs one stand-in in a process of its own. Starts that process, writes its log and scratch files; no network.

A user's stop ends the function. The cloud waits for a Lambda function to end before it stops the execution (API
reference, StopPipelineExecution); here somebody waits at a terminal.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from local_runner.engines.host_log import HostLog
from local_runner.execution.functions.settings import function_name
from local_runner.jsontext import as_object, parse_json
from local_runner.models import StandIn, Step
from local_runner.secrets import Secrets

LAMBDA_SECONDS = 600.0
"""A Lambda step ends after ten minutes. Source: developer guide, Lambda step."""

_GRACE_SECONDS = 2.0
_CALL = Path(__file__).with_name("call.py")
# Everything else of the environment stays out: credentials, endpoints and settings of the cloud above all.
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")


@dataclass(frozen=True)
class Returned:
    """How a function ended: its ``value``, or why it has none. ``stopped`` is the user's doing."""

    value: Any = None
    failure_reason: str | None = None
    exit_code: int | None = 0
    stopped: bool = False


@dataclass(frozen=True)
class Call:
    """A function, the step that it stands in for, and the event that it gets.

    ``seconds`` is the longest it may take (None: a Lambda step LAMBDA_SECONDS, others as long as they want).
    """

    stand_in: StandIn
    step: Step
    event: Any
    seconds: float | None = None


@dataclass(frozen=True)
class Places:
    """Where a function's process finds and leaves things.

    ``work`` is scratch space, its HOME; ``log`` the file for its output; ``s3`` the tree of the local S3, which it is
    in the variable LOCAL_RUNNER_S3.
    """

    work: Path
    log: Path
    s3: Path


def run(
    call: Call,
    places: Places,
    on_line: Callable[[str], None],
    stop: threading.Event,
    secrets: Secrets | None = None,
) -> Returned:
    """Call the function with its event (and, for a Lambda step, a context) in a process of its own.

    ``secrets`` are masked in what it prints. Its directory is that of its file.
    """
    stand_in, step, work = call.stand_in, call.step, places.work
    work.mkdir(parents=True, exist_ok=True)
    limit = LAMBDA_SECONDS if call.seconds is None and step.type == "Lambda" else call.seconds
    request, result = work / "request.json", work / "result.json"
    context = _context(step, limit or LAMBDA_SECONDS) if step.type == "Lambda" else None
    request.write_text(
        json.dumps({"file": str(stand_in.file), "function": stand_in.function, "event": call.event, "context": context})
    )
    # -P: this project's own modules are not to be found where the function looks for its own.
    command = [sys.executable, "-P", "-u", str(_CALL), str(request), str(result)]
    with closing(HostLog(places.log, on_line, secrets)) as host_log:
        process = subprocess.Popen(
            command,
            cwd=stand_in.file.parent,
            env=_environment(work, places.s3),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended = _follow(process, host_log, stop, None if limit is None else monotonic() + limit)
        finally:
            _end(process)
    if ended == "stopped":
        return Returned(failure_reason="Stopped.", exit_code=None, stopped=True)
    if ended == "timeout":
        return Returned(failure_reason=f"{stand_in.entry} ran longer than {limit:g} s and was ended.", exit_code=None)
    return _returned(stand_in, result, process.returncode)


def _context(step: Step, seconds: float) -> dict[str, Any]:
    name = function_name(step) or step.name
    return {"arn": step.function_arn, "name": name, "request_id": str(uuid.uuid4()), "seconds": seconds}


def _environment(home: Path, s3: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    # Its own HOME hides ~/.aws; the other keeps boto3 from asking an EC2 host for credentials.
    return {**kept, "HOME": str(home), "LOCAL_RUNNER_S3": str(s3), "AWS_EC2_METADATA_DISABLED": "true"}


def _follow(
    process: subprocess.Popen[bytes], log: HostLog, stop: threading.Event, deadline: float | None
) -> Literal["ended", "stopped", "timeout"]:
    """Pass its output on until it ends, is to be stopped, or its time is up."""
    assert process.stdout is not None
    output = process.stdout.fileno()
    os.set_blocking(output, False)
    while True:
        over = process.poll() is not None  # asked before reading, so that its last lines are read
        select.select([output], [], [], 0 if over else 0.05)
        data = b""
        with suppress(BlockingIOError):
            data = os.read(output, 65536)
        if data:
            log.write(data)
        elif over:
            return "ended"
        elif stop.wait(0.005):  # a function that closed its output would otherwise keep this loop busy
            return "stopped"
        if stop.is_set():
            return "stopped"
        if deadline is not None and monotonic() > deadline:
            return "timeout"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started; SIGTERM, then SIGKILL."""
    for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.stdout is not None:
        process.stdout.close()


def _returned(stand_in: StandIn, file: Path, exit_code: int) -> Returned:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return Returned(
            failure_reason=f"{stand_in.entry} ended with exit code {exit_code} and returned nothing.",
            exit_code=exit_code,
        )
    try:
        result = as_object(parse_json(text))
    except ValueError as error:
        return Returned(failure_reason=f"{stand_in.entry} returned what {error}", exit_code=exit_code)
    if result is None or not {"error", "value"} & result.keys():
        what = f"{stand_in.entry} ended with exit code {exit_code}, and something else wrote its result."
        return Returned(failure_reason=what, exit_code=exit_code)
    if "error" in result:
        return Returned(failure_reason=f"{stand_in.entry} failed: {result['error']}", exit_code=exit_code)
    return Returned(result["value"])
