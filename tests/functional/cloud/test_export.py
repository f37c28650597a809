"""bootstrap and export as commands, on the project itself: valid documents, and no call to AWS."""

import json
import re
import shlex
import shutil

import pytest
import yaml
from cfnlint.api import ManualArgs, lint
from support.command_line import in_process, local_runner
from support.project import PROJECT, copy_of_project
from support.values import there

IMAGE = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/flights@sha256:{'0' * 64}"
ENVIRONMENT = """
[environments.prod]
region = "eu-west-1"
account = "123456789012"
instance_type = "ml.m5.2xlarge"

[environments.prod.schedule]
expression = "cron(0 6 * * ? *)"
timezone = "Europe/Berlin"
parameters = { ProcessingDate = "<aws.scheduler.scheduled-time>" }

[environments.prod.alerts]
email = "on-call@example.com"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project of this repository with an environment; the state is kept, so that it compiles once."""
    root = copy_of_project(tmp_path_factory.mktemp("project"))
    # A file that is not in the project, which the compiler keeps a copy of.
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "profile_day.py"
    shutil.move(root / "processing" / "profile_day.py", elsewhere)
    text = (root / "pipeline.py").read_text()
    (root / "pipeline.py").write_text(text.replace('str(SCRIPTS / "profile_day.py")', repr(str(elsewhere))))
    settings = (PROJECT / "local_runner.toml").read_text().partition("[environments.")[0] + ENVIRONMENT
    also_reads = f"[pipeline]\nalso_reads = [{json.dumps(str(elsewhere))}]\n"
    (root / "local_runner.toml").write_text(settings.replace("[pipeline]\n", also_reads, 1))
    return root


@pytest.fixture
def command(project, monkeypatch):
    """Runs local-runner in the project, with nothing that would answer a call to AWS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")

    def run(*arguments, by=in_process):
        return by(*arguments, cwd=project)

    return run


def linted(template):
    return [str(match) for match in lint(json.dumps(template), config=ManualArgs(regions=["eu-west-1"]))]


@pytest.mark.slow
def test_documents_of_the_project(command, project):
    printed = command("bootstrap", "--env", "prod", "--print", by=local_runner)
    assert printed.returncode == 0, printed.stderr
    roles = json.loads(printed.stdout)
    policies = {"PlanPolicy", "PromotePolicy", "OperatePolicy"}
    assert roles["Resources"].keys() == {"ExecutionRole", "StartRole", "Bucket", "Repository"} | policies
    assert linted(roles) == []
    alone = json.loads(command("bootstrap", "--env", "prod", "--print", "--policies").stdout)
    assert alone["Resources"].keys() == policies
    assert "iam:CreateRole" in json.dumps(alone)
    assert "iam:CreateRole" not in json.dumps(roles)

    written = command("export", "--env", "prod", "-o", "release.json", by=local_runner)
    assert written.returncode == 0, written.stderr
    template = json.loads((project / "release.json").read_text())
    assert linted(template) == []
    body = template["Resources"]["Pipeline"]["Properties"]["PipelineDefinition"]["PipelineDefinitionBody"]
    image = there(re.search(r"docker push (\S+)", written.stderr))[1]
    assert re.fullmatch(r"123456789012\.dkr\.ecr\.eu-west-1\.amazonaws\.com/local-runner/flightsdaily:[0-9a-f]+", image)
    assert image in body
    assert "sagemaker-local" not in body
    assert '"DefaultValue": "ml.m5.2xlarge"' in body
    uploads = [shlex.split(line) for line in written.stderr.splitlines() if "aws s3 cp" in line]
    assert len(uploads) == 4
    assert all((project / path).is_file() and uri in body for *_, path, uri in uploads)

    # The roles of both are the same.
    role = roles["Resources"]["ExecutionRole"]
    assert template["Resources"]["ExecutionRole"] == role

    terraform = command("export", "--env", "prod", "--image-uri", IMAGE, "--format", "terraform")
    assert terraform.returncode == 0, terraform.stderr
    assert json.loads(terraform.stdout)["resource"].keys() >= {"aws_sagemaker_pipeline", "aws_scheduler_schedule"}
    assert IMAGE in terraform.stdout
    assert "docker push" not in terraform.stderr


def test_what_is_missing_is_told(command):
    no_environment = command("export", "--env", "test")
    assert (no_environment.returncode, "Environments: dev, prod" in no_environment.stderr) == (2, True)
    no_print = command("bootstrap", "--env", "prod")
    assert (no_print.returncode, "--print" in no_print.stderr) == (2, True)


def test_the_workflow_of_the_example():
    """Valid YAML that signs in by OIDC, plans on pull requests and promotes on main, by commands that there are."""
    workflow = yaml.safe_load((PROJECT / "examples" / "ci" / "promote.yml").read_text())
    triggers = workflow[True]  # YAML reads the key "on" as true
    assert triggers["push"]["branches"] == ["main"]
    assert "pull_request" in triggers
    assert workflow["permissions"] == {"contents": "read", "id-token": "write"}
    jobs = workflow["jobs"]
    commands = {name: "\n".join(step.get("run", "") for step in job["steps"]) for name, job in jobs.items()}
    assert "local-runner plan --env prod" in commands["plan"]
    assert "pull_request" in jobs["plan"]["if"]
    assert "local-runner promote --env prod --yes" in commands["promote"]
    assert "refs/heads/main" in jobs["promote"]["if"]
    for job in jobs.values():
        assert any(
            str(step.get("uses", "")).startswith("aws-actions/configure-aws-credentials@") for step in job["steps"]
        )
        assert not [step for step in job["steps"] if "aws-access-key-id" in step.get("with", {})]
