"""SageMaker's pipelines for a notebook: an SDK session whose pipelines are created and run on this machine.

    session (the SDK's session class) -> service (the API's operations) -> execution (a run in a thread of its own)

Only ``session`` imports the SDK. Nothing here decides how a pipeline runs: that is ``local_runner.run.pipeline``.
"""
