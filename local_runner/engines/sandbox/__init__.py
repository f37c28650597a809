"""Namespaces of this machine: no Docker, no image."""

from local_runner.engines import Capabilities

CAPABILITIES = Capabilities()
