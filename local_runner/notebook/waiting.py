"""``execution.wait()`` that returns when the execution ends, and not at the next poll. No I/O.

The SDK waits with a botocore waiter that asks for the status every 30 s, and knows no status Stopped. Here the question
itself waits, if it is a waiter that asks.
"""

# botocore ships no types, so what comes out of it is unknown to the type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from botocore.exceptions import WaiterError
from botocore.waiter import Waiter

from local_runner.notebook.execution import LocalExecution


def calling_waiter() -> Any | None:
    """The botocore waiter on whose behalf the current call is made, if there is one."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_code.co_name == "wait" and isinstance(frame.f_locals.get("self"), Waiter):
            return frame.f_locals["self"]
        frame = frame.f_back
    return None


def wait_for(execution: LocalExecution, waiter: Any) -> None:
    """Wait until the execution is over, for as long as the waiter would at most.

    Raises WaiterError where that is not long enough, and for an execution that was stopped: the waiter would go on.
    """
    seconds = waiter.config.delay * waiter.config.max_attempts
    if not execution.wait(seconds):
        reason = f"Max attempts exceeded: the execution still runs after {seconds} s"
    elif execution.status == "Stopped":
        reason = "Waiter encountered a terminal failure state: the execution is Stopped"
    else:
        return
    raise WaiterError(name=waiter.name, reason=reason, last_response={"PipelineExecutionStatus": execution.status})
