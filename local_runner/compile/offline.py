"""The SDK's PipelineSession, offline: it answers from what it was told, and its uploads stay on this machine.

Whoever imports this has seen to what boto3's default session is by then: the SDK's modules make clients of it as they
are imported.
"""

# The SDK ships no types, so what comes out of it is unknown to the type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUntypedBaseClass=false, reportMissingImports=false
# pyright: reportUnknownLambdaType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sagemaker.core.config.config_manager import SageMakerConfig
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.mlops.workflow import steps as sdk_steps

from local_runner.compile.uploads import Uploads

# Each ProcessingStep makes a session of stock local mode, just to ask it for the name of a method: that takes a region,
# S3 clients, and a search for credentials. The class gives the same name.
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


SageMakerConfig.validate_sagemaker_config = staticmethod(  # type: ignore[assignment]
    _validate_once(SageMakerConfig.validate_sagemaker_config)
)


CONFIG = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
"""The SDK's defaults config: no telemetry."""


class OfflineSession(PipelineSession):
    """A PipelineSession that asks AWS nothing about the account, and keeps what is uploaded in ``uploads``."""

    def __init__(self, bucket: str, role_arn: str, account: str, uploads: Uploads, boto_session: Any) -> None:
        self._bucket, self._role_arn, self._account, self._uploads = bucket, role_arn, account, uploads
        super().__init__(boto_session=boto_session, default_bucket=bucket, sagemaker_config=CONFIG)

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
