"""A notebook, as a script: the SageMaker SDK's own code for pipelines, on this machine.

    .venv/bin/python examples/notebook.py          (in the project's directory; ENGINE=sandbox or docker to choose)

Only the session is another than in the cloud: there it is `PipelineSession()` of the SDK, with the role and the image
of the account. Make the session in the first cell, before the SDK is imported: without AWS configuration, parts of
the SDK cannot be imported on their own.
"""

# %% The session
import os

from local_runner import LocalPipelineSession

session = LocalPipelineSession(engine=os.environ.get("ENGINE", "auto"))

# %% One step: describe the flights of a day
from sagemaker.core.processing import ScriptProcessor
from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
from sagemaker.core.workflow.parameters import ParameterString
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import ProcessingStep

flights = session.upload_data("data/sample", key_prefix="notebook/flights")
profiles = f"s3://{session.default_bucket()}/notebook/profiles"
day = ParameterString("Day", default_value="2013-01-01")

processor = ScriptProcessor(
    image_uri=session.image_uri,
    command=["python3"],
    role=session.role_arn,
    instance_type="ml.m5.xlarge",
    instance_count=1,
    sagemaker_session=session,
)
profile = ProcessingStep(
    name="Profile",
    step_args=processor.run(
        code="processing/profile_day.py",
        arguments=["--date", day],
        inputs=[
            ProcessingInput(
                input_name="flights",
                s3_input=ProcessingS3Input(
                    s3_uri=flights,
                    local_path="/opt/ml/processing/input/flights",
                    s3_data_type="S3Prefix",
                    s3_input_mode="File",
                ),
            )
        ],
        outputs=[
            ProcessingOutput(
                output_name="profile",
                s3_output=ProcessingS3Output(
                    s3_uri=profiles,
                    local_path="/opt/ml/processing/output/profile",
                    s3_upload_mode="EndOfJob",
                ),
            )
        ],
    ),
)

# %% The pipeline
pipeline = Pipeline(name="NotebookProfile", parameters=[day], steps=[profile], sagemaker_session=session)
pipeline.upsert(role_arn=session.role_arn, description="Describes the flights of a day")
print("Created:", pipeline.describe()["PipelineArn"])

# %% Run it
execution = pipeline.start(parameters={"Day": "2013-01-02"})
execution.wait()  # returns when it ends, and raises WaiterError if it fails
print("Status:", execution.describe()["PipelineExecutionStatus"])
for step in execution.list_steps():
    print("Step:", step["StepName"], step["StepStatus"], step["Metadata"])

# %% What it wrote
for key in session.list_s3_files(session.default_bucket(), "notebook/profiles"):
    print("Wrote:", key, len(session.read_s3_file(session.default_bucket(), key)), "bytes")

# %% Start it again, and change one's mind
from botocore.exceptions import WaiterError

second = pipeline.start()
second.stop()
try:
    second.wait()
except WaiterError as error:
    print("Stopped:", error)
runs = pipeline.list_executions()["PipelineExecutionSummaries"]
print("Executions:", [run["PipelineExecutionStatus"] for run in runs])

# %% Tidy up
pipeline.delete()
