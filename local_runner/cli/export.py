"""The commands that write what a promotion makes as documents: bootstrap, export. They change nothing in AWS."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from local_runner.cli.options import env_option, project_here, say, state_option

if TYPE_CHECKING:
    from local_runner.cloud.export.described import Described


def register(cli: click.Group) -> None:
    """Add the commands to the command line."""
    cli.add_command(bootstrap)
    cli.add_command(export)


def _described(name: str, state: Path, image_uri: str | None = None) -> Described:
    """The project in that environment, with what its reader should know on stderr."""
    from local_runner.cloud.export.described import describe
    from local_runner.cloud.target.load import load_environment

    project = project_here(state)
    described = describe(project, load_environment(project.settings.root, name), image_uri)
    for note in described.supporting.notes:
        say(f"Note: {note}")
    return described


@click.command()
@env_option
@click.option("--print", "prints", is_flag=True, required=True, help="Print the template; there is no other way.")
@click.option("--policies", "alone", is_flag=True, help="Only the policies, where promotions make all else themselves.")
@state_option
def bootstrap(env: str, prints: bool, alone: bool, state: Path) -> None:
    """Print a CloudFormation template of the roles, bucket and repository, for somebody who may create roles.

    With them go three policies of least privilege: for whoever plans, promotes (with rollback and retire) and operates
    (status, trigger, logs, pause, resume, releases). They rest on the roles, bucket and repository of the template.

    \b
    Examples:
      local-runner bootstrap --env prod --print --policies
      local-runner bootstrap --env prod --print > bootstrap.json
      aws cloudformation deploy --template-file bootstrap.json --stack-name flights-prod-bootstrap \\
          --capabilities CAPABILITY_NAMED_IAM
    """
    from local_runner.cloud.export.cloudformation import bootstrap_template, policies_template

    found = _described(env, state)
    policies = found.policies(makes=alone)
    if alone:
        template = policies_template(found.desired.target, policies)
    else:
        template = bootstrap_template(
            found.supporting, bucket=found.bucket, repository=found.repository, policies=policies
        )
    click.echo(json.dumps(template, indent=2))


@click.command()
@env_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["cloudformation", "terraform"]),
    default="cloudformation",
    show_default=True,
    help="A CloudFormation template (JSON), or Terraform's JSON syntax (a .tf.json file).",
)
@click.option("--image-uri", metavar="URI", help="An image that is built elsewhere, in place of the project's.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to FILE, not to stdout.")
@state_option
def export(env: str, form: str, image_uri: str | None, output: Path | None, state: Path) -> None:
    """Write pipeline, roles, schedule and alerts as infrastructure as code. Changes nothing in AWS.

    \b
    Examples:
      local-runner export --env prod -o pipeline.json
      local-runner export --env prod --format terraform -o pipeline.tf.json
    """
    from local_runner.cloud.export.cloudformation import release_template
    from local_runner.cloud.export.terraform import release_configuration
    from local_runner.storage.files import write_atomically

    found = _described(env, state, image_uri)
    build = release_template if form == "cloudformation" else release_configuration
    document = json.dumps(build(found.supporting, found.definition, found.desired.target.secrets.names), indent=2)
    if output is None:
        click.echo(document)
    else:
        write_atomically(output, document + "\n")
        say(f"Wrote {output}.")
    for note in found.desired.secrets_in_definition():
        say(f"Note: {note}")
    _say_uploads(found)


def _say_uploads(found: Described) -> None:
    """What has to be in the account before the document is deployed, as commands."""
    desired = found.desired
    say("Before it is deployed, these have to be there:")
    for item in desired.code:
        file = item.file.relative_to(Path.cwd()) if item.file.is_relative_to(Path.cwd()) else item.file
        say(f"  aws s3 cp {shlex.quote(str(file))} {shlex.quote(f's3://{desired.target.bucket}/{item.key}')}")
    if desired.image and not desired.image.given:
        tagged = shlex.quote(desired.image.tagged)
        say(f'  docker tag "$(local-runner image)" {tagged} && docker push {tagged}')
