"""The SDK session for notebooks: the SDK's own pipeline code against it, with engines that need no container; then the
example on every engine, as a process of its own with no AWS configuration and no way to a network."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError, WaiterError
from botocore.session import Session as CoreSession
from botocore.validate import ParamValidator
from support.project import PROJECT

from local_runner.engines.fake import FakeEngine, FakeHost
from local_runner.errors import InvalidPipelineError, Problem, SettingsError
from local_runner.models import ProcessingJob
from local_runner.settings import Settings

pytestmark = [
    pytest.mark.xdist_group("notebook"),  # one worker imports the SDK for all of these
    pytest.mark.filterwarnings("ignore::DeprecationWarning:sagemaker", "ignore:Running within a PipelineSession"),
]


class Notebook:
    """A project, a session in it, and the SDK's classes. Steps are functions (FakeEngine); by default they succeed."""

    def __init__(self, root: Path, engine: FakeEngine | None = None) -> None:
        from local_runner import LocalPipelineSession

        self.root = root
        self.steps: dict[str, Callable[[FakeHost], int | None]] = {}
        self.engine = engine or FakeEngine(self.steps)
        (root / "step.py").write_text("print('hello')\n")
        (root / "raw").mkdir()
        (root / "raw" / "a.csv").write_text("1,2\n")
        self.session = LocalPipelineSession(
            root / "state", self.engine, {"s3://elsewhere/raw": root / "raw"}, quiet=True, settings=Settings(root=root)
        )

    def step(self, name: str, reads: Any = "s3://elsewhere/raw", **kwargs: Any) -> Any:
        """A ProcessingStep with the input ``data`` and the output ``out`` (``s3://results/<name>``)."""
        from sagemaker.core.processing import ScriptProcessor
        from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
        from sagemaker.mlops.workflow.steps import ProcessingStep

        processor = ScriptProcessor(
            image_uri=self.session.image_uri,
            command=["python3"],
            role=self.session.role_arn,
            instance_type="ml.m5.xlarge",
            instance_count=1,
            sagemaker_session=self.session,
        )
        below = "/opt/ml/processing"
        given = ProcessingS3Input(
            s3_uri=reads, local_path=f"{below}/data", s3_data_type="S3Prefix", s3_input_mode="File"
        )
        kept = ProcessingS3Output(s3_uri=f"s3://results/{name}", local_path=f"{below}/out", s3_upload_mode="EndOfJob")
        arguments = processor.run(
            code=str(self.root / "step.py"),
            inputs=[ProcessingInput(input_name="data", s3_input=given)],
            outputs=[ProcessingOutput(output_name="out", s3_output=kept)],
        )
        return ProcessingStep(name=name, step_args=arguments, **kwargs)

    def pipeline(self, *steps: Any, parameters: Any = (), name: str = "Flights") -> Any:
        """A pipeline that has been upserted."""
        from sagemaker.mlops.workflow.pipeline import Pipeline

        pipeline = Pipeline(name=name, parameters=parameters, steps=steps, sagemaker_session=self.session)
        pipeline.upsert(role_arn=self.session.role_arn)
        return pipeline

    def run(self, pipeline: Any, **kwargs: Any) -> Any:
        """An execution that has succeeded."""
        execution = pipeline.start(**kwargs)
        execution.wait()
        return execution


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Notebook(tmp_path)


@pytest.fixture
def held(notebook: Notebook) -> Iterator[threading.Event]:
    """Set while the step ``Held`` runs, which ends when it is stopped (or after the test)."""
    running, release = threading.Event(), threading.Event()

    def hold(host: FakeHost) -> int:
        running.set()
        while not host.stop.wait(0.01) and not release.is_set():
            pass
        return 0

    notebook.steps["Held"] = hold
    yield running
    release.set()


@pytest.fixture(scope="module")
def check_shape() -> Callable[[str, Mapping[str, Any]], None]:
    """Checks a response against what botocore knows of the API."""
    model = CoreSession().get_service_model("sagemaker")

    def check(operation: str, response: Mapping[str, Any]) -> None:
        shape = model.operation_model(operation).output_shape
        content = {key: value for key, value in response.items() if key != "ResponseMetadata"}
        report = ParamValidator().validate(content, shape)
        assert not report.has_errors(), f"{operation}: {report.generate_report()}"
        assert set(content) <= set(getattr(shape, "members", ()))

    return check


# --------------------------------------------------------------------------------------------------- one pipeline
def test_a_pipeline_from_upsert_to_delete(notebook: Notebook):
    from sagemaker.core.workflow.parameters import ParameterInteger

    first = notebook.step("First")
    second = notebook.step("Second", reads=first.properties.ProcessingOutputConfig.Outputs["out"].S3Output.S3Uri)
    pipeline = notebook.pipeline(first, second, parameters=[ParameterInteger("Count", default_value=1)])
    notebook.steps["First"] = lambda host: host.write("out", "a.txt", "one")
    seen: list[str] = []
    notebook.steps["Second"] = lambda host: seen.extend(file.name for file in host.input("data")[0].iterdir())

    execution = notebook.run(pipeline, parameters={"Count": 3}, execution_display_name="a-try")

    described = execution.describe()
    assert described["PipelineExecutionStatus"] == "Succeeded"
    assert described["PipelineExecutionDisplayName"] == "a-try"
    assert "FailureReason" not in described
    steps = {step["StepName"]: step for step in execution.list_steps()}
    assert list(steps) == ["Second", "First"]
    assert {step["StepStatus"] for step in steps.values()} == {"Succeeded"}
    assert steps["First"]["EndTime"] >= steps["First"]["StartTime"]
    assert execution.list_parameters()["PipelineParameters"] == [{"Name": "Count", "Value": "3"}]
    assert seen == ["a.txt"]
    assert notebook.session.read_s3_file("results", "First/a.txt") == "one"

    pipeline.delete()
    with pytest.raises(ClientError) as missing:
        pipeline.describe()
    assert missing.value.response["Error"]["Code"] == "ResourceNotFound"
    assert execution.describe()["PipelineExecutionStatus"] == "Succeeded"


def test_upsert_updates_a_pipeline_that_exists(notebook: Notebook):
    from sagemaker.mlops.workflow.pipeline import Pipeline

    notebook.pipeline(notebook.step("Old"))
    changed = Pipeline(name="Flights", steps=[notebook.step("New")], sagemaker_session=notebook.session)
    with pytest.raises(ClientError, match="already exists"):
        changed.create(role_arn=notebook.session.role_arn)
    changed.upsert(role_arn="JustAName", description="changed", tags=[{"Key": "team", "Value": "air"}])
    described = changed.describe()
    assert (described["PipelineDescription"], described["RoleArn"]) == (
        "changed",
        "arn:aws:iam::000000000000:role/JustAName",
    )
    assert '"New"' in described["PipelineDefinition"]
    assert [step["StepName"] for step in notebook.run(changed).list_steps()] == ["New"]


def test_every_response_has_the_shape_of_the_api(notebook: Notebook, check_shape: Callable[..., None]):
    pipeline = notebook.pipeline(notebook.step("Only"), name="A")
    notebook.pipeline(notebook.step("Only"), name="B")
    execution = notebook.run(pipeline)
    notebook.steps["Only"] = lambda _: 3
    failed = pipeline.start()
    with pytest.raises(WaiterError):
        failed.wait()
    client = notebook.session.sagemaker_client
    job = execution.list_steps()[0]["Metadata"]["ProcessingJob"]["Arn"].split("/")[-1]
    for operation, response in {
        "DescribePipeline": client.describe_pipeline(PipelineName=pipeline.describe()["PipelineArn"]),
        "ListPipelines": client.list_pipelines(PipelineNamePrefix="A"),
        "UpdatePipeline": client.update_pipeline(PipelineName="A", PipelineDescription="new"),
        "DescribePipelineExecution": failed.describe(),
        "DescribePipelineDefinitionForExecution": client.describe_pipeline_definition_for_execution(
            PipelineExecutionArn=execution.arn
        ),
        "ListPipelineExecutions": client.list_pipeline_executions(PipelineName="A"),
        "ListPipelineExecutionSteps": client.list_pipeline_execution_steps(PipelineExecutionArn=failed.arn),
        "ListPipelineParametersForExecution": execution.list_parameters(),
        "DescribeProcessingJob": client.describe_processing_job(ProcessingJobName=job),
        "AddTags": client.add_tags(ResourceArn=pipeline.describe()["PipelineArn"], Tags=[{"Key": "a", "Value": "b"}]),
        "ListTags": client.list_tags(ResourceArn=pipeline.describe()["PipelineArn"]),
        "DeletePipeline": client.delete_pipeline(PipelineName="B", ClientRequestToken="x" * 32),
    }.items():
        check_shape(operation, response)
    assert [summary["PipelineName"] for summary in client.list_pipelines()["PipelineSummaries"]] == ["A"]


def test_lists_come_in_pages_the_newest_first(notebook: Notebook):
    pipeline = notebook.pipeline(notebook.step("Only"))
    arns = [notebook.run(pipeline).arn for _ in range(3)]
    first = pipeline.list_executions(max_results=2)
    rest = pipeline.list_executions(max_results=2, next_token=first["NextToken"])
    listed = [one["PipelineExecutionArn"] for page in (first, rest) for one in page["PipelineExecutionSummaries"]]
    assert listed == arns[::-1]
    assert "NextToken" not in rest


def test_only_selected_steps_run_on_what_an_earlier_execution_left(notebook: Notebook):
    from sagemaker.mlops.workflow.selective_execution_config import SelectiveExecutionConfig

    first = notebook.step("First")
    second = notebook.step("Second", reads=first.properties.ProcessingOutputConfig.Outputs["out"].S3Output.S3Uri)
    pipeline = notebook.pipeline(first, second)
    notebook.steps["First"] = lambda host: host.write("out", "a.txt", "one")
    notebook.run(pipeline)
    notebook.engine.ran.clear()
    execution = notebook.run(pipeline, selective_execution_config=SelectiveExecutionConfig(selected_steps=["Second"]))
    assert notebook.engine.ran == ["Second"]
    assert execution.describe()["PipelineExecutionStatus"] == "Succeeded"


# ------------------------------------------------------------------------------------------------ while it runs
def test_an_execution_can_be_watched_and_stopped(notebook: Notebook, held: threading.Event):
    later = notebook.step("Later", depends_on=["Held"])
    execution = notebook.pipeline(notebook.step("Held"), later).start()
    assert held.wait(10)
    assert execution.describe()["PipelineExecutionStatus"] == "Executing"
    (step,) = execution.list_steps()
    assert (step["StepName"], step["StepStatus"], "EndTime" in step) == ("Held", "Executing", False)

    execution.stop()
    assert execution.describe()["PipelineExecutionStatus"] in ("Stopping", "Stopped")
    with pytest.raises(WaiterError, match="Stopped"):
        execution.wait()
    assert [(step["StepName"], step["StepStatus"]) for step in execution.list_steps()] == [("Held", "Stopped")]
    with pytest.raises(ClientError, match="is Stopped"):
        execution.stop()


def test_waiting_ends_with_the_execution_and_not_at_the_next_poll(notebook: Notebook):
    notebook.steps["Only"] = lambda _: time.sleep(0.3)
    pipeline = notebook.pipeline(notebook.step("Only"))
    started = time.monotonic()
    pipeline.start().wait(delay=30)
    assert time.monotonic() - started < 15


def test_waiting_gives_up_when_the_sdk_would(notebook: Notebook, held: threading.Event):
    execution = notebook.pipeline(notebook.step("Held")).start()
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        execution.wait(delay=0.1, max_attempts=2)
    execution.stop()


def test_a_failure_says_what_failed(notebook: Notebook):
    def broken(host: FakeHost) -> int:
        host.print("no such column: delay")
        return 3

    notebook.steps["Broken"] = broken
    execution = notebook.pipeline(notebook.step("Broken")).start()
    with pytest.raises(WaiterError, match="Failed"):
        execution.wait()
    assert "no such column: delay" in execution.describe()["FailureReason"]
    (step,) = execution.list_steps()
    assert step["StepStatus"] == "Failed"
    assert "exited with code 3" in step["FailureReason"]


def test_conditions_and_fail_steps_say_what_they_came_to(notebook: Notebook):
    from sagemaker.core.workflow.conditions import ConditionEquals
    from sagemaker.core.workflow.parameters import ParameterString
    from sagemaker.mlops.workflow.condition_step import ConditionStep
    from sagemaker.mlops.workflow.fail_step import FailStep

    mode = ParameterString("Mode", default_value="good")
    fail = FailStep(name="TooBad", error_message="it is too bad")
    check = ConditionStep(name="Check", conditions=[ConditionEquals(left=mode, right="good")], else_steps=[fail])
    execution = notebook.pipeline(check, parameters=[mode]).start(parameters={"Mode": "bad"})
    with pytest.raises(WaiterError):
        execution.wait()
    assert [(step["StepName"], step["StepStatus"], step["Metadata"]) for step in execution.list_steps()] == [
        ("TooBad", "Failed", {"Fail": {"ErrorMessage": "it is too bad"}}),
        ("Check", "Succeeded", {"Condition": {"Outcome": "False"}}),
    ]


def test_a_run_that_breaks_off_has_failed(notebook: Notebook):
    notebook.steps["Only"] = lambda _: 1 // 0
    execution = notebook.pipeline(notebook.step("Only")).start()
    with pytest.raises(WaiterError):
        execution.wait()
    assert "division" in execution.describe()["FailureReason"]
    assert [step["StepStatus"] for step in execution.list_steps()] == ["Failed"]


# ------------------------------------------------------------------------------------------------ what is refused
def test_a_pipeline_that_cannot_run_says_everything_when_it_is_started(notebook: Notebook):
    pipeline = notebook.pipeline(notebook.step("A", reads="s3://nowhere/x"), notebook.step("B", reads="s3://nowhere/y"))
    with pytest.raises(InvalidPipelineError) as raised:
        pipeline.start(parameters={"NoSuch": "1"})
    assert len(raised.value.problems) == 3
    assert "Flights has 1 problem:" in str(raised.value)
    assert "Flights has 2 problems on this machine only" in str(raised.value)
    assert pipeline.list_executions()["PipelineExecutionSummaries"] == []


class Picky(FakeEngine):
    """Can run nothing."""

    def problems(self, jobs: Iterable[tuple[str, ProcessingJob]]) -> list[Problem]:
        return [Problem(path, "is not for this engine.") for path, _ in jobs]


def test_a_pipeline_that_its_engine_cannot_run_is_refused_when_it_is_started(tmp_path: Path):
    notebook = Notebook(tmp_path, Picky())
    pipeline = notebook.pipeline(notebook.step("Only"))
    with pytest.raises(InvalidPipelineError, match="is not for this engine"):
        pipeline.start()
    assert pipeline.list_executions()["PipelineExecutionSummaries"] == []


def test_a_definition_too_long_to_send_goes_through_local_s3(notebook: Notebook):
    from sagemaker.core.workflow.parameters import ParameterString

    padding = [ParameterString(f"P{number}", default_value="x" * 1000) for number in range(120)]
    pipeline = notebook.pipeline(notebook.step("Only"), parameters=padding)
    assert len(pipeline.describe()["PipelineDefinition"]) > 100 * 1024
    assert notebook.run(pipeline).describe()["PipelineExecutionStatus"] == "Succeeded"


def test_what_botocore_refuses_is_refused(notebook: Notebook):
    with pytest.raises(ParamValidationError):
        notebook.session.sagemaker_client.describe_pipeline(Name="Flights")


def test_other_calls_to_aws_are_refused_and_say_what_to_do(notebook: Notebook):
    with pytest.raises(RuntimeError, match="sagemaker:CreateTrainingJob is a call to AWS, and this session stays"):
        notebook.session.sagemaker_client.create_training_job(
            TrainingJobName="x",
            AlgorithmSpecification={"TrainingInputMode": "File"},
            RoleArn=notebook.session.role_arn,
            OutputDataConfig={"S3OutputPath": "s3://b"},
            ResourceConfig={"VolumeSizeInGB": 1},
            StoppingCondition={},
        )
    with pytest.raises(RuntimeError, match="s3:ListBuckets"):
        notebook.session.boto_session.client("s3").list_buckets()


def test_data_that_is_not_there_is_refused_at_once(notebook: Notebook):
    from local_runner import LocalPipelineSession

    with pytest.raises(SettingsError, match="not there"):
        LocalPipelineSession(data={"s3://a/b": notebook.root / "missing"}, settings=Settings(root=notebook.root))


# ------------------------------------------------------------------------------------------------------- local S3
def test_uploads_can_be_listed_read_and_downloaded(notebook: Notebook):
    session, bucket = notebook.session, notebook.session.default_bucket()
    assert session.upload_data(str(notebook.root / "raw"), key_prefix="up") == f"s3://{bucket}/up"
    assert session.upload_data(str(notebook.root / "step.py"), key_prefix="up/code") == f"s3://{bucket}/up/code/step.py"
    assert session.upload_string_as_file_body("text", "other", "a/b.txt") == "s3://other/a/b.txt"
    assert session.list_s3_files(bucket, "up") == ["up/a.csv", "up/code/step.py"]
    assert session.read_s3_file("other", "a/b.txt") == "text"
    copies = session.download_data(str(notebook.root / "copy"), bucket, "up")
    assert [Path(copy).relative_to(notebook.root / "copy").as_posix() for copy in copies] == ["a.csv", "code/step.py"]
    assert (notebook.root / "raw" / "a.csv").exists()
    with pytest.raises(ClientError, match="NoSuchKey"):
        session.read_s3_file("other", "a/c.txt")
    with pytest.raises(FileNotFoundError, match="missing"):
        session.upload_data("missing")


def test_mapped_data_is_in_local_s3(notebook: Notebook):
    assert notebook.session.list_s3_files("elsewhere", "raw/") == ["raw/a.csv"]


# ------------------------------------------------------------------------------------------------------ processes
def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a Python without AWS configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True)


def test_importing_the_package_imports_neither_the_sdk_nor_anything_else_that_is_slow():
    done = python(
        "import sys, local_runner; print(sorted(sys.modules.keys() & {'sagemaker', 'boto3', 'pydantic', 'click'}));"
        "print('LocalPipelineSession' in dir(local_runner), hasattr(local_runner, 'Nothing'))"
    )
    assert done.stdout.split("\n") == ["[]", "True False", ""]


def test_a_program_that_ends_waits_for_its_executions():
    done = python(
        """
from types import SimpleNamespace
import time
from local_runner.events import Silent
from local_runner.notebook.execution import LocalExecution
from concurrent.futures import ThreadPoolExecutor

def run(listener, stop):
    with ThreadPoolExecutor(1) as threads:
        listener.started(None, "fake")
        time.sleep(0.5)
        threads.submit(print, "the second step ran").result()
    return SimpleNamespace(status="Succeeded", failure_reason=None)

LocalExecution(SimpleNamespace(execution_id="abc"), Silent(), run).begin()
"""
    )
    assert "Execution abc still runs" in done.stdout
    assert "the second step ran" in done.stdout, done.stderr


_OFFLINE = """
import runpy, sys

def refuse(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        raise RuntimeError(f"this connects to {arguments[1]}")

sys.addaudithook(refuse)
runpy.run_path("examples/notebook.py", run_name="__main__")
"""


@pytest.mark.parametrize(
    "engine",
    [pytest.param("docker", marks=pytest.mark.docker), pytest.param("sandbox", marks=pytest.mark.sandbox)],
)
def test_the_example_runs_without_aws_and_network(engine: str, request: pytest.FixtureRequest, tmp_path: Path):
    request.getfixturevalue("processing_image" if engine == "docker" else "environment")
    project = tmp_path / PROJECT.name  # the image's tag holds the name
    project.mkdir()
    for name in ("examples", "processing", "data", "local_runner.toml"):
        (project / name).symlink_to(PROJECT / name)
    state = project / ".local_runner"
    state.mkdir()
    (state / "cache").symlink_to(PROJECT / ".local_runner" / "cache")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", _OFFLINE],
        cwd=project,
        env=kept | {"ENGINE": engine, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Status: Succeeded" in done.stdout
    assert "Step: Profile Succeeded" in done.stdout
    assert "Wrote: notebook/profiles/profile.json" in done.stdout
    assert "Executions: ['Stopped', 'Succeeded']" in done.stdout
