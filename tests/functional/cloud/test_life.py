"""After a promotion: trigger, logs, status, pause, resume, releases, retire, on the command line."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cloud_proxy import Proxy
from support.command_line import Running, local_runner
from support.definitions import get, parameter, pipeline, processing
from support.played_executions import Played, PlayedStep, Service, serving
from support.project import PROJECT, link_caches
from support.promotion import account, release
from support.promotion import promoted as promoted_release

from local_runner.cli.local import cli
from local_runner.cloud.account.aws import Aws
from local_runner.cloud.change.models import deletions_last
from local_runner.cloud.desired.supporting import supporting_resources
from local_runner.cloud.executions.api import executions_now
from local_runner.cloud.operations.pause import set_state
from local_runner.cloud.release.lock import promotion_lock
from local_runner.cloud.release.record import ReleaseRecord, release_key
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.target import Target
from local_runner.definition.parser import parse_definition
from local_runner.fingerprint import Fingerprint
from local_runner.fingerprint import keep as keep_fingerprint

REGION, ACCOUNT = "eu-west-1", "123456789012"
NAMES = Names("FlightsDaily", "dev")
NAME, BUCKET = "FlightsDaily-dev", f"sagemaker-{REGION}-{ACCOUNT}"
GROUP = "/aws/sagemaker/ProcessingJobs"
SCHEDULE = {
    "expression": "cron(0 6 * * ? *)",
    "timezone": "Europe/Berlin",
    "parameters": {"ProcessingDate": "<aws.scheduler.scheduled-time>"},
}
ENVIRONMENT = Environment.model_validate({"name": "dev", "schedule": SCHEDULE, "alerts": {"email": "a@example.com"}})
TARGET = Target(ENVIRONMENT, NAMES, Aws(REGION, known_account=ACCOUNT))


def step(name, **more):
    members = {"RoleArn": TARGET.execution_role_arn}
    return processing(name, image=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/x:1", members=members, **more)


DEFINITION = pipeline(
    step("Validate"),
    step("Profile", DependsOn=["Validate"]),
    step("Fit", DependsOn=["Profile"]),
    parameters=[parameter("ProcessingDate"), parameter("Count", 1, "Integer")],
)


def record(number: int, **more) -> ReleaseRecord:
    parts = supporting_resources(TARGET, parse_definition(json.dumps(DEFINITION), NAME, ""))
    assert parts.schedule.desired
    values = {
        "number": number,
        "environment": "dev",
        "pipeline_name": NAME,
        "pipeline_arn": TARGET.pipeline_arn,
        "created": f"2026-01-0{number}T06:00:00+00:00",
        "created_by": f"arn:aws:sts::{ACCOUNT}:assumed-role/Deploy/maria",
        "fingerprint": "f" * 64,
        "verified_by": "abcdefghijkl",
        "git_commit": "0123456789abcdef",
        "definition": json.dumps(DEFINITION),
        "role_arn": TARGET.execution_role_arn,
        "schedule_kind": "scheduler",
        "schedule": dict(parts.schedule.desired.request),
    }
    return ReleaseRecord.model_validate(values | more)


@pytest.fixture
def service(proxy: Proxy, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """An empty account in which executions take time; the command line and ``aws`` speak to it."""
    address = urlsplit(proxy.url)
    with serving((str(address.hostname), int(address.port or 0))) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
        monkeypatch.setenv("AWS_REGION", REGION)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        monkeypatch.chdir(PROJECT)
        yield service


@pytest.fixture
def promoted(service: Service, aws: Aws) -> Service:
    """The account after one promotion."""
    document = json.dumps(DEFINITION)
    aws.call("s3", "create_bucket", Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    parts = supporting_resources(TARGET, parse_definition(document, NAME, ""))
    tags = [{"Key": key, "Value": value} for key, value in TARGET.tags.items()]
    assert parts.execution_role
    assert parts.start_role
    for change in parts.execution_role.plan(aws):
        change.apply(aws)
    aws.call(
        "sagemaker",
        "create_pipeline",
        PipelineName=NAME,
        PipelineDefinition=document,
        RoleArn=TARGET.execution_role_arn,
        Tags=tags,
        ClientRequestToken="t" * 32,
    )
    for part in (parts.start_role, parts.schedule, parts.alerts):
        for change in deletions_last(part.plan(aws)):
            change.apply(aws)
    keep(aws, record(1))
    return service


def keep(aws: Aws, release: ReleaseRecord) -> None:
    body = release.model_dump_json().encode()
    aws.call("s3", "put_object", Bucket=BUCKET, Key=release_key(NAME, release.number), Body=body)


def log(aws: Aws, job: str, *lines: str, host: str = "algo-1") -> None:
    stream = {"logGroupName": GROUP, "logStreamName": f"{job}/{host}-1700000000"}
    if not aws.call("logs", "describe_log_groups", logGroupNamePrefix=GROUP)["logGroups"]:
        aws.call("logs", "create_log_group", logGroupName=GROUP)
    found = aws.call("logs", "describe_log_streams", logGroupName=GROUP)["logStreams"]
    if stream["logStreamName"] not in [item["logStreamName"] for item in found]:
        aws.call("logs", "create_log_stream", **stream)
    now = int(time.time() * 1000)
    events = [{"timestamp": now + number, "message": line} for number, line in enumerate(lines)]
    aws.call("logs", "put_log_events", **stream, logEvents=events)


@pytest.fixture
def run(state: Path):
    """Runs the command line in this process; the caches are the project's."""

    def run(*arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(cli, [*arguments, "--state", str(state)], input=text)

    return run


# ---------------------------------------------------------------------------------------------------- trigger
STEPS = (
    PlayedStep("Validate", 0.0, 0.5, job="v-1", exit_message="842 rows"),
    PlayedStep("Profile", 0.5, 0.9, job="p-1"),
    PlayedStep("Fit", 0.9, 1.2, job="f-1"),
)


def test_an_execution_is_shown_until_it_succeeds(promoted: Service, run) -> None:
    promoted.play = lambda: Played(STEPS)
    done = run("trigger", "--date", "2026-01-31", "-p", "Count=3", "--wait")
    assert done.exit_code == 0, done.output
    (request,) = promoted.made("StartPipelineExecution")
    assert len(request.pop("ClientRequestToken")) >= 32
    assert request == {
        "PipelineName": NAME,
        "PipelineParameters": [{"Name": "Count", "Value": "3"}, {"Name": "ProcessingDate", "Value": "2026-01-31"}],
    }
    assert "Validate  Executing" in done.output
    assert "✓ Validate  Processing      0.5 s  842 rows" in done.output
    assert "✓ Fit       Processing" in done.output
    assert f"✓ Succeeded in 1.2 s on SageMaker ({REGION})" in done.output


def test_without_wait_only_the_id_is_printed(promoted: Service, run) -> None:
    done = run("trigger", "--date", "2026-01-31")
    assert done.exit_code == 0, done.output
    (arn,) = promoted.executions
    assert done.stdout == arn.rpartition("/")[2] + "\n"
    assert f"local-runner logs --env dev {done.stdout.strip()} --follow" in done.stderr


def test_what_the_service_would_refuse_of_the_values_starts_nothing(promoted: Service, aws: Aws, run) -> None:
    """Of the values themselves, and of the requests that come of them."""
    document = json.loads(json.dumps(DEFINITION))
    document["Steps"][0]["Arguments"]["AppSpecification"]["ContainerArguments"] = [get("Parameters.ProcessingDate")]
    document["Steps"][1]["Arguments"]["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = get("Parameters.Count")
    aws.call("sagemaker", "update_pipeline", PipelineName=NAME, PipelineDefinition=json.dumps(document))
    empty = run("trigger", "--date", "", "-p", "Count=many", "-p", "Nope=1")
    long = run("trigger", "--date", "x" * 257, "-p", "Count=0")
    assert (empty.exit_code, long.exit_code) == (2, 2)
    argument = "Steps[0].Arguments.AppSpecification.ContainerArguments[0]"
    for text in (
        "-p Nope: the pipeline has no parameter 'Nope'",
        "-p ProcessingDate: the service takes no empty value at the start",
        "-p Count: the parameter is of type Integer, and 'many' is not a whole number",
        f"{argument}: the service takes no empty text here",
    ):
        assert text in empty.output
    assert f"{argument}: it has 257 characters, and the service takes at most 256" in long.output
    assert "ClusterConfig.InstanceCount: it is 0, and the service wants at least 1" in long.output
    assert promoted.made("StartPipelineExecution") == []


def test_a_failure_tells_the_reason_and_the_last_lines_of_the_job(promoted: Service, aws: Aws, run) -> None:
    log(aws, "v-1", *(f"row {number}" for number in range(100)), "KeyError: 'dep_time'")
    log(aws, "v-1", "waiting for algo-1", host="algo-2")
    failed = PlayedStep("Validate", 0, 0.3, "Failed", "ClientError: exit code 1", job="v-1")
    promoted.play = lambda: Played([failed], "Failed", "Step failure: One or multiple steps failed.")
    done = run("trigger", "--date", "2026-01-31", "--wait")
    assert done.exit_code == 1, done.output
    said = done.output.partition("  Validate failed\n")[2]
    assert said.startswith("    ClientError: exit code 1\n    The last lines of algo-1:\n      row 81\n")
    assert "      KeyError: 'dep_time'\n    The last lines of algo-2:\n      waiting for algo-1\n" in said
    assert "row 80" not in said
    assert "✗ Failed after" in said
    assert "One or multiple steps failed." in said


def test_parameters_are_checked_against_the_account_before_the_call(promoted: Service, run) -> None:
    done = run("trigger", "-p", "Cuont=3", "-p", "Count=three")
    assert done.exit_code == 2
    assert "the pipeline has no parameter 'Cuont'. Did you mean 'Count'?" in done.output
    assert "'three' is not a whole number" in done.output
    assert "parameter 'ProcessingDate' has no value and no default. Give -p ProcessingDate=VALUE." in done.output
    assert promoted.made("StartPipelineExecution") == []


def test_a_network_that_goes_away_for_a_moment_is_not_the_end(promoted: Service, run) -> None:
    promoted.play = lambda: Played(STEPS)
    promoted.dropped = {"ListPipelineExecutionSteps": 6}
    done = run("trigger", "--date", "2026-01-31", "--wait")
    assert "Trying again." in done.output
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("stops", [False, True])
def test_ctrl_c(promoted: Service, tmp_path: Path, stops: bool) -> None:
    promoted.play = lambda: Played([PlayedStep("Validate", 0, 60, job="v-1")])
    options = ["--stop-on-interrupt"] if stops else []
    state = link_caches(tmp_path / "state")
    running = Running(tmp_path / "run", "trigger", "--date", "2026-01-31", "--wait", *options, "--state", state)
    running.wait_for("Validate  Executing")
    running.process.send_signal(signal.SIGINT)
    code = running.end(20)
    ((arn, execution),) = promoted.executions.items()
    if stops:
        assert code == 1
        assert execution.current_status == "Stopped"
        assert "Stopping the execution" in running.said
        assert "Stopped after" in running.said
    else:
        assert code == 130
        assert execution.current_status == "Executing"
        assert f"Execution {arn.rpartition('/')[2]} goes on." in running.said
        assert f"stop-pipeline-execution --region {REGION} --pipeline-execution-arn {arn}" in running.said
    assert "Traceback" not in running.said


# ------------------------------------------------------------------------------------------------------- logs
def test_logs_of_the_newest_execution(promoted: Service, aws: Aws, run) -> None:
    promoted.play = lambda: Played([PlayedStep("Validate", 0, 0.1, job="v-1"), PlayedStep("Fit", 0.05, 0.1, job="f-1")])
    run("trigger", "--date", "2026-01-31")
    log(aws, "v-1", *(f"row {number}" for number in range(30)))
    log(aws, "f-1", "fitted\x1b[31m \x1b]0;title\x07\u202e")
    time.sleep(0.2)
    done = run("logs")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [f"Validate/algo-1 | row {n}" for n in range(30)] + [
        "Fit/algo-1 | fitted \ufffd"
    ]
    assert run("logs", "--step", "Validate", "--tail", "2").stdout.splitlines() == [
        "Validate/algo-1 | row 28",
        "Validate/algo-1 | row 29",
    ]
    assert run("logs", "--step", "Profile").stdout == ""
    unknown = run("logs", "--step", "Nope")
    assert unknown.exit_code == 2
    assert "The pipeline has no step 'Nope'. Its steps: Validate, Profile, Fit." in unknown.output


def test_logs_are_followed_until_the_execution_is_over(promoted: Service, aws: Aws, tmp_path: Path) -> None:
    promoted.play = lambda: Played([PlayedStep("Validate", 0, 4, job="v-1")])
    log(aws, "v-1", "old", "first")
    state = link_caches(tmp_path / "state")
    aws.call(
        "sagemaker",
        "start_pipeline_execution",
        PipelineName=NAME,
        ClientRequestToken="t" * 32,
    )
    running = Running(tmp_path / "run", "logs", "--follow", "--tail", "1", "--state", state)
    running.wait_for("Validate/algo-1 | first")
    log(aws, "v-1", "second")
    running.wait_for("Validate/algo-1 | second")
    assert running.end(20) == 0
    assert running.out.read_text().splitlines() == ["Validate/algo-1 | first", "Validate/algo-1 | second"]


# ------------------------------------------------------------------------------------------------------ status
def test_status_after_a_promotion(promoted: Service, run) -> None:
    promoted.play = lambda: Played([PlayedStep("Validate", 0, 0.1, "Failed")], "Failed", "Step failure: it broke.")
    run("trigger", "--date", "2026-01-31")
    time.sleep(0.2)
    done = run("status", "--exit-code")
    assert done.exit_code == 0, done.output
    assert "Release\n  1, of 2026-01-01 06:00 UTC, by maria, commit 01234567\n" in done.output
    assert "tested by local run abcdefghijkl; no run in this project" in done.output
    assert "Schedule\n  every day at 06:00 Europe/Berlin\n  next: " in done.output
    assert done.output.count("next: ") == 3
    assert "Failed  0.1 s  Step failure: it broke." in done.output
    assert "Drift\n  none" in done.output


def test_drift_is_shown_field_by_field(promoted: Service, aws: Aws, run) -> None:
    changed = json.loads(json.dumps(DEFINITION))
    changed["Steps"][2]["Arguments"]["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = 9
    aws.call("sagemaker", "update_pipeline", PipelineName=NAME, PipelineDefinition=json.dumps(changed))
    live = aws.call("scheduler", "get_schedule", Name=NAMES.schedule)
    kept = ("Name", "FlexibleTimeWindow", "ScheduleExpressionTimezone", "Description", "State", "Target")
    fields = {key: live[key] for key in kept}
    aws.call("scheduler", "update_schedule", **fields, ScheduleExpression="cron(0 7 * * ? *)")
    done = run("status", "--exit-code", "--json")
    assert done.exit_code == 3, done.output
    found = {item["resource"]: item["fields"] for item in json.loads(done.stdout)["drift"]}
    where = "PipelineDefinition.Steps.Fit.Arguments.ProcessingResources.ClusterConfig.InstanceCount"
    assert found == {
        "pipeline": [{"path": where, "release": 1, "account": 9}],
        "schedule": [{"path": "ScheduleExpression", "release": "cron(0 6 * * ? *)", "account": "cron(0 7 * * ? *)"}],
    }
    assert f"{where}: 1 in the release, 9 in the account" in run("status").output
    aws.call("sagemaker", "delete_pipeline", PipelineName=NAME, ClientRequestToken="t" * 32)
    aws.call("scheduler", "delete_schedule", Name=NAMES.schedule)
    gone = run("status").output
    assert f"pipeline {NAME}: is not there any more" in gone
    assert f"schedule {NAME}: is not there any more" in gone


def test_a_test_run_of_this_project_is_known(promoted: Service, aws: Aws, state: Path, run) -> None:
    tested = Fingerprint({"Steps": []}, {"a.py": "0" * 64}, "content")
    (state / "runs/zyxwvutsrqpo").mkdir(parents=True)
    keep_fingerprint(state / "runs/zyxwvutsrqpo", tested, "2026-01-01T00:00:00Z")
    assert "tested here" not in run("status").output
    keep(aws, record(2, fingerprint=tested.value))
    assert "tested here: local run zyxwvutsrqpo is of the same definition, code and image" in run("status").output


# --------------------------------------------------------------------------------------------- pause and resume
def test_pause_and_resume_twice_each(promoted: Service, aws: Aws, run) -> None:
    before = aws.call("scheduler", "get_schedule", Name=NAMES.schedule)
    assert run("pause").output == f"The schedule {NAME} is paused: every day at 06:00 Europe/Berlin.\n"
    assert aws.call("scheduler", "get_schedule", Name=NAMES.schedule)["State"] == "DISABLED"
    assert run("pause").output == f"The schedule {NAME} is paused already.\n"
    status = run("status", "--exit-code")
    assert "PAUSED: nothing is started. To go on: local-runner resume --env dev" in status.output
    assert "next:" not in status.output
    assert status.exit_code == 0
    assert run("resume").output == f"The schedule {NAME} is on again: every day at 06:00 Europe/Berlin.\n"
    assert run("resume").output == f"The schedule {NAME} is on already.\n"
    assert settled(aws.call("scheduler", "get_schedule", Name=NAMES.schedule)) == settled(before)


def test_a_rule_is_paused_as_well(promoted: Service, aws: Aws, run) -> None:
    aws.call("scheduler", "delete_schedule", Name=NAMES.schedule)
    aws.call("events", "put_rule", Name=NAMES.schedule, ScheduleExpression="rate(1 day)", Description="mine")
    before = aws.call("events", "describe_rule", Name=NAMES.schedule)
    assert "is paused: every day" in run("pause").output
    assert aws.call("events", "describe_rule", Name=NAMES.schedule)["State"] == "DISABLED"
    assert "is on again" in run("resume").output
    assert settled(aws.call("events", "describe_rule", Name=NAMES.schedule)) == settled(before)


def settled(answer: dict) -> dict:
    return {key: value for key, value in answer.items() if key not in ("ResponseMetadata", "LastModificationDate")}


def arns(service: str, kind: str):
    return st.from_regex(r"[a-z]{1,12}", fullmatch=True).map(
        lambda n: f"arn:aws:{service}:{REGION}:{ACCOUNT}:{kind}{n}"
    )


texts = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc")), max_size=20)
moments = st.datetimes(datetime(2027, 1, 1), datetime(2090, 1, 1)).map(lambda it: it.replace(microsecond=0, tzinfo=UTC))
targets = st.fixed_dictionaries(
    {
        "Arn": arns("sagemaker", "pipeline/"),
        "RoleArn": st.just(f"arn:aws:iam::{ACCOUNT}:role/start"),
        "SageMakerPipelineParameters": st.fixed_dictionaries(
            {
                "PipelineParameterList": st.lists(
                    st.fixed_dictionaries(
                        {"Name": st.from_regex("[A-Za-z]{1,9}", fullmatch=True), "Value": texts.filter(bool)}
                    ),
                    max_size=3,
                )
            }
        ),
    },
    optional={
        "DeadLetterConfig": st.fixed_dictionaries({"Arn": arns("sqs", "")}),
        "RetryPolicy": st.fixed_dictionaries(
            {"MaximumRetryAttempts": st.integers(0, 185), "MaximumEventAgeInSeconds": st.integers(60, 86400)}
        ),
        "Input": texts.filter(bool),
    },
)
schedules = st.fixed_dictionaries(
    {
        "ScheduleExpression": st.sampled_from(["cron(0 6 * * ? *)", "rate(5 minutes)", "at(2030-01-01T00:00:00)"]),
        "FlexibleTimeWindow": st.one_of(
            st.just({"Mode": "OFF"}),
            st.integers(1, 1440).map(lambda it: {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": it}),
        ),
        "Target": targets,
    },
    optional={
        "ScheduleExpressionTimezone": st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
        "Description": texts,
        "StartDate": moments,
        "EndDate": moments,
        "KmsKeyArn": arns("kms", "key/"),
        "ActionAfterCompletion": st.sampled_from(["NONE", "DELETE"]),
    },
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=schedules)
def test_pause_and_resume_lose_no_field(service: Service, aws: Aws, schedule: dict) -> None:
    aws.find("scheduler", "delete_schedule", Name="s")
    aws.call("scheduler", "create_schedule", Name="s", State="ENABLED", **schedule)
    before = aws.call("scheduler", "get_schedule", Name="s")
    service.requests.clear()
    assert set_state(aws, "s", "DISABLED")
    paused = aws.call("scheduler", "get_schedule", Name="s")
    assert settled(paused) == settled(before) | {"State": "DISABLED"}
    assert set_state(aws, "s", "ENABLED")
    assert settled(aws.call("scheduler", "get_schedule", Name="s")) == settled(before)
    # The emulator keeps a field or two that the service would put back: both writes have to name every one.
    for body in service.made("PUT /schedules/s"):
        assert set(schedule) <= set(body)


# ----------------------------------------------------------------------------------------------------- releases
def test_releases_are_listed_with_the_current_one_marked(promoted: Service, aws: Aws, run) -> None:
    keep(aws, record(2, verified_by=None, unverified_reason="hot fix", git_commit=None))
    keep(aws, record(3, restores=1, git_dirty=True))
    assert run("releases").output.splitlines() == [
        "* 3  2026-01-03 06:00 UTC  maria  commit 01234567 with changes  "
        "tested by local run abcdefghijkl; brings back release 1",
        "  2  2026-01-02 06:00 UTC  maria  no commit                     not tested: hot fix",
        "  1  2026-01-01 06:00 UTC  maria  commit 01234567               tested by local run abcdefghijkl",
    ]
    found = json.loads(run("releases", "--json").output)
    assert [(item["number"], item["current"]) for item in found] == [(3, True), (2, False), (1, False)]
    assert "definition" not in found[0]


def test_a_damaged_record_is_named(promoted: Service, aws: Aws, run) -> None:
    aws.call("s3", "put_object", Bucket=BUCKET, Key="FlightsDaily-dev/releases/2.json", Body=b'{"number": 2}')
    done = run("releases")
    assert done.exit_code == 2
    assert f"s3://{BUCKET}/FlightsDaily-dev/releases/2.json is no record of a release: environment: " in done.output


# ----------------------------------------------------------------------------------------------------- rollback
def promote_another(aws: Aws, number: int, count: int, expression: str) -> None:
    """Another release, as a promotion would leave it: more instances, at another time."""
    changed = json.loads(json.dumps(DEFINITION))
    changed["Steps"][0]["Arguments"]["ProcessingResources"]["ClusterConfig"]["InstanceCount"] = count
    text = json.dumps(changed)
    schedule = {**record(1).model_dump()["schedule"], "ScheduleExpression": expression}
    aws.call("sagemaker", "update_pipeline", PipelineName=NAME, PipelineDefinition=text)
    aws.call("scheduler", "update_schedule", **schedule)
    keep(aws, record(number, definition=text, schedule=schedule, fingerprint=str(number) * 64))


def state_of(aws: Aws) -> tuple[object, str]:
    definition = aws.call("sagemaker", "describe_pipeline", PipelineName=NAME)["PipelineDefinition"]
    return json.loads(definition), aws.call("scheduler", "get_schedule", Name=NAMES.schedule)["ScheduleExpression"]


def test_a_rollback_brings_definition_and_schedule_back_as_a_new_release(promoted: Service, aws: Aws, run) -> None:
    first = state_of(aws)
    promote_another(aws, 2, 7, "cron(0 7 * * ? *)")
    second = state_of(aws)
    refused = run("rollback", text="y\n")  # nobody is asked where there is no terminal
    assert refused.exit_code == 2
    assert "Back from release 2 to 1" in refused.output
    assert "repeat with --yes" in refused.output
    assert state_of(aws) == second
    done = run("rollback", "--yes")
    assert done.exit_code == 0, done.output
    assert "update pipeline FlightsDaily-dev: " in done.output
    assert "update schedule FlightsDaily-dev: ScheduleExpression changed, every day at 06:00" in done.output
    assert "Release 3 is what release 1 was." in done.output
    assert state_of(aws) == first
    status = run("status", "--exit-code")
    assert status.exit_code == 0, status.output
    assert "brings back release 1" in status.output
    (newest, *_) = json.loads(run("releases", "--json").output)
    assert (newest["number"], newest["restores"], newest["fingerprint"]) == (3, 1, "f" * 64)
    assert "There is no release before 1" in run("rollback", "--yes").output
    assert "Release 4 is what release 2 was." in run("rollback", "--to", "2", "--yes").output
    assert state_of(aws) == second
    keys = [it["Key"] for it in aws.call("s3", "list_objects_v2", Bucket=BUCKET)["Contents"]]
    assert "FlightsDaily-dev/promotion.lock" not in keys


def test_a_release_whose_code_or_image_is_gone_does_not_come_back(promoted: Service, aws: Aws, run) -> None:
    uri = f"s3://{BUCKET}/FlightsDaily-dev/code/abc/fit.py"
    image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/local-runner/flights@sha256:{'0' * 64}"
    keep(aws, record(2, code={"fit.py": uri}, image_uri=image))
    keep(aws, record(3))
    before = state_of(aws)
    done = run("rollback", "--yes")
    assert done.exit_code == 2
    assert f"  {uri} (fit.py)\n  the image {image}\n" in done.output
    assert state_of(aws) == before


def test_a_rollback_waits_for_no_other_promotion(promoted: Service, aws: Aws, run) -> None:
    promote_another(aws, 2, 7, "cron(0 7 * * ? *)")
    before = state_of(aws)
    with promotion_lock(replace(TARGET, aws=aws)):
        done = run("rollback", "--yes")
    assert done.exit_code == 2
    assert "Another promotion holds the lock" in done.output
    assert state_of(aws) == before


def test_a_rollback_that_was_cut_off_is_finished_by_the_next(promoted: Service, aws: Aws, run) -> None:
    first = state_of(aws)
    promote_another(aws, 2, 7, "cron(0 7 * * ? *)")
    promoted.denied = {f"PUT /schedules/{NAME}"}
    cut = run("rollback", "--yes")
    assert cut.exit_code == 2, cut.output
    assert state_of(aws) == (first[0], "cron(0 7 * * ? *)")
    assert [item["number"] for item in json.loads(run("releases", "--json").output)] == [2, 1]
    promoted.denied = set()
    done = run("rollback", "--yes")
    assert done.exit_code == 0, done.output
    assert "Release 3 is what release 1 was." in done.output
    assert state_of(aws) == first


def test_a_rollback_allows_what_the_schedule_of_that_release_needs(promoted: Service, aws: Aws, run) -> None:
    """A place that only a parameter of the schedule names is readable again with the release."""
    changed = json.loads(json.dumps(DEFINITION))
    changed["Parameters"].append({"Name": "Where", "Type": "String", "DefaultValue": "s3://usual/x"})
    source = {"S3Uri": {"Get": "Parameters.Where"}, "LocalPath": "/opt/ml/processing/in", "S3DataType": "S3Prefix"}
    changed["Steps"][0]["Arguments"]["ProcessingInputs"] = [{"InputName": "in", "S3Input": source}]
    schedule = record(1).model_dump()["schedule"]
    listed = schedule["Target"]["SageMakerPipelineParameters"]["PipelineParameterList"]
    listed.append({"Name": "Where", "Value": "s3://late/x"})
    keep(aws, record(2, definition=json.dumps(changed), schedule=schedule))
    keep(aws, record(3))
    done = run("rollback", "--yes")
    assert done.exit_code == 0, done.output
    asked = {"RoleName": NAMES.execution_role, "PolicyName": "local-runner"}
    policy = aws.call("iam", "get_role_policy", **asked)["PolicyDocument"]
    read = next(item for item in policy["Statement"] if item["Sid"] == "Read")
    assert "arn:aws:s3:::late/x*" in read["Resource"]


def test_a_rollback_without_releases(promoted: Service, run) -> None:
    assert "There is no release before 1" in run("rollback", "--yes").output
    assert "There is no release 9. Releases: 1." in run("rollback", "--to", "9", "--yes").output


# ------------------------------------------------------------------------------------------------------- retire
def left(aws: Aws) -> dict[str, list[str]]:
    """What there is in the account."""
    return {
        "pipelines": [it["PipelineName"] for it in aws.call("sagemaker", "list_pipelines")["PipelineSummaries"]],
        "schedules": [it["Name"] for it in aws.call("scheduler", "list_schedules")["Schedules"]],
        "rules": [it["Name"] for it in aws.call("events", "list_rules")["Rules"]],
        "topics": [it["TopicArn"] for it in aws.call("sns", "list_topics")["Topics"]],
        "roles": [it["RoleName"] for it in aws.call("iam", "list_roles")["Roles"]],
    }


def test_retire_asks_for_the_name_and_leaves_no_orphan(promoted: Service, aws: Aws, run) -> None:
    there = left(aws)
    assert all(there.values()), there
    refused = run("retire", text="FlightsDaily\n")
    assert refused.exit_code == 2
    assert "'FlightsDaily' is not 'FlightsDaily-dev'. Nothing was deleted." in refused.output
    assert left(aws) == there
    done = run("retire", text="FlightsDaily-dev\n")
    assert done.exit_code == 0, done.output
    assert not any(left(aws).values()), left(aws)
    order = [line.removeprefix("Deleted: ") for line in done.output.splitlines() if line.startswith("Deleted: ")]
    assert [line.split(" FlightsDaily")[0] for line in order] == [
        "schedule",
        "alert rule",
        "alert topic",
        "pipeline",
        "start role",
        "execution role",
    ]
    keys = [it["Key"] for it in aws.call("s3", "list_objects_v2", Bucket=BUCKET)["Contents"]]
    assert keys == ["FlightsDaily-dev/releases/1.json"]
    assert "There is nothing of FlightsDaily-dev" in run("retire").output


@pytest.mark.parametrize("allowed", [0, 3, 6])
def test_a_retirement_that_was_cut_off_is_finished_by_the_next(promoted: Service, aws: Aws, run, allowed: int) -> None:
    """The first ``allowed`` deletions are made, and then the account refuses every other."""
    promoted.writes_left = allowed
    cut = run("retire", "--yes-retire", NAME)
    assert cut.exit_code == 2, cut.output
    promoted.writes_left = None
    assert any(left(aws).values())
    done = run("retire", "--yes-retire", NAME)
    assert done.exit_code == 0, done.output
    assert not any(left(aws).values()), left(aws)


def test_what_runs_is_not_stopped_unasked(promoted: Service, aws: Aws, run) -> None:
    promoted.play = lambda: Played([PlayedStep("Validate", 0, 60)])
    run("trigger", "--date", "2026-01-31")
    (execution,) = promoted.executions.values()
    refused = run("retire", "--yes-retire", NAME)
    assert refused.exit_code == 2
    assert "A pipeline cannot go while they do. Nothing was deleted." in refused.output
    assert execution.current_status == "Executing"
    assert executions_now(aws, NAME) == [next(iter(promoted.executions)).rpartition("/")[2]]
    done = run("retire", "--yes-retire", NAME, "--stop-running")
    assert done.exit_code == 0, done.output
    assert execution.current_status == "Stopped"
    assert executions_now(aws, NAME) == []
    assert not any(left(aws).values())


def test_a_pipeline_of_somebody_else_is_left_alone(promoted: Service, aws: Aws, run) -> None:
    aws.call("sagemaker", "delete_tags", ResourceArn=TARGET.pipeline_arn, TagKeys=["local-runner:environment"])
    done = run("retire", "--yes-retire", NAME)
    assert done.exit_code == 2
    assert "is not this project's 'dev'" in done.output
    assert all(left(aws).values())


# ---------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("trigger",), "There is no pipeline 'FlightsDaily-dev' in account 123456789012, region eu-west-1"),
        (("logs",), "nothing was promoted to 'dev' yet, or somebody deleted it. Promote it"),
        (("status",), "Release\n  none yet: local-runner promote --env dev\n"),
        (("pause",), "There is no schedule and no rule 'FlightsDaily-dev'"),
        (("resume",), "There is no schedule and no rule 'FlightsDaily-dev'"),
        (("releases",), "There are no releases yet. Make the first: local-runner promote --env dev."),
        (("retire",), "There is nothing of FlightsDaily-dev"),
    ],
    ids=lambda it: it[0] if isinstance(it, tuple) else "",
)
def test_nothing_was_promoted_yet(service: Service, run, command, said) -> None:
    done = run(*command)
    assert said in done.output
    assert done.exit_code == (2 if "Error" in done.output else 0)


def test_an_unknown_execution(promoted: Service, run) -> None:
    assert "has not been started yet" in run("logs").output
    assert "It has not been started yet." in run("logs", "abcdefghijkl").output
    run("trigger", "--date", "2026-01-31")
    (arn,) = promoted.executions
    done = run("logs", "abcdefghijkl")
    assert done.exit_code == 2
    assert f"has no execution 'abcdefghijkl'. Its last ones are {arn.rpartition('/')[2]}." in done.output


def test_no_permission(promoted: Service, run) -> None:
    promoted.denied = {"StartPipelineExecution"}
    done = run("trigger", "--date", "2026-01-31")
    assert done.exit_code == 2
    assert "AWS does not allow sagemaker:StartPipelineExecution to these credentials" in done.output


def test_an_environment_that_is_not_there(service: Service, run) -> None:
    done = run("status", "--env", "prdo")
    assert done.exit_code == 2
    assert "has no [environments.prdo]" in done.output


# ------------------------------------------------------------------------------------------- after real promotions
def test_two_promotions_a_rollback_and_the_end(service: Service, aws: Aws, tmp_path: Path, run) -> None:
    aws.call("ecr", "create_repository", repositoryName="flights")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    part = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": f"sha256:{'1' * 64}"}
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": part, "layers": [part]}
    pushed = aws.call("ecr", "put_image", repositoryName="flights", imageManifest=json.dumps(manifest), imageTag="1")
    digest = pushed["image"]["imageId"]["imageDigest"]
    image: dict[str, Any] = {"image_uri": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/flights@{digest}"}
    promoted_release(aws, release(aws, tmp_path, **image, instance_type="ml.m5.large"))
    first = account(aws)
    promoted_release(aws, release(aws, tmp_path, **image, instance_type="ml.m5.4xlarge"))
    assert account(aws)["pipeline"] != first["pipeline"]
    status = run("status", "--exit-code")
    assert status.exit_code == 0, status.output
    assert "Drift\n  none" in status.output
    done = run("rollback", "--yes")
    assert done.exit_code == 0, done.output
    assert "Release 3 is what release 1 was." in done.output
    again = account(aws)
    assert json.loads(again["pipeline"][0]) == json.loads(first["pipeline"][0])
    assert again["schedule"] == first["schedule"]
    assert again["roles"] == first["roles"]
    status = run("status", "--exit-code")
    assert status.exit_code == 0, status.output
    gone = run("retire", "--yes-retire", NAME)
    assert gone.exit_code == 0, gone.output
    assert not any(left(aws).values()), left(aws)
    promoted_release(aws, release(aws, tmp_path, **image, instance_type="ml.m5.large"))
    assert account(aws)["schedule"] == first["schedule"]


def test_the_commands_as_processes(promoted: Service, aws: Aws, state: Path) -> None:
    """From beginning to end; the other tests run them in their own process."""
    keep(aws, record(2, definition=json.dumps({**DEFINITION, "Metadata": {"changed": "yes"}})))
    for arguments, wanted in (
        (("releases",), "2026-01-02"),
        (("rollback", "--yes"), "Release 3 is what release 1 was."),
        (("pause",), f"The schedule {NAME} is paused"),
        (("status",), "PAUSED"),
        (("resume",), f"The schedule {NAME}"),
        (("retire", "--yes-retire", NAME), "Deleted"),
    ):
        done = local_runner(*arguments, "--state", state)
        assert (done.returncode, wanted in done.stdout) == (0, True), (arguments, done)
    assert not any(left(aws).values()), left(aws)
