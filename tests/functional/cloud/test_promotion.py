"""Promotions against the emulator: made, repeated, cut off after each write, refused at each call, two at once."""

import ast
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.cloud_proxy import is_write
from support.promotion import (
    ACCOUNT,
    BUCKET,
    IMAGE,
    PREFIX,
    REGION,
    SCHEDULE,
    account,
    by,
    options,
    planned,
    promoted,
    release,
)
from support.service_calls import Execution, refused, start_asks, unused

from local_runner.cloud.account.aws import Aws, AwsError, CloudError
from local_runner.cloud.change.models import Change
from local_runner.cloud.operations.promote import Gate, UnverifiedError, apply
from local_runner.cloud.release.lock import LockedError, drop_left_lock, promotion_lock
from local_runner.cloud.release.model import with_image
from local_runner.cloud.resources.bucket import Bucket
from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.names import Names
from local_runner.cloud.target.target import Target
from local_runner.errors import InvalidPipelineError


# --------------------------------------------------------------------------------------------------- as it should
def test_the_first_promotion_makes_everything_and_the_second_nothing(aws, tmp_path):
    desired = release(aws, tmp_path, alerts={"email": "on-call@example.com"})
    kinds = [change.resource for change in planned(aws, desired).changes]
    assert kinds == [
        *("bucket", "code", "execution role", "pipeline", "start role", "schedule"),
        *("alert topic", "alert subscription", "alert rule", "release"),
    ]
    assert promoted(aws, desired).number == 1
    aws.calls.clear()
    assert planned(aws, desired).changes == ()
    assert len(aws.calls) <= 24, aws.calls
    found = account(aws)
    definition = json.loads(found["pipeline"][0])
    assert_in_use(aws, definition, desired.target)
    text = json.dumps(definition)
    assert IMAGE in text
    assert "local/processing" not in text
    assert f"s3://{BUCKET}/{PREFIX}/code/" in text
    record = found["objects"][f"{PREFIX}/releases/1.json"]
    assert record["verified_by"] == "abcdefghijkl"
    assert json.loads(record["definition"]) == definition
    assert all(uri.removeprefix(f"s3://{BUCKET}/") in found["objects"] for uri in record["code"].values())
    assert f"{PREFIX}/promotion.lock" not in found["objects"]


def assert_in_use(aws, definition, target):
    """The roles in the account allow what the service asks of them for the example, and nothing that it does not."""
    execution = Execution(definition, target, {"ProcessingDate": "2026-01-01"})
    asks = [*execution.asks, *start_asks(target, target.start_role_arn)]
    roles = {target.execution_role_arn: target.names.execution_role, target.start_role_arn: target.names.start_role}
    for arn, name in roles.items():
        policy = aws.call("iam", "get_role_policy", RoleName=name, PolicyName="local-runner")["PolicyDocument"]
        assert refused(asks, {arn: [policy]}) == []
        assert [line for line in unused(asks, arn, policy) if not line.startswith(("Read", "ListBucket"))] == []


def test_what_the_service_would_refuse_of_the_schedules_values_is_told_before_any_write(aws, tmp_path):
    given = {**SCHEDULE["parameters"], "ProcessingInstanceCount": "0"}
    with pytest.raises(InvalidPipelineError, match=r"InstanceCount: it is 0, and the service wants at least 1"):
        release(aws, tmp_path, schedule={**SCHEDULE, "parameters": given})
    assert "sagemaker.create_pipeline" not in aws.calls


def test_environment_values_reach_the_definition(aws, tmp_path):
    desired = release(
        aws,
        tmp_path,
        instance_count=3,
        parameters={"MaxBadRatio": 0.2},
        kms_key_id="1111",
        network={"subnets": ["subnet-1"], "security_group_ids": ["sg-1"]},
    )
    document = with_image(desired.template, IMAGE)
    defaults = {item["Name"]: item.get("DefaultValue") for item in document["Parameters"]}
    assert (defaults["ProcessingInstanceCount"], defaults["MaxBadRatio"]) == (3, 0.2)
    arguments = document["Steps"][0]["Arguments"]
    assert arguments["NetworkConfig"]["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    assert arguments["ProcessingOutputConfig"]["KmsKeyId"] == "1111"
    assert desired.fingerprint == release(aws, tmp_path).fingerprint


def test_an_edit_shows_exactly_that_edit(aws, tmp_path):
    desired = release(aws, tmp_path)
    promoted(aws, desired)
    aws.call(
        "sagemaker",
        "update_pipeline",
        PipelineName="FlightsDaily-dev",
        ParallelismConfiguration={"MaxParallelExecutionSteps": 2},
    )
    edited = tmp_path / "transform.py"
    script = next(item for item in desired.code if item.path == "processing/transform.py")
    edited.write_bytes(script.file.read_bytes() + b"# one\n# two\n")
    changed = release_with(desired, script, edited)
    changes: dict[str, Change] = {change.resource: change for change in planned(aws, changed).changes}
    assert set(changes) == {"code", "pipeline", "release"}
    fields = {field.path: field.after for field in changes["pipeline"].fields}
    assert fields == {"code of Transform": "transform.py +2 -0"}
    promoted(aws, changed)
    live = aws.call("sagemaker", "describe_pipeline", PipelineName="FlightsDaily-dev")
    assert live["ParallelismConfiguration"] == {"MaxParallelExecutionSteps": 2}
    assert planned(aws, changed).changes == ()


def release_with(desired, script, edited):
    """The release with another file in place of a script."""
    digest = hashlib.sha256(edited.read_bytes()).hexdigest()
    key = script.key.replace(script.sha256, digest)
    code = tuple(
        replace(item, file=edited, sha256=digest, key=key) if item is script else item for item in desired.code
    )
    return replace(desired, code=code, template=json.loads(json.dumps(desired.template).replace(script.key, key)))


# ---------------------------------------------------------------------------------------------------- cut off
@pytest.mark.slow
def test_one_that_is_cut_off_after_any_write_ends_the_same_when_repeated(proxy, moto_server, tmp_path):
    aws = Aws(REGION)
    desired = release(aws, tmp_path)
    first = planned(aws, desired)
    apply(first, desired, options())
    clean, writes = account(aws), len(proxy.writes)
    assert writes > 15
    for number in range(1, writes + 1):
        reset(moto_server)
        proxy.clear()
        proxy.rule = cut_after(number, proxy)
        with suppress(AwsError):  # all but the last ones, which take the lock away
            apply(first, desired, options())
        assert len(proxy.writes) >= number
        proxy.clear()
        # The lock of the one that was cut off is this process's, which is not gone.
        if (left := planned(aws, desired)).changes:
            apply(left, desired, options(), break_lock=True)
        found = account(aws)
        # A bucket that is there keeps what it has: also one whose making was cut off.
        found["bucket tags"] = found["bucket tags"] or clean["bucket tags"]
        assert {**found, "objects": without_lock(found)} == clean, f"cut off after write {number}"


def without_lock(found):
    return {key: value for key, value in found["objects"].items() if not key.endswith("promotion.lock")}


def cut_after(number, proxy):
    """Lets that write be made, tells nobody, and lets nothing through any more."""
    dead = False

    def rule(call):
        nonlocal dead
        if dead:
            proxy.after = False
            return "AccessDenied"
        if is_write(call) and len(proxy.writes) == number:
            dead = proxy.after = True
            return "AccessDenied"
        return None

    return rule


def reset(moto_server):
    urllib.request.urlopen(urllib.request.Request(f"{moto_server}/moto-api/reset", method="POST")).close()


def test_a_read_that_is_denied_is_told_by_its_name(proxy, tmp_path):
    aws = Aws(REGION)
    desired = release(aws, tmp_path)
    promoted(aws, desired)
    proxy.clear()
    planned(aws, desired)
    for call in sorted(set(proxy.calls)):
        proxy.rule = lambda found, call=call: "AccessDenied" if found == call else None
        with pytest.raises(CloudError) as caught:
            planned(aws, desired)
        assert "does not allow" in caught.value.message or "not one of the account" in caught.value.message
    proxy.clear()
    assert planned(aws, desired).changes == ()


@pytest.mark.slow
def test_a_write_that_is_denied_is_told_by_the_permission_that_it_needs(proxy, tmp_path):
    """Each write in turn: what was made before it stays, and the repetition goes on from there."""
    aws = Aws(REGION)
    desired = release(aws, tmp_path)
    refused = []

    def each_once(call):
        # Objects have a key each, and one permission for all of them.
        kind = re.sub(r"(?<=^s3:)(\w+) [^?]*/[^?]*/[^?]*", r"\1 object", call)
        if not is_write(call) or kind in refused or "promotion.lock" in call:
            return None
        refused.append(kind)
        return "AccessDenied"

    proxy.rule = each_once
    messages = []
    for _ in range(40):
        try:
            promoted(aws, desired)
            break
        except AwsError as error:
            messages.append(error.message)
    permissions = []
    for call, message in zip(refused, messages, strict=True):  # one each: nothing is tried after a refusal
        (permission,) = re.findall(r"^AWS does not allow (\w+:\w+) to these credentials: ", message)
        assert "Ask for that permission, or let somebody who has it prepare the account" in message
        assert call == permission or " " in call  # the name of the operation is not in every protocol
        permissions.append(permission)
    assert len(permissions) >= 9
    assert {"s3:CreateBucket", "s3:PutBucketPublicAccessBlock"} < set(permissions)
    assert {"iam:CreateRole", "iam:PutRolePolicy", "sagemaker:CreatePipeline"} < set(permissions)
    assert planned(aws, desired).changes == ()


@pytest.mark.slow
def test_calls_that_are_throttled_are_made_again(proxy, tmp_path):
    aws = Aws(REGION)
    desired = release(aws, tmp_path)
    seen = set()

    def throttled_once(call):
        if is_write(call) and call not in seen:
            seen.add(call)
            return "SlowDown" if call.startswith("s3:") else "ThrottlingException"
        return None

    proxy.rule = throttled_once
    assert promoted(aws, desired).number == 1
    assert planned(aws, desired).changes == ()


# ------------------------------------------------------------------------------------------------ two at once
def test_of_two_at_once_one_wins_and_the_other_says_who_holds_the_lock(aws, tmp_path):
    desired = release(aws, tmp_path)
    plans = [planned(aws, desired) for _ in range(2)]
    outcomes = []

    def promote(plan):
        try:
            outcomes.append(apply(plan, by(Aws(REGION), desired), options()).number)
        except CloudError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=promote, args=[plan]) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [found for found in outcomes if isinstance(found, CloudError)]
    assert [found for found in outcomes if found == 1] == [1]
    assert len(errors) == 1
    assert "holds the lock: arn:aws" in errors[0].message or "changed after the plan" in errors[0].message
    assert planned(aws, desired).changes == ()


def test_a_lock_is_held_broken_and_over(aws):
    aws.call("s3", "create_bucket", Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    target = Target(Environment(name="dev", prefix="p"), Names("FlightsDaily", "dev"), aws)
    asked = {"Bucket": BUCKET, "Key": "p/promotion.lock"}
    with promotion_lock(target):
        with (
            pytest.raises(LockedError, match=r"holds the lock: arn:aws.*--break-lock"),
            promotion_lock(target),
        ):
            pass
        with promotion_lock(target, break_lock=True):
            pass
    assert aws.find("s3", "head_object", **asked) is None
    lock = {"holder": "somebody", "machine": "elsewhere", "process": os.getpid(), "since": "then"}
    soon, before = (datetime.now(UTC) + timedelta(minutes=sign) for sign in (1, -1))
    aws.call("s3", "put_object", **asked, Body=json.dumps({**lock, "expires": soon.isoformat()}).encode())
    with pytest.raises(LockedError, match="somebody on elsewhere"), promotion_lock(target):
        pass
    aws.call("s3", "put_object", **asked, Body=json.dumps({**lock, "expires": before.isoformat()}).encode())
    with promotion_lock(target):
        pass


# -------------------------------------------------------------------------------------------------- bad input
def test_a_pipeline_of_somebody_else_is_only_taken_over_when_asked_to(aws, tmp_path):
    desired = release(aws, tmp_path)
    role = f"arn:aws:iam::{ACCOUNT}:role/theirs"
    theirs = {"PipelineName": "FlightsDaily-dev", "RoleArn": role, "PipelineDefinition": '{"Version": "2020-12-01"}'}
    aws.call("sagemaker", "create_pipeline", **theirs, ClientRequestToken="0" * 32)
    with pytest.raises(CloudError, match=r"not this project's.*--adopt"):
        planned(aws, desired)
    assert promoted(aws, desired, adopt=True).number == 1
    assert planned(aws, desired).changes == ()


def test_the_gate_is_closed_for_what_did_not_run(aws, tmp_path):
    desired = release(aws, tmp_path)
    gate = Gate(None, ("processing/fit.py changed since execution abc",))
    with pytest.raises(UnverifiedError, match=r"(?s)processing/fit.py changed.*make local-run"):
        promoted(aws, desired, gate)
    assert aws.call("s3", "list_buckets")["Buckets"] == []
    promoted(aws, desired, gate, unverified_reason="a hotfix")
    record = account(aws)["objects"][f"{PREFIX}/releases/1.json"]
    assert (record["verified_by"], record["unverified_reason"]) == (None, "a hotfix")


def bucket(name, aws):
    return Bucket(Target(Environment(name="dev", bucket=name), Names("FlightsDaily", "dev"), aws))


def test_another_account_and_missing_or_foreign_buckets(aws, proxy, tmp_path):
    with pytest.raises(CloudError, match="is in the account 999999999999, and these credentials are for 123456789012"):
        release(aws, tmp_path, account="999999999999")
    with pytest.raises(CloudError, match="There is no bucket 'not-there'"):
        bucket("not-there", aws).plan(aws)
    proxy.rule = lambda call: "AccessDenied" if call.startswith("s3:HEAD /theirs") else None
    with pytest.raises(CloudError, match="'theirs' is there, but it is not one of the account"):
        bucket("theirs", aws).plan(Aws(REGION))


def test_credentials_that_are_missing_or_over(proxy, tmp_path, monkeypatch):
    proxy.rule = lambda _: "ExpiredToken"
    with pytest.raises(CloudError, match=r"have expired. Sign in again"):
        release(Aws(REGION), tmp_path)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(CloudError, match="There are no AWS credentials"):
        release(Aws(REGION), tmp_path)


def test_a_parameter_that_the_pipeline_has_not(aws, tmp_path):
    with pytest.raises(Exception, match=r"the pipeline has no parameter Nope\. It has InputData"):
        release(aws, tmp_path, parameters={"Nope": 1})


def test_a_large_definition_goes_by_its_place_in_s3(aws, tmp_path):
    desired = release(aws, tmp_path)
    template = {**desired.template, "Metadata": {"notes": "x" * 110_000}}
    large = replace(desired, template=template)
    for change in planned(aws, large).changes:
        if change.resource in ("bucket", "execution role", "pipeline"):
            change.apply(aws)
    keys = [item["Key"] for item in aws.pages("s3", "list_objects_v2", "Contents", Bucket=BUCKET)]
    assert [key.startswith(f"{PREFIX}/definitions/") for key in keys] == [True]
    live = aws.call("sagemaker", "describe_pipeline", PipelineName="FlightsDaily-dev")["PipelineDefinition"]
    # The emulator answers with Python's way of writing it, where the service has the text.
    assert ast.literal_eval(live) == with_image(large.template, IMAGE)


def test_the_lock_of_one_that_is_gone_goes_and_that_of_one_at_work_stays(aws, tmp_path):
    desired = release(aws, tmp_path)
    promoted(aws, desired)
    target, asked = desired.target, {"Bucket": BUCKET, "Key": f"{PREFIX}/promotion.lock"}
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for process, left in ((os.getpid(), True), (gone.pid, False)):
        lock = {"machine": socket.gethostname(), "process": process, "expires": expires}
        aws.call("s3", "put_object", **asked, Body=json.dumps(lock).encode())
        drop_left_lock(target)
        assert (aws.find("s3", "head_object", **asked) is not None) is left
    for text in (b"", b"[]", b"{}", b'{"expires": 1}'):  # nobody's, as far as can be told: it stays, and nothing breaks
        aws.call("s3", "put_object", **asked, Body=text)
        drop_left_lock(target)
        with pytest.raises(LockedError), promotion_lock(target):
            pass
    with promotion_lock(target, break_lock=True):
        pass
    assert aws.find("s3", "head_object", **asked) is None
