"""local_runner.toml: what it may hold, and every problem of one that holds something else."""

from __future__ import annotations

from pathlib import Path

import pytest

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
        "local.data: b/raw: 'b/raw' is not an S3 URI (s3://BUCKET/KEY). s3://b/raw: 3 is not a path.",
        "local.parameters: ProcessingDate: 2013-01-01 is not text, a number, true or false. "
        "(A date is text: put it in quotes.)",
        "pipeline.entri: there is no such setting. Settings of [pipeline]: entry, secret.",
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
