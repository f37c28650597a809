"""Containers, through the Engine API."""

from local_runner.engines import Capabilities

CAPABILITIES = Capabilities(runs_image=True, hot_workers=True)
