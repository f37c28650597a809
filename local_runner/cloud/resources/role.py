"""The two roles of a release, made where the environment names none. Reads IAM; Changes write.

    execution role   what the pipeline and its jobs may do; SageMaker takes it on
    start role       starts this one pipeline; EventBridge takes it on

What they may do is computed (:mod:`local_runner.cloud.iam.policies`) and kept in one inline policy of the role. What
others gave a role (tags, managed policies, a boundary where the settings name none) stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_runner.cloud.account.aws import Aws, CloudError
from local_runner.cloud.account.tags import is_ours, tags_of
from local_runner.cloud.change.fields import field_changes
from local_runner.cloud.change.models import Action, Change, FieldChange, ResourceKind
from local_runner.cloud.iam.permission_summary import permission_summary

POLICY_NAME = "local-runner"


@dataclass(frozen=True)
class Role:
    """A role with one inline policy. ``kind`` is EXECUTION_ROLE or START_ROLE; ``wanted`` False: delete it.

    ``managed_policies`` and ``boundary`` (ARNs) are attached to it; ``path`` is a part of its ARN and never changes.
    """

    kind: ResourceKind
    name: str
    trust: Mapping[str, Any]
    policy: Mapping[str, Any]
    tags: Mapping[str, str]
    description: str
    wanted: bool = True
    path: str = "/"
    boundary: str | None = None
    managed_policies: Sequence[str] = ()

    def plan(self, aws: Aws) -> list[Change]:
        """What has to change. Raises CloudError where the name belongs to somebody else."""
        live = aws.find("iam", "get_role", RoleName=self.name)
        if live is None:
            return [self._change("create", self._fields({}, {}, {}, {}))] if self.wanted else []
        role: dict[str, Any] = live["Role"]
        if not is_ours(tags_of(role.get("Tags", [])), self.tags):
            if not self.wanted:
                return []
            raise CloudError(
                f"The role '{self.name}' is there and is not this project's: its tags do not say so. It is left alone. "
                "Name a role as 'role_arn' of the environment (or of its schedule) in local_runner.toml, or delete it."
            )
        if not self.wanted:
            return [Change(self.kind, self.name, "delete", f"the {self.kind} is deleted", self._delete)]
        if role.get("Path", "/") != self.path:
            raise CloudError(
                f"The role '{self.name}' is there with the path {role['Path']}, and IAM cannot change it to "
                f"{self.path}. "
                f'Set role_path = "{role["Path"]}" in [environments.NAME] of local_runner.toml, or delete the role.'
            )
        fields = self._fields(
            _document(role.get("AssumeRolePolicyDocument")),
            self._live_policy(aws),
            tags_of(role.get("Tags", [])),
            {"PermissionsBoundary": _boundary(role), "ManagedPolicies": self._attached(aws)},
        )
        return [self._change("update", fields)] if fields else []

    def _fields(
        self, trust: Any, policy: Any, tags: Mapping[str, str], limits: Mapping[str, Any]
    ) -> tuple[FieldChange, ...]:
        wanted: dict[str, Any] = {
            "PermissionsBoundary": self.boundary,
            "ManagedPolicies": sorted(self.managed_policies),
        }
        wanted = {key: value for key, value in wanted.items() if value}
        return (
            *field_changes(trust, self.trust, "Trust."),
            *field_changes(policy, self.policy, "Policy."),
            *field_changes({key: tags[key] for key in tags if key in self.tags}, self.tags, "Tags."),
            *field_changes({key: limits[key] for key in wanted if limits.get(key)}, wanted),
        )

    def _live_policy(self, aws: Aws) -> Any:
        found = aws.find("iam", "get_role_policy", RoleName=self.name, PolicyName=POLICY_NAME)
        return _document((found or {}).get("PolicyDocument"))

    def _attached(self, aws: Aws) -> list[str]:
        """Those of the wanted managed policies that the role has."""
        if not self.managed_policies:
            return []
        return [arn for arn in attached_policies(aws, self.name) if arn in self.managed_policies]

    def _change(self, action: Action, fields: tuple[FieldChange, ...]) -> Change:
        sids = {change.path.split(".")[2] for change in fields if change.path.startswith("Policy.Statement.")}
        if not sids:
            summary = f"the {self.kind} is changed"
        else:
            summary = f"{'may' if action == 'create' else 'changed permissions:'} {permission_summary(sids)}"
        return Change(self.kind, self.name, action, summary, self._write, fields)

    def _write(self, aws: Aws) -> None:
        trust = json.dumps(self.trust)
        tags = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        live = aws.find("iam", "get_role", RoleName=self.name)
        if live is None:
            aws.call(
                "iam",
                "create_role",
                RoleName=self.name,
                AssumeRolePolicyDocument=trust,
                Description=self.description,
                Path=self.path,
                Tags=tags,
                **({"PermissionsBoundary": self.boundary} if self.boundary else {}),
            )
        else:
            if live["Role"]["AssumeRolePolicyDocument"] != self.trust:
                aws.call("iam", "update_assume_role_policy", RoleName=self.name, PolicyDocument=trust)
            if any(tag not in live["Role"].get("Tags", ()) for tag in tags):
                aws.call("iam", "tag_role", RoleName=self.name, Tags=tags)
            if self.boundary and _boundary(live["Role"]) != self.boundary:
                asked = {"RoleName": self.name, "PermissionsBoundary": self.boundary}
                aws.call("iam", "put_role_permissions_boundary", **asked)
        attached = self._attached(aws) if live else ()
        for arn in sorted({*self.managed_policies} - {*attached}):
            aws.call("iam", "attach_role_policy", RoleName=self.name, PolicyArn=arn)
        if live is None or self._live_policy(aws) != self.policy:
            policy = json.dumps(self.policy)
            aws.call("iam", "put_role_policy", RoleName=self.name, PolicyName=POLICY_NAME, PolicyDocument=policy)

    def _delete(self, aws: Aws) -> None:
        if aws.find("iam", "get_role", RoleName=self.name) is None:
            return
        # IAM deletes no role that has one.
        for arn in attached_policies(aws, self.name):
            aws.call("iam", "detach_role_policy", RoleName=self.name, PolicyArn=arn)
        aws.find("iam", "delete_role_policy", RoleName=self.name, PolicyName=POLICY_NAME)
        aws.find("iam", "delete_role", RoleName=self.name)


def attached_policies(aws: Aws, name: str) -> list[str]:
    """The ARNs of the managed policies of a role, in their order."""
    found = aws.pages("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name)
    return sorted(str(item["PolicyArn"]) for item in found)


def _boundary(role: Mapping[str, Any]) -> str | None:
    return role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")


def _document(value: Any) -> Any:
    """A policy, which boto3 has already parsed, as far as it is JSON."""
    return json.loads(value) if isinstance(value, str) else value or {}
