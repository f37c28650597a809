"""The SageMaker Python SDK, offline. The only module that imports it; no call leaves the machine.

Only the process that compiles (``program.py``) loads it: importing it takes seconds.
"""

# The SDK and boto3 ship no types, so what comes out of them is unknown to the type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false, reportMissingTypeArgument=false
# pyright: reportUntypedBaseClass=false, reportUnknownLambdaType=false, reportMissingTypeStubs=false, reportMissingImports=false

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
from botocore import handlers

from local_runner.compile.uploads import Uploads

CONFIG = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
"""The SDK's defaults config: no telemetry."""


class OfflineError(RuntimeError):
    """pipeline.py, or the SDK on its behalf, asked AWS something."""


def _refuse(model: Any, **_: Any) -> None:
    service = model.service_model.service_name
    remedy = (
        "Create the function apart from the pipeline, and name it: Lambda(function_arn=...)."
        if service == "lambda"
        else "Pass sagemaker_session=session to whatever takes it, take the bucket, role, image and region from "
        "'settings', and make other values pipeline parameters."
    )
    raise OfflineError(f"{service}:{model.name} is a call to AWS; a pipeline is compiled offline. {remedy}")


class _Lazy:
    """A client that is made when it is first used: the SDK makes a dozen that a definition never needs."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)


class _BotoSession(boto3.Session):
    def client(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return _Lazy(lambda: super(_BotoSession, self).client(*args, **kwargs))

    def resource(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return _Lazy(lambda: super(_BotoSession, self).resource(*args, **kwargs))


# Before the SDK is imported, as its modules make clients of the default session while they load.
handlers.BUILTIN_HANDLERS.append(("before-call", _refuse))
boto3.DEFAULT_SESSION = _BotoSession()

from sagemaker.core.config.config_manager import SageMakerConfig
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.mlops.workflow.pipeline import Pipeline


def _validate_once(validate: Callable[[Any], None]) -> Callable[[Any], None]:
    """The SDK validates its whole configuration at every look into it: half of the time of a compile."""
    seen: set[str] = set()

    def validate_new(sagemaker_config: Any = None) -> None:
        text = json.dumps(sagemaker_config, sort_keys=True, default=repr)
        if text not in seen:
            validate(sagemaker_config)
            seen.add(text)

    return validate_new


SageMakerConfig.validate_sagemaker_config = staticmethod(  # type: ignore[assignment]
    _validate_once(SageMakerConfig.validate_sagemaker_config)
)


class OfflineSession(PipelineSession):
    """The PipelineSession that pipeline.py is given: answers from what it was told, and keeps uploads."""

    def __init__(self, bucket: str, role_arn: str, account: str, uploads: Uploads) -> None:
        self._bucket, self._role_arn, self._account, self._uploads = bucket, role_arn, account, uploads
        super().__init__(boto_session=boto3.DEFAULT_SESSION, default_bucket=bucket, sagemaker_config=CONFIG)

    def default_bucket(self) -> str:
        return self._bucket

    def account_id(self) -> str:
        return self._account

    def get_caller_identity_arn(self) -> str:
        return self._role_arn

    def expand_role(self, role: str) -> str:
        return role if "/" in role else f"arn:aws:iam::{self._account}:role/{role}"

    def upload_data(
        self,
        path: str,
        bucket: str | None = None,
        key_prefix: str = "data",
        callback: Any = None,
        extra_args: Any = None,
    ) -> str:
        return self._uploads.path(str(path), bucket or self._bucket, key_prefix)

    def upload_string_as_file_body(
        self, body: str | bytes, bucket: str | None, key: str, kms_key: str | None = None
    ) -> str:
        return self._uploads.body(body, bucket or self._bucket, key)


def is_pipeline(value: object) -> bool:
    """Whether that is a Pipeline of the SDK."""
    return isinstance(value, Pipeline)


def definition_of(pipeline: Any) -> Any:
    """The definition of a pipeline, parsed. Raises whatever the SDK raises."""
    return json.loads(pipeline.definition())
