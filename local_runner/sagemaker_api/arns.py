"""ARNs of what there is on this machine: in the region of ``[local]``, and in an account that nobody has. No I/O."""

from __future__ import annotations

from local_runner.settings import LOCAL_ACCOUNT


def arn(region: str, resource: str, name: str) -> str:
    """The ARN of a pipeline, job or model; the service writes names in lower case there.

    ``resource`` is the kind, such as ``processing-job``.
    """
    return f"arn:aws:sagemaker:{region}:{LOCAL_ACCOUNT}:{resource}/{name.lower()}"
