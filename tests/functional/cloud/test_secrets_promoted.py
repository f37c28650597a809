"""Secrets of a promotion: not in the release record, nor in what plan, status, releases and trigger show.

On the command line, against the emulator, with a pipeline that has a secret parameter.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cfnlint.api import ManualArgs, lint
from support.command_line import in_process
from support.project import PROJECT, copy_of_project, link_caches

from local_runner.cloud.account.aws import Aws

FIRST, SECOND, IN_SETTINGS = "first-token-0815", "second-token-4711", "third-token-33"
IMAGE = f"999999999999.dkr.ecr.eu-west-1.amazonaws.com/flights@sha256:{'0' * 64}"
BUCKET, NAME = "sagemaker-eu-west-1-123456789012", "FlightsDaily-dev"
SETTINGS = """
[environments.dev.schedule]
expression = "cron({minute} 6 * * ? *)"
parameters = {{ ProcessingDate = "<aws.scheduler.scheduled-time>", ApiToken = "{token}" }}
"""


class Project:
    """The project with a state directory of its own. ``shown`` is all that its commands printed."""

    def __init__(self, root: Path, state: Path, aws: Aws) -> None:
        self.root, self.state, self.aws = root, link_caches(state), aws
        self.shown = ""
        (self.state / "compiled").unlink()
        (self.state / "compiled").symlink_to(root / "compiled")
        self.write(FIRST)

    def write(self, token: str, minute: int = 0) -> None:
        head = (PROJECT / "local_runner.toml").read_text().partition("[environments.")[0]
        (self.root / "local_runner.toml").write_text(head + SETTINGS.format(token=token, minute=minute))

    def run(self, *arguments: str, code: int = 0) -> str:
        given = ("--image-uri", IMAGE) if arguments[0] in ("plan", "promote", "export") else ()
        done = in_process(*arguments, *given, "--state", self.state, cwd=self.root, changes={"AWS_REGION": "eu-west-1"})
        assert done.returncode == code, done.stderr
        self.shown += done.stdout + done.stderr
        return done.stdout + (done.stderr if code else "")

    def promote(self) -> None:
        self.run("promote", "--yes", "--allow-unverified", "a test")

    def token_in_account(self) -> str:
        schedule = self.aws.call("scheduler", "get_schedule", Name=NAME)
        listed = schedule["Target"]["SageMakerPipelineParameters"]["PipelineParameterList"]
        return next(item["Value"] for item in listed if item["Name"] == "ApiToken")

    def objects(self) -> str:
        keys = [item["Key"] for item in self.aws.call("s3", "list_objects_v2", Bucket=BUCKET)["Contents"]]
        assert f"{NAME}/releases/1.json" in keys
        return "".join(
            self.aws.call("s3", "get_object", Bucket=BUCKET, Key=key)["Body"].read().decode(errors="replace")
            for key in keys
        )

    def lies_in(self) -> list[str]:
        """Where a value stands that stands in local_runner.toml and the schedule only."""
        kept = [path for place in (self.state, self.root / "compiled") for path in place.rglob("*") if path.is_file()]
        texts = {str(path): path.read_text(errors="replace") for path in kept}
        texts |= {"what was shown": self.shown, "the bucket": self.objects()}
        return [where for where, text in texts.items() for token in (FIRST, SECOND, IN_SETTINGS) if token in text]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project with one parameter more, compiled once for all tests."""
    root = copy_of_project(tmp_path_factory.mktemp("project"))
    given, listed = '    processing_date = ParameterString("ProcessingDate")\n', "            processing_date,\n"
    text = (PROJECT / "pipeline.py").read_text()
    text = text.replace(given, given + '    api_token = ParameterString("ApiToken")\n')
    (root / "pipeline.py").write_text(text.replace(listed, listed + "            api_token,\n"))
    (root / "compiled").mkdir()
    return root


@pytest.fixture
def project(root: Path, tmp_path: Path, aws: Aws) -> Project:
    return Project(root, tmp_path / "state", aws)


def test_no_secret_of_a_schedule_is_recorded_or_shown(project: Project) -> None:
    planned = json.loads(project.run("plan", "--json"))
    (schedule,) = [change for change in planned["changes"] if change["resource"] == "schedule"]
    path = "Target.SageMakerPipelineParameters.PipelineParameterList.ApiToken"
    (before,) = [field for field in schedule["fields"] if field["path"] == path]
    assert before["after"].startswith("secret:hmac:")
    project.promote()
    assert project.token_in_account() == FIRST
    assert "Nothing to change" in project.run("plan")
    # Another value is seen, by its hash.
    project.write(SECOND)
    text = project.run("plan", "--exit-code", code=3)
    assert "ApiToken: secret:hmac:" in text
    again = json.loads(project.run("plan", "--json"))
    (changed,) = [field for change in again["changes"] for field in change["fields"] if field["path"] == path]
    assert changed["before"] == before["after"] != changed["after"]
    project.promote()
    assert project.token_in_account() == SECOND
    assert "none: pipeline and schedule are as the release left them" in project.run("status", "--exit-code")
    for command in ("status", "releases"):
        project.run(command, "--json")
    project.run("trigger", "-p", f"ApiToken={IN_SETTINGS}", "-p", f"MaxBadRatio={IN_SETTINGS}", code=2)
    assert project.lies_in() == []


def test_a_rollback_keeps_the_secret_that_is_there(project: Project) -> None:
    project.promote()
    project.write(SECOND, minute=30)
    project.promote()
    project.run("rollback", "--yes")
    assert project.aws.call("scheduler", "get_schedule", Name=NAME)["ScheduleExpression"] == "cron(0 6 * * ? *)"
    assert project.token_in_account() == SECOND
    # Without a schedule, the settings have the value.
    project.aws.call("scheduler", "delete_schedule", Name=NAME)
    project.write(IN_SETTINGS, minute=30)
    project.run("rollback", "--to", "2", "--yes")
    assert project.token_in_account() == IN_SETTINGS
    project.aws.call("scheduler", "delete_schedule", Name=NAME)
    text = (project.root / "local_runner.toml").read_text().partition("[environments.")[0]
    (project.root / "local_runner.toml").write_text(text)
    said = project.run("rollback", "--to", "1", "--yes", code=2)
    assert "secret ApiToken" in said
    assert "[environments.dev.schedule.parameters]" in said
    assert project.lies_in() == []


def test_a_record_of_before_is_shown_without_its_secret(project: Project) -> None:
    project.promote()
    key = f"{NAME}/releases/1.json"
    record = json.loads(project.aws.call("s3", "get_object", Bucket=BUCKET, Key=key)["Body"].read())
    for item in record["schedule"]["Target"]["SageMakerPipelineParameters"]["PipelineParameterList"]:
        item["Value"] = FIRST if item["Name"] == "ApiToken" else item["Value"]
    project.aws.call("s3", "put_object", Bucket=BUCKET, Key=key, Body=json.dumps(record).encode())
    assert "Nothing to change" in project.run("plan", "--exit-code")
    for command in ("status", "releases"):
        project.run(command, "--json")
    assert FIRST not in project.shown


def test_an_export_asks_for_secrets(project: Project) -> None:
    template = json.loads(project.run("export"))
    assert template["Parameters"]["ApiToken"]["NoEcho"] is True
    assert [str(match) for match in lint(json.dumps(template), config=ManualArgs(regions=["eu-west-1"]))] == []
    terraform = json.loads(project.run("export", "--format", "terraform"))
    assert terraform["variable"]["ApiToken"]["sensitive"] is True
    assert "${var.ApiToken}" in json.dumps(terraform["resource"]["aws_scheduler_schedule"])
    assert FIRST not in project.shown


def test_a_default_in_the_definition_is_told(root: Path, tmp_path: Path, aws: Aws) -> None:
    own = shutil.copytree(root, tmp_path / "own")
    text = (root / "pipeline.py").read_text()
    text = text.replace('ParameterString("ApiToken")', f'ParameterString("ApiToken", default_value="{FIRST}")')
    (own / "pipeline.py").write_text(text)
    project = Project(own, tmp_path / "state", aws)
    assert "The definition holds 1 secret value(s)" in project.run("plan")
    assert FIRST not in project.run("plan", "--json")
