"""The bucket of an environment. Reads S3; Changes write.

A bucket that the settings name has to be there and be the account's own; only the default one is made. One that is
there keeps its encryption and tags; a new one has S3's default encryption (SSE-S3).
"""

from __future__ import annotations

from dataclasses import dataclass

from local_runner.cloud.account.aws import Aws, AwsError, CloudError
from local_runner.cloud.change.fields import field_changes
from local_runner.cloud.change.models import Change, ResourceKind
from local_runner.cloud.target.target import Target

_NO_PUBLIC_ACCESS = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


@dataclass(frozen=True)
class Bucket:
    """The bucket of that target: the default one is made where it is missing."""

    target: Target

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self.target.bucket

    @property
    def own(self) -> bool:
        """Whether it is the default one, and not one of the settings."""
        return self.target.environment.bucket is None

    def plan(self, aws: Aws) -> list[Change]:
        """What has to change. Raises CloudError where it is missing and not ours to make, or somebody else's."""
        if not self._exists(aws):
            if not self.own:
                raise CloudError(
                    f"There is no bucket '{self.name}'. Make it, correct 'bucket' of the environment in "
                    "local_runner.toml, or leave that out for the default bucket, which is made."
                )
            summary = "made without public access, encrypted as S3 does by default"
            return [Change(ResourceKind.BUCKET, self.name, "create", summary, self._make)]
        if not self.own:
            return []
        # What others set is left as it is, but for what would let the world in.
        if aws.find("s3", "get_public_access_block", **self._asked) is not None:
            return []
        fields = field_changes({}, {"PublicAccessBlockConfiguration": _NO_PUBLIC_ACCESS})
        return [Change(ResourceKind.BUCKET, self.name, "update", "public access is blocked", self._block, fields)]

    @property
    def _asked(self) -> dict[str, str]:
        return {"Bucket": self.name, "ExpectedBucketOwner": self.target.aws.account}

    def _exists(self, aws: Aws) -> bool:
        try:
            return aws.find("s3", "head_bucket", **self._asked) is not None
        except AwsError as error:
            if error.code in ("403", "AccessDenied", "301"):
                raise CloudError(
                    f"The bucket '{self.name}' is there, but it is not one of the account {aws.account} in this "
                    "region, or these credentials may not look into it (s3:ListBucket). Name a bucket of the account "
                    "as 'bucket' of the environment in local_runner.toml."
                ) from None
            raise

    def _make(self, aws: Aws) -> None:
        if not self._exists(aws):
            where = {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
            try:
                aws.call("s3", "create_bucket", Bucket=self.name, **({} if aws.region == "us-east-1" else where))
            except AwsError as error:
                if error.code != "BucketAlreadyOwnedByYou":
                    raise
            tags = [{"Key": key, "Value": value} for key, value in self.target.tags.items()]
            aws.call("s3", "put_bucket_tagging", **self._asked, Tagging={"TagSet": tags})
        self._block(aws)

    def _block(self, aws: Aws) -> None:
        aws.call("s3", "put_public_access_block", **self._asked, PublicAccessBlockConfiguration=_NO_PUBLIC_ACCESS)
