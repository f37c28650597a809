"""The pipeline of two_steps.py in the SDK's stock local mode, with the glue that version 3 needs for it.

    python stock.py IMAGE BUCKET        (AWS_ENDPOINT_URL is an emulator; the bucket has the data)

Version 3's LocalPipelineSession runs a step's job when the step is described. So the pipeline is described with a
PipelineSession, as for the cloud, and the SDK's own local executor is then given its steps. S3 is the emulator.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import boto3

sys.path.insert(0, str(Path.cwd()))


def main() -> None:
    image, bucket = sys.argv[1:]
    from sagemaker.core.workflow.pipeline_context import PipelineSession
    from sagemaker.mlops.local.local_pipeline_session import LocalPipelineSession
    from two_steps import build

    boto_session = boto3.Session(region_name="us-east-1")
    described = PipelineSession(boto_session=boto_session, default_bucket=bucket)
    role = "arn:aws:iam::000000000000:role/bench"
    settings = SimpleNamespace(image_uri=image, bucket=bucket, role_arn=role)
    local = LocalPipelineSession(boto_session=boto_session, default_bucket=bucket)
    local.config = {"local": {"local_code": False}}
    pipeline = build(described, settings)
    local.create_pipeline(pipeline, "bench")
    execution = local.start_pipeline_execution(pipeline.name)
    said = execution.describe()
    print(said)
    sys.exit(said["PipelineExecutionStatus"] != "Succeeded")


main()
