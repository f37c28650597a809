"""What a plan says of two definitions, and what an environment sets in one."""

from __future__ import annotations

from typing import Any

import pytest
from support.definitions import processing, s3_input

from local_runner.cloud.change.definition import code_summary, definition_changes
from local_runner.cloud.desired.binding import set_network_and_keys, set_parameter_defaults
from local_runner.cloud.target.environment import Environment
from local_runner.errors import SettingsError

OLD, NEW = (f"s3://b/p/code/{digit * 64}/fit.py" for digit in "ab")


def step(name: str, code: str = OLD, image: str = "i@sha256:1", **arguments: Any) -> dict[str, Any]:
    inputs = [s3_input("code", code)]
    return processing(name, inputs=inputs, image=image, members=arguments)


def definition(*steps: dict[str, Any], default: str = "1") -> dict[str, Any]:
    return {"Parameters": [{"Name": "Day", "Type": "String", "DefaultValue": default}], "Steps": list(steps)}


def told(
    before: dict[str, Any], after: dict[str, Any], content: dict[str, bytes] | None = None
) -> list[tuple[Any, ...]]:
    changes = definition_changes(before, after, (content or {}).get)
    return [(change.path, change.before, change.after) for change in changes]


def test_nothing_changed_is_nothing() -> None:
    assert told(definition(step("A")), definition(step("A"))) == []


def test_steps_come_and_go() -> None:
    said = told(definition(step("A")), definition(step("B")))
    assert said == [("step B", None, "Processing added"), ("step A", "Processing removed", None)]


def test_a_field_is_told_by_its_path_and_the_name_of_its_parameter() -> None:
    before = definition(step("A", Environment={"LEVEL": "1"}))
    after = definition(step("A", Environment={"LEVEL": "2"}), default="2")
    said = told(before, after)
    assert said == [("A.Arguments.Environment.LEVEL", "1", "2"), ("Parameters[Day].DefaultValue", "1", "2")]


def test_a_step_in_a_branch_is_told_once_and_not_as_a_change_of_its_condition() -> None:
    def gate(inner: dict[str, Any]) -> dict[str, Any]:
        return {"Name": "Gate", "Type": "Condition", "Arguments": {"Conditions": [], "IfSteps": [inner]}}

    said = told(
        definition(gate(step("A", Environment={"X": "1"}))), definition(gate(step("A", Environment={"X": "2"})))
    )
    assert [path for path, _, _ in said] == ["A.Arguments.Environment.X"]


def test_code_is_told_by_its_lines_and_the_image_once() -> None:
    before = definition(step("A"), step("B"))
    after = definition(step("A", NEW, "i@sha256:2"), step("B", image="i@sha256:2"))
    said = told(before, after, {OLD: b"one\ntwo\nthree\n", NEW: b"one\n2\nthree\nfour\n"})
    assert said == [("code of A", OLD, "fit.py +2 -1"), ("image", "i@sha256:1", "i@sha256:2")]


def test_code_that_is_no_text_or_not_there() -> None:
    assert code_summary(OLD, NEW, {OLD: b"\xff", NEW: b"\xfe\xff"}.get) == "fit.py 1 -> 2 bytes"
    assert code_summary(OLD, NEW, {NEW: b"x"}.get) == "fit.py"


def test_large_code_is_compared_in_no_time() -> None:
    """Three thousand lines, each a little different: to look for what is alike within them would take minutes."""
    one, other = ("".join(f"value_{n} = {n} # {word}\n" for n in range(3000)).encode() for word in ("one", "two"))
    assert code_summary(OLD, NEW, {OLD: one, NEW: other}.get) == "fit.py +3000 -3000"


def test_an_environment_gives_what_a_job_does_not_say() -> None:
    environment = Environment.model_validate(
        {"name": "dev", "kms_key_id": "k", "network": {"subnets": ["s"], "security_group_ids": ["g"]}}
    )
    own = {"VpcConfig": {"SecurityGroupIds": ["own"], "Subnets": ["own"]}}
    document = definition(step("A"), step("B", NetworkConfig=own, ProcessingOutputConfig={"KmsKeyId": "own"}))
    set_network_and_keys(document, environment)
    first, second = (each["Arguments"] for each in document["Steps"])
    assert first["NetworkConfig"] == {"VpcConfig": {"SecurityGroupIds": ["g"], "Subnets": ["s"]}}
    assert first["ProcessingOutputConfig"]["KmsKeyId"] == "k"
    assert first["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == "k"
    assert second["NetworkConfig"] == own
    assert second["ProcessingOutputConfig"]["KmsKeyId"] == "own"


def test_a_volume_that_its_instance_encrypts_gets_no_key() -> None:
    cluster = {"InstanceCount": 1, "InstanceType": {"Get": "Parameters.Type"}, "VolumeSizeInGB": 30}
    document = definition(step("A", ProcessingResources={"ClusterConfig": cluster}))
    document["Parameters"] = [{"Name": "Type", "Type": "String", "DefaultValue": "ml.g5.xlarge"}]
    set_network_and_keys(document, Environment.model_validate({"name": "dev", "kms_key_id": "k"}))
    (arguments,) = (each["Arguments"] for each in document["Steps"])
    assert arguments["ProcessingOutputConfig"]["KmsKeyId"] == "k"
    assert "VolumeKmsKeyId" not in arguments["ProcessingResources"]["ClusterConfig"]


def test_defaults_of_parameters_that_are_not_there() -> None:
    document = definition(step("A"))
    set_parameter_defaults(document, Environment.model_validate({"name": "dev", "parameters": {"Day": "7"}}))
    assert document["Parameters"][0]["DefaultValue"] == "7"
    with pytest.raises(SettingsError, match=r"no parameter Dya\. It has Day"):
        set_parameter_defaults(document, Environment.model_validate({"name": "dev", "parameters": {"Dya": "7"}}))
