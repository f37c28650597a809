"""Secrets on the real engines: whatever a job does with them, no file of the state and no output has them.

This is the rule that finds the next place: every file below the state directory is looked at, except those that
docs/SECRETS.md names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Finished, local_runner
from support.definitions import pipeline, processing, write

TOKEN, PASSWORD, LITERAL = "tok-0f\"'9'-4711", "pass word&0815", "literal-value-33"
GIVEN = ("-p", f"ApiToken={TOKEN}", "-p", f"Plain={PASSWORD}")
FORMS = (TOKEN, json.dumps(TOKEN)[1:-1], repr(TOKEN)[1:-1], PASSWORD, LITERAL)
NAMED_IN_THE_DOCUMENTATION = ("compiled", "cache", "secret.key")

CODE = "s3://code/prints.py"
PRINTS = """
import json, os, sys, time
values = [os.environ["TOKEN"], os.environ["DB_PASSWORD"], os.environ["MY_SECRET"], *sys.argv[1:]]
for value in values:
    print("plain", value, flush=True)
    print("json", json.dumps({"value": value}), repr(value), file=sys.stderr, flush=True)
    sys.stdout.write("in two pieces " + value[:4])
    sys.stdout.flush()
    time.sleep(0.3)
    print(value[4:], flush=True)
print("x" * (64 * 1024 - 5) + values[0])
open("/opt/ml/output/message", "w").write(" ".join(values)[:1000])
config = open("/opt/ml/config/processingjobconfig.json").read()
assert values[0] in json.loads(config)["Environment"]["TOKEN"]
open("/opt/ml/processing/out/made/file", "w").write(os.environ["LEVEL"])
sys.exit(int(os.environ["CODE"]))
"""


def step(name: str, code: str = "0", **more: Any) -> dict[str, Any]:
    made = processing(name, inputs={"code": CODE}, outputs={"made": f"s3://made/{name}"}, **more)
    made["Arguments"]["AppSpecification"] |= {
        "ContainerEntrypoint": ["python3", "/opt/ml/processing/in/code/prints.py"],
        "ContainerArguments": [{"Std:Join": {"On": "", "Values": ["--auth=", {"Get": "Parameters.ApiToken"}, "@x"]}}],
    }
    made["Arguments"]["Environment"] = {
        "TOKEN": {"Get": "Parameters.ApiToken"},
        "DB_PASSWORD": {"Get": "Parameters.Plain"},
        "MY_SECRET": LITERAL,
        "LEVEL": "visible-level",
        "CODE": code,
    }
    return made


def holding(state: Path, *finished: Finished) -> list[str]:
    """Where one of the secrets stands."""
    texts = {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file() and path.relative_to(state).parts[0] not in NAMED_IN_THE_DOCUMENTATION
    }
    assert [name for name in texts if name.endswith("execution.json")]
    for number, done in enumerate(finished):
        texts |= {f"stdout {number}": done.stdout.encode(), f"stderr {number}": done.stderr.encode()}
    return [f"{name}: {form}" for name, text in texts.items() for form in FORMS if form.encode() in text]


@pytest.fixture
def targets(tmp_path: Path) -> Mapping[str, tuple[str | Path, ...]]:
    """The arguments for a pipeline that succeeds, and for one whose second step fails."""
    script = tmp_path / "prints.py"
    script.write_text(PRINTS)
    parameters = [{"Name": name, "Type": "String"} for name in ("ApiToken", "Plain")]
    good = write(tmp_path / "succeeds.json", pipeline(step("Good", instances=2), parameters=parameters))
    alone = write(tmp_path / "alone.json", pipeline(step("Good"), parameters=parameters))
    bad = write(tmp_path / "fails.json", pipeline(step("Good"), step("Bad", code="3"), parameters=parameters))
    return {
        name: (path, "--map", f"{CODE}={script}")
        for name, path in (("succeeds", good), ("alone", alone), ("fails", bad))
    }


def test_nothing_that_is_kept_or_shown_holds_a_secret(
    targets: Mapping[str, tuple[str | Path, ...]], engine: str, state: Path
) -> None:
    run = ("run", "--engine", engine, "--state", state)
    done = [local_runner(*run, *targets["succeeds"], *GIVEN)]
    assert done[0].returncode == 0, done[0].stderr
    assert "visible-level" in (state / "s3/made/Good/file").read_text()
    done.append(local_runner(*run, *targets["fails"], *GIVEN, "--json"))
    assert done[1].returncode == 1, done[1].stderr
    record = json.loads(done[1].stdout)
    bad = next(each for each in record["steps"] if each["name"] == "Bad")
    assert "***" in bad["failure_reason"]
    assert Path(bad["log"]).read_text().count("***") >= 8
    done.append(local_runner(*run, *targets["fails"], "--resume"))
    assert (done[2].returncode, "-p ApiToken=VALUE -p Plain=VALUE" in done[2].stderr) == (2, True)
    done.append(local_runner(*run, *targets["fails"], "--resume", *GIVEN, "--quiet"))
    done.append(local_runner(*run, *targets["fails"], *GIVEN[:2], "-p", f"Plian={PASSWORD}"))
    assert done[4].returncode == 2
    if engine != "sdk":
        done.append(local_runner("why", "Good", *targets["succeeds"], *GIVEN, "--engine", engine, "--state", state))
        assert done[-1].returncode == 0, done[-1].stderr
    assert holding(state, *done) == []


@pytest.mark.docker
def test_hot_workers_hold_none_either(
    targets: Mapping[str, tuple[str | Path, ...]], state: Path, processing_image: str
) -> None:
    try:
        done = local_runner("run", *targets["alone"], "--hot", "--json", *GIVEN, "--state", state)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["hot"] is True, done.stderr[:2000]
        assert holding(state, done) == []
    finally:
        local_runner("clean", "--state", state)
