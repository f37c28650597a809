"""What whoever plans, promotes and operates a release may do: a target -> three IAM policy documents. No I/O.

    plan       local-runner plan
    promote    plan, and promote, rollback, retire
    operate    status, trigger, logs, pause, resume, releases

Whichever schedule and alerts the settings have: a promotion also looks for, and deletes, those of other settings.
Source: Service Authorization Reference; S3 user guide, "Required permissions for Amazon S3 API operations"; ECR user
guide, "IAM permissions for pushing an image"; IAM user guide, "Permissions boundaries for IAM entities" (delegating).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from local_runner.cloud.iam.policies import Statement, document, key_statements, passed_to
from local_runner.cloud.target.target import Target

MOST_CHARACTERS = 6_144
"""Of a managed policy, without white space (IAM user guide, "IAM and AWS STS quotas")."""

_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^:@]+)")


def deployer_policies(target: Target, repository: str | None, *, makes: bool) -> dict[str, dict[str, Any]]:
    """The policies by what they are for: plan, promote, operate.

    ``repository`` is the ECR repository that the image is pushed to (None: to none). ``makes``: a promotion makes the
    roles, the bucket and the repository; else they are there (``bootstrap``), and are only looked at.
    """
    one = _Deployer(target, repository, makes)
    plan = one.plan()
    return {
        "plan": document(plan),
        "promote": document(_merged([*plan, *one.promote()])),
        "operate": document(one.operate()),
    }


class _Deployer:
    def __init__(self, target: Target, repository: str | None, makes: bool) -> None:
        self.target, self.aws, self.makes = target, target.aws, makes
        environment, schedule, aws, names = target.environment, target.environment.schedule, target.aws, target.names
        given = _ECR.match(environment.image_uri or "")
        self.pushes = bool(repository)
        self.repository = repository or (given[2] if given and given[1] == aws.account else None)
        self.start_role = (schedule and schedule.role_arn) or target.start_role_arn
        self.made_roles = [
            *([target.made_role_arn] if environment.role_arn is None else []),
            *([target.start_role_arn] if schedule is None or schedule.role_arn is None else []),
        ]
        # The service has shown ARNs of pipelines in lower case, and IAM compares resources to the letter.
        self.pipeline = list(dict.fromkeys([target.pipeline_arn, target.pipeline_arn.lower()]))
        self.schedule = [aws.arn("scheduler", f"schedule/default/{names.schedule}")]
        self.rules = [aws.arn("events", f"rule/{name}") for name in (names.schedule, names.alert_rule)]
        self.topic, alerts = [aws.arn("sns", names.alert_topic)], environment.alerts
        # A topic that is given is only subscribed to.
        self.topics = [*self.topic, *([alerts.topic_arn] if alerts and alerts.topic_arn and alerts.email else [])]
        self.objects = f"arn:{aws.partition}:s3:::{target.bucket}/{target.prefix}"
        self.bucket = [f"arn:{aws.partition}:s3:::{target.bucket}"]

    # ---------------------------------------------------------------------------------------------------- plan
    def plan(self) -> list[Statement]:
        own = [] if self.target.environment.bucket else self.bucket
        return [
            *_statement("FindBucket", "s3", "ListBucket", self.bucket),
            *_statement("LookAtBucket", "s3", "GetBucketPublicAccessBlock", own),
            *_statement("ReadReleases", "s3", "GetObject", self._objects("code/*", "releases/*")),
            *self._keys("ReadEncrypted", "Decrypt"),
            *_statement("FindImage", "ecr", "DescribeImages DescribeRepositories", self._repositories(self.pushes)),
            *_statement("FindRoles", "iam", "GetRole GetRolePolicy", self.made_roles),
            *_statement("FindPipeline", "sagemaker", "DescribePipeline ListPipelineExecutions ListTags", self.pipeline),
            *_statement("FindSchedule", "scheduler", "GetSchedule", self.schedule),
            *_statement("FindRules", "events", "DescribeRule ListTagsForResource ListTargetsByRule", self.rules),
            *_statement(
                "FindTopic", "sns", "GetTopicAttributes ListSubscriptionsByTopic ListTagsForResource", self.topics
            ),
            *_statement("FindAttached", "iam", "ListAttachedRolePolicies", self.made_roles if self._attaches else []),
        ]

    # ------------------------------------------------------------------------------------------------- promote
    def promote(self) -> list[Statement]:
        own = [] if self.target.environment.bucket or not self.makes else self.bucket
        making = "CreateBucket PutBucketPublicAccessBlock PutBucketTagging"
        pushing = "BatchCheckLayerAvailability CompleteLayerUpload InitiateLayerUpload PutImage UploadLayerPart"
        creating = f"{pushing} CreateRepository TagResource" if self.makes else pushing
        repositories = self._repositories(self.pushes)
        return [
            *_statement("MakeBucket", "s3", making, own),
            *_statement("WriteReleases", "s3", "GetObject PutObject", self._objects("*")),
            *_statement("Unlock", "s3", "DeleteObject", self._objects("promotion.lock")),
            *self._keys("WriteEncrypted", "GenerateDataKey"),
            *_statement("LogInToRegistry", "ecr", "GetAuthorizationToken", ["*"] if repositories else []),
            *_statement("PushImage", "ecr", creating, repositories),
            *_statement("FindOldImage", "ecr", "DescribeImages", self._repositories(not self.pushes)),
            *self._make_roles(),
            *_statement(
                "PassPipelineRole", "iam", "PassRole", [self.target.execution_role_arn], passed_to("sagemaker")
            ),
            *_statement("PassStartRole", "iam", "PassRole", [self.start_role], passed_to("scheduler", "events")),
            *_statement(
                "Pipeline",
                "sagemaker",
                "AddTags CreatePipeline DeletePipeline UpdatePipeline",
                self.pipeline,
            ),
            *_statement("StopExecutions", "sagemaker", "StopPipelineExecution", self._executions),
            *_statement("Schedule", "scheduler", "CreateSchedule DeleteSchedule UpdateSchedule", self.schedule),
            *_statement("Rules", "events", "DeleteRule PutRule PutTargets RemoveTargets TagResource", self.rules),
            *_statement("Subscribe", "sns", "Subscribe", self.topics),
            *_statement("Topic", "sns", "CreateTopic DeleteTopic SetTopicAttributes TagResource", self.topic),
        ]

    def _make_roles(self) -> list[Statement]:
        """With a boundary, no role gets a policy that has not that boundary, so that none may do more than it says."""
        environment = self.target.environment
        boundary, managed = environment.permissions_boundary, sorted(environment.managed_policies)
        limit = {"StringEquals": {"iam:PermissionsBoundary": boundary}} if boundary else {}
        limiting = "CreateRole PutRolePermissionsBoundary PutRolePolicy" if boundary else "CreateRole PutRolePolicy"
        attaching = {**limit, "ArnEquals": {"iam:PolicyARN": managed}}
        tidying = "DeleteRole DeleteRolePolicy DetachRolePolicy ListAttachedRolePolicies TagRole UpdateAssumeRolePolicy"
        return [
            *_statement("GrantToRoles", "iam", limiting, self._roles, limit),
            *_statement("Roles", "iam", tidying, self._roles),
            *_statement("Attach", "iam", "AttachRolePolicy", self._roles if self._attaches else [], attaching),
        ]

    # ------------------------------------------------------------------------------------------------- operate
    def operate(self) -> list[Statement]:
        aws = self.aws
        of_execution = "DescribePipelineExecution ListPipelineExecutionSteps StopPipelineExecution"
        of_pipeline = "DescribePipeline ListPipelineExecutions StartPipelineExecution"
        streams = [aws.arn("logs", "log-group:/aws/sagemaker/*")]
        return [
            *_statement("FindReleases", "s3", "ListBucket", self.bucket),
            *_statement("ReadReleases", "s3", "GetObject", self._objects("releases/*")),
            *self._keys("ReadEncrypted", "Decrypt"),
            *_statement("Pipeline", "sagemaker", of_pipeline, self.pipeline),
            *_statement("Executions", "sagemaker", of_execution, self._executions),
            *_statement("Jobs", "sagemaker", "DescribeProcessingJob", [aws.arn("sagemaker", "processing-job/*")]),
            *_statement("Logs", "logs", "DescribeLogStreams GetLogEvents", streams),
            *_statement("Schedule", "scheduler", "GetSchedule UpdateSchedule", self.schedule),
            *_statement("PassStartRole", "iam", "PassRole", [self.start_role], passed_to("scheduler")),
            *_statement("Rule", "events", "DescribeRule DisableRule EnableRule ListTargetsByRule", self.rules[:1]),
        ]

    # --------------------------------------------------------------------------------------------------- parts
    @property
    def _roles(self) -> list[str]:
        return self.made_roles if self.makes else []

    @property
    def _attaches(self) -> bool:
        return bool(self.target.environment.managed_policies) and self.target.made_role_arn in self.made_roles

    @property
    def _executions(self) -> list[str]:
        return [f"{arn}/execution/*" for arn in self.pipeline]

    def _objects(self, *keys: str) -> list[str]:
        return [f"{self.objects}/{key}" for key in keys]

    def _repositories(self, wanted: bool) -> list[str]:
        return [self.aws.arn("ecr", f"repository/{self.repository}")] if wanted and self.repository else []

    def _keys(self, sid: str, verb: str) -> list[Statement]:
        key = self.target.environment.kms_key_id
        return key_statements(sid, [verb], [key], self.aws) if key else []


def _merged(statements: Sequence[Statement]) -> list[Statement]:
    """Statements for the same resources as one, under the last one's Sid: IAM counts characters."""
    found: dict[str, Statement] = {}
    for one in statements:
        key = str((one["Resource"], one.get("Condition")))
        actions = {*found.get(key, one)["Action"], *one["Action"]}
        found[key] = {**one, "Action": sorted(actions)}
    return list(found.values())


def _statement(
    sid: str, service: str, verbs: str, resources: Collection[str], condition: Mapping[str, Any] | None = None
) -> list[Statement]:
    """The statement in a list, which is empty where it would be for no resource."""
    if not resources:
        return []
    made: Statement = {"Sid": sid, "Effect": "Allow", "Action": [f"{service}:{verb}" for verb in sorted(verbs.split())]}
    made["Resource"] = list(resources)
    return [made | ({"Condition": condition} if condition else {})]
