"""An account that asks a policy for every call, as IAM does, and remembers what of it was of use.

What a call needs besides the permission of its own name is here: tags that go with a creation, roles that are handed to
a service, keys. Source: Service Authorization Reference; S3 user guide, "Required permissions for Amazon S3 API
operations".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from local_runner.cloud.iam.evaluate import allowed
from local_runner.cloud.target.target import Target
from support.cloud_proxy import Proxy
from support.service_calls import Ask
from support.strict_account import parameters_of

KEY = "deployer"
CALLER = "arn:aws:sts::123456789012:assumed-role/Deploy/maria"

_S3 = {
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}


class Guarded(Proxy):
    """``policy`` is what a caller with the access key KEY may do. ``used`` are the requests that it allowed."""

    def __init__(self, url: str, target: Target, policy: Mapping[str, Any]) -> None:
        super().__init__(url)
        self.target, self.policy = target, policy
        self.used: list[Ask] = []
        self._boundaries: dict[str, str] = {}

    def forward(self, handler: Any, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        signed = re.search(r"Credential=([^/]+)/\d+/[^/]+/([a-z0-9-]+)/", handler.headers["Authorization"])
        assert signed
        key, service = signed.groups()
        if key != KEY:
            return super().forward(handler, body)
        operation, given = parameters_of(service, handler, body)
        for ask in self._asks(service, str(operation.name), given):
            decision = allowed([self.policy], ask.action, ask.resource, ask.context)
            if not decision.allowed:
                return denial(service, ask)
            self.used.append(ask)
        return super().forward(handler, body)

    # ------------------------------------------------------------------------------------------------ permissions
    def _asks(self, service: str, operation: str, given: Mapping[str, Any]) -> Iterator[Ask]:
        def ask(action: str, resource: str, **context: Any) -> Ask:
            keys = {key.replace("__", ":"): value for key, value in context.items() if value is not None}
            return Ask(CALLER, action, resource, operation, keys)

        def passing(role: str | None, to: str) -> Iterator[Ask]:
            if role:
                yield ask("iam:PassRole", role, iam__PassedToService=f"{to}.amazonaws.com")

        arn = self.target.aws.arn
        match service:
            case "sts":
                return  # GetCallerIdentity needs no permission (API reference)
            case "s3":
                yield from self._of_s3(ask, operation, given)
                return
            case "sagemaker":
                name = given.get("PipelineName")
                job = given.get("ProcessingJobName")
                resource = arn("sagemaker", f"pipeline/{name}" if name else f"processing-job/{job}")
                resource = given.get("ResourceArn") or given.get("PipelineExecutionArn") or resource
                yield from passing(given.get("RoleArn"), "sagemaker")
            case "iam":
                resource = arn("iam", f"role{self.target.environment.role_path}{given['RoleName']}", region=False)
                yield from self._of_iam(ask, operation, resource, given)
                return
            case "scheduler":
                resource = arn("scheduler", f"schedule/default/{given['Name']}")
                yield from passing(given.get("Target", {}).get("RoleArn"), "scheduler")
            case "events":
                resource = given.get("ResourceARN") or arn("events", f"rule/{given.get('Name') or given.get('Rule')}")
                for one in given.get("Targets", ()):
                    yield from passing(one.get("RoleArn"), "events")
            case "sns":
                resource = given.get("TopicArn") or given.get("ResourceArn") or arn("sns", str(given.get("Name")))
            case "ecr":
                name = given.get("repositoryName") or [*given.get("repositoryNames", ()), None][0]
                resource = arn("ecr", f"repository/{name}") if name else "*"
            case "logs":
                stream = f":log-stream:{given['logStreamName']}" if "logStreamName" in given else ""
                resource = arn("logs", f"log-group:{given['logGroupName']}{stream}")
            case _:
                raise AssertionError(f"{service}:{operation}: which permission does it need?")
        yield ask(f"{service}:{operation}", resource)
        if given.get("Tags") or given.get("tags"):
            yield ask(f"{service}:{'AddTags' if service == 'sagemaker' else 'TagResource'}", resource)

    def _of_s3(self, ask: Any, operation: str, given: Mapping[str, Any]) -> Iterator[Ask]:
        bucket = f"arn:aws:s3:::{given['Bucket']}"
        resource = f"{bucket}/{given['Key']}" if "Key" in given else bucket
        yield ask(f"s3:{_S3.get(operation, operation)}", resource, s3__prefix=given.get("Prefix"))
        if operation in ("GetObject", "HeadObject"):
            yield ask("s3:ListBucket", bucket)  # without it, S3 says 403 of an object that is not there
        if "IfMatch" in given:
            yield ask("s3:GetObject", resource)
        keys = self.target.environment.kms_key_id
        if given.get("SSEKMSKeyId"):
            yield ask("kms:GenerateDataKey", self._key(given["SSEKMSKeyId"]), kms__ResourceAliases=["alias/ours"])
        elif keys and operation == "GetObject":
            yield ask("kms:Decrypt", self._key(keys), kms__ResourceAliases=["alias/ours"])

    def _of_iam(self, ask: Any, operation: str, resource: str, given: Mapping[str, Any]) -> Iterator[Ask]:
        if boundary := given.get("PermissionsBoundary"):
            self._boundaries[resource] = boundary
        limit = {"iam__PermissionsBoundary": self._boundaries.get(resource), "iam__PolicyARN": given.get("PolicyArn")}
        yield ask(f"iam:{operation}", resource, **limit)
        if operation == "CreateRole" and given.get("Tags"):
            yield ask("iam:TagRole", resource)

    def _key(self, key: str) -> str:
        """The ARN of a key: behind an alias there is one of this name."""
        return key if key.startswith("arn:") else self.target.aws.arn("kms", f"key/{key.replace('alias/', 'behind-')}")


def denial(service: str, ask: Ask) -> tuple[int, list[tuple[str, str]], bytes]:
    """What AWS answers (IAM user guide, "Troubleshooting access denied error messages")."""
    said = f"User: {CALLER} is not authorized to perform: {ask.action} on resource: {ask.resource} because no "
    said += f"identity-based policy allows the {ask.action} action"
    code = "AccessDeniedException" if service not in ("s3", "iam", "sns") else "AccessDenied"
    error = f"<Code>{code}</Code><Message>{escape(said)}</Message>"
    if service == "s3":
        return 403, [("Content-Type", "text/xml")], f"<Error>{error}</Error>".encode()
    if service in ("iam", "sns"):
        return 403, [("Content-Type", "text/xml")], f"<ErrorResponse><Error>{error}</Error></ErrorResponse>".encode()
    content = json.dumps({"__type": code, "message": said}).encode()
    return 400, [("Content-Type", "application/x-amz-json-1.1"), ("x-amzn-errortype", code)], content
