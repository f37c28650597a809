"""The daily pipeline: check one day of flights, then turn it into a train and a test set.

    Validate ── CheckQuality ──┬── Fit ── Transform
    Profile                    └── (else) QualityTooLow

`build` only describes. Nothing is uploaded or started before somebody does that with what it returns.
"""

from pathlib import Path

from sagemaker.core.processing import ScriptProcessor
from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
from sagemaker.core.workflow.conditions import ConditionLessThanOrEqualTo
from sagemaker.core.workflow.execution_variables import ExecutionVariables
from sagemaker.core.workflow.functions import Join, JsonGet
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterInteger, ParameterString
from sagemaker.core.workflow.properties import PropertyFile
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep

SCRIPTS = Path(__file__).parent / "processing"


def build(session, settings) -> Pipeline:
    """The pipeline. `session` is a PipelineSession; `settings` has bucket, role_arn, image_uri and region."""
    input_data = ParameterString("InputData", default_value=f"s3://{settings.bucket}/flights")
    processed_data = ParameterString("ProcessedData", default_value=f"s3://{settings.bucket}/processed")
    instance_type = ParameterString("ProcessingInstanceType", default_value="ml.m5.xlarge")
    instance_count = ParameterInteger("ProcessingInstanceCount", default_value=1)
    # A day, or a timestamp on that day. No default: whoever starts the pipeline says which.
    processing_date = ParameterString("ProcessingDate")
    max_bad_ratio = ParameterFloat("MaxBadRatio", default_value=0.05)

    def processor(instances=1):
        return ScriptProcessor(
            image_uri=settings.image_uri,
            command=["python3"],
            role=settings.role_arn,
            instance_type=instance_type,
            instance_count=instances,
            max_runtime_in_seconds=3600,
            sagemaker_session=session,
        )

    # What steps hand to each other is kept per execution, so that nothing of another day or attempt gets in.
    def of_this_execution(name):
        return Join("/", [processed_data, "executions", ExecutionVariables.PIPELINE_EXECUTION_ID, name])

    # InputData is all days: a definition can join texts but not split them, so the S3 prefix of a day cannot
    # be computed from the timestamp that a schedule sends. The scripts get the date and pick the day's files.
    flights = read("flights", input_data)
    date = ["--date", processing_date]

    quality_report = PropertyFile(name="QualityReport", output_name="quality", path="quality.json")
    validate = ProcessingStep(
        name="Validate",
        step_args=processor().run(
            code=str(SCRIPTS / "validate.py"),
            arguments=date,
            inputs=[flights],
            outputs=[
                write("clean", of_this_execution("clean")),
                write("quality", of_this_execution("quality")),
            ],
        ),
        property_files=[quality_report],
    )

    # Reads the raw files, not Validate's: it waits for nothing, and describes a day that is turned down, too.
    profile = ProcessingStep(
        name="Profile",
        step_args=processor().run(
            code=str(SCRIPTS / "profile_day.py"),
            arguments=date,
            inputs=[flights],
            outputs=[write("profile", of_this_execution("profile"))],
        ),
    )

    fit = ProcessingStep(
        name="Fit",
        step_args=processor().run(
            code=str(SCRIPTS / "fit.py"),
            inputs=[read("clean", output_of(validate, "clean"))],
            outputs=[write("model", of_this_execution("model"))],
        ),
    )

    # Each instance gets its share of the day's files and the whole model. The results of all days go to one
    # place: the keys hold the day, so running a day again replaces that day and nothing else.
    transform = ProcessingStep(
        name="Transform",
        step_args=processor(instance_count).run(
            code=str(SCRIPTS / "transform.py"),
            inputs=[
                read("clean", output_of(validate, "clean"), distribution="ShardedByS3Key"),
                read("model", output_of(fit, "model")),
            ],
            outputs=[
                write("train", Join("/", [processed_data, "train"])),
                write("test", Join("/", [processed_data, "test"])),
            ],
        ),
    )

    def reported(json_path):
        return JsonGet(step_name=validate.name, property_file=quality_report, json_path=json_path)

    too_low = FailStep(
        name="QualityTooLow",
        error_message=Join(
            "",
            [
                reported("bad_rows"),
                " of ",
                reported("rows"),
                " rows are bad: a ratio of ",
                reported("bad_ratio"),
                ", and MaxBadRatio is ",
                max_bad_ratio,
                ". ProcessingDate: ",
                processing_date,
            ],
        ),
    )
    check_quality = ConditionStep(
        name="CheckQuality",
        conditions=[ConditionLessThanOrEqualTo(left=reported("bad_ratio"), right=max_bad_ratio)],
        if_steps=[fit, transform],
        else_steps=[too_low],
    )

    return Pipeline(
        name="FlightsDaily",
        parameters=[
            input_data,
            processed_data,
            instance_type,
            instance_count,
            processing_date,
            max_bad_ratio,
        ],
        steps=[validate, profile, check_quality],
        sagemaker_session=session,
    )


# The local paths below are the defaults of the scripts, which therefore need no arguments for them.
def read(name, s3_uri, distribution="FullyReplicated") -> ProcessingInput:
    """An input that the script finds under /opt/ml/processing/input/<name>."""
    return ProcessingInput(
        input_name=name,
        s3_input=ProcessingS3Input(
            s3_uri=s3_uri,
            local_path=f"/opt/ml/processing/input/{name}",
            s3_data_type="S3Prefix",
            s3_input_mode="File",
            s3_data_distribution_type=distribution,
        ),
    )


def write(name, s3_uri) -> ProcessingOutput:
    """An output: what the script leaves under /opt/ml/processing/output/<name> goes to S3 when it ends."""
    return ProcessingOutput(
        output_name=name,
        s3_output=ProcessingS3Output(
            s3_uri=s3_uri,
            local_path=f"/opt/ml/processing/output/{name}",
            s3_upload_mode="EndOfJob",
        ),
    )


def output_of(step, name):
    """Where an earlier step put that output. Using it is also what makes this step wait for that one."""
    return step.properties.ProcessingOutputConfig.Outputs[name].S3Output.S3Uri
