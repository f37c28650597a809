"""Who is notified when an execution fails: an EventBridge rule, and an SNS topic. Reads; Changes write.

A topic of the settings is used as it is (its policy has to let events.amazonaws.com publish); otherwise one is made.
What others put into the topic's policy, and subscriptions of others, are kept.
Source: SageMaker developer guide, "Monitoring with EventBridge": pipeline execution state change.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.account.tags import is_ours, tags_of
from local_runner.cloud.change.fields import field_changes
from local_runner.cloud.change.models import Action, Change, FieldChange, ResourceKind
from local_runner.cloud.iam.policies import document
from local_runner.cloud.resources.rule import delete_rule, find_rule, write_rule
from local_runner.cloud.target.environment import AlertSettings
from local_runner.cloud.target.target import Target
from local_runner.models import FAILURES

TARGET_ID = "alert"
DETAIL_TYPE = "SageMaker Model Building Pipeline Execution Status Change"
_SID = "LocalRunnerAlerts"


@dataclass(frozen=True)
class Alerts:
    """The rule and the topic. ``settings`` is None where nobody is to be notified (any more)."""

    target: Target
    settings: AlertSettings | None

    @property
    def topic_arn(self) -> str:
        """The topic that the rule notifies."""
        return (self.settings.topic_arn if self.settings else None) or self._own_topic

    @property
    def rule_arn(self) -> str:
        """The rule's ARN."""
        return self.target.aws.arn("events", f"rule/{self.target.names.alert_rule}")

    @property
    def makes_topic(self) -> bool:
        """Whether the topic is one that this project makes."""
        return self.settings is not None and self.settings.topic_arn is None

    # ------------------------------------------------------------------------------------------------- desired
    def rule(self) -> dict[str, Any]:
        """What PutRule gets, with the entry of PutTargets as ``Target``."""
        # The service has shown ARNs of pipelines in lower case.
        arn = [{"equals-ignore-case": self.target.pipeline_arn}]
        pattern = {
            "source": ["aws.sagemaker"],
            "detail-type": [DETAIL_TYPE],
            "detail": {"currentPipelineExecutionStatus": list(FAILURES), "pipelineArn": arn},
        }
        lines = [
            f"The SageMaker pipeline {self.target.names.pipeline_name} failed at <time> (account <account>, <region>).",
            "Execution: <execution>",
            f"What failed, and why: local-runner status --env {self.target.names.environment}",
        ]
        return {
            "Name": self.target.names.alert_rule,
            "Description": f"Tells of failed executions of the pipeline {self.target.names.pipeline_name}.",
            "EventPattern": json.dumps(pattern, sort_keys=True),
            "State": "ENABLED",
            "Target": {
                "Id": TARGET_ID,
                "Arn": self.topic_arn,
                "InputTransformer": {
                    "InputPathsMap": {
                        "account": "$.account",
                        "execution": "$.detail.pipelineExecutionArn",
                        "region": "$.region",
                        "time": "$.time",
                    },
                    "InputTemplate": "\n".join(json.dumps(line) for line in lines),
                },
            },
        }

    def topic_statement(self) -> dict[str, Any]:
        """The statement of the topic's policy that lets EventBridge publish.

        It has no Condition: for topics EventBridge supports none, and publishes nothing where there is one (user guide,
        "Using resource-based policies", Amazon SNS permissions).
        """
        return {
            "Sid": _SID,
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": self._own_topic,
        }

    # ---------------------------------------------------------------------------------------------------- plan
    def plan(self, aws: Aws) -> list[Change]:
        """What has to change. Raises CloudError where a name belongs to somebody else."""
        if self.settings is None:
            return [*self._rule_deletion(aws), *self._topic_deletion(aws)]
        unused = [] if self.makes_topic else self._topic_deletion(aws)
        return [*self._topic(aws), *self._subscription(aws), *self._rule(aws), *unused]

    def _topic(self, aws: Aws) -> list[Change]:
        if not self.makes_topic:
            return []
        live = aws.find("sns", "get_topic_attributes", TopicArn=self._own_topic)
        statement = self.topic_statement()
        if live is None:
            fields = field_changes({}, {"Policy": document([statement]), "Tags": self.target.tags})
            return [self._topic_change("create", "notifies who subscribes to it", self._write_topic, fields)]
        self._refuse_foreign(self._topic_tags(aws), "topic", self._own_topic)
        ours = _by_sid(_policy(live)).get(_SID, {})
        fields = field_changes(ours, statement, f"Policy.Statement.{_SID}.")
        if not fields:
            return []
        return [self._topic_change("update", "lets the rule publish", self._write_topic, fields)]

    def _subscription(self, aws: Aws) -> list[Change]:
        email = self.settings.email if self.settings else None
        if not email or self._is_subscribed(aws, email):
            return []
        fields = field_changes({}, {"Protocol": "email", "Endpoint": email})
        summary = f"{email} gets a mail from AWS and has to confirm it"

        def subscribe(aws: Aws) -> None:
            # Subscribing again would send another mail to somebody who has not confirmed the first.
            if not self._is_subscribed(aws, email):
                aws.call("sns", "subscribe", TopicArn=self.topic_arn, Protocol="email", Endpoint=email)

        return [Change(ResourceKind.ALERT_SUBSCRIPTION, email, "create", summary, subscribe, fields)]

    def _rule(self, aws: Aws) -> list[Change]:
        live, rule = find_rule(aws, self.target.names.alert_rule), self.rule()
        if live is not None:
            self._refuse_foreign(self._rule_tags(aws), "rule", self.target.names.alert_rule)
            rule = {**live, **rule}
        fields = field_changes(live or {}, rule)
        if live is not None and not fields:
            return []
        tags = self.target.tags
        return [
            Change(
                ResourceKind.ALERT_RULE,
                self.target.names.alert_rule,
                "create" if live is None else "update",
                f"failed executions notify {self.topic_arn}",
                lambda aws: write_rule(aws, rule, tags),
                fields,
            )
        ]

    def _rule_deletion(self, aws: Aws) -> list[Change]:
        name = self.target.names.alert_rule
        if find_rule(aws, name) is None or not is_ours(self._rule_tags(aws), self.target.tags):
            return []
        summary = "nobody is notified any more"
        return [Change(ResourceKind.ALERT_RULE, name, "delete", summary, lambda aws: delete_rule(aws, name))]

    def _topic_deletion(self, aws: Aws) -> list[Change]:
        live = aws.find("sns", "get_topic_attributes", TopicArn=self._own_topic)
        if live is None or not is_ours(self._topic_tags(aws), self.target.tags):
            return []
        return [self._topic_change("delete", "deleted, with its subscriptions", self._delete_topic, ())]

    # ----------------------------------------------------------------------------------------------- the doing
    def _write_topic(self, aws: Aws) -> None:
        tags = [{"Key": key, "Value": value} for key, value in self.target.tags.items()]
        live = aws.find("sns", "get_topic_attributes", TopicArn=self._own_topic)
        if live is None:
            aws.call("sns", "create_topic", Name=self.target.names.alert_topic, Tags=tags)
            # With the policy that the service gave it; none where nothing is written (Aws.checking).
            live = aws.find("sns", "get_topic_attributes", TopicArn=self._own_topic) or {"Attributes": {}}
        statements = {**_by_sid(_policy(live)), _SID: self.topic_statement()}
        policy = json.dumps(_policy(live) | document(list(statements.values())))
        aws.call("sns", "set_topic_attributes", TopicArn=self._own_topic, AttributeName="Policy", AttributeValue=policy)

    def _delete_topic(self, aws: Aws) -> None:
        aws.find("sns", "delete_topic", TopicArn=self._own_topic)

    # ------------------------------------------------------------------------------------------------- reading
    @property
    def _own_topic(self) -> str:
        return self.target.aws.arn("sns", self.target.names.alert_topic)

    def _is_subscribed(self, aws: Aws, email: str) -> bool:
        """Whether the address is, or has been asked and has not confirmed yet."""
        # A topic that is still to be made has none.
        if aws.find("sns", "get_topic_attributes", TopicArn=self.topic_arn) is None:
            return False
        found = aws.pages("sns", "list_subscriptions_by_topic", "Subscriptions", TopicArn=self.topic_arn)
        return any(one["Protocol"] == "email" and one["Endpoint"].lower() == email.lower() for one in found)

    def _topic_tags(self, aws: Aws) -> dict[str, str]:
        return tags_of(aws.call("sns", "list_tags_for_resource", ResourceArn=self._own_topic)["Tags"])

    def _rule_tags(self, aws: Aws) -> dict[str, str]:
        return tags_of(aws.call("events", "list_tags_for_resource", ResourceARN=self.rule_arn)["Tags"])

    def _topic_change(
        self, action: Action, summary: str, apply: Callable[[Aws], None], fields: tuple[FieldChange, ...]
    ) -> Change:
        return Change(ResourceKind.ALERT_TOPIC, self.target.names.alert_topic, action, summary, apply, fields)

    def _refuse_foreign(self, tags: Mapping[str, str], kind: str, name: str) -> None:
        if not is_ours(tags, self.target.tags):
            raise CloudError(
                f"The {kind} '{name}' is there and is not this project's: its tags do not say so. It is left alone. "
                "Delete or rename it, or leave out the alerts of the environment in local_runner.toml."
            )


def _policy(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(attributes["Attributes"].get("Policy") or "{}")


def _by_sid(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The statements by their Sid (one without gets a name of its own)."""
    found = policy.get("Statement", [])
    statements = cast("list[dict[str, Any]]", found if isinstance(found, list) else [found])
    return {str(item.get("Sid", f"Statement{index}")): item for index, item in enumerate(statements)}
