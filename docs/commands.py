"""Write docs/COMMANDS.md: every command and option, as the command line itself tells them (--help).

    .venv/bin/python docs/commands.py [FILE]

tests/unit/test_docs.py fails where the committed page is not what this writes.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from local_runner.cli.local import cli

PAGE = Path(__file__).with_name("COMMANDS.md")

INTRODUCTION = """\
# Commands

<!-- Written by `make docs` (docs/commands.py) from the commands themselves. Change their help texts, not this page. -->

They are in `.venv/bin`; `python -m local_runner` is the same. Each has `--help`, which says what stands here.

`TARGET` is a `pipeline.py` (or `FILE.py:FUNCTION`; default: `entry` in `local_runner.toml`) or any pipeline definition
JSON, also what `aws sagemaker describe-pipeline` prints. `--env NAME` is `[environments.NAME]` of `local_runner.toml`.

Exit codes, where a command names no others: 0 succeeded, 1 the pipeline failed, 2 usage or configuration, also what
AWS would refuse, 4 only this machine lacks something (data, an image, an engine, what runs a step's type), 130
interrupted. (`make` turns every failure into its own 2.)
`local-runner --debug COMMAND` shows the traceback of an error.

Shell completion: `eval "$(_LOCAL_RUNNER_COMPLETE=bash_source local-runner)"`, or `zsh_source`, `fish_source`.
"""

# Every command stands in one group, with the page that says more.
GROUPS = {
    "On this machine": {
        "run": "CACHE.md",
        "watch": "WATCH.md",
        "validate": "CONTRACT.md",
        "why": "CACHE.md",
        "compile": "ADAPT.md",
        "image": "ADAPT.md",
        "doctor": "TROUBLESHOOTING.md",
        "clean": "CACHE.md",
    },
    "To an AWS account": {
        "plan": "PROMOTE.md",
        "promote": "PROMOTE.md",
        "bootstrap": "SCHEDULE.md",
        "export": "SCHEDULE.md",
    },
    "After a promotion": dict.fromkeys(
        ("status", "trigger", "logs", "pause", "resume", "releases", "rollback", "retire"), "OPERATE.md"
    ),
}


def page() -> str:
    """The page's text. A command that stands in no group is an error."""
    names = [name for group in GROUPS.values() for name in group]
    if sorted(names) != sorted(cli.commands):
        raise SystemExit(f"docs/commands.py: GROUPS has {sorted(names)}; the commands are {sorted(cli.commands)}.")
    lines = [INTRODUCTION]
    for title, group in GROUPS.items():
        lines += [f"{title}:", "", "| Command | What it does | More |", "|---|---|---|"]
        for name, more in group.items():
            first, *_ = _paragraphs(cli.commands[name])
            lines.append(f"| [`{_usage(name)}`](#{name}) | {_cell(first)} | [{more}]({more}) |")
        lines.append("")
    for name in names:
        lines += _command(name)
    return "\n".join(lines).rstrip("\n") + "\n"


def _command(name: str) -> Iterator[str]:
    command = cli.commands[name]
    yield from (f"## {name}", "", f"`local-runner {_usage(name)}`", "")
    for paragraph in _paragraphs(command):
        yield from (paragraph, "")
    examples = re.search(r"^Examples?:\n(.*)", inspect.cleandoc(command.help or ""), re.DOTALL | re.MULTILINE)
    if examples:
        prompted = re.sub(r"^  (?=\S)", "$ ", examples[1], flags=re.MULTILINE)
        yield from ("```console", *(line.removeprefix("  ") for line in prompted.splitlines()), "```", "")
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if options:
        yield from ("| Option | Meaning |", "|---|---|")
        yield from (f"| {_names(option)} | {_meaning(command, option)} |" for option in options)
        yield ""


def _usage(name: str) -> str:
    """The command with its arguments; of its options only what it cannot do without."""
    command = cli.commands[name]
    words = [name]
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            word = str(parameter.name).upper()
            words.append(word if parameter.required else f"[{word}]")
        elif parameter.required:
            words.append(parameter.opts[0])
    return " ".join(words)


def _paragraphs(command: click.Command) -> list[str]:
    """The help before its examples, with the backquotes that it has."""
    text, _, _ = inspect.cleandoc(command.help or "").partition("\b\n")
    return [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]


def _names(option: click.Option) -> str:
    """``-p``, ``--param NAME=VALUE``."""
    *others, last = option.opts
    value = "" if option.is_flag else f" {_value(option)}"
    return ", ".join([*(f"`{name}`" for name in others), f"`{last}{value}`"])


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return str(option.name).upper()
    if isinstance(option.type, click.Path):
        return "DIR" if not option.type.file_okay else "FILE" if not option.type.dir_okay else "PATH"
    return "N" if isinstance(option.type, click.IntRange) else option.type.name.upper()


def _meaning(command: click.Command, option: click.Option) -> str:
    """The help text; then the values it can have, its default, and whether it is needed."""
    text = re.sub(r"\s+\[default: (.*)\]$", r" Default: \1.", option.help or "")
    if option.multiple and "repeatable" not in text:
        text += " Repeatable."
    if isinstance(option.type, click.Choice):
        text += f" One of {', '.join(f'`{value}`' for value in option.type.choices)}."
    if option.show_default:
        text += f" Default: `{option.get_default(click.Context(command))}`."
    return _cell(text + (" Required." if option.required else ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
