"""Values that a test needs to be there, and conditions that it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def there(value: T | None) -> T:
    """The value; None fails the test."""
    assert value is not None
    return value


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition; fails the test where it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
