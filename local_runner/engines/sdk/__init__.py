"""The SDK's stock local mode, the reference of the other engines."""

from local_runner.engines import Capabilities

CAPABILITIES = Capabilities(runs_image=True, caches=False, stock_jobs=True)
