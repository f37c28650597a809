"""The SDK's PipelineSession, offline: it answers from what it was given, and its uploads stay on this machine.

Version 3 of the SDK, or version 2 where the interpreter has that. Whoever imports this has seen to what boto3's default
session is by then: the SDK's modules make clients of it as they are imported.
"""

# The SDK ships no types, so what comes out of it is unknown to the type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUntypedBaseClass=false, reportMissingImports=false
# pyright: reportUnknownLambdaType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_runner.compile.uploads import Uploads

if TYPE_CHECKING or find_spec("sagemaker.core"):
    from sagemaker.core.config import config_manager
    from sagemaker.core.workflow.pipeline_context import PipelineSession
    from sagemaker.mlops.workflow import steps as sdk_steps
    from sagemaker.mlops.workflow.pipeline import Pipeline
else:
    from sagemaker.workflow.pipeline import Pipeline
    from sagemaker.workflow.pipeline_context import PipelineSession

    config_manager = sdk_steps = None

__all__ = ["CONFIG", "OfflineSession", "Pipeline"]

if sdk_steps:
    # Each ProcessingStep makes a session of stock local mode, just to ask it for the name of a method: that takes a
    # region, S3 clients, and a search for credentials. The class gives the same name.
    _StockClient = sdk_steps.LocalSagemakerClient
    sdk_steps.LocalSagemakerClient = lambda: _StockClient  # type: ignore[assignment, misc]


def _validate_once(validate: Callable[[Any], None]) -> Callable[[Any], None]:
    """The SDK validates its whole configuration at every look into it: half of the time of a compile."""
    seen: set[str] = set()

    def validate_new(sagemaker_config: Any = None) -> None:
        text = json.dumps(sagemaker_config, sort_keys=True, default=repr)
        if text not in seen:
            validate(sagemaker_config)
            seen.add(text)

    return validate_new


if config_manager:
    _Config = config_manager.SageMakerConfig
    _Config.validate_sagemaker_config = staticmethod(  # type: ignore[assignment]
        _validate_once(_Config.validate_sagemaker_config)
    )


CONFIG = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
"""The SDK's defaults config: no telemetry."""


@dataclass(frozen=True)
class _Object:
    uploads: Uploads
    bucket: str
    key: str

    def upload_file(self, Filename: str, **_: Any) -> None:  # noqa: N803, boto3's name
        self.uploads.body(Path(Filename).read_bytes(), self.bucket, self.key)


@dataclass(frozen=True)
class _Resource:
    """What version 2 uses of boto3's S3 resource: it uploads packed source directories past its session."""

    uploads: Uploads

    def Object(self, bucket: str, key: str) -> _Object:  # noqa: N802, boto3's name
        return _Object(self.uploads, bucket, key)


class OfflineSession(PipelineSession):
    """A PipelineSession that asks AWS nothing about the account, and keeps what is uploaded in ``uploads``."""

    def __init__(self, bucket: str, role_arn: str, account: str, uploads: Uploads, boto_session: Any) -> None:
        self._bucket, self._role_arn, self._account, self._uploads = bucket, role_arn, account, uploads
        super().__init__(boto_session=boto_session, default_bucket=bucket, sagemaker_config=CONFIG)
        if config_manager is None:
            self.s3_resource = _Resource(uploads)

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
