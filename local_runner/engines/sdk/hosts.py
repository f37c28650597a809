"""The hosts of a job in stock local mode: their logs, and how each ended. Writes the logs.

Without the docker package, so that a step's module can import it at the start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from local_runner.engines import OnLine
from local_runner.engines.host_log import HostLog
from local_runner.models import HostResult
from local_runner.secrets import Secrets

if TYPE_CHECKING:
    from local_runner.engines.sdk.containers import Ended
    from local_runner.engines.sdk.job import SdkEnd

_TAKEN_FOR_SUCCESS = 130
_NOT_STARTED = re.compile(r'exec: "(?P<program>[^"]+)": (?P<why>.+?)(?:: unknown)?\W*$', re.MULTILINE)
_RUN_BY_SAGEMAKER = ("train", "serve")


@contextmanager
def host_logs(logs: Mapping[str, Path], on_line: OnLine, secrets: Secrets) -> Generator[dict[str, HostLog]]:
    """The log of each host, by its name, open. ``secrets`` are masked in it."""

    def hear(host: str) -> Callable[[str], None]:
        return lambda line: on_line(host, line)

    with ExitStack() as stack:
        yield {host: stack.enter_context(closing(HostLog(path, hear(host), secrets))) for host, path in logs.items()}


def host_results(hosts: Sequence[str], end: SdkEnd) -> tuple[HostResult, ...]:
    """How each host ended. An error that no exit code shows is the first host's."""
    results = [_result(host, end.containers.get(host), end.trouble, len(hosts)) for host in hosts]
    if end.error and all(result.exit_code == 0 for result in results):
        results[0] = HostResult(results[0].host, None, f"stock local mode failed: {end.error}")
    return tuple(results)


def not_started(trouble: str) -> str | None:
    """What docker compose's message of a program that could not be started comes to; None where it is about another."""
    found = _NOT_STARTED.search(trouble)
    if found is None:
        return None
    what = f"the image has no '{found['program']}' that can be started ({found['why']})"
    if found["program"] not in _RUN_BY_SAGEMAKER:
        return what
    return f"{what}. SageMaker runs it: put it on the image's PATH, or give the image an ENTRYPOINT"


def _result(host: str, ended: Ended | None, error: str, hosts: int) -> HostResult:
    code = ended.exit_code if ended else None
    if code is None:
        return HostResult(host, None, f"stock local mode failed: {error}" if error else "it never started")
    if ended and ended.out_of_memory:
        return HostResult(host, code, "the kernel killed it, out of memory")
    if code == _TAKEN_FOR_SUCCESS:
        return HostResult(host, code, "stock local mode takes this for success")
    if code in (126, 127) and (what := not_started(error)):
        return HostResult(host, code, what)
    if hosts > 1 and code in (137, 143):
        return HostResult(host, code, "stock local mode stops all hosts when the first one ends")
    return HostResult(host, code)
