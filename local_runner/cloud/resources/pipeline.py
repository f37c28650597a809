"""The pipeline in the account: what is there -> what has to change. Reads SageMaker and S3; Changes write.

Source: API CreatePipeline, UpdatePipeline (a definition of more than 100 KiB goes by its place in S3, as the SDK does).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_runner.cloud.account.aws import Aws, AwsError, CloudError
from local_runner.cloud.account.retry import retry_until_assumable
from local_runner.cloud.account.tags import is_ours, tags_of
from local_runner.cloud.account.tokens import client_token
from local_runner.cloud.change.definition import definition_changes
from local_runner.cloud.change.fields import field_changes
from local_runner.cloud.change.models import Change, FieldChange, ResourceKind
from local_runner.cloud.release.model import CodeObject, with_image
from local_runner.cloud.resources.image import Image
from local_runner.cloud.target.target import Target
from local_runner.compile.compiler import IMAGE_URI
from local_runner.fingerprint import texts_of
from local_runner.storage.s3_uri import s3_problem, split_uri

FINGERPRINT_TAG = "local-runner:fingerprint"
RELEASE_TAG = "local-runner:release"
COMMIT_TAG = "local-runner:git-commit"

_INLINE_BYTES = 100 * 1024


@dataclass
class Pipeline:
    """The pipeline of a release, with a role that may be made yet. ``fingerprint`` is that of the release, for a tag.

    ``template`` is the definition (JSON) with IMAGE_URI where ``image`` has its URI by the time of the write; without
    an image it is the definition itself. ``code`` are the files whose content is compared with what is there.
    ``adopt``: a pipeline of that name that is nobody's by its tags may be taken over.
    """

    target: Target
    template: Mapping[str, Any]
    role_arn: str
    fingerprint: str
    image: Image | None = None
    code: Sequence[CodeObject] = ()
    adopt: bool = False

    def plan(self, aws: Aws) -> list[Change]:
        """What has to change. Raises CloudError where the name belongs to somebody else."""
        name = self.target.names.pipeline_name
        live = self._find(aws)
        after = self._definition(planned=True)
        if live is None:
            fields = definition_changes(None, after, lambda _: None)
            steps = f"{len(fields)} step{'' if len(fields) == 1 else 's'}"
            return [Change(ResourceKind.PIPELINE, name, "create", f"with {steps}", self._write, fields)]
        tags = self._tags_of(aws, live)
        before = _json(live["PipelineDefinition"])
        fields = definition_changes(before, after, lambda uri: self._content(aws, uri))
        fields += field_changes({"RoleArn": live.get("RoleArn")}, {"RoleArn": self.role_arn})
        fields += field_changes(
            {key: tags[key] for key in tags if key in self._lasting_tags}, self._lasting_tags, "Tags."
        )
        # What is only written otherwise is no change; what the fields leave out is one.
        if not fields and before == after:
            return []
        return [Change(ResourceKind.PIPELINE, name, "update", _summary(fields), self._write, fields)]

    # ------------------------------------------------------------------------------------------------- desired
    @property
    def _lasting_tags(self) -> dict[str, str]:
        return {**self.target.tags, FINGERPRINT_TAG: self.fingerprint}

    def _definition(self, *, planned: bool = False) -> dict[str, Any]:
        """The definition with the image of the registry; in a plan, one that is still to be pushed has its tag."""
        if self.image is None:
            return with_image(self.template, None)
        uri = self.image.uri or (self.image.tagged if planned else None)
        assert uri is not None, "the image is pushed before the pipeline is written"
        return with_image(self.template, uri)

    # -------------------------------------------------------------------------------------------------- writes
    def _write(self, aws: Aws) -> None:
        definition = self._definition(planned=aws.is_checking)
        assert IMAGE_URI not in texts_of(definition), "no image was given for a step that uses it"
        request: dict[str, Any] = {"PipelineName": self.target.names.pipeline_name, "RoleArn": self.role_arn}
        request |= self._body(aws, json.dumps(definition))
        tags = [{"Key": key, "Value": value} for key, value in self._lasting_tags.items()]
        live = self._find(aws)
        if live is None:
            retry_until_assumable(
                lambda: aws.call(
                    "sagemaker",
                    "create_pipeline",
                    **request,
                    Tags=tags,
                    ClientRequestToken=client_token(request),
                )
            )
            return
        tagged = self._tags_of(aws, live)
        if live.get("ParallelismConfiguration"):
            request["ParallelismConfiguration"] = live["ParallelismConfiguration"]
        retry_until_assumable(lambda: aws.call("sagemaker", "update_pipeline", **request))
        if any(tagged.get(key) != value for key, value in self._lasting_tags.items()):
            aws.call("sagemaker", "add_tags", ResourceArn=live["PipelineArn"], Tags=tags)

    def _body(self, aws: Aws, definition: str) -> dict[str, Any]:
        data = definition.encode()
        if len(data) <= _INLINE_BYTES:
            return {"PipelineDefinition": definition}
        bucket = self.target.bucket
        key = f"{self.target.prefix}/definitions/{hashlib.sha256(data).hexdigest()}.json"
        if aws.find("s3", "head_object", **self.target.place(key)) is None:
            aws.call("s3", "put_object", **self.target.place(key), **self.target.encryption, Body=data)
        return {"PipelineDefinitionS3Location": {"Bucket": bucket, "ObjectKey": key}}

    # ------------------------------------------------------------------------------------------------- reading
    def _find(self, aws: Aws) -> dict[str, Any] | None:
        return aws.find("sagemaker", "describe_pipeline", PipelineName=self.target.names.pipeline_name)

    def _tags_of(self, aws: Aws, live: Mapping[str, Any]) -> dict[str, str]:
        """The pipeline's tags. Raises CloudError where they say that it is somebody else's."""
        tags = tags_of(aws.pages("sagemaker", "list_tags", "Tags", ResourceArn=live["PipelineArn"]))
        if not is_ours(tags, self.target.tags) and not self.adopt:
            raise CloudError(
                f"The pipeline '{self.target.names.pipeline_name}' is there and is not this project's: its tags do "
                "not say so. It is not overwritten. Rename the one in pipeline.py, or take that one over: --adopt."
            )
        return tags

    def _content(self, aws: Aws, uri: str) -> bytes | None:
        """The content of a code object: of the project where it is the wanted one, else as it lies in S3."""
        if s3_problem(uri):
            return None
        bucket, key = split_uri(uri)
        for wanted in self.code:
            if wanted.key == key:
                return wanted.file.read_bytes()
        try:
            found = aws.find("s3", "get_object", Bucket=bucket, Key=key)
        except AwsError:
            return None  # the plan is shown without it
        return found["Body"].read() if found else None


def _summary(fields: tuple[FieldChange, ...]) -> str:
    places = list(dict.fromkeys(_about(change.path) for change in fields if not change.path.startswith("Tags.")))
    shown = ", ".join(places[:4]) + (" ..." if len(places) > 4 else "")
    return f"{shown} changed" if shown else "the definition changed"


def _about(path: str) -> str:
    """The part of a path that names what it is about."""
    return path if path.startswith(("code of ", "step ", "image")) else path.split(".")[0]


def _json(text: Any) -> Any:
    """A definition that somebody wrote; one that is no JSON is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return {}
