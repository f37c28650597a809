"""What the processing image's tag depends on, what its Dockerfile says, what is said where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runner.errors import SettingsError
from local_runner.image.source import read_image_source
from local_runner.image.tag import image_tag
from local_runner.settings import ImageSettings, Settings

DOCKERFILE = "ARG PYTHON_VERSION=3.11\nARG BASE_IMAGE=python:${PYTHON_VERSION}-slim-bookworm\nFROM ${BASE_IMAGE}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "My Project_2" / "processing"
    directory.mkdir(parents=True)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "requirements.txt").write_text("pandas==3.1.1\n")
    (directory / ".dockerignore").write_text("# scripts come in as code inputs\n*\n!requirements.txt\n!system\n")
    (directory / "transform.py").write_text("print(1)\n")
    (directory / "system").mkdir()
    (directory / "system" / "fonts.conf").write_text("a")
    return directory


def tag_of(directory: Path) -> str:
    settings = Settings(root=directory.parent)
    return image_tag(settings, read_image_source(settings))


def test_tag_names_the_project_and_its_content(project: Path) -> None:
    name, _, digest = tag_of(project).partition(":")
    assert name == "local-runner/my-project-2"
    assert len(digest) == 12
    assert int(digest, 16) >= 0


@pytest.mark.parametrize("name", ["Dockerfile", "requirements.txt", ".dockerignore", "system/fonts.conf"])
def test_every_file_the_build_reads_changes_the_tag(project: Path, name: str) -> None:
    before = tag_of(project)
    with (project / name).open("a") as file:
        file.write("# changed\n!.dockerignore\n" if name == ".dockerignore" else "# changed\n")
    assert tag_of(project) != before


def test_scripts_do_not_change_the_tag(project: Path) -> None:
    before = tag_of(project)
    (project / "transform.py").write_text("print(2)\n")
    (project / "another.py").write_text("")
    (project / "__pycache__").mkdir()
    assert tag_of(project) == before


def test_times_and_group_bits_do_not_change_the_tag(project: Path) -> None:
    before = tag_of(project)
    os.utime(project / "requirements.txt", (1, 1))
    (project / "requirements.txt").chmod(0o664)
    (project / "system").chmod(0o700)
    assert tag_of(project) == before


def test_names_and_the_executable_bit_change_the_tag(project: Path) -> None:
    before = tag_of(project)
    (project / "system" / "fonts.conf").chmod(0o755)
    executable = tag_of(project)
    (project / "system" / "fonts.conf").chmod(0o644)
    (project / "system" / "fonts.conf").rename(project / "system" / "font.conf")
    assert len({before, executable, tag_of(project)}) == 3


def test_a_link_counts_as_where_it_points(project: Path) -> None:
    (project / "system" / "link").symlink_to("fonts.conf")
    before = tag_of(project)
    (project / "system" / "link").unlink()
    (project / "system" / "link").symlink_to("nowhere")
    assert tag_of(project) != before


def test_content_cannot_move_between_files_unseen(project: Path) -> None:
    (project / "system" / "a").write_text("12")
    (project / "system" / "b").write_text("3")
    before = tag_of(project)
    (project / "system" / "a").write_text("1")
    (project / "system" / "b").write_text("23")
    assert tag_of(project) != before


def test_the_base_image_and_python_come_from_the_dockerfile(project: Path) -> None:
    source = read_image_source(Settings(root=project.parent))
    assert source.base_image == "python:3.11-slim-bookworm"
    assert source.python_version == "3.11"


@pytest.mark.parametrize(
    ("dockerfile", "base", "python"),
    [
        ("FROM debian:12\n", None, "3.11"),
        ("ARG BASE_IMAGE=python:3.12-slim\nFROM $BASE_IMAGE\n", "python:3.12-slim", "3.12"),
        (
            'arg BASE_IMAGE="company/base:7"\nARG PYTHON_VERSION=3.13.1\nfrom $BASE_IMAGE\n',
            "company/base:7",
            "3.13",
        ),
        ("FROM a\nARG BASE_IMAGE=too-late\n", None, "3.11"),
        ("ARG BASE_IMAGE\nFROM $BASE_IMAGE\n", None, "3.11"),
    ],
)
def test_other_dockerfiles(project: Path, dockerfile: str, base: str | None, python: str) -> None:
    (project / "Dockerfile").write_text(dockerfile)
    source = read_image_source(Settings(root=project.parent))
    assert (source.base_image, source.python_version) == (base, python)


@given(st.text())
def test_any_text_is_read_as_a_dockerfile(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    directory = tmp_path_factory.mktemp("any") / "processing"
    directory.mkdir()
    (directory / "Dockerfile").write_text(text, encoding="utf-8", errors="replace")
    (directory / "requirements.txt").touch()
    assert read_image_source(Settings(root=directory.parent)).python_version


@pytest.mark.parametrize("name", ["Dockerfile", "requirements.txt"])
def test_a_missing_file_is_named(project: Path, name: str) -> None:
    (project / name).unlink()
    with pytest.raises(SettingsError, match=rf"processing/{name} is missing\. Create it"):
        read_image_source(Settings(root=project.parent))


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, image=ImageSettings(directory=Path("elsewhere")))
    with pytest.raises(SettingsError, match=r"elsewhere does not exist\. .*\[image\] in local_runner\.toml"):
        read_image_source(settings)


def test_the_projects_own_image_directory_is_usable() -> None:
    root = Path(__file__).parents[2]
    source = read_image_source(Settings(root=root))
    assert source.base_image == "python:3.11-slim-bookworm"
    lines = [
        line for line in source.requirements.read_text().splitlines() if line and not line.lstrip().startswith("#")
    ]
    assert {line.partition("==")[0] for line in lines} >= {"pandas", "pyarrow", "scikit-learn"}
    assert all("==" in line for line in lines)
    assert "://" not in source.requirements.read_text()
