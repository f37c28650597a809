"""What the hosts of a job printed, from CloudWatch Logs. Reads only.

A job's hosts have a stream each in the log group of its kind, named ``<job>/<host>-<time>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_runner.cloud.account.aws import Aws, AwsError
from local_runner.cloud.executions.api import CloudJob

_PAGE = 10_000  # GetLogEvents: the most events of one answer


@dataclass(frozen=True)
class LogLine:
    """A line that a host printed. ``time`` is in milliseconds since 1970."""

    host: str
    text: str
    time: int = 0


def last_lines(aws: Aws, job: CloudJob, most: int) -> list[LogLine]:
    """The last ``most`` lines of each of the job's hosts, one host after the other. Empty where nothing was logged."""
    return [line for stream in _streams(aws, job) for line in _end(aws, job, stream, most)[0]]


@dataclass
class JobLog:
    """A job's log, read on and on: each ``more`` gives the lines since the one before, as the hosts printed them.

    ``tail`` is how many lines of each host's past the first answer has (None: all).
    """

    job: CloudJob
    tail: int | None = None
    _tokens: dict[str, str] = field(default_factory=dict[str, str])

    def more(self, aws: Aws) -> list[LogLine]:
        """What came since the last time; the lines of several hosts in the order of their times. Raises AwsError."""
        lines: list[LogLine] = []
        for stream in _streams(aws, self.job):
            if self.tail is not None and stream not in self._tokens:
                past, self._tokens[stream] = _end(aws, self.job, stream, self.tail)
                lines += past
            lines += self._forward(aws, stream)
        return sorted(lines, key=lambda line: line.time)

    def _forward(self, aws: Aws, stream: str) -> Iterator[LogLine]:
        # The end is reached when the token comes back, not when a page is empty (GetLogEvents, API reference).
        while True:
            before = self._tokens.get(stream)
            position = {"nextToken": before} if before else {}
            answer = _page(aws, self.job, stream, startFromHead=True, limit=_PAGE, **position)
            self._tokens[stream] = str(answer["nextForwardToken"])
            yield from _lines(stream, answer["events"])
            if self._tokens[stream] == before:
                return


def _streams(aws: Aws, job: CloudJob) -> list[str]:
    """The names of the job's streams, algo-2 before algo-10."""
    try:
        found = aws.pages(
            "logs",
            "describe_log_streams",
            "logStreams",
            logGroupName=job.log_group,
            logStreamNamePrefix=f"{job.name}/",
        )
    except AwsError as error:
        if not error.not_found:
            raise
        return []  # no job of this kind has printed anything in this account
    names = [str(stream["logStreamName"]) for stream in found]
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", name)])


def _end(aws: Aws, job: CloudJob, stream: str, most: int) -> tuple[list[LogLine], str]:
    """The last ``most`` lines of a stream, and the token of what comes after them.

    An answer may be short, or empty, with more before it; the beginning is reached when the token comes back.
    """
    answer = _page(aws, job, stream, startFromHead=False, limit=max(min(most, _PAGE), 1))
    events: list[dict[str, Any]] = answer["events"]
    after, before = str(answer["nextForwardToken"]), str(answer["nextBackwardToken"])
    while len(events) < most:
        answer = _page(aws, job, stream, nextToken=before, startFromHead=False, limit=min(most, _PAGE))
        events = [*answer["events"], *events]
        if answer["nextBackwardToken"] == before:
            break
        before = str(answer["nextBackwardToken"])
    return _lines(stream, events[-most:] if most else []), after


def _page(aws: Aws, job: CloudJob, stream: str, **where: Any) -> dict[str, Any]:
    return aws.call("logs", "get_log_events", logGroupName=job.log_group, logStreamName=stream, **where)


def _lines(stream: str, events: Sequence[dict[str, Any]]) -> list[LogLine]:
    name = stream.rpartition("/")[2]
    host = re.sub(r"-\d{6,}$", "", name)  # algo-1-1700000000; a transform job's is the id of an instance
    return [LogLine(host, str(event["message"]).rstrip("\n"), int(event["timestamp"])) for event in events]
