"""Jobs as engines are given them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from local_runner.models import ProcessingJob
from support.definitions import IMAGE


def processing_job(*entrypoint: str, **changes: Any) -> ProcessingJob:
    """A job of one host that has a minute; ``changes`` are to its fields."""
    job = ProcessingJob(
        name="pipelines-x-Step",
        image_uri=IMAGE,
        entrypoint=entrypoint,
        arguments=None,
        environment={},
        inputs=(),
        outputs=(),
        instance_count=1,
        instance_type="ml.m5.xlarge",
        max_runtime=60,
        network_isolation=False,
        request={"AppSpecification": {"ImageUri": IMAGE}, "ProcessingResources": {"ClusterConfig": {}}},
    )
    return replace(job, **changes)
