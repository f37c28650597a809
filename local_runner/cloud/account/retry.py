"""A write tried again while the account does not know a new role everywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from local_runner.cloud.account.aws import AwsError

_PATIENCE_SECONDS = 60.0

_FIRST_WAIT_SECONDS = 1.0

_LONGEST_WAIT_SECONDS = 8.0

Answer = TypeVar("Answer")


def retry_until_assumable(
    write: Callable[[], Answer],
    sleep: Callable[[float], None] = time.sleep,
    patience: float = _PATIENCE_SECONDS,
) -> Answer:
    """What ``write`` returns, tried again for at most ``patience`` seconds while a new role is not known everywhere.

    A role that was just made can take some ten seconds to be seen by other services, which then say that they cannot
    assume it (IAM user guide, Troubleshooting: changes that I make are not always immediately visible).
    """
    wait, waited = _FIRST_WAIT_SECONDS, 0.0
    while True:
        try:
            return write()
        except AwsError as error:
            if waited >= patience or not _not_yet_assumable(error):
                raise
        sleep(wait)
        waited += wait
        wait = min(wait * 2, _LONGEST_WAIT_SECONDS)


def _not_yet_assumable(error: AwsError) -> bool:
    text = str(error.message).lower()
    return error.code.startswith(("Validation", "InvalidParameter")) and "role" in text and "assume" in text
