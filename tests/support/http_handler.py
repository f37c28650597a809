"""A handler of HTTP requests that loses no time."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import Any


class QuickHandler(BaseHTTPRequestHandler):
    """Keeps connections, and sends an answer as one write at once: in pieces, each would wait 40 ms for the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def handle_expect_100(self) -> bool:
        """Tell the client at once that it may go on: it would wait a second."""
        accepted = super().handle_expect_100()
        self.wfile.flush()
        return accepted
