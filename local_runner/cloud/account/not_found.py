"""Which answers of AWS say that there is no such thing: one table, by service and operation. No I/O.

Every other error is one, also of a deletion: what was refused is still there.
Source: the API reference of each service, "Errors" of the operation, as botocore's service models have them, with these
additions, which the models do not name. S3 answers HEAD without a body, so that the code is the status (API HeadObject,
HeadBucket), lists the codes of bucket settings under "Error responses" of the API reference, and says NoSuchBucket for
an object of a bucket that is not there. SageMaker has answered ValidationException with "does not exist" for pipelines
and executions. The same code refuses a request, so that the text decides, and of reads alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_OBJECT = frozenset({"404", "NoSuchBucket", "NoSuchKey", "NotFound"})
_BUCKET = frozenset({"404", "NoSuchBucket", "NotFound"})
_SAGEMAKER = frozenset({"ResourceNotFound", "ResourceNotFoundException"})
_RULE = _SCHEDULE = _LOGS = frozenset({"ResourceNotFoundException"})
_TOPIC = frozenset({"NotFound", "NotFoundException"})
_ROLE = frozenset({"NoSuchEntity"})

CODES: Mapping[str, frozenset[str]] = {
    "ecr.describe_images": frozenset({"ImageNotFoundException", "RepositoryNotFoundException"}),
    "ecr.describe_repositories": frozenset({"RepositoryNotFoundException"}),
    "events.delete_rule": _RULE,
    "events.describe_rule": _RULE,
    "iam.delete_role": _ROLE,
    "iam.delete_role_policy": _ROLE,
    "iam.get_role": _ROLE,
    "iam.get_role_policy": _ROLE,
    "logs.describe_log_streams": _LOGS,
    "s3.get_bucket_tagging": frozenset({"NoSuchTagSet"}),
    "s3.get_object": _OBJECT,
    "s3.get_public_access_block": frozenset({"NoSuchPublicAccessBlockConfiguration"}),
    "s3.head_bucket": _BUCKET,
    "s3.head_object": _OBJECT,
    "s3.list_objects_v2": _BUCKET,
    "sagemaker.delete_pipeline": _SAGEMAKER,
    "sagemaker.describe_pipeline": _SAGEMAKER,
    "sagemaker.describe_pipeline_execution": _SAGEMAKER,
    "sagemaker.list_pipeline_executions": _SAGEMAKER,
    "scheduler.delete_schedule": _SCHEDULE,
    "scheduler.get_schedule": _SCHEDULE,
    "sns.delete_topic": _TOPIC,
    "sns.get_topic_attributes": _TOPIC,
}
"""``service.operation`` -> the codes that mean "there is none". What is not here is never looked for, only expected."""

_BY_TEXT = (
    "sagemaker.describe_pipeline",
    "sagemaker.describe_pipeline_execution",
    "sagemaker.list_pipeline_executions",
)
_NO_SUCH_THING = re.compile(r"could not find|does not exist|not found", re.IGNORECASE)


def is_not_found(call: str, code: str, message: str) -> bool:
    """Whether the error of a call (``service.operation``, as boto3 has it) says that there is no such thing."""
    if code in CODES.get(call, ()):
        return True
    return call in _BY_TEXT and code == "ValidationException" and _NO_SUCH_THING.search(message) is not None
