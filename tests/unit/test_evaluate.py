"""The evaluator of identity policies, against a simple model, the examples of IAM's guide and the emulator's own."""

import json
import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from moto.iam.access_control import IAMPolicy, PermissionResult

from local_runner.cloud.iam.evaluate import PolicyError, allowed


def policy(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action="s3:*", resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def holds(condition, **context):
    """Whether a statement with that condition applies to a request with that context (``__`` is a colon)."""
    keys = {key.replace("__", ":"): value for key, value in context.items()}
    return allowed([policy(allow(Condition=condition))], "s3:GetObject", "arn:aws:s3:::b/k", keys).allowed


# ---------------------------------------------------------------------------------------------------- statements
ACTIONS = ["s3:GetObject", "s3:PutObject", "ec2:RunInstances"]
RESOURCES = ["arn:aws:s3:::a/x", "arn:aws:s3:::a/xy", "arn:aws:s3:::b"]
patterns = st.sampled_from(["*", "s3:*", "S3:get*", "s3:?etObject", "ec2:RunInstances", "s3:Put*t"])
places = st.sampled_from(["*", "arn:aws:s3:::a/*", "arn:aws:s3:::?", "arn:aws:s3:::a/x", "*y", "arn:*:a/x*"])
lists_of = lambda items: st.one_of(items, st.lists(items, min_size=1, max_size=3))  # noqa: E731


@st.composite
def statements(draw, names=(("Action", "NotAction"), ("Resource", "NotResource"))):
    one = {"Effect": draw(st.sampled_from(["Allow", "Deny"]))}
    one[draw(st.sampled_from(names[0]))] = draw(lists_of(patterns))
    one[draw(st.sampled_from(names[1]))] = draw(lists_of(places))
    return one


def modelled(statement, action, resource):
    """Whether a statement applies, said as simply as possible."""

    def named(element, value):
        given = statement[element]
        return any(fnmatchcase(value, one) for one in ([given] if isinstance(given, str) else given))

    lower = {key: json.loads(json.dumps(value).lower()) for key, value in statement.items()}
    found = {**statement, **{key: lower[key] for key in ("Action", "NotAction") if key in lower}}
    statement = found
    by_action = named("Action", action.lower()) if "Action" in found else not named("NotAction", action.lower())
    by_resource = named("Resource", resource) if "Resource" in found else not named("NotResource", resource)
    return by_action and by_resource


@given(st.lists(st.lists(statements(), max_size=3), max_size=3), st.sampled_from(ACTIONS), st.sampled_from(RESOURCES))
def test_a_deny_wins_an_allow_is_needed(documents, action, resource):
    applying = {one["Effect"] for document in documents for one in document if modelled(one, action, resource)}
    found = allowed([policy(*document) for document in documents], action, resource)
    assert found.allowed == (applying == {"Allow"})
    assert (found.statement is None) == (not applying)


@given(statements(names=(("Action", "NotAction"), ("Resource",))), st.sampled_from(ACTIONS), st.sampled_from(RESOURCES))
def test_it_says_what_the_emulator_says(statement, action, resource):
    text = json.dumps(statement)
    assume("?" not in text and "S3" not in text)  # which the emulator reads otherwise than IAM does
    theirs = IAMPolicy(json.dumps(policy(statement))).is_action_permitted(action, resource)
    assert allowed([policy(statement)], action, resource).allowed == (theirs is PermissionResult.PERMITTED)


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_wildcards(pattern, text):
    assert allowed([policy(allow(resource=pattern))], "s3:X", text).allowed == fnmatchcase(text, pattern)


def test_no_pattern_takes_long():
    began = time.process_time()
    assert not allowed([policy(allow(resource="a*" * 60 + "b"))], "s3:X", "a" * 1000).allowed
    assert time.process_time() - began < 1


def test_what_a_wildcard_of_regular_expressions_would_be_is_a_character():
    assert not allowed([policy(allow(resource="arn:aws:s3:::a.b/[x]*"))], "s3:X", "arn:aws:s3:::aXb/x").allowed
    assert allowed([policy(allow(resource="arn:aws:s3:::a.b/[x]*"))], "s3:X", "arn:aws:s3:::a.b/[x]\ny").allowed


def test_who_decided_is_told():
    given = [policy(allow(Sid="All")), policy({"Sid": "NotThere", **allow("s3:Put*", "*/secret/*"), "Effect": "Deny"})]
    assert allowed(given, "s3:GetObject", "arn:aws:s3:::b/secret/x").statement == "All"
    found = allowed(given, "S3:putobject", "arn:aws:s3:::b/secret/x")
    assert (found.allowed, found.statement) == (False, "NotThere")
    assert found.reason == "NotThere denies S3:putobject on arn:aws:s3:::b/secret/x"
    assert allowed(given, "ec2:Stop", "*").reason == "no statement allows ec2:Stop on *"
    assert allowed([policy(allow())], "s3:X", "*").statement == "statement 1 of policy 1"


# ---------------------------------------------------------------------------------------------------- conditions
TAGS = ("PostDateTime", "Message", "Tags")


@pytest.mark.parametrize(
    ("condition", "found", "wanted"),
    [
        # "Creating a condition that tests multiple key values"
        ({"ForAllValues:StringLike": {"d:a": TAGS}}, ("PostDateTime", "Message"), True),
        ({"ForAllValues:StringLike": {"d:a": TAGS}}, ("PostDateTime", "UserName"), False),
        ({"ForAnyValue:StringLike": {"d:a": TAGS}}, ("PostDateTime", "UserName"), True),
        ({"ForAnyValue:StringLike": {"d:a": TAGS}}, ("UserName",), False),
        ({"ForAllValues:StringLike": {"d:a": TAGS}}, None, True),
        ({"ForAnyValue:StringLike": {"d:a": TAGS}}, None, False),
        ({"ForAnyValue:StringNotEquals": {"d:a": TAGS}}, ("Tags", "UserName"), True),
        ({"ForAllValues:StringNotEquals": {"d:a": TAGS}}, ("Tags", "UserName"), False),
        # "Condition operators"
        ({"StringEquals": {"d:a": ["x", "y"]}}, "y", True),
        ({"StringEquals": {"d:a": "Y"}}, "y", False),
        ({"StringEquals": {"d:a": "*"}}, "y", False),
        ({"StringEquals": {"d:a": "x"}}, None, False),
        ({"StringEqualsIfExists": {"d:a": "x"}}, None, True),
        ({"StringEqualsIfExists": {"d:a": "x"}}, "y", False),
        ({"StringNotEquals": {"d:a": ["x", "y"]}}, "y", False),
        ({"StringNotEquals": {"d:a": ["x", "y"]}}, "z", True),
        ({"StringNotEquals": {"d:a": "x"}}, None, True),
        ({"StringNotLike": {"d:a": "x*"}}, None, True),
        ({"StringNotLikeIfExists": {"d:a": "x*"}}, "xy", False),
        ({"StringEqualsIgnoreCase": {"D:A": "Y"}}, "y", True),
        ({"StringNotEqualsIgnoreCase": {"d:a": "Y"}}, "y", False),
        ({"StringLike": {"d:a": ["", "home/", "home/${aws:username}/"]}}, "home/me/", False),
        ({"StringLike": {"d:a": "arn:aws:s:*:1:f/*"}}, "arn:aws:s:r:9:store/a:1:f/d.txt", True),
        ({"ArnLike": {"d:a": "arn:aws:s:*:1:f/*"}}, "arn:aws:s:r:9:store/a:1:f/d.txt", False),
        ({"ArnEquals": {"d:a": "arn:aws:sns:r:1:t*"}}, "arn:aws:sns:r:1:topic:x", True),
        ({"ArnNotEquals": {"d:a": "arn:aws:sns:r:1:t"}}, "arn:aws:sns:r:1:t", False),
        ({"ArnNotLike": {"d:a": "arn:aws:sns:r:1:t"}}, None, True),
        ({"Bool": {"d:a": False}}, "false", True),
        ({"Bool": {"d:a": "true"}}, "false", False),
        ({"Null": {"d:a": "true"}}, None, True),
        ({"Null": {"d:a": "true"}}, "x", False),
        ({"Null": {"d:a": False}}, "x", True),
        ({"NumericLessThanEquals": {"d:a": "10"}}, "10", True),
        ({"NumericLessThan": {"d:a": 10}}, "10.0", False),
        ({"NumericGreaterThan": {"d:a": "10"}}, "9", False),
        ({"NumericGreaterThanEquals": {"d:a": ["12", "10"]}}, "11", True),
        ({"NumericEquals": {"d:a": "1"}}, "1.0", True),
        ({"NumericNotEquals": {"d:a": "1"}}, "2", True),
        ({"NumericEquals": {"d:a": "1"}}, "many", False),
        # several operators and several keys: each has to be true
        ({"StringEquals": {"d:a": "x"}, "Null": {"d:b": "true"}}, "x", True),
        ({"StringEquals": {"d:a": "x", "d:b": "y"}}, "x", False),
    ],
)
def test_conditions(condition, found, wanted):
    assert holds(condition, **({} if found is None else {"d__a": found})) == wanted


@given(st.lists(st.text("ab", max_size=2), max_size=3), st.lists(st.text("ab", max_size=2), min_size=1, max_size=3))
def test_a_negated_operator_is_the_opposite_where_there_is_one_value(found, wanted):
    for value in (*found, None):
        context = {} if value is None else {"d__a": value}
        assert holds({"StringEquals": {"d:a": wanted}}, **context) != holds(
            {"StringNotEquals": {"d:a": wanted}}, **context
        )
    assert holds({"ForAllValues:StringEquals": {"d:a": wanted}}, d__a=found) == (set(found) <= set(wanted))
    assert holds({"ForAnyValue:StringEquals": {"d:a": wanted}}, d__a=found) == bool(set(found) & set(wanted))


def test_a_variable_is_no_wildcard_and_has_no_value():
    found = policy(allow(resource="arn:aws:s3:::b/${aws:username}/*"))
    assert not allowed([found], "s3:GetObject", "arn:aws:s3:::b/${aws:username}/x").allowed


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (allow(Condition={"DateGreaterThan": {"a": "b"}}), "operator 'DateGreaterThan' cannot be evaluated here"),
        (allow(Condition={"ForSome:StringLike": {"a": "b"}}), "operator 'ForSome:StringLike'"),
        (allow(Condition={"NullIfExists": {"a": "b"}}), "operator 'NullIfExists'"),
        (allow(NotAction="a:b"), "one of Action and NotAction"),
        (
            {"Sid": "X", "Effect": "Allow", "Action": "a:b"},
            "The statement X has to have one of Resource and NotResource",
        ),
        (allow(Principal="*"), "has Principal, which no identity policy has"),
        (allow(Effect="allow"), "neither Allow nor Deny"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error_also_where_it_would_not_apply(statement, said):
    with pytest.raises(PolicyError, match=said):
        allowed([policy(statement)], "other:Action", "other")
