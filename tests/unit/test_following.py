"""A job that is followed: its output is passed on, and it is ended when it is to stop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from math import inf
from threading import Event

import pytest

from local_runner.engines.following import Ending, Followed, StillRunsError, follow
from local_runner.models import StopReason


class Job:
    """Two outputs, as the job's end of them and the follower's; ``sent`` are the signals that it got."""

    def __init__(self) -> None:
        self.pipes = [os.pipe() for _ in range(2)]
        self.taken = [bytearray(), bytearray()]
        self.sent: list[str] = []
        self.open = {descriptor for pipe in self.pipes for descriptor in pipe}

    def close(self, descriptor: int) -> None:
        if descriptor in self.open:
            self.open.remove(descriptor)
            os.close(descriptor)

    def say(self, number: int, text: bytes) -> None:
        os.write(self.pipes[number][1], text)

    def end(self, *numbers: int) -> None:
        for number in numbers or range(2):
            self.close(self.pipes[number][1])

    def signalled(self, name: str, ends: bool) -> Callable[[], None]:
        def signal() -> None:
            self.sent.append(name)
            if ends:
                self.end()

        return signal

    def followed(self, *, ends_on: str = "kill", end: int | None = None, kill_seconds: float = inf) -> Followed:
        return Followed(
            {reader: taken.extend for (reader, _), taken in zip(self.pipes, self.taken, strict=True)},
            self.signalled("terminate", ends_on == "terminate"),
            self.signalled("kill", ends_on == "kill"),
            end=None if end is None else self.pipes[end][0],
            kill_seconds=kill_seconds,
        )


@pytest.fixture
def job() -> Iterator[Job]:
    made = Job()
    yield made
    for descriptor in list(made.open):
        made.close(descriptor)


def stopping() -> Event:
    stop = Event()
    stop.set()
    return stop


def test_what_a_job_prints_is_taken_to_its_end(job: Job) -> None:
    job.say(0, b"one")
    job.say(1, b"two")
    job.end()
    assert follow(job.followed(), Ending(inf, Event())) == ""
    assert [bytes(taken) for taken in job.taken] == [b"one", b"two"]
    assert job.sent == []


@pytest.mark.parametrize("ends_on", ["terminate", "kill"])
def test_a_job_that_is_stopped_has_the_grace_period(job: Job, ends_on: str) -> None:
    grace: dict[StopReason, float] = {"interrupted": inf if ends_on == "terminate" else 0.01}
    assert follow(job.followed(ends_on=ends_on), Ending(inf, stopping(), grace)) == "interrupted"
    assert job.sent == ["terminate", "kill"][: 1 if ends_on == "terminate" else 2]


def test_without_a_grace_period_it_is_killed_at_once(job: Job) -> None:
    assert follow(job.followed(), Ending(0, Event(), {"max_runtime": 0})) == "max_runtime"
    assert job.sent == ["kill"]


def test_a_job_that_does_not_end_when_it_is_killed_is_not_waited_for(job: Job) -> None:
    with pytest.raises(StillRunsError):
        follow(job.followed(ends_on="", kill_seconds=0.01), Ending(inf, stopping(), {"interrupted": 0.01}))
    assert job.sent == ["terminate", "kill"]


@pytest.mark.slow
def test_what_outlives_a_job_and_holds_its_output_open_is_not_waited_for(job: Job) -> None:
    job.say(1, b"the last words")
    job.end(0)
    assert follow(job.followed(end=0), Ending(inf, Event())) == ""
    assert bytes(job.taken[1]) == b"the last words"
    assert job.sent == []
