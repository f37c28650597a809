"""The SageMaker Python SDK in the process that compiles: set up so that no call leaves the machine.

Importing it takes seconds, and changes boto3 for the whole process: only ``program.py`` does.
"""

# The SDK and boto3 ship no types, so what comes out of them is unknown to the type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false, reportMissingTypeArgument=false
# pyright: reportUntypedBaseClass=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false, reportMissingImports=false

from __future__ import annotations

import json
from typing import Any

import boto3
from botocore import handlers

from local_runner.compile.boto import LazySession, refuse

# Before the SDK is imported, as its modules make clients of the default session while they load. Every session of
# this process refuses, also one that pipeline.py makes itself.
handlers.BUILTIN_HANDLERS.append(("before-call", refuse))
boto3.DEFAULT_SESSION = LazySession()

from local_runner.compile.offline import OfflineSession, Pipeline
from local_runner.compile.uploads import Uploads


def session(bucket: str, role_arn: str, account: str, uploads: Uploads) -> OfflineSession:
    """The session that pipeline.py is given."""
    return OfflineSession(bucket, role_arn, account, uploads, boto3.DEFAULT_SESSION)


def is_pipeline(value: object) -> bool:
    """Whether that is a Pipeline of the SDK."""
    return isinstance(value, Pipeline)


def definition_of(pipeline: Any) -> Any:
    """The definition of a pipeline, parsed. Raises whatever the SDK raises."""
    return json.loads(pipeline.definition())
