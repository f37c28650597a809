"""What AWS refuses and the emulator takes: each request against its API's model, and against the rules beyond it.

A request is parsed as it came over HTTP, by its service's protocol: what a client sent is judged, and not what it was
asked to send.
"""

from __future__ import annotations

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


def refusal_of(service: str, handler: Any, body: bytes) -> tuple[str, str] | None:
    """The code and the message with which the service refuses the request; None where it takes it."""
    parsed = parameters_of(service, handler, body)
    if parsed is None:
        return None
    problems = call_problems(*parsed)
    if not problems:
        return None
    said = f"{len(problems)} validation errors detected: " + "; ".join(map(str, problems))
    return CODES.get(service, "ValidationException"), said


def parameters_of(service: str, handler: Any, body: bytes) -> tuple[Any, dict[str, Any]] | None:
    """botocore's model of the operation, and the parameters as they arrived; None where no model has it."""
    url = f"http://{handler.headers['Host']}{handler.path}"
    request = Request.from_primitives(handler.command, url, handler.headers, body)
    try:
        model = get_service_model(service)
        operation, placed = get_service_router(service).match(request)
    except (UnknownServiceError, NotFound, NotImplementedError):
        return None
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
