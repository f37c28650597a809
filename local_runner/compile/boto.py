"""boto3 without AWS: sessions whose clients are made when first used, and whose calls never leave the machine. No I/O.

A call is answered where somebody can answer it, and refused everywhere else. botocore does the rest as ever: it
checks parameters, makes the exceptions of its clients, and runs waiters and paginators.
"""

# boto3 and botocore ship no types, so what comes out of them is unknown to the type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUntypedBaseClass=false, reportUnknownLambdaType=false

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import boto3
import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError

Answer = Callable[[str, str, Mapping[str, Any]], "Mapping[str, Any] | None"]
"""(service, operation, parameters) -> the response, or None where there is no answer. Raises ServiceError."""


class OfflineError(RuntimeError):
    """The project's code, or the SDK on its behalf, asked AWS something."""


class ServiceError(Exception):
    """What the service would refuse; the caller of the client gets it as botocore's ClientError of that ``code``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


_ROLE_CHECKS = ("GetRole", "SimulatePrincipalPolicy")


def refuse(model: Any, **_: Any) -> None:
    """Handle botocore's before-call event by refusing the call.

    The SDK asks IAM whether a role will do, and goes on where it is not allowed to ask: that is the answer here.
    """
    service = model.service_model.service_name
    if service == "iam" and model.name in _ROLE_CHECKS:
        denied = {"Code": "AccessDenied", "Message": "A pipeline is compiled offline: roles are not looked at."}
        raise ClientError({"Error": denied}, model.name)
    remedy = (
        "Create the function apart from the pipeline, and name it: Lambda(function_arn=...)."
        if service == "lambda"
        else "Pass sagemaker_session=session to whatever takes it, take the bucket, role, image and region from "
        "'settings', and make other values pipeline parameters."
    )
    raise OfflineError(f"{service}:{model.name} is a call to AWS; a pipeline is compiled offline. {remedy}")


class Lazy:
    """A client that is made when it is first used: the SDK makes a dozen that a definition never needs."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)


class LazySession(boto3.Session):
    """A boto3 session whose clients are made when first used."""

    def client(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return Lazy(lambda: super(LazySession, self).client(*args, **kwargs))

    def resource(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return Lazy(lambda: super(LazySession, self).resource(*args, **kwargs))


class DeferredSession:
    """Stands in for boto3's default session while the SDK is imported: its modules make clients of it as they load.

    Each of them is made of whatever the default session is when the client is first used.
    """

    region_name = None

    def client(self, *args: Any, **kwargs: Any) -> Any:
        """A client of the default session, later."""
        return Lazy(lambda: boto3.client(*args, **kwargs))

    def resource(self, *args: Any, **kwargs: Any) -> Any:
        """A resource of the default session, later."""
        return Lazy(lambda: boto3.resource(*args, **kwargs))


def answered_session(region: str, answer: Answer) -> LazySession:
    """A session that knows nothing of this machine's AWS configuration, and whose calls ``answer`` answers."""
    nothing = (None, None, os.devnull, None)
    files = {"profile": (None, None, None, None), "config_file": nothing, "credentials_file": nothing}
    core = botocore.session.Session(session_vars=files)
    core.set_credentials("local", "local")

    def remember(params: Any, context: dict[str, Any], **_: Any) -> None:
        context["local_runner"] = params

    def respond(model: Any, context: dict[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        service = model.service_model.service_name
        try:
            response = answer(service, model.name, context["local_runner"])
        except ServiceError as error:
            return _reply(400, {"Error": {"Code": error.code, "Message": error.message}})
        if response is None:
            raise OfflineError(
                f"{service}:{model.name} is a call to AWS, and this session stays on this machine. "
                "Use a session of the SDK's own for it."
            )
        return _reply(200, response)

    core.register("before-parameter-build", remember)
    core.register("before-call", respond)
    return LazySession(botocore_session=core, region_name=region)


def _reply(status: int, content: Mapping[str, Any]) -> tuple[AWSResponse, dict[str, Any]]:
    """What botocore takes in place of a call: the HTTP response, and its content as it would parse it."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0, "RequestId": "local"}
    return AWSResponse("local", status, {}, None), {**content, "ResponseMetadata": metadata}
