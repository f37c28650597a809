"""SageMaker Pipelines on this machine: the pipeline that is deployed, run in seconds, with no AWS account.

The stages are functions from one frozen dataclass to the next (``models``), each with one I/O rule:

    compile      pipeline.py -> definition JSON             a process of its own; the only place that needs the SDK
    definition   JSON -> PipelineDefinition                 no I/O; collects every problem
    planning     PipelineDefinition -> Plan                 no I/O but the cache of the API's limits
    executor     Plan + engine -> Execution                 runs jobs; files through contract and storage
    report       Execution -> terminal, JSON                writes to the stream it is given

``runner`` puts them in a row, ``cli`` is the command line, ``pytest_plugin`` the fixture ``local_run``, and
``LocalPipelineSession`` the SDK session for notebooks:

    from local_runner import LocalPipelineSession

    session = LocalPipelineSession(data={"s3://my-bucket/raw": "data/sample"})

Importing this package imports nothing else. The session is loaded when it is first asked for, and the SDK with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local_runner.notebook.session import LocalPipelineSession

__all__ = ["LocalPipelineSession"]


def __getattr__(name: str) -> object:
    if name == "LocalPipelineSession":
        from importlib.util import find_spec

        if find_spec("sagemaker") is None:
            from local_runner.errors import without_sdk

            raise ImportError(without_sdk(name))
        from local_runner.notebook.session import LocalPipelineSession

        return LocalPipelineSession
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
