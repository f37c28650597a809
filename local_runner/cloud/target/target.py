"""Where the release of an environment goes: account, names, bucket, role, key, tags. Asks AWS for the account alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.account.tags import ENVIRONMENT_TAG, PROJECT_TAG
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.names import Names
from local_runner.secrets import DEFAULT_NAMES, Secrets


@dataclass(frozen=True)
class Target:
    """One environment of a project, in its account. ``secrets`` are not to be shown or recorded."""

    environment: Environment
    names: Names
    aws: Aws
    secrets: Secrets = field(default_factory=lambda: Secrets(DEFAULT_NAMES))

    def check_account(self) -> None:
        """Raises CloudError where the credentials are for another account than the environment's."""
        wanted = self.environment.account
        if wanted and self.aws.account != wanted:
            raise CloudError(
                f"The environment {self.environment.name} is in the account {wanted}, and these credentials are "
                f"for {self.aws.account} ({self.aws.caller_arn}). Sign in to the right one, or correct 'account' or "
                "'profile' in local_runner.toml. Nothing was changed."
            )

    # ------------------------------------------------------------------------------------------- where objects are
    @property
    def bucket(self) -> str:
        """The bucket of the code and of the release records: the environment's, else the SDK's default one."""
        return self.environment.bucket or f"sagemaker-{self.aws.region}-{self.aws.account}"

    @property
    def prefix(self) -> str:
        """Where in the bucket they are, without slashes around it."""
        return self.environment.prefix or self.names.pipeline_name

    def place(self, key: str) -> dict[str, str]:
        """Where an object of the environment is, for a call of S3, which refuses a bucket of another account."""
        return {"Bucket": self.bucket, "Key": key, "ExpectedBucketOwner": self.aws.account}

    @property
    def encryption(self) -> dict[str, str]:
        """What a call of PutObject says of the encryption: the environment's key, where it has one.

        A bucket's policy may refuse objects that come without (S3 user guide, "Specifying server-side encryption with
        AWS KMS").
        """
        key = self.environment.kms_key_id
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}

    @property
    def tags(self) -> dict[str, str]:
        """The tags of everything that is made: the environment's, and the two that say whose it is."""
        ours = {PROJECT_TAG: self.names.pipeline, ENVIRONMENT_TAG: self.names.environment}
        return {**self.environment.tags, **ours}

    # --------------------------------------------------------------------------------------------------------- ARNs
    @property
    def pipeline_arn(self) -> str:
        """The pipeline's ARN, also before it is made."""
        return self.aws.arn("sagemaker", f"pipeline/{self.names.pipeline_name}")

    @property
    def execution_role_arn(self) -> str:
        """The ARN of the pipeline's role: the environment's, else that of the role that is made."""
        return self.environment.role_arn or self.made_role_arn

    @property
    def made_role_arn(self) -> str:
        """The ARN of the execution role that is made where the environment names none."""
        return self._role_arn(self.names.execution_role)

    @property
    def start_role_arn(self) -> str:
        """The ARN of the role that is made for what starts the pipeline, where the schedule names none."""
        return self._role_arn(self.names.start_role)

    def _role_arn(self, name: str) -> str:
        return self.aws.arn("iam", f"role{self.environment.role_path}{name}", region=False)
