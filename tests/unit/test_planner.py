"""Definition and values to Plan: order, selection, parameters, what is read, and every problem in one go."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.definitions import (
    compare,
    condition,
    daily,
    fail,
    get,
    join,
    json_get,
    pipeline,
    processing,
    s3_input,
    s3_output,
    services,
    text,
)

from local_runner.definition.expressions import resolve
from local_runner.definition.parser import inspect_definition
from local_runner.errors import InvalidPipelineError
from local_runner.models import Branch, Dependency, Plan, ProcessingJob
from local_runner.planning.order import reach
from local_runner.planning.planner import PlanRequest, plan
from local_runner.planning.scope import starting_scope
from local_runner.planning.selection import Selection, select

CACHE: dict[str, Path] = {}


@pytest.fixture(scope="module", autouse=True)
def _cache_dir(tmp_path_factory: pytest.TempPathFactory) -> None:
    CACHE["dir"] = tmp_path_factory.mktemp("cache")


@dataclass(frozen=True)
class Data:
    """What is on this machine, told by a function, and what is mapped in for a plan."""

    provided: Callable[[str], bool]
    mapped: frozenset[str] = frozenset()

    def provides(self, uri: str) -> bool:
        return self.provided(uri) or uri in self.mapped

    def with_sources(self, sources: Mapping[str, Path]) -> Data:
        return replace(self, mapped=self.mapped | sources.keys())


def planned(
    definition: Any,
    parameters: dict[str, str] | None = None,
    defaults: dict[str, Any] | None = None,
    steps: tuple[str, ...] = (),
    provided: Callable[[str], bool] = lambda uri: uri == "s3://b/raw",
    outputs: dict[str, Path] | None = None,
    region: str = "us-east-1",
) -> Plan:
    read, problems = inspect_definition(text(definition), "Daily")
    return plan(
        PlanRequest(
            read,
            target="pipeline.json",
            data=Data(provided),
            execution_id="abcdefghijkl",
            started="2026-01-01T00:00:00Z",
            region=region,
            cache_dir=CACHE["dir"],
            parameters=parameters or {},
            defaults=defaults or {},
            steps=steps,
            outputs=outputs or {},
            problems=problems,
        )
    )


def problems_of(definition: Any, **how: Any) -> list[str]:
    with pytest.raises(InvalidPipelineError) as raised:
        planned(definition, **how)
    return [str(problem) for problem in raised.value.problems]


def order(made: Plan) -> list[str]:
    return [step.step.name for step in made.steps]


def output_of(step: str, output: str = "out") -> Any:
    return get(f"Steps.{step}.ProcessingOutputConfig.Outputs['{output}'].S3Output.S3Uri")


def chain(*names: str) -> list[Any]:
    """Steps that each read what the one before writes."""
    steps: list[Any] = []
    for before, name in zip([None, *names], names, strict=False):
        source = output_of(before) if before else "s3://b/raw"
        steps.append(processing(name, inputs=[s3_input("in", source)], outputs=[s3_output("out", f"s3://b/{name}")]))
    return steps


def test_a_whole_pipeline_is_planned() -> None:
    made = planned(daily(), {"Count": "2"})
    assert order(made) == ["Validate", "Gate", "Transform", "TooBad", "Profile"]
    assert made.parameters == {"InputData": "s3://b/raw", "Count": 2, "MaxBadRatio": 0.1, "Mode": "fast"}
    validate, gate, transform, too_bad, profile = made.steps
    assert gate.waits_for == (Dependency("Validate"),)
    assert set(transform.waits_for) == set(too_bad.waits_for) == {Dependency("Validate"), Dependency("Gate")}
    assert profile.waits_for == (Dependency("Validate"),)
    assert isinstance(validate.job, ProcessingJob)
    assert validate.job.outputs[0].s3_uri == "s3://b/out/abcdefghijkl/quality"
    assert transform.job is not None
    assert transform.job.instance_count == 2
    assert transform.job.inputs[0].s3_uri == "s3://b/out/abcdefghijkl/quality"
    assert (gate.job, too_bad.job) == (None, None)


def test_a_job_that_needs_what_only_the_execution_knows_is_left_open() -> None:
    first, second = chain("A", "B")
    second["Arguments"]["Environment"] = {"SAID": get("Steps.A.ExitMessage")}
    made = planned(pipeline(first, second))
    assert made.steps[0].job is not None
    assert made.steps[1].job is None


# ----------------------------------------------------------------------------------------------------- parameters
@pytest.mark.parametrize(
    ("type_", "given_text", "value"),
    [
        ("Integer", "3", 3),
        ("Integer", "-3", -3),
        ("Float", "3", 3.0),
        ("Float", "1e-3", 0.001),
        ("Boolean", "True", True),
        ("Boolean", "false", False),
        ("String", "3", "3"),
    ],
)
def test_values_take_their_parameters_type(type_: str, given_text: str, value: Any) -> None:
    definition = pipeline(fail("F"), parameters=[{"Name": "P", "Type": type_}])
    taken = planned(definition, {"P": given_text}).parameters["P"]
    assert (taken, type(taken)) == (value, type(value))


@pytest.mark.parametrize(
    ("type_", "given_text"),
    [
        ("Integer", "3.0"),
        ("Integer", "three"),
        ("Integer", ""),
        ("Float", "nan"),
        ("Float", "1e999"),
        ("Boolean", "yes"),
    ],
)
def test_values_of_another_type_are_refused(type_: str, given_text: str) -> None:
    definition = pipeline(fail("F"), parameters=[{"Name": "P", "Type": type_}])
    (problem,) = problems_of(definition, parameters={"P": given_text})
    assert problem.startswith("-p P: ")
    assert f"of type {type_}" in problem
    assert repr(given_text) in problem


def test_what_is_given_goes_before_the_project_and_that_before_the_definition() -> None:
    defaults = {"Count": 5, "Mode": "full", "OfAnotherPipeline": 1}
    made = planned(daily(), {"Mode": "fast"}, defaults)
    assert (made.parameters["Count"], made.parameters["Mode"], made.parameters["MaxBadRatio"]) == (5, "fast", 0.1)


def test_problems_of_values_say_what_to_do() -> None:
    definition = daily()
    del definition["Parameters"][0]["DefaultValue"]
    found = problems_of(definition, parameters={"Mode": "slow", "Cuont": "1"}, defaults={"Count": 1.5})
    assert found == [
        "-p Cuont: the pipeline has no parameter 'Cuont'. Did you mean 'Count'?",
        "Parameters[0]: parameter 'InputData' has no value and no default. Give -p InputData=VALUE, or set it under"
        " [local.parameters] in local_runner.toml.",
        "[local.parameters] Count: the parameter is of type Integer, and '1.5' is not a whole number.",
        "-p Mode: 'slow' is not in the parameter's EnumValues. Choose one of fast, full.",
    ]


# ---------------------------------------------------------------------------------------------------------- reads
def test_an_input_must_come_from_somewhere() -> None:
    assert problems_of(pipeline(*chain("Transform")), provided=lambda uri: False) == [
        "Steps[0].Arguments.ProcessingInputs[0].S3Input.S3Uri: step 'Transform' reads s3://b/raw, which no earlier step"
        " writes and nothing on this machine provides. Map it: --map s3://b/raw=DIR, or [local.data] in"
        " local_runner.toml."
    ]


@pytest.mark.parametrize(
    ("written", "read", "found"),
    [
        ("s3://b/out", "s3://b/out", True),
        ("s3://b/out/", "s3://b/out", True),
        ("s3://b/out", "s3://b/out/", True),
        ("s3://b/out", "s3://b/out/train", True),
        ("s3://b/out/dt=2013-01-01", "s3://b/out/dt=2013", True),
        ("s3://b/out", "s3://b", True),
        ("s3://b/out", "s3://b/output", False),
        ("s3://b/out", "s3://c/out", False),
    ],
)
def test_an_earlier_step_provides_what_lies_under_its_output(written: str, read: str, found: bool) -> None:
    first = processing("A", inputs=[], outputs=[s3_output("out", written)])
    definition = pipeline(first, processing("B", inputs=[s3_input("in", read)], DependsOn=["A"]))
    if found:
        assert order(planned(definition)) == ["A", "B"]
    else:
        assert len(problems_of(definition)) == 1


def test_a_step_must_wait_for_what_it_reads() -> None:
    first = processing("A", inputs=[], outputs=[s3_output("out", "s3://b/out")])
    (problem,) = problems_of(pipeline(first, processing("B", inputs=[s3_input("in", "s3://b/out")])))
    assert "which step 'A' writes, but does not wait for it" in problem


def test_a_step_does_not_wait_for_the_other_branch() -> None:
    inside = processing("A", outputs={"out": "s3://b/x"}), processing("B", inputs={"in": "s3://b/x"})
    (problem,) = problems_of(pipeline(condition("Gate", [compare("Equals", 1, 1)], [inside[0]], [inside[1]])))
    assert "--map s3://b/x=DIR" in problem


# ------------------------------------------------------------------------------------------------------ selection
def test_a_selection_runs_alone_on_what_lies_there() -> None:
    made = planned(daily(), steps=("Transform", "Profile"), provided=lambda uri: True)
    assert order(made) == ["Transform", "Profile"]
    assert [step.waits_for for step in made.steps] == [(), ()]
    assert made.steps[0].step.branch is None
    assert made.pipeline.step("Transform").branch == Branch("Gate", taken_if=True)
    assert made.steps[0].job is not None
    assert made.steps[0].job.inputs[0].s3_uri == "s3://b/out/abcdefghijkl/quality"


def test_what_unselected_steps_write_must_be_there() -> None:
    (problem,) = problems_of(pipeline(*chain("A", "B")), steps=("B",))
    assert "step 'B' reads s3://b/A, which step 'A' writes, and that is not selected. Select 'A' too" in problem
    assert "--map s3://b/A=DIR" in problem


def test_what_only_this_execution_would_have_is_not_to_be_mapped() -> None:
    here = {"Std:Join": {"On": "/", "Values": ["s3://b", get("Execution.PipelineExecutionId")]}}
    steps = processing("A", outputs={"o": here}), processing("B", inputs={"i": output_of("A", "o")})
    (problem,) = problems_of(pipeline(*steps), steps=("B",))
    assert "which step 'A' writes, and that is not selected" in problem
    assert "--map" not in problem


def test_a_selected_condition_keeps_its_branches_and_reads_files_that_are_there() -> None:
    report = "s3://b/out/abcdefghijkl/quality/quality.json"
    made = planned(daily(), steps=("Gate", "TooBad"), provided=lambda uri: uri == report)
    assert made.steps[1].step.branch == Branch("Gate", taken_if=False)
    found = problems_of(daily(), steps=("Gate", "TooBad"))
    assert len(found) == 2
    assert all(f"reads {report}, which step 'Validate' writes, and that is not selected" in line for line in found)


def test_the_scope_of_a_selection_knows_the_requests_of_the_rest() -> None:
    made = planned(daily(), steps=("Transform",), provided=lambda uri: True)
    scope = starting_scope(made)
    resolved = resolve(made.steps[0].step.arguments, scope)
    assert resolved["ProcessingInputs"][0]["S3Input"]["S3Uri"] == "s3://b/out/abcdefghijkl/quality"
    assert scope.execution["PipelineExecutionArn"] == (
        "arn:aws:sagemaker:us-east-1:000000000000:pipeline/daily/execution/abcdefghijkl"
    )


def test_data_stands_for_the_output_of_a_step_that_is_not_selected(tmp_path: Path) -> None:
    made = planned(pipeline(*chain("A", "B")), steps=("B",), outputs={"A.out": tmp_path})
    assert made.sources == {"s3://b/A": tmp_path}


def test_data_for_no_such_output_is_a_problem_beside_the_others(tmp_path: Path) -> None:
    found = problems_of(pipeline(*chain("A", "B")), steps=("B",), outputs={"A.oud": tmp_path, "B.out": tmp_path})
    assert len(found) == 3
    assert found[0] == "data A.oud: is no S3 URI and no output of a step that is not selected. Did you mean 'A.out'?"
    assert found[1].startswith("data B.out: is no S3 URI")
    assert "step 'B' reads s3://b/A, which step 'A' writes, and that is not selected" in found[2]


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_every_arn_is_in_the_region_of_the_settings(region: str) -> None:
    made = planned(daily(), region=region)
    arns = [step.job.arn for step in made.steps if step.job]
    arns += [text for text in starting_scope(made).execution.values() if text.startswith("arn:")]
    assert len(arns) > 3
    assert {arn.split(":")[3] for arn in arns} == {region}


def test_what_only_an_unselected_step_could_say_is_a_problem() -> None:
    first, second = chain("A", "B")
    second["Arguments"]["Environment"] = {"SAID": get("Steps.A.ExitMessage")}
    (problem,) = problems_of(pipeline(first, second), steps=("B",), provided=lambda uri: True)
    assert "step 'B' reads ExitMessage of 'A', which is not selected. Select 'A' too." in problem


def test_step_types_that_cannot_run_matter_only_where_selected() -> None:
    tuning = {"Name": "Tune", "Type": "Tuning", "Arguments": {"TrainingJobDefinition": {}}}
    definition = pipeline(*chain("A"), tuning)
    assert order(planned(definition, steps=("A",))) == ["A"]
    (problem,) = problems_of(definition)
    assert problem == (
        "Steps[1].Type: step 'Tune' is of type Tuning, which cannot run on this machine yet. Run all that does without"
        " it (--to A), or single steps (--only A), or leave it out of the pipeline for local runs."
    )


def test_unknown_selections_are_named() -> None:
    (problem,) = problems_of(daily(), steps=("Validat",))
    assert problem == "There is no step 'Validat' to select. Did you mean 'Validate'?"


# ------------------------------------------------------------------------------------------------- order and cycles
def test_a_condition_may_not_wait_for_its_own_branch() -> None:
    inner = processing("Inner", inputs=[], outputs=[s3_output("out", "s3://b/x")])
    gate = condition("Gate", [compare("Equals", 1, 1)], [inner], [], DependsOn=["Inner"])
    (problem,) = problems_of(pipeline(gate))
    assert "steps wait for each other: Gate -> Inner -> Gate" in problem


GRAPHS = st.integers(1, 12).flatmap(
    lambda size: st.lists(st.sets(st.integers(0, size - 1), max_size=3), min_size=size, max_size=size)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(GRAPHS)
def test_the_order_respects_dependencies_and_cycles_are_reported(graph: list[set[int]]) -> None:
    steps = [fail(f"S{n}", DependsOn=[f"S{m}" for m in sorted(needed)]) for n, needed in enumerate(graph)]
    cyclic = any(n in reachable(graph, n) for n in range(len(graph)))
    try:
        names = order(planned(pipeline(*steps)))
    except InvalidPipelineError as error:
        assert cyclic
        for problem in error.problems:
            listed = [int(name.strip(" .S")) for name in problem.what.split(":")[1].split("->")]
            assert listed[0] == listed[-1]
            assert all(later in graph[earlier] for earlier, later in pairwise(listed))
        return
    assert not cyclic
    assert sorted(names) == sorted(step["Name"] for step in steps)
    place = {name: index for index, name in enumerate(names)}
    assert all(place[f"S{m}"] < place[f"S{n}"] for n, needed in enumerate(graph) for m in needed)


def reachable(graph: list[set[int]], start: int) -> set[int]:
    found: set[int] = set()
    waiting = list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += graph[node]
    return found


@settings(max_examples=50)
@given(GRAPHS, st.sets(st.integers(0, 11), min_size=1))
def test_the_selections_that_are_advised_do_without_what_cannot_run(graph: list[set[int]], lacking: set[int]) -> None:
    waits = {f"S{n}": {f"S{m}" for m in needed if m < n} for n, needed in enumerate(graph)}
    cannot = {f"S{n}" for n in lacking} & waits.keys()
    assume(cannot)
    tuning = {"Type": "Tuning", "Arguments": {}}
    steps = [
        {**(tuning if name in cannot else processing(name)), "Name": name, "DependsOn": sorted(needed)}
        for name, needed in waits.items()
    ]
    definition = pipeline(*steps)
    read, _ = inspect_definition(text(definition), "Daily")
    advice = problems_of(definition)[0]
    advised = {option: re.findall(rf"--{option} (S\d+)", advice) for option in ("to", "only")}
    assert bool(advised["only"]) == (cannot != waits.keys())
    selections = [Selection(end=advised["to"]) if advised["to"] else None, Selection(only=advised["only"])]
    chosen = [set(select(read, each, CACHE["dir"]).steps) if each else set[str]() for each in selections]
    assert chosen[0] == {name for name in waits if cannot.isdisjoint(reach([name], waits))}
    for names in filter(None, chosen):
        planned(definition, steps=tuple(names))


PLACES = st.sets(st.sampled_from(["s3://b", "s3://b/x", "s3://b/x/y", "s3://b/z", "s3://c"]), max_size=2)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(PLACES, PLACES, st.sets(st.integers(0, 5), max_size=2)), min_size=1, max_size=6), st.booleans()
)
def test_who_follows_all_the_advice_has_a_plan(steps: list[tuple[set[str], set[str], set[int]]], turned: bool) -> None:
    waits = {n: {m for m in needed if m < n} for n, (_, _, needed) in enumerate(steps)}
    mapped: set[str] = set()

    def definition() -> Any:
        made = [
            processing(
                f"S{n}",
                inputs={f"i{k}": uri for k, uri in enumerate(sorted(reads))},
                outputs={f"o{k}": uri for k, uri in enumerate(sorted(writes))},
                DependsOn=[f"S{m}" for m in sorted(waits[n])],
            )
            for n, (reads, writes, _) in enumerate(steps)
        ]
        return pipeline(*(reversed(made) if turned else made))

    try:
        planned(definition(), provided=mapped.__contains__)
    except InvalidPipelineError as error:
        for problem in error.problems:
            reader, waited = re.findall(r"step 'S(\d)'", problem.what)[0], re.findall(r"add 'S(\d)'", problem.remedy)
            if waited:
                waits[int(reader)].add(int(waited[0]))
            else:
                mapped.add(re.findall(r"--map (\S+)=", problem.remedy)[0])
    planned(definition(), provided=mapped.__contains__)


def test_without_dependencies_the_order_is_the_documents() -> None:
    names = ["C", "A", "B"]
    assert order(planned(pipeline(*(fail(name) for name in names)))) == names


# ---------------------------------------------------------------------------------------------- everything at once
def test_ten_faults_are_ten_problems_in_one_go() -> None:
    definition = daily()
    validate, gate, profile = definition["Steps"]
    definition["Parameters"][1]["DefaultValue"] = "one"  # 1: type of a default
    definition["Parameters"].append({"Name": "Day", "Type": "String"})  # 2: no value
    validate["Arguments"]["Environment"] = {"X": get("Parameters.Dya")}  # 3: unknown parameter
    validate["Arguments"]["StoppingCondition"] = {"MaxRuntimeInSeconds": 0}  # 4: a limit of the API
    validate["Arguments"]["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["LocalPath"] = "/out"  # 5
    gate["Arguments"]["Conditions"].append({"Type": "Near"})  # 6: unknown condition
    gate["Arguments"]["IfSteps"][0]["Arguments"]["ProcessingInputs"][0]["S3Input"]["S3Uri"] = output_of("Validate")  # 7
    profile["DependsOn"] = ["Validte"]  # 8: unknown step
    definition["Steps"].append(processing("Read", inputs=[s3_input("in", "s3://c/other")]))  # 9: nobody provides it
    definition["Steps"] += [fail("One", DependsOn=["Two"]), fail("Two", DependsOn=["One"])]  # 10: a cycle
    found = problems_of(definition)
    assert len(found) == 10, "\n".join(found)
    for says in (
        "of type Integer",
        "'Day' has no value",
        "'Dya'",
        "at least 1",
        "'/out' is no directory under",
        "'Near'",
        "there is no out at ProcessingOutputConfig.Outputs (there is: quality)",
        "'Validate'?",
        "s3://c/other",
        "One -> Two -> One",
    ):
        assert sum(says in line for line in found) == 1, (says, found)


def test_what_could_not_be_read_at_all_is_one_problem() -> None:
    (problem,) = problems_of([], parameters={"X": "1"}, steps=("A",))
    assert "a pipeline definition is a JSON object" in problem


def test_cloud_settings_without_meaning_here_are_noted_once() -> None:
    steps = chain("A", "B")
    for step in steps:
        vpc = {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
        step["Arguments"]["NetworkConfig"] = {"VpcConfig": vpc, "EnableNetworkIsolation": True}
    made = planned(pipeline(*steps))
    assert made.notes == ("Ignored on this machine: VpcConfig (steps A, B).",)
    assert isinstance(made.steps[0].job, ProcessingJob)
    assert made.steps[0].job.network_isolation


def test_inputs_and_outputs_of_other_services_are_refused_by_name() -> None:
    redshift = {"InputName": "rows", "DatasetDefinition": {"RedshiftDatasetDefinition": {}}}
    store = {"OutputName": "features", "FeatureStoreOutput": {"FeatureGroupName": "g"}}
    found = problems_of(pipeline(processing("A", inputs=[redshift], outputs=[store])))
    where = "Steps[0].Arguments.Processing"
    for place, says in (
        (f"{where}Inputs[0].DatasetDefinition: ", "Give the input an S3Input"),
        (f"{where}OutputConfig.Outputs[0].FeatureStoreOutput: ", "Give the output an S3Output"),
    ):
        assert any(problem.startswith(place) and says in problem for problem in found), found


ODD = st.sampled_from(
    [None, 3, "", "x", [], {}, "s3://b/raw", get("Steps.Validate.ExitMessage"), get("Steps.Gate.Outcome"),
     output_of("Validate", "quality"), json_get("Validate", "Quality", "a"), join("s3://b", get("Parameters.Mode"))]
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def changes(definition: Any) -> st.SearchStrategy[tuple[Any, list[tuple[tuple[Any, ...], Any]]]]:
    change = st.tuples(st.sampled_from([place for place in places(definition) if place]), ODD)
    return st.tuples(st.just(definition), st.lists(change, min_size=1, max_size=3))


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes(daily()) | changes(services()))
def test_no_mutation_of_a_definition_does_more_than_be_refused(
    changed: tuple[Any, list[tuple[tuple[Any, ...], Any]]],
) -> None:
    definition = json.loads(json.dumps(changed[0]))
    for place, value in changed[1]:
        inner: Any = definition
        try:
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = json.loads(json.dumps(value))
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    for steps in ((), ("Transform",), ("Gate",), ("Approve",)):
        with suppress(InvalidPipelineError):
            planned(definition, steps=steps)
