"""local_runner.toml -> Settings. Reads that one file; no Docker, no network.

Every default is usable: a project without the file runs ``pipeline.py:build`` with the image of ``processing/``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from local_runner.errors import SettingsError

SETTINGS_FILE = "local_runner.toml"

S3Uri = Annotated[str, StringConstraints(pattern=r"^s3://[^/]+(/.*)?$")]
FunctionEntry = Annotated[str, StringConstraints(pattern=r"^[^:]+\.py:[A-Za-z_]\w*$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PipelineSettings(_Table):
    """``[pipeline]``: ``entry`` is FILE:FUNCTION, where FUNCTION(session, settings) returns the Pipeline."""

    entry: Annotated[str, StringConstraints(pattern=r"^[^:]+\.py(:[A-Za-z_]\w*)?$")] = "pipeline.py:build"


class ImageSettings(_Table):
    """``[image]``: the directory with the Dockerfile and requirements.txt of the processing image."""

    directory: Path = Path("processing")


class LocalSettings(_Table):
    """``[local]``: what a local run uses in place of the cloud's.

    ``data`` maps S3 URIs to files or directories of this machine; ``parameters`` are values for parameters that the
    pipeline has and the command line does not give; ``date_parameter`` is what ``--date`` sets. ``lambda`` maps
    Lambda functions (a step's name, the function's name or its ARN) and ``stand_ins`` Callback, EMR and EMRServerless
    steps to FILE.py:FUNCTION.
    """

    bucket: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = "sagemaker-local"
    region: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] = "us-east-1"
    role_arn: str = "arn:aws:iam::000000000000:role/local-runner"
    date_parameter: str = "ProcessingDate"
    parameters: dict[str, str | int | float | bool] = Field(default_factory=dict[str, str | int | float | bool])
    data: dict[S3Uri, Path] = Field(default_factory=dict[S3Uri, Path])
    lambda_functions: dict[str, FunctionEntry] = Field(default_factory=dict[str, FunctionEntry], alias="lambda")
    stand_ins: dict[str, FunctionEntry] = Field(default_factory=dict[str, FunctionEntry])


class Settings(_Table):
    """The whole file, with ``root``: the project's directory, which every relative path starts from."""

    root: Path
    pipeline: PipelineSettings = PipelineSettings()
    image: ImageSettings = ImageSettings()
    local: LocalSettings = LocalSettings()


def load_settings(root: Path) -> Settings:
    """The settings of the project in ``root``. Raises SettingsError with every problem of the file, where it stands."""
    root = root.resolve()
    path = root / SETTINGS_FILE
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return Settings(**tables, root=root)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise SettingsError(f"{path} has {len(lines)} problem(s):\n" + "\n".join(lines)) from None
    except TypeError:
        raise SettingsError(f"{path}: 'root' is not a setting. Remove it.") from None
