"""
Whatever a text is, it becomes one printable line of bounded length.
"""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realize.texts import (
    CUT,
    MAX_LABEL,
    MAX_LINE,
    Label,
    Line,
    cut,
    json_text,
    printable_line,
)

#: Control characters of both kinds, line ends, surrogates, and what is not seen.
HARMFUL = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
]


def test_nothing_harmful_is_left() -> None:
    """
    None of the characters by which a text would be more than letters on a line.
    """
    assert {"\x1b", "\x9b", "\n", "\u202e", "\u200b", "\ud800"} <= set(HARMFUL)
    for character in HARMFUL:
        line = printable_line(f"a{character}b")
        assert line.isprintable()
        assert line.isascii()
        assert line.startswith("a\\x")


@pytest.mark.parametrize(("kind", "most"), [(Line, MAX_LINE), (Label, MAX_LABEL)])
@given(
    text=st.text(st.characters(exclude_categories=[]), max_size=80),
    times=st.sampled_from([1, 20, 2000]),
)
def test_lines(kind: type[Line], most: int, text: str, times: int) -> None:
    """
    Printable, as short as it has to be, and the same if it is made one again.
    """
    line = kind(text * times)
    assert line.isprintable()
    assert len(line.encode()) <= most
    assert kind(line) is line
    assert kind(str(line)) == line


def test_a_line_that_needs_nothing_stays() -> None:
    """
    Backslashes too: names in texts are escaped already.
    """
    text = "caf\u00e9\\x0a: cannot read: Input/output error"
    assert Line(text) == text
    assert Line("x" * MAX_LINE) == "x" * MAX_LINE


def test_what_is_long_loses_its_middle() -> None:
    """
    The name it begins with and the reason at its end stay.
    """
    line = Line("photos/" + "x" * 4000 + ".jpg: cannot read: Input/output error")
    assert line.startswith("photos/xxx")
    assert CUT in line
    assert line.endswith("x.jpg: cannot read: Input/output error")
    assert len(line) > MAX_LINE - 8


@given(st.text(max_size=50), st.integers(len(CUT) + 2, 60))
def test_cut(text: str, most: int) -> None:
    """
    No letter is cut in two.
    """
    short = cut(text, most)
    assert len(short.encode()) <= most
    assert short == text or CUT in short


@given(st.text(st.characters(exclude_categories=[])))
def test_json(text: str) -> None:
    """
    A reader gets back what was written, and a terminal gets letters.
    """
    written = json_text({"path": text})
    assert written.isprintable()
    assert json.loads(written) == {"path": text}


def test_json_stays_readable() -> None:
    """
    What is printable is not escaped.
    """
    assert json_text(["caf\u00e9\x7f\u202e"]) == '["caf\u00e9\\u007f\\u202e"]'
