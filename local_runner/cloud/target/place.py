"""The place of a release in AWS: partition, region, account. No I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a role's pipeline is. ``pipeline`` is its name in the account, ``role`` that of the execution role."""

    partition: str
    region: str
    account: str
    pipeline: str
    role: str

    def arn(self, service: str, resource: str, *, region: bool = True) -> str:
        """The ARN of a resource of this account."""
        return f"arn:{self.partition}:{service}:{self.region if region else ''}:{self.account}:{resource}"

    @property
    def pipeline_arn(self) -> str:
        """The pipeline's ARN."""
        return self.arn("sagemaker", f"pipeline/{self.pipeline}")

    @property
    def role_arn(self) -> str:
        """The execution role's ARN."""
        return self.arn("iam", f"role/{self.role}", region=False)
