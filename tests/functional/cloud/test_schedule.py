"""Schedules and rules against the emulator: created, changed, kept, paused, taken away, and never somebody else's."""

import json

import pytest
from support import cloud_samples as samples
from support.cloud_samples import AWS, NAMES, QUEUE, SCHEDULE, TARGET
from support.values import there

from local_runner.cloud.account.aws import CloudError
from local_runner.cloud.change.fields import field_changes
from local_runner.cloud.change.models import deletions_last
from local_runner.cloud.operations.pause import set_state
from local_runner.cloud.resources.schedule import find_schedule
from local_runner.cloud.schedules.request import settings_of
from local_runner.cloud.schedules.ticks import next_ticks

START = AWS.arn("iam", "role/Flights-dev-start", region=False)
PATTERN = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"bucket": {"name": ["raw-data"]}}}
RULE = {"kind": "rule", "event_pattern": PATTERN, "parameters": {"Day": "$.detail.object.key"}}


class Cycle:
    """Plans, which may only read, and applies; remembers the request as a release record would."""

    def __init__(self, aws):
        self.aws, self.previous, self.notes = aws, None, []

    def plan(self, **settings):
        resource = samples.parts(previous=self.previous, **settings).schedule
        with self.aws.reading():
            changes = resource.plan(self.aws)
        self.notes = resource.notes
        return resource, changes

    def promote(self, **settings):
        resource, changes = self.plan(**settings)
        for change in deletions_last(changes):
            change.apply(self.aws)
        self.previous = resource.desired and json.loads(json.dumps(resource.desired.request))
        return changes


@pytest.fixture
def cycle(aws):
    return Cycle(aws)


def live(aws):
    """The schedule in the account, which has to be there."""
    return there(find_schedule(aws, NAMES.schedule))


def by_hand(aws, **fields):
    """What somebody does in the console: changes these fields of the schedule, and no others."""
    found = live(aws)
    aws.call("scheduler", "update_schedule", **{**found, **fields})


def changed(changes):
    return {field.path: (field.before, field.after) for change in changes for field in change.fields}


def test_a_schedule_is_created_once(aws, cycle):
    cycle.promote()
    found = live(aws)
    assert found["ScheduleExpression"] == "cron(0 6 * * ? *)"
    assert found["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert found["State"] == "ENABLED"
    assert found["Target"] == {
        "Arn": TARGET.pipeline_arn,
        "RoleArn": START,
        "RetryPolicy": {"MaximumEventAgeInSeconds": 3600, "MaximumRetryAttempts": 3},
        "SageMakerPipelineParameters": {
            "PipelineParameterList": [{"Name": "Day", "Value": "<aws.scheduler.scheduled-time>"}]
        },
    }
    assert cycle.promote() == []


@pytest.mark.parametrize("then", [{}, {"Day": "2026-01-01"}])
def test_a_schedule_without_parameters(aws, cycle, then):
    """The service wants the list, and may answer without it, or with an empty one: no difference."""
    document = samples.sample()
    document["Parameters"][1]["DefaultValue"] = "2026-02-03"
    none = {"document": document, "schedule": {**SCHEDULE, "parameters": {}}}
    cycle.promote(**none)
    assert cycle.promote(**none) == []
    found = live(aws)["Target"]
    found.pop("SageMakerPipelineParameters", None)
    assert field_changes({"Target": found}, {"Target": cycle.previous["Target"]}) == ()
    cycle.promote(document=document, schedule={**SCHEDULE, "parameters": then, "expression": "rate(2 days)"})
    cycle.promote(**none)
    assert live(aws)["Target"]["SageMakerPipelineParameters"]["PipelineParameterList"] == []
    assert set_state(aws, NAMES.schedule, "DISABLED")
    assert set_state(aws, NAMES.schedule, "ENABLED")


def test_an_edit_shows_exactly_that_edit(cycle):
    cycle.promote(schedule={**SCHEDULE, "end_date": "2030-01-01T00:00:00", "dead_letter_queue": QUEUE})
    edited = {**SCHEDULE, "expression": "cron(0 7 ? * MON-FRI *)", "parameters": {"Day": "2026-01-01"}}
    changes = cycle.promote(schedule=edited)
    assert [(change.resource, change.name, change.action) for change in changes] == [
        ("schedule", "Flights-dev", "update")
    ]
    assert "every Monday to Friday at 07:00 Europe/Berlin" in changes[0].summary
    fields = changed(changes)
    assert fields.pop("EndDate")[1] is None
    assert fields == {
        "ScheduleExpression": ("cron(0 6 * * ? *)", "cron(0 7 ? * MON-FRI *)"),
        "Target.SageMakerPipelineParameters.PipelineParameterList.Day": (
            "<aws.scheduler.scheduled-time>",
            "2026-01-01",
        ),
        "Target.DeadLetterConfig.Arn": (QUEUE, None),
    }
    assert cycle.promote(schedule=edited) == []


def test_dates_are_compared_as_points_in_time(aws, cycle):
    dates = {"start_date": "2030-01-01T00:00:00", "end_date": "2031-06-01T00:00:00+02:00"}
    cycle.promote(schedule={**SCHEDULE, **dates})
    assert live(aws)["StartDate"].isoformat().startswith(("2029-12-31T23:00", "2030-01-01"))
    other_way = {"start_date": "2029-12-31T23:00:00+00:00", "end_date": "2031-05-31T22:00:00Z"}
    assert cycle.promote(schedule={**SCHEDULE, **other_way}) == []


def test_the_ticks_of_what_is_in_the_account_are_those_of_the_settings(aws, cycle):
    dates = {"start_date": "2030-01-01T00:00:00", "end_date": "2031-06-01T00:00:00"}
    cycle.promote(schedule={**SCHEDULE, **dates})
    recorded = settings_of("scheduler", cycle.previous)
    found = settings_of("scheduler", live(aws))
    ticks = [str(tick) for tick in next_ticks(recorded, samples.NOW)]
    assert ticks[0] == "Tue 2030-01-01 06:00 CET"
    assert [str(tick) for tick in next_ticks(found, samples.NOW)] == ticks


def test_a_start_date_that_has_passed_is_not_sent(aws, cycle):
    """The service, and the emulator, refuse one of more than five minutes ago."""
    started = {**SCHEDULE, "start_date": "2020-01-01T00:00:00"}
    cycle.promote(schedule=started)
    assert cycle.promote(schedule=started) == []
    assert "StartDate" not in live(aws)


def test_what_others_set_is_kept(aws, cycle):
    cycle.promote()
    theirs = {
        "KmsKeyArn": samples.KEY,
        "Description": "Ask the data team before you touch this",
        "FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10},
    }
    target = live(aws)["Target"]
    retries = {"MaximumEventAgeInSeconds": 600, "MaximumRetryAttempts": 10}
    by_hand(aws, **theirs, Target={**target, "RetryPolicy": retries, "DeadLetterConfig": {"Arn": QUEUE}})
    assert cycle.promote() == []

    changes = cycle.promote(schedule={**SCHEDULE, "expression": "rate(1 day)", "maximum_retry_attempts": 2})
    assert changed(changes).keys() == {"ScheduleExpression", "Target.RetryPolicy.MaximumRetryAttempts"}
    found = live(aws)
    assert {key: found[key] for key in theirs} == theirs
    assert found["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 600, "MaximumRetryAttempts": 2}
    assert found["Target"]["DeadLetterConfig"] == {"Arn": QUEUE}


def test_a_default_that_the_settings_gave_up_comes_back(cycle):
    cycle.promote(schedule={**SCHEDULE, "maximum_retry_attempts": 9, "flexible_window_in_minutes": 15})
    assert changed(cycle.promote()) == {
        "Target.RetryPolicy.MaximumRetryAttempts": (9, 3),
        "FlexibleTimeWindow.Mode": ("FLEXIBLE", "OFF"),
        "FlexibleTimeWindow.MaximumWindowInMinutes": (15, None),
    }
    assert cycle.promote() == []


def test_what_is_paused_stays_paused(aws, cycle):
    cycle.promote()
    by_hand(aws, State="DISABLED")
    changes = cycle.promote(schedule={**SCHEDULE, "expression": "rate(2 days)"})
    assert changed(changes).keys() == {"ScheduleExpression"}
    assert changes[0].summary.endswith("every 2 days (paused)")
    assert cycle.notes == [
        "The schedule Flights-dev is paused and stays so. To let it start again: local-runner resume --env dev"
    ]
    assert live(aws)["State"] == "DISABLED"


def test_what_the_settings_turned_off_they_turn_on(aws, cycle):
    cycle.promote(schedule={**SCHEDULE, "enabled": False})
    assert live(aws)["State"] == "DISABLED"
    assert changed(cycle.promote())["State"] == ("DISABLED", "ENABLED")
    assert cycle.notes == []
    assert cycle.promote() == []


def test_a_schedule_that_starts_something_else_is_left_alone(aws, cycle):
    other = AWS.arn("sagemaker", "pipeline/Other")
    parameters = {"PipelineParameterList": []}
    target = {"Arn": other, "RoleArn": START, "SageMakerPipelineParameters": parameters}
    window = {"Mode": "OFF"}
    aws.call(
        "scheduler", "create_schedule", Name="Flights-dev", ScheduleExpression="rate(1 day)", Target=target,
        FlexibleTimeWindow=window,
    )  # fmt: skip
    with pytest.raises(CloudError, match=r"'Flights-dev' is there and does not start .*pipeline/Other"):
        cycle.plan()
    assert cycle.plan(schedule=None)[1] == []


def test_a_rule_takes_paths_into_the_event(aws, cycle):
    cycle.promote(schedule=RULE)
    rule = aws.call("events", "describe_rule", Name="Flights-dev")
    (target,) = aws.call("events", "list_targets_by_rule", Rule="Flights-dev")["Targets"]
    assert json.loads(rule["EventPattern"]) == PATTERN
    assert target["Arn"] == TARGET.pipeline_arn
    assert target["SageMakerPipelineParameters"] == {
        "PipelineParameterList": [{"Name": "Day", "Value": "$.detail.object.key"}]
    }
    tags = aws.call("events", "list_tags_for_resource", ResourceARN=rule["Arn"])["Tags"]
    assert {"Key": "local-runner:project", "Value": "Flights"} in tags
    assert cycle.promote(schedule=RULE) == []


def test_a_rule_on_a_schedule_instead_of_a_pattern(aws, cycle):
    cycle.promote(schedule=RULE)
    changes = cycle.promote(schedule={"kind": "rule", "expression": "rate(1 hour)", "parameters": {"Day": "$.time"}})
    fields = changed(changes)
    assert fields.keys() == {
        "ScheduleExpression",
        "EventPattern",
        "Target.SageMakerPipelineParameters.PipelineParameterList.Day",
    }
    assert "EventPattern" not in aws.call("events", "describe_rule", Name="Flights-dev")


def test_another_kind_takes_the_place_of_the_first_after_it_is_there(aws, cycle):
    cycle.promote()
    changes = cycle.plan(schedule=RULE)[1]
    assert [(change.resource, change.action) for change in changes] == [("rule", "create"), ("schedule", "delete")]
    cycle.promote(schedule=RULE)
    assert find_schedule(aws, NAMES.schedule) is None
    assert [(c.resource, c.action) for c in cycle.promote()] == [("schedule", "create"), ("rule", "delete")]
    assert aws.call("events", "list_rules")["Rules"] == []


def test_a_schedule_that_is_not_wanted_goes(aws, cycle):
    cycle.promote()
    assert [change.action for change in cycle.promote(schedule=None)] == ["delete"]
    assert find_schedule(aws, NAMES.schedule) is None
    assert cycle.promote(schedule=None) == []


def test_a_rule_that_was_cut_off_before_its_target_is_finished(aws, cycle):
    _, (change,) = cycle.plan(schedule=RULE)
    change.apply(aws)
    aws.call("events", "remove_targets", Rule="Flights-dev", Ids=["pipeline"])
    changes = cycle.promote(schedule=RULE)
    assert all(path.startswith("Target.") for path in changed(changes))
    assert len(aws.call("events", "list_targets_by_rule", Rule="Flights-dev")["Targets"]) == 1


def test_problems_are_told_before_any_call(cycle):
    wrong = {
        "expression": "cron(0 0 30 2 ? *)",
        "timezone": "Europe/Berlin",
        "parameters": {"Dya": "$.time", "Input": "<aws.scheduler.time>", "Empty": "", "Long": "x" * 1025},
        "dead_letter_queue": "dead",
    }
    with pytest.raises(CloudError) as error:
        cycle.plan(schedule=wrong)
    assert cycle.aws.calls == []
    assert str(error.value.message).splitlines()[1:] == [
        "  expression: 'cron(0 0 30 2 ? *)' never starts anything: no day from now on fits its fields.",
        "  parameters.Dya: the pipeline has no such parameter. Did you mean 'Day'?",
        '  parameters.Dya: a path into an event ($.time) has a value in rules only: kind = "rule".',
        "  parameters.Input: there is no <aws.scheduler.time>. Context attributes: <aws.scheduler.schedule-arn>, "
        "<aws.scheduler.scheduled-time>, <aws.scheduler.execution-id>, <aws.scheduler.attempt-number>.",
        "  parameters.Empty: the pipeline has no such parameter.",
        "  parameters.Empty: a value has 1 to 1024 characters.",
        "  parameters.Long: the pipeline has no such parameter.",
        "  parameters.Long: a value has 1 to 1024 characters.",
        "  parameters: the pipeline's Day has no default, and an execution without it fails. "
        'Give it a value, such as Day = "<aws.scheduler.scheduled-time>".',
        "  dead_letter_queue: 'dead' is not the ARN of a standard SQS queue.",
    ]


def test_what_only_schedules_have_is_refused_in_a_rule(cycle):
    wrong = {
        "kind": "rule",
        "expression": "at(2030-01-01T00:00:00)",
        "timezone": "Europe/Berlin",
        "end_date": "2031-01-01T00:00:00",
        "parameters": {"Day": "<aws.scheduler.scheduled-time>"},
    }
    with pytest.raises(CloudError) as error:
        cycle.plan(schedule=wrong)
    told = [line.strip().partition(":")[0] for line in str(error.value.message).splitlines()[1:]]
    assert told == ["timezone", "end_date", "expression", "parameters.Day"]


def test_values_of_a_pattern_stand_in_lists(cycle):
    with pytest.raises(CloudError, match=r"event_pattern\.detail\.state: values stand in a list. Write \[\"x\"\]"):
        cycle.plan(schedule={**RULE, "event_pattern": {"source": ["a"], "detail": {"state": "x"}}})
