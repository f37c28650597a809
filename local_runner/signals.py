"""The signals that end a command: Ctrl-C, SIGTERM, and SIGHUP of a terminal that was closed. Imports nothing slow."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], None]


def handle(handler: Handler) -> dict[int, Handler | int | None]:
    """Give every signal that ends a command this handler; the handlers that were there before.

    SIGHUP stays ignored where it is: that is what ``nohup`` asks for. Signals can only be taken in the main thread; in
    others (a notebook's, a test's) nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [each for each in ENDING if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


@contextmanager
def handled(handler: Handler) -> Generator[None]:
    """``handle`` for the time of a block."""
    before = handle(handler)
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Every signal that ends a command is Ctrl-C to what runs."""
    raise KeyboardInterrupt
