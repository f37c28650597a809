"""The SDK session of a notebook. Imports the SDK (seconds); reads and writes local S3; asks AWS nothing.

It is a PipelineSession: ``processor.run()`` gives a step's arguments and starts nothing, and a pipeline runs when it is
started. The SDK's own session of this name cannot do that since version 3.
"""

# The SDK and boto3 ship no types, so what comes out of them is unknown to the type checker.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUntypedBaseClass=false, reportMissingImports=false

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from local_runner.compile.boto import DeferredSession, answered_session
from local_runner.compile.compiler import IMAGE_URI
from local_runner.compile.dependencies import Watch
from local_runner.compile.uploads import Uploads
from local_runner.engines import Engine
from local_runner.events import Listener, Silent
from local_runner.notebook.service import PipelineService, Where
from local_runner.notebook.waiting import calling_waiter, wait_for
from local_runner.project import STATE_DIRECTORY, Project
from local_runner.report.plain import PlainListener
from local_runner.run.local_data import local_storage
from local_runner.run.request import RunRequest
from local_runner.settings import LOCAL_ACCOUNT, Settings, load_settings
from local_runner.storage.local_s3 import DataError
from local_runner.storage.s3_uri import S3UriError, split_uri

# Modules of the SDK make clients as they are imported, which fails on a machine where no region is configured.
_default_session = boto3.DEFAULT_SESSION
boto3.DEFAULT_SESSION = DeferredSession()
try:
    from sagemaker.core.workflow.utilities import load_step_compilation_context

    from local_runner.compile.offline import OfflineSession
finally:
    boto3.DEFAULT_SESSION = _default_session

logging.getLogger("sagemaker.config").setLevel(logging.WARNING)  # tells of each look at the setting for telemetry


class LocalPipelineSession(OfflineSession):
    """An SDK session whose pipelines run on this machine. Needs no AWS account, credentials, region or network.

    ``state`` is the state directory, with local S3 in it. ``engine`` is auto, docker or sandbox (or an Engine, for
    tests). ``data`` maps S3 URIs to files or directories of this machine, over the mappings of local_runner.toml;
    ``images`` maps image URIs to local tags, the key ``""`` every URI; ``max_parallel`` steps run side by side (by
    default as many as there are cores). ``quiet`` keeps executions from printing. ``settings`` are by default those of
    local_runner.toml in the current directory, which is the project. Raises SettingsError.
    """

    def __init__(
        self,
        state: str | Path = STATE_DIRECTORY,
        engine: str | Engine = "auto",
        data: Mapping[str, str | Path] | None = None,
        images: Mapping[str, str] | None = None,
        *,
        max_parallel: int | None = None,
        quiet: bool = False,
        settings: Settings | None = None,
    ) -> None:
        settings = settings or load_settings(Path.cwd())
        directory = Path(state).absolute()
        mapped = {uri: Path(path) for uri, path in (data or {}).items()}
        project = Project(settings, directory, note=lambda _: None)  # each execution says what it does itself
        self._storage = local_storage(project, mapped)
        name = engine if isinstance(engine, str) else "auto"
        where = Where(
            project=project,
            storage=self._storage,
            request=RunRequest(engine=name, data=mapped, images=images or {}, max_parallel=max_parallel),
            engine=None if isinstance(engine, str) else engine,
            listener=Silent if quiet else _printing,
        )
        directory.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(prefix=".session-", dir=directory)
        uploads = Uploads(settings.root, directory, Path(self._scratch.name), _watch(settings, directory))
        self._service = PipelineService(where, lambda text: json.dumps(uploads.settle(json.loads(text))))
        local = settings.local
        boto_session = answered_session(local.region, self._answer)
        super().__init__(local.bucket, local.role_arn, LOCAL_ACCOUNT, uploads, boto_session)

    @property
    def role_arn(self) -> str:
        """The role to give to processors and pipelines; nothing here looks at it."""
        return self._role_arn

    @property
    def image_uri(self) -> str:
        """The project's own processing image, which is built when an execution needs it."""
        return IMAGE_URI

    # ------------------------------------------------------------------------------------------------ local S3
    # While a step is compiled, the SDK uploads its code: that is kept by content, as in `local-runner compile`. All
    # other uploads are the notebook's, and belong where it says.
    def upload_data(
        self,
        path: str,
        bucket: str | None = None,
        key_prefix: str = "data",
        callback: Any = None,
        extra_args: Any = None,
    ) -> str:
        """Put a file or directory into local S3. Returns its URI: of the file, or of the prefix for a directory.

        Raises S3UriError for a prefix that is none here.
        """
        if load_step_compilation_context():
            return super().upload_data(path, bucket, key_prefix)
        local = Path(path)
        if not local.exists():
            raise FileNotFoundError(f"{path} does not exist, so it cannot be uploaded")
        uri = f"s3://{bucket or self._bucket}/{key_prefix}".rstrip("/")
        split_uri(uri)
        staged = self._staging()
        if local.is_dir():
            shutil.copytree(local, staged, dirs_exist_ok=True)
        else:
            shutil.copy2(local, staged)
        self._storage.publish(staged, uri)
        return uri if local.is_dir() else f"{uri}/{local.name}"

    def upload_string_as_file_body(
        self, body: str | bytes, bucket: str | None, key: str, kms_key: str | None = None
    ) -> str:
        """Put one object into local S3. Returns its URI. Raises S3UriError for a key that is none here."""
        if load_step_compilation_context():
            return super().upload_string_as_file_body(body, bucket, key)
        uri = f"s3://{bucket or self._bucket}/{key}"
        split_uri(uri)
        prefix, _, name = uri.rpartition("/")
        if not name:
            raise S3UriError(f"{uri} is a folder, and no object in local S3. Give the object a name.")
        staged = self._staging()
        (staged / name).write_bytes(body.encode() if isinstance(body, str) else body)
        self._storage.publish(staged, prefix)
        return uri

    def download_data(self, path: str, bucket: str, key_prefix: str = "", extra_args: Any = None) -> list[str]:
        """Copy all objects whose keys start with ``key_prefix`` below ``path``. Returns the paths of the copies."""
        copies: list[str] = []
        for item in self._storage.list_objects(f"s3://{bucket}/{key_prefix}").objects:
            copy = Path(path) / item.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(item.path, copy)
            copies.append(str(copy))
        return copies

    def read_s3_file(self, bucket: str, key_prefix: str) -> str:
        """The text of one object. Raises ClientError (NoSuchKey)."""
        try:
            return self._storage.read(f"s3://{bucket}/{key_prefix}").decode()
        except DataError as error:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": str(error)}}, "GetObject") from None

    def list_s3_files(self, bucket: str, key_prefix: str) -> list[str]:
        """The keys that start with ``key_prefix``, sorted."""
        return [item.key for item in self._storage.list_objects(f"s3://{bucket}/{key_prefix}").objects]

    def _staging(self) -> Path:
        """An empty directory that is to be published. Jobs run as other users, too."""
        directory = Path(tempfile.mkdtemp(dir=self._scratch.name))
        directory.chmod(0o755)
        return directory

    # ---------------------------------------------------------------------------------------- in place of AWS
    def _answer(self, service: str, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any] | None:
        match service, operation:
            case "sagemaker", _:
                waiter = calling_waiter() if operation == "DescribePipelineExecution" else None
                if waiter:
                    wait_for(self._service.execution(parameters["PipelineExecutionArn"]), waiter)
                return self._service.answer(operation, parameters)
            case "sts", "GetCallerIdentity":
                return {"UserId": "local", "Account": self._account, "Arn": self._role_arn}
            case "iam", "GetRole":
                return {"Role": self._role(parameters["RoleName"])}
            case "iam", "SimulatePrincipalPolicy":  # the SDK checks a pipeline's role before it creates the pipeline
                return {"EvaluationResults": [], "IsTruncated": False}
            case _:
                return None

    def _role(self, name: str) -> dict[str, Any]:
        """Any role exists here, and SageMaker may assume it."""
        known = self._role_arn.rpartition("/")[2] == name
        return {
            "Path": "/",
            "RoleName": name,
            "RoleId": "local",
            "Arn": self._role_arn if known else self.expand_role(name),
            "CreateDate": datetime.fromtimestamp(0, UTC),
            "AssumeRolePolicyDocument": json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Action": "sts:AssumeRole",
                            "Principal": {"Service": ["sagemaker.amazonaws.com"]},
                        }
                    ],
                }
            ),
        }


def _printing() -> Listener:
    """Prints the execution's progress where the notebook prints now."""
    return PlainListener(sys.stdout)


def _watch(settings: Settings, state: Path) -> Watch:
    """What of the current directory is the project's own; nothing is watched, as nothing is cached."""
    return Watch((settings.root,), (Path(sys.prefix), settings.root / ".venv", state))
