"""The documents against the program: every command, option, link, module and version that they name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from support.project import PROJECT

from local_runner.cli.local import cli
from local_runner.engines import STOPS
from local_runner.engines.sandbox.engine import DIFFERENCES

PATTERNS = ("*.md", "docs/**/*.md", "data/*.md", "benchmarks/*.md", ".github/**/*.md")
DOCUMENTS = sorted(path for pattern in PATTERNS for path in PROJECT.glob(pattern))
README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(cli.commands)
ARCHITECTURE = PROJECT / "docs" / "ARCHITECTURE.md"
COMMANDS_PAGE = PROJECT / "docs" / "COMMANDS.md"

# The commands of a session that are not the project's own.
_OTHERS = {"git", "echo", "docker", "aws", "uv", "uvx", "pip"}


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
        for line in "\n".join(lines).replace("\\\n", " ").splitlines()
        if language == "console" and line.startswith("$ ")
    ]


def words_of(command: str) -> list[str]:
    """The command's words, without the assignments in front of it and the file that its output goes to."""
    words = shlex.split(command.partition(" > ")[0])
    while re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    return words


def anchors(path: Path) -> set[str]:
    """The anchors that the headings of a document get."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ------------------------------------------------------------------------------------------------------ commands
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = cli.commands[name]
    # In the group's context, as it is called: click keeps the help option that it makes first.
    outer = cli.make_context("local-runner", [name])
    text = command.get_help(click.Context(command, parent=outer, info_name=name))
    _, _, examples = text.partition("Example")
    assert f"local-runner {name}" in examples


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name: str) -> None:
    options = [option for option in cli.commands[name].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_the_page_of_commands_is_what_the_commands_say(tmp_path: Path) -> None:
    """`make docs` writes it; a command, option or help text that changed without that fails here."""
    subprocess.run([sys.executable, PROJECT / "docs" / "commands.py", tmp_path / "written.md"], check=True)
    written = (tmp_path / "written.md").read_text(encoding="utf-8")
    assert COMMANDS_PAGE.read_text(encoding="utf-8") == written, "run: make docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_on_its_page_and_nothing_else_is(name: str) -> None:
    page = COMMANDS_PAGE.read_text(encoding="utf-8")
    assert f"](#{name}) |" in page
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    documented = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(cells)))
    assert documented == {
        option for parameter in cli.commands[name].params for option in parameter.opts if "-" in option
    }


def test_every_target_of_make_is_in_the_readme_or_needs_no_word() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    missing = [name for name in targets if not re.search(rf"`(make )?{name}`", README) and name != "help"]
    assert missing == []


def test_what_the_sandbox_says_is_quoted_as_it_is() -> None:
    page = (PROJECT / "docs" / "ENGINES.md").read_text(encoding="utf-8")
    assert [difference for difference in DIFFERENCES if difference not in page] == []


def test_the_readme_is_read_in_one_go_and_leads_to_every_page() -> None:
    assert len(README.splitlines()) <= 200
    pages = [path.relative_to(PROJECT).as_posix() for path in PROJECT.glob("docs/*.md")]
    assert [page for page in pages if f"]({page})" not in README] == []


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
        outer = cli.make_context(program, words[1:])
        cli.commands[words[1]].make_context(words[1], words[2:], parent=outer)
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


@pytest.mark.slow
def test_the_site_has_every_document_and_takes_nothing_from_elsewhere(tmp_path: Path) -> None:
    """MkDocs fails on a link or anchor that leads nowhere, and on a page that no menu has (mkdocs.yml)."""
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=PROJECT, env=os.environ | quiet, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    for path in DOCUMENTS:
        place = path.relative_to(PROJECT)
        page = place.with_name("index.html") if path.name == "README.md" else place.with_suffix(".html")
        assert place.parts[0] == ".github" or (tmp_path / "site" / page).is_file(), page
    loads = (
        r"""<(?:script|img|iframe|link rel="(?:stylesheet|preconnect|icon)")[^>]+(?:src|href)="(?:https?:)?//[^"]+"""
    )
    for path in (tmp_path / "site").rglob("*.html"):
        assert re.findall(loads, path.read_text(encoding="utf-8")) == [], path


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_is_there(path: Path) -> None:
    """Those that are written in full, from the project's directory."""
    named = re.findall(r"`((?:local_runner|tests|docs|tools|benchmarks|examples)/[\w./-]+)`", path.read_text("utf-8"))
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_the_workflow_runs_what_ci_runs_and_the_forms_are_forms() -> None:
    """GitHub shows an error only after a push; here it is YAML, and has what GitHub asks for."""
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow[True].keys() == {"pull_request", "push"}  # YAML reads the key "on" as true
    assert workflow["permissions"] == {"contents": "read"}
    assert [job for job in workflow["jobs"].values() if ".ci/run" not in job["steps"][-1]["run"]] == []
    for path in (PROJECT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert path.name == "config.yml" or {"name", "description", "body"} <= form.keys(), path
    updates = yaml.safe_load((PROJECT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    assert updates["version"] == 2


def test_hooks_are_the_project_s_own_tools() -> None:
    """No hook is fetched, and each is a program that `make setup` installs."""
    found = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repository["repo"] for repository in found["repos"]} == {"local"}
    entries = [hook["entry"].split()[0] for repository in found["repos"] for hook in repository["hooks"]]
    assert [entry for entry in entries if not (Path(sys.prefix) / "bin" / Path(entry).name).is_file()] == []
    assert all(entry.startswith(".venv/bin/") for entry in entries)


def test_the_changelog_is_about_this_version() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?([^\]\s]+)", changelog, re.MULTILINE)
    assert newest
    assert newest[1] == version


def test_the_contract_has_the_signal_that_stops_each_type_of_job_and_its_source() -> None:
    contract = (PROJECT / "docs" / "CONTRACT.md").read_text(encoding="utf-8")
    for name, stop in STOPS.items():
        documented = not stop.source.startswith("our choice")
        rows = [line for line in contract.splitlines() if documented and stop.source in line]
        assert any(stop.signal.name in row for row in rows) or not documented, name
        assert stop.grace is None or any(f"{stop.grace} s" in row for row in rows), name


def test_every_module_has_its_line_in_the_architecture() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    tree = text.partition("\nlocal_runner/\n")[2].partition("\ntests/\n")[0]
    named = {name for line in tree.splitlines() for name in re.findall(r"\w+\.py", re.split(r"(?<=\S)  +", line)[0])}
    modules = {path.name for path in (PROJECT / "local_runner").rglob("*.py")}
    assert named == modules


def test_every_decision_has_its_page_and_its_line() -> None:
    decisions = sorted((PROJECT / "docs" / "decisions").glob("*.md"))
    assert decisions
    linked = re.findall(r"^- \[(.+)\]\((decisions/.+)\): .+\.$", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [link for _, link in linked] == [f"decisions/{path.name}" for path in decisions]
    for number, (path, (title, _)) in enumerate(zip(decisions, linked, strict=True), 1):
        assert re.match(rf"{number:03d}-[a-z0-9-]+\.md", path.name)
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == [title, "Context", "Decision", "Consequences"]


def test_no_document_names_this_machine() -> None:
    pictures = list((PROJECT / "docs").glob("*.svg"))
    assert pictures
    for path in [*DOCUMENTS, *pictures]:
        assert str(PROJECT) not in path.read_text(encoding="utf-8"), path
