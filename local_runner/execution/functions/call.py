"""Imports one function, calls it and writes its result, in the process that
:mod:`local_runner.execution.functions.process` starts for it.

Reads the request file (``file``, ``function``, ``event`` and, for a Lambda function, ``context``) and writes the
result file: ``{"value": ...}``, or ``{"error": ...}`` with the last line of the traceback. What the function prints,
and the traceback, go to stdout and stderr. Of this project nothing is imported, so that the function meets only its
own modules.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class LambdaContext:
    """The context object of Lambda's Python runtime, as far as there is something to say on this machine."""

    function_version = "$LATEST"
    memory_limit_in_mb = "128"
    identity = None
    client_context = None

    def __init__(self, arn: str, name: str, request_id: str, seconds: float) -> None:
        self.invoked_function_arn = arn
        self.function_name = name
        self.aws_request_id = request_id
        self.log_group_name = f"/aws/lambda/{name}"
        self.log_stream_name = request_id
        self._deadline = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is ended."""
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def main(request_file: str, result_file: str) -> int:
    """Call the function and write its result. The exit code is 1 where it raised an exception."""
    _end_with_the_runner()
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    try:
        function = _function(Path(request["file"]), request["function"])
        context = (LambdaContext(**request["context"]),) if request["context"] else ()
        result = json.dumps({"value": function(request["event"], *context)}, allow_nan=False)
    except Exception as error:
        # The first frame is this file's, which is no concern of the reader's.
        traceback.print_exception(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
        last = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        result = json.dumps({"error": last})
    Path(result_file).write_text(result, encoding="utf-8")
    return 1 if result.startswith('{"error"') else 0


def _end_with_the_runner() -> None:
    """A killed runner must leave nothing that goes on running. Linux only: elsewhere the function runs to its end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _function(file: Path, name: str) -> Callable[..., Any]:
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
