"""The AWS account of an environment, through boto3: every call of a promotion goes through here.

Speaks to AWS, or to what AWS_ENDPOINT_URL names. Calls are validated by botocore, counted, retried where the service
was busy (botocore's standard mode), and their errors explained with what to do. Nothing is written in ``reading()``,
and what ``checking()`` finds wrong with a write is what the account would refuse.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import boto3
from botocore import exceptions
from botocore.config import Config

from local_runner.cloud.account.denied import denied_action
from local_runner.cloud.account.not_found import CODES, is_not_found
from local_runner.cloud.account.requests import call_problems
from local_runner.errors import LocalRunnerError, Problem

_READS = re.compile(r"(describe|get|list|head|batch_get|batch_check|simulate|lookup)_")
_MAX_ATTEMPTS = 6
_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_INVALID = frozenset(
    {
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
        "AuthFailure",
    }
)
_BUSY = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "InternalServerException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_PERMISSIONS = {
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
}
"""Calls whose permission has another name (S3 user guide, "Required permissions for Amazon S3 API operations")."""

_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403"})


class CloudError(LocalRunnerError):
    """The account, or what is in it, is not as a promotion needs it. Exit code 2."""


class AwsError(CloudError):
    """A call that AWS refused or did not answer. ``code`` is the service's own (empty where it did not answer).

    ``transient``: the network or the service was not there, and the same call may succeed later.
    ``not_found``: the service says that there is no such thing (:mod:`local_runner.cloud.account.not_found`).
    """

    def __init__(
        self, message: str, operation: str, code: str = "", *, transient: bool = False, not_found: bool = False
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.code = code
        self.transient = transient
        self.not_found = not_found


@dataclass
class Aws:
    """One account in one region. ``calls`` are the calls made so far, as ``service.operation``.

    ``known_account`` is the account's id where AWS need not be asked for it: nobody has to be signed in to name ARNs.
    """

    region: str
    profile: str | None = None
    known_account: str | None = None
    calls: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        try:
            self._session = cast("Any", boto3.Session(profile_name=self.profile, region_name=self.region))
        except exceptions.ProfileNotFound:
            raise CloudError(
                f"There is no AWS profile '{self.profile}' on this machine. Make it (aws configure sso --profile "
                f"{self.profile}), or name another one as 'profile' of the environment in local_runner.toml."
            ) from None
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()  # making clients of one session is not safe in threads
        self._reading = False
        self._refused: list[Problem] | None = None

    # --------------------------------------------------------------------------------------------------- identity
    @cached_property
    def caller_arn(self) -> str:
        """The ARN of whoever holds the credentials."""
        return str(self._identity["Arn"])

    @cached_property
    def account(self) -> str:
        """The account's id, 12 digits."""
        return self.known_account or str(self._identity["Account"])

    @cached_property
    def partition(self) -> str:
        """``aws``, or ``aws-cn`` and the like, of the region."""
        return str(self._session.get_partition_for_region(self.region))

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return self.call("sts", "get_caller_identity")

    def arn(self, service: str, resource: str, *, region: bool = True, account: bool = True) -> str:
        """The ARN of a resource in this account and region (empty fields for global ones)."""
        return ":".join(
            ["arn", self.partition, service, self.region if region else "", self.account if account else "", resource]
        )

    # ------------------------------------------------------------------------------------------------------ calls
    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """The response of a call (``operation`` in snake_case, as boto3 has it). Raises AwsError."""
        if not _READS.match(operation):
            if self._refused is not None:
                self._refused += self._problems(service, operation, parameters)
                return {}
            if self._reading:
                raise AssertionError(f"{service}.{operation} writes, and this is a plan")
        self.calls.append(f"{service}.{operation}")
        try:
            return getattr(self._client(service), operation)(**parameters)
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            raise self._explained(error, service, operation) from error

    def find(self, service: str, operation: str, **parameters: Any) -> dict[str, Any] | None:
        """As ``call``, or None where the service answers that there is no such thing. Raises AwsError."""
        assert f"{service}.{operation}" in CODES, "an operation that does not say so"
        try:
            return self.call(service, operation, **parameters)
        except AwsError as error:
            if error.not_found:
                return None
            raise

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        """All items under ``key`` of a paginated operation's pages. Each page counts as a call. Raises AwsError."""
        found: list[Any] = []
        try:
            for page in self._client(service).get_paginator(operation).paginate(**parameters):
                self.calls.append(f"{service}.{operation}")
                found += page.get(key, [])
        except (exceptions.BotoCoreError, exceptions.ClientError) as error:
            raise self._explained(error, service, operation) from error
        return found

    @contextmanager
    def reading(self) -> Generator[None]:
        """Inside, a call that writes is an error of this program, and is not made."""
        before, self._reading = self._reading, True
        try:
            yield
        finally:
            self._reading = before

    @contextmanager
    def checking(self) -> Generator[list[Problem]]:
        """Inside, no write is made (the answer is empty), and what the service would refuse of each is listed."""
        found: list[Problem] = []
        before, self._refused = self._refused, found
        try:
            yield found
        finally:
            self._refused = before

    @property
    def is_checking(self) -> bool:
        """Whether writes are only looked at."""
        return self._refused is not None

    def _problems(self, service: str, operation: str, parameters: dict[str, Any]) -> list[Problem]:
        meta = self._client(service).meta
        model = meta.service_model.operation_model(meta.method_to_api_mapping[operation])
        return call_problems(model, parameters)

    def _client(self, service: str) -> Any:
        with self._making:
            if service not in self._clients:
                config = Config(
                    retries={"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS},
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=_READ_SECONDS,
                    s3={"us_east_1_regional_endpoint": "regional"},
                )
                self._clients[service] = self._session.client(service, config=config)
            return self._clients[service]

    # ----------------------------------------------------------------------------------------------------- errors
    def _explained(self, error: Exception, service: str, operation: str) -> AwsError:
        action = f"{service}:{''.join(part.title() for part in operation.split('_'))}"
        if not isinstance(error, exceptions.ClientError):
            unreached = isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError)
            return AwsError(self._unanswered(error, service, action), action, transient=unreached)
        response = cast("dict[str, Any]", cast("Any", error).response)
        details: dict[str, Any] = response.get("Error", {})
        code, message = str(details.get("Code", "")), str(details.get("Message", "")).strip()
        if code in _EXPIRED:
            what = "The AWS credentials have expired. Sign in again (aws sso login), then repeat the command."
        elif code in _INVALID:
            what = f"AWS does not accept the credentials ({code}). Check them: aws sts get-caller-identity."
        elif code in _DENIED:
            what = (
                f"AWS does not allow {denied_action(message, _PERMISSIONS.get(action, action))} to these credentials: "
                f"{message or code}\n"
                "Ask for that permission, or let somebody who has it prepare the account: local-runner bootstrap."
            )
        else:
            what = f"{action} failed: {message or code} ({code})"
        not_found = is_not_found(f"{service}.{operation}", code, message)
        return AwsError(what, action, code, transient=code in _BUSY, not_found=not_found)

    def _unanswered(self, error: Exception, service: str, action: str) -> str:
        match error:
            case exceptions.NoCredentialsError() | exceptions.PartialCredentialsError():
                return (
                    "There are no AWS credentials. Sign in (aws sso login), or set AWS_PROFILE, or "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
                )
            case (
                exceptions.TokenRetrievalError()
                | exceptions.UnauthorizedSSOTokenError()
                | exceptions.SSOTokenLoadError()
            ):
                return "The AWS sign-in has expired. Sign in again (aws sso login), then repeat the command."
            case exceptions.EndpointConnectionError():
                return (
                    f"{action}: {service} cannot be reached in the region {self.region} ({error}). "
                    "Check the region, the network and proxies."
                )
            case exceptions.ParamValidationError():
                return f"{action} was not sent, since it is not valid:\n{error}"
            case _:
                return f"{action} failed: {error}"
