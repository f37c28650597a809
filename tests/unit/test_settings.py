"""local_runner.toml: what it may hold, and every problem of one that holds something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runner.cloud.target.environment import Environment
from local_runner.cloud.target.load import _TABLES, load_environment
from local_runner.errors import SettingsError
from local_runner.settings import Settings, load_settings


def problems(directory: Path, text: str) -> list[str]:
    (directory / "local_runner.toml").write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(directory)
    return [line.strip() for line in caught.value.message.splitlines()]


def test_a_project_without_the_file_has_the_defaults(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings(root=tmp_path.resolve())
    assert load_settings(tmp_path).pipeline.entry == "pipeline.py:build"


def test_what_the_file_holds(tmp_path: Path) -> None:
    (tmp_path / "local_runner.toml").write_text(
        """
        [pipeline]
        entry = "daily/pipeline.py"
        [local]
        region = "eu-central-1"
        [local.parameters]
        ProcessingDate = "2013-01-01"
        MaxBadRatio = 0.1
        Dry = true
        [local.data]
        "s3://b/raw" = "data/raw"
        """
    )
    settings = load_settings(tmp_path)
    assert settings.pipeline.entry == "daily/pipeline.py"
    assert settings.image.directory == Path("processing")
    assert settings.local.region == "eu-central-1"
    assert settings.local.parameters == {"ProcessingDate": "2013-01-01", "MaxBadRatio": 0.1, "Dry": True}
    assert settings.local.data == {"s3://b/raw": Path("data/raw")}


def test_every_problem_is_listed_where_it_stands(tmp_path: Path) -> None:
    head, *listed = problems(
        tmp_path,
        """
        image = "processing"
        [pipeline]
        entry = "pipeline"
        entri = "x"
        [local]
        bucket = 7
        [local.parameters]
        ProcessingDate = 2013-01-01
        [local.data]
        "b/raw" = "data"
        "s3://b/raw" = 3
        [schedules]
        """,
    )
    assert head.endswith("local_runner.toml has 7 problem(s):")
    assert listed == [
        "image: 'processing' is not a table. Write [image].",
        "local.bucket: 7 is not the name of a bucket (3 to 63 of a-z, 0-9, '.' and '-').",
        "local.data: b/raw: the text 'b/raw' is no s3:// URI. Write it as s3://BUCKET/KEY. "
        "s3://b/raw: 3 is not a path.",
        "local.parameters: ProcessingDate: 2013-01-01 is not text, a number, true or false. "
        "(A date is text: put it in quotes.)",
        "pipeline.entri: there is no such setting. Settings of [pipeline]: entry, secret, also_reads.",
        "pipeline.entry: 'pipeline' is not FILE.py or FILE.py:FUNCTION.",
        "schedules: there is no such table. Tables: pipeline, image, local, cache, environments.",
    ]


@pytest.mark.parametrize("text", ["[pipeline", "\xff"])
def test_a_file_that_is_no_toml(tmp_path: Path, text: str) -> None:
    (tmp_path / "local_runner.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load_settings(tmp_path)


def test_root_is_no_setting(tmp_path: Path) -> None:
    assert (
        problems(tmp_path, 'root = "/"')[1]
        == "root: there is no such table. Tables: pipeline, image, local, cache, environments."
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[local.parameters]\nA = " + "9" * 5000, "more than 64 bits"),
        ("[local.parameters]\nA = 0x" + "f" * 5000, "more than 64 bits"),
        ("[local.parameters]\nA = 9223372036854775808", "more than 64 bits"),
        ("[local.parameters]\nA = inf", "finite"),
        ("[local.parameters]\nA = -nan", "finite"),
        ("[local.parameters]\nA = 1e999", "finite"),
        ("[local.parameters]\nA = 2013-99-99", "not valid TOML"),
        ("[local.parameters]\nA = 2013-01-01", "A date is text"),
        ('[local.parameters]\nA = "a\\u0000b"', "NUL"),
        ('[local.parameters]\nA = "\\ud800"', "not valid TOML"),
        ("[local]\nbucket = 0x" + "f" * 5000, "is not the name of a bucket"),
        ('[local]\nrole_arn = "a\\u0000b"', "is not the ARN"),
        ('[image]\ndirectory = "a\\u0000b"', "is not a path"),
        ("image = " + "[" * 5000, "nested too deeply"),
        ("image = " + "{a=" * 5000, "nested too deeply"),
        ("[local]\nstop_grace_seconds = true", "is not a whole number of seconds, 0 to 3600"),
        ("[local]\nstop_grace_seconds = -1", "is not a whole number of seconds"),
        ('[local]\nstop_grace_seconds = "10s"', "is not a whole number of seconds"),
        ("[cache]\nmax_age = " + "[" * 150 + "]" * 150, "is not an age"),
        ('[local.data]\n"s3:///x" = "data"', "no valid bucket name"),
        ('[local.data]\n"s3://" = "data"', "no valid bucket name"),
        ('[local.data]\n"s3:////x" = "data"', "no valid bucket name"),
        ('[local.data]\n"s3://b/../x" = "data"', "dotted part"),
    ],
    ids=lambda value: value[:40],
)
def test_values_that_nothing_can_work_with_are_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "local_runner.toml").write_text(text)
    with pytest.raises(SettingsError, match=says):
        load_settings(tmp_path)


@pytest.mark.parametrize("text", ["environments = 3", "[environments]\ndev = 3", "x = " + "9" * 5000, "\xff"])
def test_the_environments_of_a_file_of_any_form_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "local_runner.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError):
        load_environment(tmp_path, "dev")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "local_runner.toml").write_text('\ufeff[local]\nregion = "eu-west-1"\n')
    assert load_settings(tmp_path).local.region == "eu-west-1"


VALUES = st.recursive(
    st.one_of(
        st.integers().map(str),
        st.integers(2**70, 2**80).map(hex),
        st.floats().map(str),
        st.dates().map(str),
        st.times().map(str),
        st.text(max_size=8).map(json.dumps),
        st.sampled_from(["9" * 5000, "0x" + "f" * 5000, "1e999", "true", '"\\u0000"', '"s3://b/../x"', "'''", '"5GB"']),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        inner.map(lambda item: f"{{ a = {item} }}"),
        st.tuples(inner, st.sampled_from([1, 50, 400])).map(lambda pair: "[" * pair[1] + pair[0] + "]" * pair[1]),
    ),
    max_leaves=4,
)
KEYS = st.sampled_from(
    ["entry", "bucket", "region", "max_age", "directory", "data", '"s3://b/x"', '"s3:///"', "a.b", ""]
)
LINES = st.one_of(
    st.tuples(KEYS, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    st.sampled_from(
        ["[pipeline]", "[local]", "[local.data]", "[local.parameters]", "[local.lambda]", "[cache]", "[x]"]
    ),
    st.text(max_size=10),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=6).map("\n".join) | st.binary(max_size=30))
def test_no_file_does_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    directory = tmp_path_factory.getbasetemp()
    content = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    (directory / "local_runner.toml").write_bytes(content)
    try:
        read = load_settings(directory)
    except SettingsError as error:
        error.message.encode()
    else:
        str(read).encode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('image_ur = "x"', "environments.dev.image_ur: there is no such setting. Did you mean 'image_uri'?"),
        (
            "schedule = {zzz = 1}",
            "dev.schedule.zzz: there is no such setting. There are kind, expression,",
        ),
        ("network = {subnet = []}", "network.subnet: there is no such setting. Did you mean 'subnets'?"),
        ("alerts = {mail = 'x'}", "alerts.mail: there is no such setting. Did you mean 'email'?"),
        (
            "policy_statements = [{Sid = 'A', Action = 'a', Resource = '*', Actions = 'b'}]",
            "0.Actions: there is no such",
        ),
    ],
)
def test_a_setting_of_an_environment_that_is_not_there(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "local_runner.toml").write_text(f"[environments.dev]\n{line}\n")
    with pytest.raises(SettingsError) as found:
        load_environment(tmp_path, "dev")
    assert said in found.value.message


def test_every_table_of_an_environment_says_which_settings_there_are() -> None:
    """One that is added to the environment, and not here, would be told as a defect."""
    annotations = {name: repr(field.annotation) for name, field in Environment.model_fields.items()}
    tables = {name for name, text in annotations.items() if "Settings" in text}
    assert tables == set(_TABLES) - {""}
