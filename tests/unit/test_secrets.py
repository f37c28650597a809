"""Secrets: no file below the state directory, and nothing that is shown, holds a value. On real files and processes."""

from __future__ import annotations

import io
import json
import re
import stat
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.definitions import get, join, pipeline, processing, write

from local_runner.engines.fake import FakeEngine, FakeHost
from local_runner.engines.host_log import HostLog
from local_runner.errors import InvalidPipelineError, SettingsError
from local_runner.jsontext import shorten
from local_runner.models import Execution
from local_runner.planning.selection import Selection
from local_runner.project import Project as OpenProject
from local_runner.report.plain import PlainListener
from local_runner.report.record import to_record
from local_runner.report.text import printable
from local_runner.run.pipeline import run_pipeline
from local_runner.run.planned import plan_run
from local_runner.run.request import RunRequest
from local_runner.run.why import explain
from local_runner.secrets import DEFAULT_PATTERNS, KEPT, SHORTEST, SecretNames, Secrets
from local_runner.settings import load_settings
from local_runner.step_cache.digests import FileDigests
from local_runner.step_cache.store import step_store

TOKEN = 'tok"en-\\é-4711'
PASSWORD = "pass word/+%&"
HYPER = "hyper-0815-parameter"
LITERAL = "literal-in-the-definition"
RETURNED = "returned-by-a-function"
KEY = "-----BEGIN KEY-----\nc2VjcmV0IGxpbmU=\nYW5vdGhlciBsaW5l\n-----END KEY-----\n"
VALUES = (TOKEN, PASSWORD, LITERAL, RETURNED, KEY)
PIECES = (*VALUES, json.dumps(TOKEN)[1:-1], repr(TOKEN)[1:-1], *KEY.split()[2:4])


# ------------------------------------------------------------------------------------------------------- a project
def job(name: str, arguments: list[Any], environment: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    members = {"AppSpecification": {"ContainerArguments": arguments}, "Environment": environment}
    outputs = {"out": join("s3://b", get("Execution.PipelineExecutionId"), name)}
    return processing(name, outputs=outputs, members=members, **more)


FETCH = {
    "Name": "Fetch",
    "Type": "Lambda",
    "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:fetch",
    "Arguments": {"given_password": {"Get": "Parameters.DbPassword"}},
    "OutputParameters": [{"OutputName": "session_token", "OutputType": "String"}],
}
URL = {"Std:Join": {"On": "", "Values": ["--url=db://me:", {"Get": "Parameters.DbPassword"}, "@host"]}}
FIRST = job(
    "First",
    [URL],
    {
        "API_TOKEN": {"Get": "Parameters.Plain"},
        "PRIVATE_KEY": {"Get": "Parameters.Pem"},
        "SERVICE_SECRET": LITERAL,
        "LEVEL": "1",
    },
    instances=2,
)
SECOND = job("Second", ["--n"], {"SESSION": {"Get": "Steps.Fetch.OutputParameters['session_token']"}})
THIRD = job("Third", [{"Get": "Steps.First.Environment.LEVEL"}], {"COPY": {"Get": "Steps.First.Environment.API_TOKEN"}})
PARAMETERS = [
    {"Name": "DbPassword", "Type": "String"},
    {"Name": "Plain", "Type": "String"},
    {"Name": "Pem", "Type": "String"},
    {"Name": "PinSecret", "Type": "Integer", "DefaultValue": 7},
]
FUNCTION = f"""
def fetch(event, context):
    print("fetching with", event)
    return {{"session_token": {RETURNED!r}}}
"""


class Project:
    """A pipeline with secrets in all places, on the engine without processes. ``shown`` is all that it printed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.shown = io.StringIO()
        self.broken: set[str] = set()
        self.steps = [FETCH, FIRST, SECOND, THIRD]
        (root / "functions.py").write_text(FUNCTION)
        (root / "processing").mkdir()
        for name in ("Dockerfile", "requirements.txt"):
            (root / "processing" / name).write_text("")
        (root / "local_runner.toml").write_text('[local.lambda]\nfetch = "functions.py:fetch"\n')

    def request(self, **more: Any) -> RunRequest:
        target = write(self.root / "p.json", pipeline(*self.steps, parameters=PARAMETERS))
        values = {"DbPassword": PASSWORD, "Plain": TOKEN, "Pem": KEY}
        return RunRequest(target=str(target), **{"parameters": values, "cache": True, **more})

    def run(self, **more: Any) -> Execution:
        def function(name: str) -> Callable[[FakeHost], int]:
            def run(host: FakeHost) -> int:
                job = host.staged.job
                host.print(f"arguments {json.dumps(job.arguments)} {job.arguments!r}")
                for value in job.environment.values():
                    host.print(value)
                    host.print(json.dumps(value))
                host.write("out", "f", "content")
                if name in self.broken:
                    host.write_at("/opt/ml/output", "message", f"it failed with {' '.join(job.environment.values())}")
                return 1 if name in self.broken else 0

            return run

        engine = FakeEngine({name: function(name) for name in ("First", "Second", "Third")})
        settings = load_settings(self.root)
        execution = run_pipeline(
            OpenProject(settings, self.state, PlainListener(self.shown).note),
            self.request(**more),
            PlainListener(self.shown),
            engine,
        )[1]
        self.shown.write(json.dumps(to_record(execution)) + json.dumps(to_record(execution), ensure_ascii=False))
        return execution

    def lies_in(self) -> list[str]:
        """Where a secret value stands that should stand nowhere."""
        texts = {str(path.relative_to(self.state)): path.read_bytes() for path in files(self.state)}
        texts["what was shown"] = self.shown.getvalue().encode()
        return [f"{name}: {piece}" for name, text in texts.items() for piece in PIECES if piece.encode() in text]

    def record(self, execution: Execution) -> dict[str, Any]:
        return json.loads((self.state / "runs" / execution.id / "execution.json").read_text())


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


# ----------------------------------------------------------------------------------------------- nowhere in plain text
@pytest.mark.parametrize("broken", [(), ("First",), ("Second", "Third")])
def test_no_secret_stands_in_any_file_or_output(project: Project, broken: tuple[str, ...]) -> None:
    project.broken = set(broken)
    execution = project.run()
    assert execution.status == ("Failed" if broken else "Succeeded"), execution.failure_reason
    assert project.lies_in() == []
    record = project.record(execution)
    assert all(str(record["parameters"][name]).startswith(KEPT) for name in ("DbPassword", "Plain", "Pem", "PinSecret"))
    assert "***" in (project.state / "runs" / execution.id / "logs" / "First" / "algo-2.log").read_text()
    assert "***" in (project.state / "runs" / execution.id / "logs" / "Fetch" / "function.log").read_text()
    # And again, from the cache where that can be.
    project.run()
    assert project.lies_in() == []


def test_jobs_get_the_values_themselves(project: Project) -> None:
    seen: list[Any] = []
    engine = FakeEngine(
        {
            name: lambda host: seen.append((host.staged.job.environment, host.staged.job.arguments))
            for name in ("First", "Second", "Third")
        }
    )
    shown = PlainListener(project.shown)
    run_pipeline(OpenProject.at(project.root, project.state, shown.note), project.request(), shown, engine)
    environments = {key: value for environment, _ in seen for key, value in environment.items()}
    assert environments["API_TOKEN"] == environments["COPY"] == TOKEN
    assert environments["SESSION"] == RETURNED
    assert (f"--url=db://me:{PASSWORD}@host",) in [arguments for _, arguments in seen]


@pytest.mark.parametrize("times", [1, 100])
def test_problems_of_the_pipeline_show_no_secret(project: Project, times: int) -> None:
    parameters = {"DbPassword": PASSWORD * times, "Plain": TOKEN, "Pem": KEY, "PinSecret": TOKEN * times}
    with pytest.raises(
        InvalidPipelineError, match=r"PinSecret: .*'\*\*\*(\.\.\.\*\*\*)?' is not a whole number"
    ) as raised:
        project.run(parameters=parameters)
    assert not [piece for piece in (*PIECES, TOKEN[:8], TOKEN[-8:]) if piece in raised.value.message]


def test_a_step_whose_exit_message_holds_a_secret_is_not_cached(project: Project) -> None:
    project.steps = [FETCH, FIRST]

    def told(host: FakeHost) -> int:
        host.write_at("/opt/ml/output", "message", f"used {host.staged.job.environment['API_TOKEN']}")
        return 0

    engine = FakeEngine({"First": told})
    for _ in range(2):
        shown = PlainListener(project.shown)
        execution = run_pipeline(
            OpenProject.at(project.root, project.state, shown.note), project.request(), shown, engine
        )[1]
        assert (execution.step("First").exit_message or "").startswith("used ***")
    assert engine.ran == ["First"] * 2
    assert project.lies_in() == []


# -------------------------------------------------------------------------------------------------- the step cache
def test_the_cache_goes_by_secrets_and_why_shows_none(project: Project) -> None:
    project.steps = [FIRST]
    project.run()
    assert project.run().step("First").cached
    settings, other = load_settings(project.root), "another-token-0000"
    request = project.request(parameters={"DbPassword": PASSWORD, "Plain": other, "Pem": KEY})
    assert not project.run(parameters=request.parameters).step("First").cached

    def note(text: str) -> None:
        project.shown.write(text)

    found = explain(OpenProject(settings, project.state, note), project.request(engine="sandbox"), "First")
    project.shown.write("\n".join(found.lines()) + json.dumps(found.record()))
    assert "request.Environment.API_TOKEN" in {change.what for change in found.changes}
    assert other not in project.shown.getvalue()
    assert project.lies_in() == []


def test_a_signature_of_before_shows_no_secret(project: Project) -> None:
    """What was kept before there was this: the value stands in it, and ``why`` compares with it all the same."""
    project.steps = [FIRST]
    project.run()
    path = next((project.state / "steps" / "signatures").iterdir())
    document = json.loads(path.read_text().partition("\n")[2])
    document["request"]["Environment"]["API_TOKEN"] = TOKEN
    store = step_store(project.state)
    from local_runner.step_cache.key import signature_from

    signature = signature_from(document)
    store.keep_signature(signature.key, signature)
    store.keep_last("p", {"First": signature.key})
    FileDigests(project.state / "steps" / "digests").save()
    found = explain(OpenProject.at(project.root, project.state, print), project.request(engine="sandbox"), "First")
    assert "machine" in str(found.changes) or "engine" in {change.what for change in found.changes}
    assert "request.Environment.API_TOKEN" not in {change.what for change in found.changes}
    assert TOKEN not in "\n".join(found.lines())


# -------------------------------------------------------------------------------------------- going on from a record
def test_what_is_resumed_wants_its_secrets_again(project: Project) -> None:
    project.broken = {"Third"}
    project.run()
    project.broken = set()
    with pytest.raises(SettingsError, match=r"-p DbPassword=VALUE -p Plain=VALUE -p Pem=VALUE"):
        project.run(parameters={}, selection=Selection(resume=True))
    # Plain is a secret by its value. Third gets it from what First had, of which there is only the hash.
    seen: list[Any] = []
    engine = FakeEngine({"Third": lambda host: seen.append(host.staged.job.environment)})
    request = project.request(selection=Selection(resume=True))
    shown = PlainListener(project.shown)
    resumed = run_pipeline(OpenProject.at(project.root, project.state, shown.note), request, shown, engine)[1]
    assert resumed.status == "Succeeded", resumed.failure_reason
    assert (engine.ran, seen) == (["Third"], [{"COPY": TOKEN}])
    assert project.lies_in() == []


def test_a_default_that_is_another_by_now_is_not_taken_for_the_secret(project: Project) -> None:
    project.broken = {"Third"}
    project.run(parameters={"DbPassword": PASSWORD, "Plain": TOKEN, "Pem": KEY, "PinSecret": "1234567"})
    given = {"DbPassword": PASSWORD, "Plain": TOKEN, "Pem": KEY}
    with pytest.raises(SettingsError, match=r"keyed hashes. Give them again: -p PinSecret=VALUE$"):
        project.run(parameters=given, selection=Selection(resume=True))


def test_a_hash_is_never_taken_for_a_value(project: Project) -> None:
    first = project.run()
    kept = project.record(first)["parameters"]["DbPassword"]
    with pytest.raises(SettingsError, match="Give the value itself"):
        project.run(parameters={"DbPassword": kept, "Plain": TOKEN, "Pem": KEY})
    # Third reads a secret of First, of which there is only a hash, and Second one that a function returned.
    given = {"DbPassword": PASSWORD, "Plain": "another value", "Pem": KEY}
    for step, expression in (("Third", "Environment.API_TOKEN"), ("Second", "OutputParameters")):
        with pytest.raises(InvalidPipelineError) as raised:
            project.run(parameters=given, selection=Selection(only=[step]))
        assert expression in raised.value.message
        assert "holds a secret" in raised.value.message
    assert project.run(selection=Selection(only=["First"])).status == "Succeeded"


def test_records_of_before_are_gone_on_from(project: Project) -> None:
    """Without hashes: parameters and answers of Describe in plain text."""
    project.broken = {"Third"}
    first = project.run()
    directory = project.state / "runs" / first.id
    record = project.record(first)
    record["parameters"] |= {"DbPassword": PASSWORD, "Plain": TOKEN, "Pem": KEY, "PinSecret": 7}
    described = json.loads((directory / "described.json").read_text())
    described["First"]["Environment"]["API_TOKEN"] = TOKEN
    (directory / "execution.json").write_text(json.dumps(record))
    (directory / "described.json").write_text(json.dumps(described))
    (directory / "lock").write_text("")
    project.broken = set()
    resumed = project.run(parameters={}, selection=Selection(resume=True))
    assert resumed.status == "Succeeded", resumed.failure_reason
    assert TOKEN not in (project.state / "runs" / resumed.id / "described.json").read_text()


# --------------------------------------------------------------------------------------------------------- fingerprint
def test_what_a_run_proves_holds_for_any_value_of_a_secret() -> None:
    from local_runner.compile.compiler import BuildValues
    from local_runner.fingerprint import fingerprint_of
    from local_runner.storage.local_s3 import Storage

    names = SecretNames(DEFAULT_PATTERNS)
    values = BuildValues("local", "us-east-1", "bucket", "role")
    found = []
    for secret in ("one-value", "another"):
        environment = {"SERVICE_SECRET": secret, "LEVEL": "1"}
        document = {
            "Parameters": [{"Name": "DbPassword", "Type": "String", "DefaultValue": secret}],
            "Steps": [job("A", [], environment)],
        }
        found.append(fingerprint_of(document, values, Storage(Path("nowhere"), ()), None, names))
        assert secret not in json.dumps(found[-1].definition)
        assert found[-1].definition["Steps"][0]["Arguments"]["Environment"]["LEVEL"] == "1"
    assert found[0].value == found[1].value


# --------------------------------------------------------------------------------------------------------------- names
@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *(
            (name, True)
            for name in ("DbPassword", "API_TOKEN", "hf_token", "TOKEN_2", "ApiKey", "AWS_SECRET_ACCESS_KEY")
        ),
        *((name, True) for name in ("PRIVATE_KEY", "GOOGLE_CREDENTIALS", "DB_CONNECTION_STRING", "passphrase")),
        *(
            (name, False)
            for name in ("MaxTokens", "MAX_TOKENS_PER_DAY", "TokenizerPath", "KeyColumn", "Passes", "Level")
        ),
    ],
)
def test_default_names(name: str, secret: bool) -> None:
    assert (name in SecretNames(DEFAULT_PATTERNS)) is secret


def test_the_list_of_the_file_adds_to_the_defaults_and_takes_away(tmp_path: Path) -> None:
    (tmp_path / "local_runner.toml").write_text('[pipeline]\nsecret = ["DbUser", "*pin", "!SecretName"]\n')
    names = load_settings(tmp_path).pipeline.secret
    assert {name for name in ("dbuser", "CardPIN", "ApiToken", "SecretName", "Pinned") if name in names} == {
        "dbuser",
        "CardPIN",
        "ApiToken",
    }


@pytest.mark.parametrize("value", ['"ApiToken"', "[1]", '[""]', '["!"]', "true"])
def test_a_list_of_something_else_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "local_runner.toml").write_text(f"[pipeline]\nsecret = {value}\n")
    with pytest.raises(SettingsError, match=r"pipeline\.secret: .* is not a list of names or patterns"):
        load_settings(tmp_path)


def test_the_documentation_has_the_patterns_that_always_hold() -> None:
    text = (Path(__file__).parents[2] / "docs" / "SECRETS.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith(("| Secret |", "| Not secret"))]
    yes, no = [tuple(re.findall(r"`([^`]*)`", row)) for row in rows]
    assert (*yes, *(f"!{pattern}" for pattern in no)) == DEFAULT_PATTERNS


@pytest.mark.parametrize(
    "request_",
    [
        {"HyperParameters": {"wandb_api_key": HYPER}},
        {"Environment": {"TOKEN": HYPER}},
        {"PrimaryContainer": {"Image": "x", "Environment": {"Db_Password": HYPER}}},
        {"Containers": [{"Environment": {"CREDENTIALS": HYPER}}]},
        {"OutputParameters": {"session_token": HYPER}},
        {"Parameters": [{"Name": "ApiKey", "Type": "String", "DefaultValue": HYPER}]},
        {"SageMakerPipelineParameters": {"PipelineParameterList": [{"Name": "ApiKey", "Value": HYPER}]}},
    ],
    ids=lambda request: next(iter(request)),
)
def test_requests_in_which_names_are_the_users(request_: dict[str, Any]) -> None:
    secrets = secrets_of()
    secrets.learn_from({"somewhere": [request_]})
    assert secrets.masked(f"a {HYPER} b") == "a *** b"
    assert HYPER not in json.dumps([secrets.hidden(request_), SecretNames(DEFAULT_PATTERNS).without(request_)])


# ----------------------------------------------------------------------------------------------------- values in texts
def secrets_of(*values: Any, state: Path | None = None) -> Secrets:
    secrets = Secrets(SecretNames(DEFAULT_PATTERNS), state)
    secrets.learn(values)
    return secrets


alphabet = st.sampled_from("abé\n ")
secret_values = st.text(alphabet, min_size=SHORTEST, max_size=9)


@given(st.lists(secret_values, max_size=3), st.text(alphabet, max_size=60), st.data())
def test_output_that_arrives_in_pieces_is_masked_as_if_it_came_at_once(
    values: list[str], text: str, data: st.DataObject
) -> None:
    secrets = secrets_of(*values)
    whole = "".join([text, *values, text]).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    stream = secrets.stream()
    pieces = [stream.feed(whole[start:end]) for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    masked = b"".join([*pieces, stream.end()])
    at_once = secrets.stream()
    assert masked == at_once.feed(whole) + at_once.end()
    assert not [value for value in values if value.encode() in masked]


long_values = st.text("abcdefghijklmnopqrstuvwxyz", min_size=20, max_size=200)
around = st.text("0123456789 ", max_size=60)


@given(long_values, around, around, st.integers(0, 300))
def test_what_is_left_of_a_secret_where_a_text_was_cut_is_masked(value: str, before: str, after: str, cut: int) -> None:
    secrets, text = secrets_of(value), f"{before}{value}{after}"
    for shown in (shorten(text), f"{shorten(text)!r} is too long", text[:cut]):
        masked = secrets.masked(shown)
        assert not [part for at in range(len(value) - 7) if (part := value[at : at + 8]) in masked], masked
    stream = secrets.stream()
    printed = (stream.feed(text[:cut].encode()) + stream.end()).decode()
    assert not [part for at in range(len(value) - 7) if (part := value[at : at + 8]) in printed], printed


@given(st.lists(secret_values, max_size=3), st.text(alphabet, max_size=30), st.text(alphabet, max_size=30))
def test_records_hold_no_value_and_tell_two_apart(values: list[str], one: str, other: str) -> None:
    secrets = secrets_of(*values)
    documents = [{"text": text, "list": [text, {"Environment": {"API_TOKEN": text}}]} for text in (one, other)]
    hidden = [secrets.hidden(document) for document in documents]
    assert (hidden[0] == hidden[1]) is (one == other)
    assert secrets.hidden(hidden[0])["list"][1] == hidden[0]["list"][1]
    for value in values:
        assert value not in hidden[0]["text"]


@given(st.text(max_size=SHORTEST - 1), st.text(max_size=30))
def test_short_values_are_not_looked_for_but_hidden_by_their_name(value: str, text: str) -> None:
    secrets = secrets_of(value)
    assert secrets.masked(text + value) == text + value
    assert secrets.hidden_named({"DbPassword": value})["DbPassword"].startswith(KEPT)


def test_the_log_and_the_lines_are_masked_however_long_the_line(tmp_path: Path) -> None:
    lines: list[str] = []
    log = HostLog(tmp_path / "log", lines.append, secrets_of(TOKEN))
    for length in (10, 64 * 1024 - 5, 200_000):
        text = b"x" * length + TOKEN.encode() + b"\n"
        for start in range(0, len(text), 4093):
            log.write(text[start : start + 4093])
    log.write(TOKEN.encode()[:5])
    log.write(TOKEN.encode()[5:], source=0)
    log.close()
    content = (tmp_path / "log").read_text()
    assert content.count("***") == 4
    assert TOKEN not in content
    assert "".join(lines) == content.replace("\n", "")


# -------------------------------------------------------------------------------------------------------------- the key
def test_runs_that_begin_at_once_agree_on_the_key(tmp_path: Path) -> None:
    count = 16
    barrier = threading.Barrier(count)

    def hashed(_: int) -> str:
        secrets = secrets_of("value", state=tmp_path / "state")
        barrier.wait()
        return secrets.hashed("value")

    with ThreadPoolExecutor(count) as pool:
        assert len(set(pool.map(hashed, range(count)))) == 1
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["secret.key"]
    assert stat.S_IMODE((tmp_path / "state" / "secret.key").stat().st_mode) == 0o600


def test_without_secrets_there_is_no_key(project: Project) -> None:
    project.steps = [job("Third", ["x"], {"LEVEL": "1"})]
    target = write(project.root / "p.json", pipeline(*project.steps))
    settings = load_settings(project.root)
    request = RunRequest(target=str(target), cache=True)
    plan_run(OpenProject(settings, project.state, print), request)
    run_pipeline(
        OpenProject(settings, project.state, PlainListener(project.shown).note),
        request,
        PlainListener(project.shown),
        FakeEngine(),
    )
    assert not (project.state / "secret.key").exists()
    assert (project.state / "runs").is_dir()


UNSEEN = st.sampled_from(["", "\x1b[0m", "\x1b[31;1m", "\x08", "\x00", "\u202e", "\u200b", "\xad"])


@given(st.lists(UNSEEN, min_size=12, max_size=12), st.text(max_size=5), st.text(max_size=5))
def test_what_a_terminal_does_not_show_hides_no_secret(between: list[str], before: str, after: str) -> None:
    secrets = Secrets(SecretNames(("*Token",)))
    secrets.learn(["TopSecret123"])
    text = "".join(a + b for a, b in zip("TopSecret123", between, strict=False))
    shown = re.sub("\N{REPLACEMENT CHARACTER}", "", printable(secrets.masked(f"{before}{text}{after}")))
    assert "TopSecret123" not in shown


@given(st.text(max_size=30))
def test_text_without_secrets_stays_as_it_is(text: str) -> None:
    secrets = Secrets(SecretNames(("*Token",)))
    secrets.learn(["TopSecret123"])
    assert secrets.masked(text) == text
