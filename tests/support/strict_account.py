"""What AWS refuses and the emulator takes: each request against its API's model, and against the rules beyond it.

A request is parsed as it came over HTTP, by its service's protocol: what a client sent is judged, and not what it was
asked to send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from botocore.exceptions import UnknownServiceError
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from werkzeug.exceptions import NotFound

from local_runner.cloud.account.requests import call_problems

CODES = {
    "ecr": "InvalidParameterException",
    "iam": "ValidationError",
    "s3": "InvalidRequest",
    "sns": "InvalidParameter",
}
"""What a service calls a request that its model forbids; ValidationException where none is named."""


Refusal = tuple[str, str]
"""The code and the message of a service."""

Setting = Callable[[str, dict[str, Any]], Refusal | None]
"""What an account's own settings refuse: is given ``service:Operation`` and the parameters."""


def refusal_of(service: str, handler: Any, body: bytes, settings: Iterable[Setting]) -> Refusal | None:
    """With what the account refuses the request; None where it takes it."""
    try:
        operation, parameters = parameters_of(service, handler, body)
    except LookupError as error:
        return "UnknownOperationException", str(error)
    if problems := call_problems(operation, parameters):
        said = f"{len(problems)} validation errors detected: " + "; ".join(map(str, problems))
        return CODES.get(service, "ValidationException"), said
    found = (setting(f"{service}:{operation.name}", parameters) for setting in settings)
    return next((refusal for refusal in found if refusal), None)


def demands_encryption(call: str, parameters: dict[str, Any]) -> Refusal | None:
    """A bucket whose policy denies objects that come without a key of KMS, as many organisations have it."""
    if call != "s3:PutObject" or parameters.get("ServerSideEncryption") == "aws:kms":
        return None
    return "AccessDenied", "User is not authorized to perform: s3:PutObject with an explicit deny in a resource policy"


def demands_the_owner(call: str, parameters: dict[str, Any]) -> Refusal | None:
    """Refuses calls about objects that do not say whose bucket they mean, with which a bucket can be taken over."""
    about_objects = call in ("s3:PutObject", "s3:GetObject", "s3:HeadObject", "s3:DeleteObject", "s3:ListObjectsV2")
    if not about_objects or parameters.get("ExpectedBucketOwner"):
        return None
    return "AccessDenied", f"{call} without ExpectedBucketOwner"


def parameters_of(service: str, handler: Any, body: bytes) -> tuple[Any, dict[str, Any]]:
    """botocore's model of the operation, and the parameters as they arrived. Raises LookupError: no model has it."""
    url = f"http://{handler.headers['Host']}{handler.path}"
    request = Request.from_primitives(handler.command, url, handler.headers, body)
    try:
        model = get_service_model(service)
        operation, placed = get_service_router(service).match(request)
    except (UnknownServiceError, NotFound, NotImplementedError) as error:
        raise LookupError(f"no model of {service} has {handler.command} {handler.path}") from error
    parser = PROTOCOL_PARSERS[determine_request_protocol(model, request.content_type)](operation)
    return operation, parser.parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": request.data,
            "url_path": request.path,
            "url_params": placed,
        }
    )
