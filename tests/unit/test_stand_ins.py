"""Functions in place of Lambda, Callback and EMR steps: how they are found, called and ended, and what they hand on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.definitions import condition_on, fail
from support.executions import Project, chained, statuses

from local_runner.engines.fake import FakeHost
from local_runner.errors import InvalidPipelineError, SettingsError
from local_runner.execution.functions.outputs import declared_outputs
from local_runner.execution.functions.process import Call, Places, Returned, run
from local_runner.models import Execution, Fault, OutputParameter, StandIn, Step
from local_runner.settings import load_settings

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:count-rows"
SETTINGS = """
    [local.lambda]
    Count = "functions/count.py:handler"
    [local.stand_ins]
    Approve = "functions/approve.py:approve"
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def write(project: Project, source: str, file: str = "functions/count.py", settings: str = SETTINGS) -> None:
    place = project.root / file
    place.parent.mkdir(exist_ok=True)
    place.write_text(dedent(source))
    (project.root / "local_runner.toml").write_text(dedent(settings))


def outputs(**types: str) -> list[dict[str, str]]:
    return [{"OutputName": name, "OutputType": type_} for name, type_ in types.items()]


def lambda_step(name: str = "Count", arguments: Any = None, declared: Any = (), **more: Any) -> dict[str, Any]:
    step = {"Name": name, "Type": "Lambda", "FunctionArn": ARN, "OutputParameters": list(declared)}
    return {**step, "Arguments": arguments or {}, **more}


def callback_step(name: str = "Approve", arguments: Any = None, declared: Any = ()) -> dict[str, Any]:
    queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/approvals"
    step = {"Name": name, "Type": "Callback", "SqsQueueUrl": queue, "OutputParameters": list(declared)}
    return {**step, "Arguments": arguments or {}}


def output_of(name: str, step: str = "Count") -> dict[str, str]:
    return {"Get": f"Steps.{step}.OutputParameters['{name}']"}


def reason(execution: Execution, step: str = "Count") -> str:
    assert execution.step(step).status == "Failed"
    return str(execution.step(step).failure_reason)


def log_of(execution: Execution, step: str = "Count") -> str:
    log = execution.step(step).log
    assert log is not None
    return log.read_text()


def problems_of(project: Project, *steps: Any, **request: Any) -> list[str]:
    with pytest.raises(InvalidPipelineError) as raised:
        project.run(list(steps), **request)
    return [str(problem) for problem in raised.value.problems]


# ------------------------------------------------------------------------------------------------------- Lambda
def test_a_handler_gets_resolved_arguments_and_its_outputs_go_on(project: Project) -> None:
    write(
        project,
        """
        def handler(event, context):
            print("counting", event["uri"])
            assert context.invoked_function_arn.endswith(":count-rows")
            assert context.function_name == "count-rows"
            assert 0 < context.get_remaining_time_in_millis() <= 600_000
            return {"rows": event["limit"] * 2, "note": "ok", "unused": [1, 2]}
        """,
    )
    uri = {"Get": "Steps.First.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"}
    count = lambda_step(
        arguments={"uri": uri, "limit": {"Get": "Parameters.Limit"}}, declared=outputs(rows="Integer", note="String")
    )
    check = {
        "Name": "Check",
        "Type": "Condition",
        "Arguments": {
            "Conditions": [{"Type": "GreaterThan", "LeftValue": output_of("rows"), "RightValue": 5}],
            "IfSteps": [fail("Many", {"Std:Join": {"On": " ", "Values": [output_of("rows"), output_of("note")]}})],
            "ElseSteps": [],
        },
    }
    execution = project.run(
        [chained("First"), count, check], Parameters=[{"Name": "Limit", "Type": "Integer", "DefaultValue": 3}]
    )
    assert execution.failure_reason == "Step 'Many': 6 ok"
    assert statuses(execution) == {"First": "Succeeded", "Count": "Succeeded", "Check": "Succeeded", "Many": "Failed"}
    assert log_of(execution) == "counting s3://b/out/First\n"


def test_a_job_takes_an_output_as_an_argument(project: Project) -> None:
    write(project, "def handler(event, context):\n    return {'mode': 'full'}")
    second = chained("Second")
    second["Arguments"]["AppSpecification"]["ContainerArguments"] = ["--mode", output_of("mode")]
    seen: list[str] = []
    execution = project.run(
        [lambda_step(declared=outputs(mode="String")), second],
        {"Second": lambda host: seen.extend(host.staged.job.arguments or ())},
    )
    assert execution.status == "Succeeded", execution.failure_reason
    assert seen == ["--mode", "full"]


@pytest.mark.parametrize("key", ["Count", "count-rows", ARN])
def test_a_handler_stands_under_the_steps_or_the_functions_name(project: Project, key: str) -> None:
    write(
        project, "def handler(event, context): pass", settings=f'[local.lambda]\n"{key}" = "functions/count.py:handler"'
    )
    assert project.run([lambda_step()]).status == "Succeeded"


def test_an_exception_fails_the_step_with_the_last_line_of_its_traceback(project: Project) -> None:
    write(
        project,
        """
        def handler(event, context):
            return {"rows": event["rows"]}
        """,
    )
    execution = project.run([lambda_step()])
    assert reason(execution) == "functions/count.py:handler failed: KeyError: 'rows'"
    assert 'return {"rows": event["rows"]}' in log_of(execution)
    assert "call.py" not in log_of(execution)
    assert execution.step("Count").exit_code == 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_module\ndef handler(event, context): pass", "No module named 'no_such_module'"),
        ("def handler(event): pass", "TypeError: handler() takes 1 positional argument but 2 were given"),
        ("def handler(event, context): return {'a': {1, 2}}", "TypeError: Object of type set is not JSON"),
        ("def handler(event, context): return {'a': float('nan')}", "ValueError: Out of range float values"),
        ("import os\ndef handler(event, context): os._exit(7)", "ended with exit code 7 and returned nothing"),
        ("import sys\ndef handler(event, context): sys.exit(0)", "ended with exit code 0 and returned nothing"),
        ("def handler(event, context): return [1]", "it returned a list, and an object with its outputs is wanted."),
        ("def handler(event, context): return {'row': 1}", "it returned no 'rows' (there is: row)."),
        ("def handler(event, context): pass", "it returned null"),
        (
            "def handler(event, context): return {'rows': 'many'}",
            "output 'rows' is declared as Integer, and it returned the text 'many'.",
        ),
    ],
)
def test_what_goes_wrong_in_a_function_is_the_steps_failure(project: Project, source: str, says: str) -> None:
    write(project, source)
    execution = project.run([lambda_step(declared=outputs(rows="Integer")), chained("After", DependsOn=["Count"])])
    assert says in reason(execution)
    assert reason(execution).startswith("functions/count.py:handler")
    assert "After" not in statuses(execution)


def test_a_function_sees_its_own_modules_and_nothing_of_the_hosts_credentials(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("HOME", str(project.root))
    write(project, "VALUE = 'mine'", file="functions/errors.py")  # a name that this project has as well
    write(
        project,
        """
        import os, pathlib, errors
        def handler(event, context):
            assert errors.VALUE == "mine"
            assert pathlib.Path.cwd().name == "functions"
            assert "AWS_SECRET_ACCESS_KEY" not in os.environ
            return {"home": str(pathlib.Path.home())}
        """,
    )
    check = fail("Say", output_of("home"))
    execution = project.run([lambda_step(declared=outputs(home="String")), check])
    assert reason(execution, "Say") not in ("", str(project.root))
    assert "/work/Count" in reason(execution, "Say")


@pytest.mark.slow
def test_a_function_is_retried_after_exceptions_of_the_service(project: Project) -> None:
    write(project, "def handler(event, context): pass")
    began = time.monotonic()
    execution = project.run([lambda_step()], faults=[Fault("Count", "Step.THROTTLING")])
    assert execution.status == "Succeeded"
    assert time.monotonic() - began >= 1  # the first interval of the automatic retry


# ------------------------------------------------------------------------------------------- ended before its time
def call(tmp_path: Path, source: str, *, type_: str = "Lambda", stop: threading.Event, seconds: float) -> Returned:
    file = tmp_path / "f.py"
    file.write_text(dedent(source))
    step = Step("Count", type_, "Steps[0]", {}, function_arn=ARN)
    return run(
        Call(StandIn(file, "handler", "f.py:handler"), step, {}, seconds),
        Places(work=tmp_path / "work", log=tmp_path / "function.log", s3=tmp_path / "s3"),
        lambda _: None,
        stop,
    )


@pytest.mark.slow
@pytest.mark.parametrize("talk", ["", "print('on', flush=True)", "import os; os.close(1); os.close(2)"])
def test_a_function_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path, talk: str) -> None:
    source = f"""
        import subprocess, pathlib, time
        def handler(event, context):
            child = subprocess.Popen(["sleep", "60"])
            pathlib.Path("{tmp_path}/child").write_text(str(child.pid))
            {talk or "pass"}
            time.sleep(60)
    """
    returned = call(tmp_path, source, stop=threading.Event(), seconds=1.5)
    assert returned.failure_reason == "f.py:handler ran longer than 1.5 s and was ended."
    wait_until_gone((tmp_path / "child").read_text())


def wait_until_gone(process: str) -> None:
    stat = Path("/proc", process, "stat")
    for _ in range(100):  # killed, and gone or a zombie as soon as it next gets a processor
        with suppress(FileNotFoundError):
            if " Z " not in stat.read_text():
                time.sleep(0.05)
                continue
        return
    pytest.fail("it still runs")


def test_a_function_ends_with_a_runner_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(
        "import os, pathlib, time\n"
        "def handler(arguments):\n"
        f"    pathlib.Path('{tmp_path}/new').write_text(str(os.getpid()))\n"
        f"    os.rename('{tmp_path}/new', '{tmp_path}/pid')\n"
        "    time.sleep(60)\n"
    )
    script = f"""
        import threading, pathlib
        from local_runner.models import StandIn, Step
        from local_runner.execution.functions.process import Call, Places, run
        here = pathlib.Path("{tmp_path}")
        call = Call(StandIn(here / "f.py", "handler", "f.py:handler"), Step("S", "EMR", "", {{}}), {{}})
        run(call, Places(here / "work", here / "log", here / "s3"), lambda _: None, threading.Event())
    """
    runner = subprocess.Popen([sys.executable, "-c", dedent(script)])
    for _ in range(400):
        if (tmp_path / "pid").exists():
            break
        time.sleep(0.05)
    runner.kill()
    runner.wait()
    wait_until_gone((tmp_path / "pid").read_text())


def test_a_function_is_stopped_with_the_execution(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    returned = call(tmp_path, "import time\ndef handler(event, context): time.sleep(60)", stop=stop, seconds=60)
    assert returned.stopped
    assert time.monotonic() - began < 10


def test_stopping_an_execution_stops_its_function(project: Project) -> None:
    write(project, "import time\ndef handler(event, context): time.sleep(60)")

    def interrupt(host: FakeHost) -> None:
        time.sleep(0.2)
        host.stop.set()

    execution = project.run([lambda_step(), chained("Beside")], {"Beside": interrupt}, max_parallel=2)
    assert execution.status == "Stopped"
    assert statuses(execution)["Count"] == "Stopped"


# ------------------------------------------------------------------------------------------------ Callback and EMR
def test_a_stand_in_answers_a_callback(project: Project) -> None:
    write(
        project,
        "def approve(arguments): return {'approved': arguments['rows'] < 10, 'by': 'nobody'}",
        file="functions/approve.py",
    )
    steps = [
        callback_step(arguments={"rows": 3}, declared=outputs(approved="Boolean", by="String")),
        condition_on("Check", output_of("approved", "Approve"), [fail("Say", output_of("by", "Approve"))], []),
    ]
    execution = project.run(steps)
    assert execution.failure_reason == "Step 'Say': nobody"


def emr_step(uri: str, **more: Any) -> dict[str, Any]:
    jar = {"Jar": "command-runner.jar", "Args": ["spark-submit", "job.py", uri]}
    arguments = {"ClusterId": "j-1", "StepConfig": {"HadoopJarStep": jar}}
    return {"Name": "Spark", "Type": "EMR", "Arguments": arguments, **more}


def test_a_stand_in_for_emr_writes_to_the_local_s3_and_the_next_step_reads_it(project: Project) -> None:
    write(
        project,
        """
        import os, pathlib
        def spark(arguments):
            uri = arguments["StepConfig"]["HadoopJarStep"]["Args"][2]
            place = pathlib.Path(os.environ["LOCAL_RUNNER_S3"], uri.removeprefix("s3://"))
            place.mkdir(parents=True)
            (place / "part-0").write_text("rows")
        """,
        file="spark.py",
        settings='[local.stand_ins]\nSpark = "spark.py:spark"',
    )
    after = chained("After", ("s3://b/spark",), DependsOn=["Spark"])
    read: list[str] = []
    after["Arguments"]["Environment"] = {
        "STATE": {"Get": "Steps.Spark.Status.State"},
        "OUT": {"Get": "Steps.Spark.Config.Args[2]"},
    }

    def work(host: FakeHost) -> None:
        read.append((host.input("in-0")[0] / "part-0").read_text())
        read.extend(host.staged.job.environment.values())

    execution = project.run([emr_step("s3://b/spark"), after], {"After": work})
    assert execution.status == "Succeeded", execution.failure_reason
    assert read == ["rows", "COMPLETED", "s3://b/spark"]


def test_emr_serverless_hands_on_what_its_stand_in_returns(project: Project) -> None:
    write(
        project,
        "def spark(arguments): return {'JobRun': {'State': 'SUCCESS'}}",
        file="spark.py",
        settings='[local.stand_ins]\nSpark = "spark.py:spark"',
    )
    step = {"Name": "Spark", "Type": "EMRServerless", "Arguments": {"ApplicationId": "a", "JobConfig": {}}}
    execution = project.run([step, fail("Say", {"Get": "Steps.Spark.JobRun.State"})])
    assert execution.failure_reason == "Step 'Say': SUCCESS"


# ----------------------------------------------------------------------------------------------- before anything runs
def test_steps_without_a_function_are_refused_with_what_to_write(project: Project) -> None:
    lambda_, callback, emr = problems_of(project, lambda_step(), callback_step(), emr_step("s3://b/x"))
    assert lambda_ == (
        f"Steps[0]: step 'Count' is of type Lambda and calls the Lambda function {ARN}, which is not on this machine."
        ' Say in local_runner.toml what runs in its place: [local.lambda] Count = "FILE.py:FUNCTION".'
    )
    assert '[local.stand_ins] Approve = "FILE.py:FUNCTION"' in callback
    assert '[local.stand_ins] Spark = "FILE.py:FUNCTION"' in emr


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def handle(event, context): pass", "has no function 'handler'"),
        ("def handler(event, context) pass", "is not valid Python"),
        (None, "cannot be read: No such file"),
    ],
)
def test_functions_that_cannot_be_there_are_refused(project: Project, source: str | None, says: str) -> None:
    write(project, source or "", file="functions/count.py" if source else "functions/other.py")
    (problem,) = problems_of(project, lambda_step())
    assert problem.startswith("[local.lambda] Count: ")
    assert says in problem


@pytest.mark.parametrize(
    "source",
    ["from other import handler", "from other import *", "import other as handler", "handler = print",
     "if True:\n    def handler(event, context): pass"],
)  # fmt: skip
def test_functions_may_come_from_anywhere(project: Project, source: str) -> None:
    write(project, source)
    (problem,) = problems_of(project, lambda_step(), fail("Say", output_of("nothing")))
    assert "there is no nothing at OutputParameters" in problem


def test_an_output_that_is_not_declared_is_refused(project: Project) -> None:
    write(project, "def handler(event, context): pass")
    (problem,) = problems_of(project, lambda_step(declared=outputs(rows="Integer")), fail("Say", output_of("row")))
    assert problem.endswith("there is no row at OutputParameters (there is: rows).")


def test_outputs_of_a_step_that_is_not_selected_are_refused(project: Project) -> None:
    steps = [lambda_step(declared=outputs(rows="Integer")), fail("Say", output_of("rows"))]
    (problem,) = problems_of(project, *steps, steps=["Say"])
    assert "of 'Count', which is not selected. Select 'Count' too." in problem


def test_a_function_step_starts_no_job_that_could_lack_capacity(project: Project) -> None:
    write(project, "def handler(event, context): pass")
    (problem,) = problems_of(project, lambda_step(), faults=[Fault("Count", "SageMaker.CAPACITY_ERROR")])
    assert "Take Step.SERVICE_FAULT or Step.THROTTLING." in problem


def test_the_steps_fields_are_checked(project: Project) -> None:
    write(project, "def handler(event, context): pass")
    twice = [*outputs(b="String"), *outputs(b="String")]
    declared = [{"OutputName": "a", "OutputType": "Text"}, {"OutputType": "String"}, *twice]
    step = lambda_step(declared=declared, RetryPolicies=[])
    del step["FunctionArn"]
    found = problems_of(project, step)
    for says in ("'RetryPolicies' is not known here", "the text 'Text'", "OutputName is missing", "two outputs 'b'"):
        assert sum(says in problem for problem in found) == 1, found
    assert any("FunctionArn is missing" in problem for problem in found)


def test_a_value_that_a_failed_step_never_gave_fails_the_step_that_reads_it(project: Project) -> None:
    write(project, "def handler(event, context): raise ValueError('no')")
    after = chained("After", DependsOn=[{"Step": "Count", "Trigger": "Failed"}])
    after["Arguments"]["Environment"] = {"ROWS": output_of("rows")}
    execution = project.run([lambda_step(declared=outputs(rows="String")), after])
    assert reason(execution, "After") == "A value of its request is not known: step 'Count' has not run."


@pytest.mark.parametrize("entry", ["count.py", "count:handler", "count.py:1", ""])
def test_an_entry_of_another_form_is_a_problem_of_the_settings(tmp_path: Path, entry: str) -> None:
    (tmp_path / "local_runner.toml").write_text(f'[local.lambda]\nCount = "{entry}"')
    with pytest.raises(SettingsError, match=r"local\.lambda: Count"):
        load_settings(tmp_path)


# ------------------------------------------------------------------------------------------------------ outputs
@pytest.mark.parametrize(
    ("type_", "given_value", "value"),
    [
        ("String", "x", "x"),
        ("String", 200, "200"),
        ("String", True, "true"),
        ("Integer", 3, 3),
        ("Integer", "3", 3),
        ("Float", 3, 3.0),
        ("Float", "0.5", 0.5),
        ("Boolean", True, True),
        ("Boolean", "False", False),
    ],
)
def test_a_value_fits_where_its_text_spells_one_of_the_type(type_: Any, given_value: Any, value: Any) -> None:
    values, faults = declared_outputs((OutputParameter("n", type_),), {"n": given_value})
    assert (values, faults) == ({"n": value}, [])
    assert type(values["n"]) is type(value)


@pytest.mark.parametrize(
    ("type_", "given_value"),
    [("Integer", 3.5), ("Integer", True), ("Float", "much"), ("Float", False), ("Boolean", 1), ("Integer", {}),
     ("String", "x" * 1025), ("String", None)],
)  # fmt: skip
def test_a_value_of_another_type_is_a_fault(type_: Any, given_value: Any) -> None:
    values, faults = declared_outputs((OutputParameter("n", type_),), {"n": given_value})
    assert values == {}
    assert len(faults) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value=JSON | st.dictionaries(st.sampled_from("abc"), JSON), types=st.lists(st.sampled_from(
    ["String", "Integer", "Float", "Boolean"]), max_size=3))  # fmt: skip
def test_each_declared_output_has_a_value_of_its_type_or_a_fault(value: Any, types: list[Any]) -> None:
    declared = tuple(OutputParameter(name, type_) for name, type_ in zip("abc", types, strict=False))
    values, faults = declared_outputs(declared, json.loads(json.dumps(value)))
    kinds = {"String": str, "Integer": int, "Float": float, "Boolean": bool}
    for output in declared:
        assert output.name not in values or type(values[output.name]) is kinds[output.type]
    if isinstance(value, dict):
        assert len(values) + len(faults) == len(declared)
    else:
        assert bool(faults) == (value is not None or bool(declared))
