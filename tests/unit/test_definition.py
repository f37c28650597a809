"""JSON to PipelineDefinition: what is read, every fault that is found, and nothing but InvalidPipelineError."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.definitions import compare, condition, daily, fail, get, join, pipeline, processing, s3_output, text

from local_runner.definition.parser import inspect_definition, parse_definition
from local_runner.definition.paths import Path
from local_runner.definition.syntax import Comparison, JsonGet
from local_runner.errors import InvalidPipelineError
from local_runner.models import Branch, Dependency, PipelineDefinition, RetryPolicy


def parse(definition: Any) -> PipelineDefinition:
    return parse_definition(text(definition), "daily", "pipeline.json")


def problems_of(definition: Any) -> list[tuple[str, str]]:
    return [(problem.where, str(problem)) for problem in inspect_definition(text(definition), "daily")[1]]


def test_a_whole_pipeline_is_read_flat_and_in_document_order() -> None:
    definition = parse(daily())
    assert [step.name for step in definition.steps] == ["Validate", "Gate", "Transform", "TooBad", "Profile"]
    assert definition.step("Transform").branch == Branch("Gate", taken_if=True)
    assert definition.step("TooBad").branch == Branch("Gate", taken_if=False)
    assert definition.step("TooBad").path == "Steps[1].Arguments.ElseSteps[0]"
    assert definition.step("Transform").references == ("Validate",)
    assert definition.step("Profile").depends_on == (Dependency("Validate"),)
    (gate,) = definition.step("Gate").arguments["Conditions"]
    assert isinstance(gate, Comparison)
    assert isinstance(gate.left, JsonGet)
    assert isinstance(gate.left.path, Path)
    assert gate.left.path.segments == ("bad", "ratio")
    assert [parameter.default for parameter in definition.parameters] == ["s3://b/raw", 1, 0.1, "fast"]


def test_what_describe_pipeline_prints_is_read_with_its_name() -> None:
    described = {"PipelineName": "in-the-cloud", "PipelineDefinition": text(daily()), "PipelineStatus": "Active"}
    assert parse(described).name == "in-the-cloud"
    assert parse(daily()).name == "daily"


def test_dependencies_have_triggers() -> None:
    entries = ["A", {"Step": "B", "Trigger": "Failed"}, {"Step": "C"}]
    steps = [processing(name) for name in "ABC"]
    definition = parse(pipeline(*steps, processing("D", DependsOn=entries)))
    assert definition.step("D").depends_on == (Dependency("A"), Dependency("B", "Failed"), Dependency("C"))


@pytest.mark.parametrize("enabled", [{"Enabled": True}, {}])
@given(
    expiry=st.from_regex(
        r"[Pp]?([0-9]{1,4}[Yy])?([0-9]{1,4}[Mm])?([0-9]{1,4}[Ww])?([0-9]{1,4}[Dd])?([Tt][0-9]{1,4}[HhMm])?",
        fullmatch=True,
    )
)
def test_durations_are_read_with_and_without_a_p_and_in_any_case(enabled: dict[str, Any], expiry: str) -> None:
    config = {**enabled, "ExpireAfter": expiry}
    found = problems_of(pipeline(processing("A", CacheConfig=config)))
    assert bool(found) is (expiry.upper() in ("", "P"))


@pytest.mark.parametrize("expiry", ["", "P", "T", "30", "d", "30d5h", "1 day", "T5d", "-1d", "1.5d", 30, "30dT"])
def test_what_is_no_duration_is_refused(expiry: Any) -> None:
    ((where, _),) = problems_of(pipeline(processing("A", CacheConfig={"Enabled": True, "ExpireAfter": expiry})))
    assert where == "Steps[0].CacheConfig.ExpireAfter"


def test_a_parameter_without_type_is_a_string_with_a_note() -> None:
    definition = parse({**pipeline(processing("A")), "Parameters": [{"Name": "P", "DefaultValue": "x"}]})
    assert [(it.type, it.default) for it in definition.parameters] == [("String", "x")]
    assert definition.notes == ("Parameter 'P' has no Type, and is a String.",)
    wrong = {**pipeline(processing("A")), "Parameters": [{"Name": "P", "DefaultValue": 1}]}
    assert problems_of(wrong)[0][0] == "Parameters[0].DefaultValue"


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("", "line 1, column 1"),
        ('{"Version": 1,\n  "Steps": [}', "line 2, column 13"),
        ("[" * 100_000, "nested too deeply"),
        ('{"Version": NaN}', "NaN is no JSON number"),
        ('{"Version": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"Version": "\\ud800"}', "surrogate"),
        ("[]", "a JSON object, and this is a list"),
        ('{"PipelineDefinition": "{"}', "PipelineDefinition: the definition is not valid JSON"),
        ("{}", "no steps"),
    ],
)
def test_what_is_no_definition_at_all_says_where_it_breaks(broken: str, says: str) -> None:
    with pytest.raises(InvalidPipelineError, match=says) as raised:
        parse_definition(broken, "daily", "pipeline.json")
    assert "pipeline.json has" in raised.value.message


def parameter(**change: Any) -> Callable[[Any], Any]:
    return lambda d: d["Parameters"][1].update(change)


def step(**change: Any) -> Callable[[Any], Any]:
    return lambda d: d["Steps"][0].update(change)


def gate(*conditions: Any) -> Callable[[Any], Any]:
    return lambda d: d["Steps"][1]["Arguments"].update(Conditions=list(conditions))


def environment(value: Any) -> Callable[[Any], Any]:
    return lambda d: d["Steps"][0]["Arguments"].update(Environment={"X": value})


def retry(**policy: Any) -> Callable[[Any], Any]:
    return step(RetryPolicies=[{"ExceptionType": ["Step.THROTTLING"], **policy}])


def without(key: str) -> Callable[[Any], Any]:
    return lambda d: d["Steps"][0].pop(key)


ENVIRONMENT = "Steps[0].Arguments.Environment.X"
CONDITION = "Steps[1].Arguments.Conditions[0]"
FILES = "Steps[0].PropertyFiles"
RETRY = "Steps[0].RetryPolicies[0]"
FAULTS: list[tuple[Callable[[Any], Any], str, str]] = [
    (lambda d: d.update(Version="2019"), "Version", "2020-12-01"),
    (lambda d: d.update(Stepz=[]), "Stepz", "Did you mean 'Steps'"),
    (lambda d: d.update(Parameters={}), "Parameters", "a list is wanted"),
    (parameter(Type="Int"), "Parameters[1].Type", "Integer"),
    (parameter(Name="Input Data"), "Parameters[1].Name", "cannot be a name"),
    (parameter(Name="InputData"), "Parameters[1].Name", "two parameters"),
    (parameter(Name=None), "Parameters[1].Name", "missing"),
    (parameter(DefaultValue="3"), "Parameters[1].DefaultValue", "of type Integer, and this is the text '3'"),
    (parameter(DefaultValue=True), "Parameters[1].DefaultValue", "of type Integer"),
    (parameter(Default=1), "Parameters[1].Default", "Did you mean 'DefaultValue'"),
    (parameter(EnumValues=[]), "Parameters[1].EnumValues", "at least one"),
    (parameter(EnumValues=[2, "x"]), "Parameters[1].EnumValues[1]", "of type Integer"),
    (parameter(EnumValues=[2]), "Parameters[1].DefaultValue", "not in EnumValues"),
    (without("Name"), "Steps[0].Name", "Name is missing"),
    (without("Type"), "Steps[0].Type", "Type is missing"),
    (without("Arguments"), "Steps[0].Arguments", "missing"),
    (step(Name="x" * 65), "Steps[0].Name", "1 to 64"),
    (step(Name="Gate"), "Steps[1].Name", "two steps 'Gate'"),
    (step(Type="Procesing"), "Steps[0].Type", "Did you mean 'Processing'"),
    (step(DependOn=[]), "Steps[0].DependOn", "Did you mean 'DependsOn'"),
    (step(DependsOn="Gate"), "Steps[0].DependsOn", "a list of step names"),
    (step(DependsOn=["Profil"]), "Steps[0].DependsOn[0]", "Did you mean 'Profile'"),
    (step(DependsOn=[3]), "Steps[0].DependsOn[0]", "the number 3"),
    (step(DependsOn=[{"Step": "Gate", "Trigger": "No"}]), "Steps[0].DependsOn[0].Trigger", "Completed, Failed"),
    (step(CacheConfig={"Enabled": "yes"}), "Steps[0].CacheConfig", "Enabled"),
    (step(CacheConfig={"Enabled": True, "ExpireAfter": "1 day"}), "Steps[0].CacheConfig.ExpireAfter", "ISO 8601"),
    (step(RetryPolicies=[{}]), f"{RETRY}.ExceptionType", "a list of exception types is wanted, and this is missing"),
    (step(RetryPolicies={}), "Steps[0].RetryPolicies", "a list is wanted"),
    (retry(ExceptionType=[]), f"{RETRY}.ExceptionType", "this is empty"),
    (retry(ExceptionType="Step.THROTTLING"), f"{RETRY}.ExceptionType", "this is the text 'Step.THROTTLING'"),
    (retry(ExceptionType=["Step.THROTLING"]), f"{RETRY}.ExceptionType[0]", "Did you mean 'Step.THROTTLING'?"),
    (retry(ExceptionType=[7]), f"{RETRY}.ExceptionType[0]", "There are Step.SERVICE_FAULT, "),
    (retry(IntervalSeconds=43_201), f"{RETRY}.IntervalSeconds", "a whole number from 0 to 43200"),
    (retry(IntervalSeconds=0.5), f"{RETRY}.IntervalSeconds", "a whole number is wanted, and this is the number 0.5"),
    (retry(BackoffRate=-1), f"{RETRY}.BackoffRate", "a number of at least 0"),
    (retry(BackoffRate="2"), f"{RETRY}.BackoffRate", "a number is wanted"),
    (retry(MaxAttempts=21), f"{RETRY}.MaxAttempts", "a whole number from 0 to 20"),
    (retry(MaxAttempts=True), f"{RETRY}.MaxAttempts", "the boolean true"),
    (retry(ExpireAfterMin=14_401), f"{RETRY}.ExpireAfterMin", "from 0 to 14400"),
    (retry(MaxAttempts=2, ExpireAfterMin=2), RETRY, "Give one of the two."),
    (retry(Interval=2), f"{RETRY}.Interval", "Did you mean 'IntervalSeconds'?"),
    (step(DisplayName=3), "Steps[0].DisplayName", "a text is wanted"),
    (step(PropertyFiles=[{"PropertyFileName": "Quality"}]), f"{FILES}[0].OutputName", "missing"),
    (lambda d: d["Steps"][0]["PropertyFiles"][0].update(OutputName="qualty"), f"{FILES}[0].OutputName", "'quality'"),
    (lambda d: d["Steps"][0]["PropertyFiles"][0].update(FilePath="../x"), f"{FILES}[0].FilePath", "inside"),
    (lambda d: d["Steps"][0]["PropertyFiles"].append(d["Steps"][0]["PropertyFiles"][0]), f"{FILES}[1].Proper", "two"),
    (environment(get("Parameters.Cout")), ENVIRONMENT, "Did you mean 'Count'"),
    (environment(get("Steps.Nope.ExitMessage")), ENVIRONMENT, "no step 'Nope'"),
    (environment(get("Steps.TooBad.ExitMessage")), ENVIRONMENT, "Fail step"),
    (environment(get("Steps.Gate")), ENVIRONMENT, "nothing that Get can read"),
    (environment(get("Steps.Validate.PropertyFiles.Quality")), ENVIRONMENT, "Std:JsonGet"),
    (environment(get("Steps.Gate.Outputs[*]")), ENVIRONMENT, "names and indexes"),
    (environment(get("Execution.PipelineId")), ENVIRONMENT, "no execution variable"),
    (environment(get("Execution.TrainingJobName")), ENVIRONMENT, "Training steps only"),
    (environment(get("Nonsense")), ENVIRONMENT, "nothing that Get can read"),
    (environment(get(7)), ENVIRONMENT, "the number 7"),  # type: ignore[arg-type]
    (environment({"Std:Jion": {}}), ENVIRONMENT, "no function"),
    (environment({"Std:Join": []}), ENVIRONMENT, "an object is wanted"),
    (environment({"Std:Join": {"On": 1, "Values": []}}), ENVIRONMENT, "On, a text"),
    (environment({"Std:Join": {"On": "", "Values": [{"a": 1}]}}), ENVIRONMENT, "an object"),
    (environment({"Std:Join": {"On": "", "Values": []}, "x": 1}), ENVIRONMENT, "beside other keys"),
    (environment({"Std:JsonGet": {"Path": "a"}}), ENVIRONMENT, "one of the two"),
    (environment({"Std:JsonGet": {"S3Uri": "s3://b/k", "Path": "a["}}), ENVIRONMENT, "names and indexes"),
    (environment({"Std:JsonGet": {"PropertyFile": "x", "Path": "a"}}), ENVIRONMENT, "PropertyFiles.NAME"),
    (gate(), "Steps[1].Arguments.Conditions", "at least one"),
    (gate({"Type": "Equal"}), f"{CONDITION}.Type", "GreaterThanOrEqualTo"),
    (gate({"Type": "Equals", "LeftValue": 1}), CONDITION, "no RightValue"),
    (gate({"Type": "Not"}), CONDITION, "no Condition"),
    (gate({"Type": "Or", "Conditions": [{}]}), f"{CONDITION}.Conditions[0].Type", "no Type"),
    (gate({"Type": "In", "QueryValue": 1, "Values": 2}), f"{CONDITION}.Values", "a list"),
    (gate(compare("Equals", [], 1)), f"{CONDITION}.LeftValue", "a list"),
    (gate({"Type": "Not", "Condition": compare("Equals", get("Parameters.X"), 1)}), f"{CONDITION}.Condition", "'X'"),
    (lambda d: d["Steps"][1]["Arguments"].update(IfStep=[]), "Steps[1].Arguments.IfStep", "'IfSteps'"),
    (lambda d: d["Steps"].append("x"), "Steps[3]", "the text 'x'"),
    (lambda d: d["Steps"].append(fail("F", 3)), "Steps[3].Arguments.ErrorMessage", "a text"),
]


@pytest.mark.parametrize(
    ("given_policy", "policy"),
    [
        ({}, RetryPolicy(("Step.THROTTLING",), 1, 2.0, 5)),
        ({"IntervalSeconds": 60, "BackoffRate": 1, "MaxAttempts": 0}, RetryPolicy(("Step.THROTTLING",), 60, 1.0, 0)),
        ({"ExpireAfterMin": 30}, RetryPolicy(("Step.THROTTLING",), 1, 2.0, None, 30)),
        ({"MaxAttempts": None, "ExpireAfterMin": None}, RetryPolicy(("Step.THROTTLING",))),
    ],
)
def test_retry_policies_are_read_with_their_defaults(given_policy: Any, policy: RetryPolicy) -> None:
    definition = copy.deepcopy(daily())
    retry(**given_policy)(definition)
    assert parse(definition).step("Validate").retry_policies == (policy,)


def test_the_parallelism_of_what_describe_pipeline_prints_is_read() -> None:
    described = {"PipelineName": "p", "PipelineDefinition": text(daily())}
    configured = {**described, "ParallelismConfiguration": {"MaxParallelExecutionSteps": 3}}
    assert parse_definition(text(configured), "name", "target").max_parallel_steps == 3
    assert parse_definition(text(described), "name", "target").max_parallel_steps is None
    for wrong, says in ((3, "an object is wanted"), ({"MaxParallelExecutionSteps": 0}, "of at least 1")):
        with pytest.raises(InvalidPipelineError, match=says):
            parse_definition(text({**described, "ParallelismConfiguration": wrong}), "name", "target")


@pytest.mark.parametrize(("spoil", "where", "says"), FAULTS)
def test_each_fault_is_found_where_it_stands(spoil: Callable[[Any], Any], where: str, says: str) -> None:
    definition = copy.deepcopy(daily())
    spoil(definition)
    found = problems_of(definition)
    assert any(place.startswith(where) and says in message for place, message in found), found


def test_an_unknown_property_file_is_found() -> None:
    definition = text(daily()).replace("PropertyFiles.Quality", "PropertyFiles.Qualty")
    found = problems_of(json.loads(definition))
    assert len(found) == 2
    assert all("Did you mean 'Quality'" in message for _, message in found)


def test_an_output_name_that_is_an_expression_may_be_any() -> None:
    definition = daily()
    outputs = [s3_output("x", "s3://b/x", LocalPath="/opt/ml/processing/x")]
    outputs[0]["OutputName"] = get("Parameters.Mode")
    definition["Steps"][0]["Arguments"]["ProcessingOutputConfig"]["Outputs"] = outputs
    assert problems_of(definition) == []


def test_a_key_named_get_beside_others_is_an_ordinary_key() -> None:
    definition = daily()
    definition["Steps"][0]["Arguments"]["Environment"] = {"Get": "a", "Put": "b"}
    assert parse(definition).step("Validate").arguments["Environment"] == {"Get": "a", "Put": "b"}


def test_conditions_nest() -> None:
    inner = condition("Inner", [compare("Equals", 1, 1)], [processing("Deep")], [])
    outer = condition("Outer", [{"Type": "Or", "Conditions": [compare("Equals", 1, join("1"))]}], [inner], [])
    definition = parse(pipeline(outer))
    assert [step.name for step in definition.steps] == ["Outer", "Inner", "Deep"]
    assert definition.step("Deep").branch == Branch("Inner", taken_if=True)
    assert definition.step("Deep").path == "Steps[0].Arguments.IfSteps[0].Arguments.IfSteps[0]"


# --------------------------------------------------------------------------------------------------- any JSON at all
def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


PLACES = [place for place in places(daily()) if place]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["Parameters.Count", "Steps.Gate.Outcome", "Processing", "Condition", "Get", "s3://b/k"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["Get", "Std:Join", "Std:JsonGet", "Name", "Type", "On", "Values", "x"]), inner),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PLACES), ANY_JSON | st.just(...)), min_size=1, max_size=4))
def test_no_mutation_of_a_definition_does_more_than_be_refused(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    definition = daily()
    for place, value in changes:
        change(definition, place, value)
    _, problems = inspect_definition(text(definition), "daily")
    assert all(problem.what for problem in problems)
    if problems:
        with pytest.raises(InvalidPipelineError):
            parse(definition)
    else:
        parse(definition)


def change(value: Any, place: tuple[Any, ...], new: Any) -> None:
    """Put ``new`` at the place, or take out what is there (``...``); nothing where an earlier change removed it."""
    try:
        for key in place[:-1]:
            value = value[key]
    except (KeyError, IndexError, TypeError):
        return
    last = place[-1]
    if isinstance(value, dict):
        value.pop(last, None)
        if new is not ...:
            value[last] = new
    elif isinstance(value, list) and isinstance(last, int) and last < len(value):
        value[last : last + 1] = [] if new is ... else [new]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | ANY_JSON.map(json.dumps))
def test_no_text_does_more_than_be_refused(anything: str) -> None:
    with pytest.raises(InvalidPipelineError):
        parse_definition(anything, "daily", "pipeline.json")
