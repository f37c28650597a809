"""Who is told when an execution fails: an EventBridge rule, and an SNS topic that it tells. Reads; Changes write.

A topic of the settings is used as it is (its policy has to let events.amazonaws.com publish); otherwise one is made.
What others put into the topic's policy, and subscriptions of others, are kept.
Source: SageMaker developer guide, "Monitoring with EventBridge": pipeline execution state change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.account.tags import is_ours, tags_of
from local_runner.cloud.change.fields import field_changes
from local_runner.cloud.change.models import Change, FieldChange
from local_runner.cloud.iam.policies import document
from local_runner.cloud.resources.rule import delete_rule, find_rule, write_rule
from local_runner.cloud.target.environment import AlertSettings
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.place import Place

TARGET_ID = "alert"
DETAIL_TYPE = "SageMaker Model Building Pipeline Execution Status Change"
_SID = "LocalRunnerAlerts"


@dataclass(frozen=True)
class Alerts:
    """The rule and the topic. ``settings`` is None where nobody is to be told (any more)."""

    names: Names
    place: Place
    settings: AlertSettings | None
    tags: Mapping[str, str]

    @property
    def topic_arn(self) -> str:
        """The topic that the rule tells."""
        return (self.settings.topic_arn if self.settings else None) or self._own_topic

    @property
    def rule_arn(self) -> str:
        """The rule's ARN."""
        return self.place.arn("events", f"rule/{self.names.alert_rule}")

    @property
    def makes_topic(self) -> bool:
        """Whether the topic is one that this project makes."""
        return self.settings is not None and self.settings.topic_arn is None

    # ------------------------------------------------------------------------------------------------- desired
    def rule(self) -> dict[str, Any]:
        """What PutRule gets, with the entry of PutTargets as ``Target``."""
        # The service has shown ARNs of pipelines in lower case.
        arn = [{"equals-ignore-case": self.place.pipeline_arn}]
        pattern = {
            "source": ["aws.sagemaker"],
            "detail-type": [DETAIL_TYPE],
            "detail": {"currentPipelineExecutionStatus": ["Failed"], "pipelineArn": arn},
        }
        lines = [
            f"The SageMaker pipeline {self.names.pipeline_name} failed at <time> (account <account>, <region>).",
            "Execution: <execution>",
            f"What failed, and why: local-runner status --env {self.names.environment}",
        ]
        return {
            "Name": self.names.alert_rule,
            "Description": f"Tells of failed executions of the pipeline {self.names.pipeline_name}.",
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
        """The statement of the topic's policy that lets this rule publish."""
        return {
            "Sid": _SID,
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": self._own_topic,
            "Condition": {"ArnEquals": {"aws:SourceArn": self.rule_arn}},
        }

    # ---------------------------------------------------------------------------------------------------- plan
    def plan(self, aws: Aws) -> list[Change]:
        """What has to change. Raises CloudError where a name belongs to somebody else."""
        if self.settings is None:
            return [*self._rule_goes(aws), *self._topic_goes(aws)]
        unused = [] if self.makes_topic else self._topic_goes(aws)
        return [*self._topic(aws), *self._subscription(aws), *self._rule(aws), *unused]

    def _topic(self, aws: Aws) -> list[Change]:
        if not self.makes_topic:
            return []
        live = aws.find("sns", "get_topic_attributes", TopicArn=self._own_topic)
        statement = self.topic_statement()
        if live is None:
            fields = field_changes({}, {"Policy": document([statement]), "Tags": dict(self.tags)})
            return [self._change("alert topic", "create", "tells who subscribes to it", self._write_topic, fields)]
        self._refuse_foreign(self._topic_tags(aws), "topic", self._own_topic)
        ours = _by_sid(_policy(live)).get(_SID, {})
        fields = field_changes(ours, statement, f"Policy.Statement.{_SID}.")
        if not fields:
            return []
        return [self._change("alert topic", "update", "lets the rule publish", self._write_topic, fields)]

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

        return [Change("alert subscription", email, "create", summary, subscribe, fields)]

    def _rule(self, aws: Aws) -> list[Change]:
        live, rule = find_rule(aws, self.names.alert_rule), self.rule()
        if live is not None:
            self._refuse_foreign(self._rule_tags(aws), "rule", self.names.alert_rule)
            rule = {**live, **rule}
        fields = field_changes(live or {}, rule)
        if live is not None and not fields:
            return []
        tags = dict(self.tags)
        return [
            Change(
                "alert rule",
                self.names.alert_rule,
                "create" if live is None else "update",
                f"failed executions are told to {self.topic_arn}",
                lambda aws: write_rule(aws, rule, tags),
                fields,
            )
        ]

    def _rule_goes(self, aws: Aws) -> list[Change]:
        name = self.names.alert_rule
        if find_rule(aws, name) is None or not is_ours(self._rule_tags(aws), self.tags):
            return []
        return [Change("alert rule", name, "delete", "nobody is told any more", lambda aws: delete_rule(aws, name))]

    def _topic_goes(self, aws: Aws) -> list[Change]:
        live = aws.find("sns", "get_topic_attributes", TopicArn=self._own_topic)
        if live is None or not is_ours(self._topic_tags(aws), self.tags):
            return []
        return [self._change("alert topic", "delete", "goes, with its subscriptions", self._delete_topic, ())]

    # ----------------------------------------------------------------------------------------------- the doing
    def _write_topic(self, aws: Aws) -> None:
        tags = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        if aws.find("sns", "get_topic_attributes", TopicArn=self._own_topic) is None:
            aws.call("sns", "create_topic", Name=self.names.alert_topic, Tags=tags)
        live = aws.call("sns", "get_topic_attributes", TopicArn=self._own_topic)
        statements = {**_by_sid(_policy(live)), _SID: self.topic_statement()}
        policy = json.dumps(_policy(live) | document(list(statements.values())))
        aws.call("sns", "set_topic_attributes", TopicArn=self._own_topic, AttributeName="Policy", AttributeValue=policy)

    def _delete_topic(self, aws: Aws) -> None:
        aws.find("sns", "delete_topic", TopicArn=self._own_topic)

    # ------------------------------------------------------------------------------------------------- reading
    @property
    def _own_topic(self) -> str:
        return self.place.arn("sns", self.names.alert_topic)

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

    def _change(self, kind: str, action: Any, summary: str, apply: Any, fields: tuple[FieldChange, ...]) -> Change:
        return Change(kind, self.names.alert_topic, action, summary, apply, fields)

    def _refuse_foreign(self, tags: Mapping[str, str], kind: str, name: str) -> None:
        if not is_ours(tags, self.tags):
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
