"""docker compose's output, as its versions 1 and 2 print it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_runner.engines.sdk.hosts import not_started
from local_runner.engines.sdk.output import ComposeOutput

ONE, TWO = b"wi8aqr3yhl-algo-1-f15zr", b"abcdefghij-algo-2-f15zr"


def lines(*data: bytes) -> list[tuple[str, bytes]]:
    output = ComposeOutput()
    return [line for piece in (*data, b"") for line in output.feed(piece)]


@pytest.mark.parametrize(
    "prefix", [ONE + b" | ", b"\x1b[36m" + ONE + b" |\x1b[0m ", b"\x1b[36m" + ONE + b"  | \x1b[0m"]
)
def test_a_hosts_lines_keep_their_own_space(prefix: bytes) -> None:
    assert lines(prefix + b"  two spaces | and a bar\r\n") == [("algo-1", b"  two spaces | and a bar")]


def test_a_hosts_own_colours_and_returns_are_kept() -> None:
    assert lines(ONE + b" | \x1b[31mred\x1b[0m 1%\r2%\r\n") == [("algo-1", b"\x1b[31mred\x1b[0m 1%\r2%")]


def test_what_compose_says_itself_is_kept_apart() -> None:
    output = ComposeOutput()
    said = b"Attaching to " + ONE + b"\n\x1b[36m" + ONE + b" exited with code 3\n\x1b[0mERROR: no such image\n"
    assert output.feed(said) == []
    assert output.own_lines[-1] == "ERROR: no such image"


@pytest.mark.parametrize("name", [ONE, TWO])
def test_a_last_line_without_an_end(name: bytes) -> None:
    text = ONE + b" | no newline\x1b[36m" + name + b" exited with code 0\n\x1b[0m"
    assert lines(text) == [("algo-1", b"no newline")]


def test_hosts_are_told_apart() -> None:
    assert lines(ONE + b" | a\n" + TWO + b" | b\n") == [("algo-1", b"a"), ("algo-2", b"b")]


@given(st.integers(1, 60))
def test_it_does_not_matter_how_the_output_is_cut(size: int) -> None:
    text = b"Attaching\n\x1b[33m" + ONE + b" |\x1b[0m first\r\n" + TWO + b"  | second \xc3\xbc\r\n" + ONE + b" | third"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert lines(*pieces) == [("algo-1", b"first"), ("algo-2", "second ü".encode()), ("algo-1", b"third")]


_RUNC = "OCI runtime create failed: runc create failed: unable to start container process: "


@pytest.mark.parametrize(
    "said",
    [
        "ERROR: for x-algo-1-abcde  Cannot start service algo-1-abcde: failed to create shim task: "
        f'{_RUNC}exec: "train": executable file not found in $PATH: unknown.',
        f'Error response from daemon: {_RUNC}exec: "train": executable file not found in $PATH: unknown\n  Aborting',
    ],
    ids=["compose 1", "compose 2"],
)
def test_a_program_that_the_image_has_not_is_told_in_plain_words(said: str) -> None:
    told = str(not_started(said))
    assert told.startswith(
        "the image has no 'train' that can be started (executable file not found in $PATH). SageMaker "
    )
    assert not_started("ERROR: no such image") is None
