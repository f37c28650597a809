"""How the sandbox cuts a job's output into lines."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from local_runner.engines.host_log import MAX_LINE, LineSplitter

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8)


def split(*chunks: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end()


def test_lines_end_with_any_line_end():
    assert split(b"one\ntwo\r\n\nthree\rfour") == ["one", "two", "", "three", "four"]


def test_progress_bars_give_a_line_for_each_state():
    assert split(b"\r 10%", b"\r 20%\r 100%\n") == [" 10%", " 20%", " 100%"]


def test_a_line_end_may_arrive_in_two_pieces():
    assert split(b"one\r", b"\ntwo\r", b"three") == ["one", "two", "three"]


def test_what_is_not_utf8_is_replaced():
    assert split(b"caf\xe9\n", "café".encode()) == ["caf\ufffd", "café"]


def test_a_character_may_arrive_in_two_pieces():
    assert split(b"caf\xc3", b"\xa9\n") == ["café"]


def test_a_line_without_end_is_passed_on_in_pieces():
    splitter = LineSplitter()
    lines = [line for _ in range(100) for line in splitter.feed(b"x" * 10_000)]
    assert {len(line) for line in lines} == {MAX_LINE}
    assert sum(map(len, [*lines, *splitter.end()])) == 1_000_000


@given(st.lists(st.tuples(TEXT, st.sampled_from(["\n", "\r\n"]))), st.data())
def test_chunks_do_not_matter(lines: list[tuple[str, str]], data: st.DataObject):
    text = "".join(line + end for line, end in lines).encode()
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=5))
    edges = [0, *sorted(cuts), len(text)]
    chunks = [text[start:end] for start, end in itertools.pairwise(edges)]
    assert split(*chunks) == [line for line, _ in lines]


@given(st.text(max_size=200))
def test_nothing_visible_is_lost(text: str):
    text = text.encode("utf-8", "replace").decode()
    assert "".join(split(text.encode())) == re.sub(r"[\r\n]", "", text)
