"""Two steps that wait for nothing: the example's Validate and Profile. What side_by_side.py runs in every way."""

from pathlib import Path

from sagemaker.core.processing import ScriptProcessor
from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep

SCRIPTS = Path(__file__).parent / "processing"
BASE = "/opt/ml/processing"


def build(session, settings) -> Pipeline:
    """The pipeline. `session` is a PipelineSession; `settings` has bucket, role_arn and image_uri."""

    def step(name, script, *outputs):
        processor = ScriptProcessor(
            image_uri=settings.image_uri,
            command=["python3"],
            role=settings.role_arn,
            instance_type="ml.m5.large",
            instance_count=1,
            sagemaker_session=session,
        )
        flights = ProcessingS3Input(
            s3_uri=f"s3://{settings.bucket}/flights",
            local_path=f"{BASE}/input/flights",
            s3_data_type="S3Prefix",
            s3_input_mode="File",
        )
        places = [
            ProcessingOutput(
                output_name=output,
                s3_output=ProcessingS3Output(
                    s3_uri=f"s3://{settings.bucket}/out/{output}",
                    local_path=f"{BASE}/output/{output}",
                    s3_upload_mode="EndOfJob",
                ),
            )
            for output in outputs
        ]
        arguments = processor.run(
            code=str(SCRIPTS / script),
            arguments=["--date", "2013-01-01"],
            inputs=[ProcessingInput(input_name="flights", s3_input=flights)],
            outputs=places,
        )
        return ProcessingStep(name=name, step_args=arguments)

    validate = step("Validate", "validate.py", "clean", "quality")
    profile = step("Profile", "profile_day.py", "profile")
    return Pipeline(name="TwoSteps", steps=[validate, profile], sagemaker_session=session)
