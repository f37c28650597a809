"""How long to wait before asking the account again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_FIRST_SECONDS = 1.0

_LONGEST_SECONDS = 20.0

_BACK_OFF = 1.5


@dataclass
class Pace:
    """How long to wait before asking again, in seconds: longer and longer while nothing happens."""

    first: float = _FIRST_SECONDS
    longest: float = _LONGEST_SECONDS
    sleep: Callable[[float], None] = time.sleep
    _next: float = field(default=0.0, init=False)

    def wait(self, *, changed: bool) -> float:
        """Wait for one interval, which is returned. ``changed``: something has happened, and more may soon."""
        self._next = self.first if changed or not self._next else min(self._next * _BACK_OFF, self.longest)
        self.sleep(self._next)
        return self._next
