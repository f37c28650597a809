"""What the resources of a release are called, and where its objects are. No I/O.

A project's pipeline may be promoted to several environments of one account, so that every name but the bucket's holds
the environment's: ``FlightsDaily-dev``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_SCHEDULE_NAME = 64
_ROLE_NAME = 64
_POLICY_NAME = 128


@dataclass(frozen=True)
class Names:
    """The names for one pipeline in one environment. ``pipeline`` is the definition's name for it."""

    pipeline: str
    environment: str

    @property
    def pipeline_name(self) -> str:
        """The pipeline's name in the account (API: PipelineName, at most 256 characters)."""
        return f"{self.pipeline}-{self.environment}"

    @property
    def schedule(self) -> str:
        """The name of the schedule, or of the rule in its place (API: at most 64 characters)."""
        return fitted(self.pipeline_name, _SCHEDULE_NAME)

    @property
    def execution_role(self) -> str:
        """The role of the pipeline and its jobs (IAM: at most 64 characters, also for the others)."""
        return fitted(f"{self.pipeline_name}-execution", _ROLE_NAME)

    @property
    def start_role(self) -> str:
        """The role with which the schedule or rule starts the pipeline."""
        return fitted(f"{self.pipeline_name}-start", _ROLE_NAME)

    def policy(self, purpose: str) -> str:
        """The managed policy of those who plan, promote or operate (IAM: at most 128 characters)."""
        return fitted(f"{self.pipeline_name}-{purpose}", _POLICY_NAME)

    @property
    def alert_rule(self) -> str:
        """The EventBridge rule on failed executions."""
        return fitted(f"{self.pipeline_name}-failed", _ROLE_NAME)

    @property
    def alert_topic(self) -> str:
        """The SNS topic that it notifies."""
        return f"{self.pipeline_name}-failed"

    @property
    def repository(self) -> str:
        """The ECR repository (API: lower case)."""
        return f"local-runner/{self.pipeline.lower()}"


def fitted(name: str, length: int) -> str:
    """The name, or where it is too long its beginning and eight hexadecimal digits of all of it."""
    if len(name) <= length:
        return name
    return f"{name[: length - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
