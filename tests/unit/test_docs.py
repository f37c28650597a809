"""The documents against the program: every command, option, link, module and version that they name."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from local_runner.cli import cli
from local_runner.engines.sandbox import DIFFERENCES

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("data/*.md")])
README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(cli.commands)

# The commands of a session that are not the project's own.
_OTHERS = {"git", "echo", "uv", "uvx", "pip"}


def blocks(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The fenced blocks of a document: the language, and the lines."""
    language: str | None = None
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            language, lines = line.removeprefix("```"), []
        else:
            yield language, lines
            language = None
    assert language is None, f"{path.name}: a fenced block has no end"


def session_commands() -> list[str]:
    """Every command of every console session. The prompt is ``$ ``; what follows a command is its output."""
    return [
        line.removeprefix("$ ")
        for path in DOCUMENTS
        for language, lines in blocks(path)
        for line in lines
        if language == "console" and line.startswith("$ ")
    ]


def words_of(command: str) -> list[str]:
    """The command's words, without the assignments in front of it."""
    words = shlex.split(command)
    while re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    return words


def anchors(path: Path) -> set[str]:
    """The anchors that the headings of a document get."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ------------------------------------------------------------------------------------------------------ commands
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_is_in_the_readme(name: str) -> None:
    command = cli.commands[name]
    text = command.get_help(click.Context(command, info_name=f"local-runner {name}"))
    _, _, examples = text.partition("Example")
    assert f"local-runner {name}" in examples
    assert f"`local-runner {name}" in README


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name: str) -> None:
    options = [option for option in cli.commands[name].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_every_option_of_run_is_in_the_readme_and_nothing_else_is() -> None:
    _, _, after = README.partition("Options of `run`:")
    cells = [line.split(" | ")[0] for line in after.partition("\n\n`")[0].splitlines() if line.startswith("| `")]
    documented = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(cells)))
    assert documented == {
        option for parameter in cli.commands["run"].params for option in parameter.opts if "-" in option
    }


def test_the_options_of_the_other_commands_are_in_the_readme() -> None:
    options = {option for name in COMMANDS for parameter in cli.commands[name].params for option in parameter.opts[:1]}
    assert [name for name in options if name.startswith("-") and not re.search(rf"[`\[]{name}[\s`,]", README)] == []


def test_every_target_of_make_is_in_the_readme_or_needs_no_word() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    missing = [name for name in targets if not re.search(rf"`(make )?{name}`", README) and name != "help"]
    assert missing == []


def test_what_the_sandbox_says_is_quoted_as_it_is() -> None:
    assert [difference for difference in DIFFERENCES if difference not in README] == []


# ------------------------------------------------------------------------------------------------------ sessions
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_sessions_are_marked_as_such(path: Path) -> None:
    """So that they can be found and run again: ``console`` blocks have prompts, and no others have."""
    for language, lines in blocks(path):
        assert language, f"{path.name}: a fenced block without a language"
        assert (language == "console") == any(line.startswith("$ ") for line in lines), lines


@pytest.mark.parametrize("command", session_commands())
def test_commands_of_sessions_can_be_given(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    words = words_of(command)
    program = words[0].removeprefix(".venv/bin/")
    if program == "local-runner":
        cli.commands[words[1]].make_context(words[1], words[2:])
    elif program == "make":
        makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
        for word in words[1:]:
            assert re.search(rf"^{word}:|^{word.partition('=')[0]} +\?=", makefile, re.MULTILINE), word
    else:
        assert program in _OTHERS


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_are_python(path: Path) -> None:
    for language, lines in blocks(path):
        if language == "python":
            compile("\n".join(lines), path.name, "exec")


# --------------------------------------------------------------------------------------------- names that agree
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{path.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{path.name} links to {link}, and there is no such heading"


def test_the_changelog_is_about_this_version() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?([^\]\s]+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == version


def test_every_module_has_its_line_in_the_architecture() -> None:
    text = (PROJECT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = text.partition("\nlocal_runner/\n")[2].partition("\ntests/\n")[0]
    named = {name for line in tree.splitlines() for name in re.findall(r"\w+\.py", re.split(r"(?<=\S)  +", line)[0])}
    modules = {path.name for path in (PROJECT / "local_runner").rglob("*.py")}
    assert named == modules


def test_no_document_names_this_machine() -> None:
    pictures = list((PROJECT / "docs").glob("*.svg"))
    assert pictures
    for path in [*DOCUMENTS, *pictures]:
        assert str(PROJECT) not in path.read_text(encoding="utf-8"), path
