"""A step's attempts: which exceptions it is tried again after, how often and when. Waits; no other I/O.

As the developer guide has it (Retry Policy for Pipeline Steps): MaxAttempts counts retries, ExpireAfterMin is
counted from the step's start, and Step.SERVICE_FAULT and Step.THROTTLING are retried without a policy as well. What
it does not say and is chosen here: of several policies that name an exception the first one applies, each policy
counts its own retries, and without a policy those two exceptions are retried as one with every default would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import TIMEOUT_MAX
from time import monotonic

from local_runner.execution.ended import Ended
from local_runner.models import PlannedStep, RetryPolicy, ServiceException

WITHOUT_POLICY = RetryPolicy(("Step.SERVICE_FAULT", "Step.THROTTLING"))


def with_retries(
    planned: PlannedStep,
    attempt: Callable[[int], Ended],
    *,
    say: Callable[[str], None],
    wait: Callable[[float], bool],
    clock: Callable[[], float] = monotonic,
) -> Ended:
    """The end of the step's last attempt. ``attempt`` makes one, given its number (from 1).

    ``say`` gets a line for each attempt that is followed by another; ``wait`` waits for seconds, and returns whether
    the execution is to stop; ``clock`` counts seconds.
    """
    started = clock()
    policies = (*planned.step.retry_policies, WITHOUT_POLICY)
    retries = [0] * len(policies)
    number = 0
    while True:
        number += 1
        ended = attempt(number)
        exception = ended.exception
        if exception is None:
            return ended
        chosen = next((index for index, policy in enumerate(policies) if exception in policy.exceptions), None)
        if chosen is None:
            return _given_up(ended, exception, number, "No retry policy of the step names it.")
        policy, done = policies[chosen], retries[chosen]
        if policy.max_attempts is not None and done >= policy.max_attempts:
            return _given_up(ended, exception, number, f"MaxAttempts of its retry policy is {policy.max_attempts}.")
        if policy.expire_after_min is not None and clock() - started >= policy.expire_after_min * 60:
            return _given_up(
                ended, exception, number, f"ExpireAfterMin of its retry policy is {policy.expire_after_min}."
            )
        retries[chosen] += 1
        seconds = _interval(policy, done)
        say(f"Step '{planned.step.name}': {exception} in attempt {number}; the next one starts in {seconds:g} s.")
        if wait(seconds):
            reason = f"Stopped while it waited for attempt {number + 1} ({exception})."
            return replace(ended, step=replace(ended.step, status="Stopped", failure_reason=reason), exception=None)


def _interval(policy: RetryPolicy, done: int) -> float:
    """Seconds before the next retry, when ``done`` of them were made."""
    if not policy.interval_seconds:
        return 0.0
    try:
        return min(policy.interval_seconds * policy.backoff_rate**done, TIMEOUT_MAX)
    except OverflowError:
        return TIMEOUT_MAX


def _given_up(ended: Ended, exception: ServiceException, number: int, why: str) -> Ended:
    attempts = "1 attempt" if number == 1 else f"{number} attempts"
    reason = f"{exception} after {attempts}: {ended.step.failure_reason}\n{why}"
    return replace(ended, step=replace(ended.step, failure_reason=reason))
