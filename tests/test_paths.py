"""
Names from the other side, and names for people.
"""

from __future__ import annotations

import os
import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from realize.errors import UnsafePath
from realize.paths import (
    MAX_COMPONENTS,
    MAX_PATH,
    RESERVED_INFIX,
    RelativePath,
    is_hidden_directory,
    is_partial,
    is_reserved,
    join,
    parent_of,
    printable,
    unprintable,
)

#: Bytes that are likely to be trouble, and any others.
names = st.lists(
    st.sampled_from([b"/", b".", b"..", b"\0", b"a", b"\xff", b"\n", b"\\"])
    | st.binary(max_size=3),
    max_size=8,
).map(b"".join)


@given(names)
@example(b"")
@example(b"/")
@example(b"a/")
@example(b"a//b")
@example(b"./a")
@example(b"a/../b")
@example(b"//a")
def test_parse_takes_only_what_is_canonical(raw: bytes) -> None:
    """
    What normalising would change, or would lead out of the root, is refused; all
    else is taken as it is.
    """
    canonical = (
        raw not in (b"", b".")
        and b"\0" not in raw
        and posixpath.normpath(raw) == raw
        and not raw.startswith(b"/")
        and not raw.startswith(b"../")
        and raw != b".."
    )
    try:
        path = RelativePath.parse(raw)
    except UnsafePath:
        assert not canonical
    else:
        assert canonical
        assert path.raw == raw
        assert b"/".join(path.parts) == raw
        assert join(b"/".join(path.parent), path.name) == raw
        assert parent_of(raw) == b"/".join(path.parent)


@given(names, names)
def test_a_parsed_path_stays_below_its_root(root: bytes, raw: bytes) -> None:
    """
    Joined to any root, a path that was taken is inside it.
    """
    try:
        path = RelativePath.parse(raw)
    except UnsafePath:
        return
    base = posixpath.normpath(b"/root/" + root.replace(b"\0", b""))
    joined = posixpath.normpath(posixpath.join(base, path.raw))
    assert joined.startswith(base.rstrip(b"/") + b"/")


def test_over_long_and_over_deep_paths_are_refused() -> None:
    """
    The limits are the last that is taken.
    """
    most = b"/".join([b"n" * 62] * (MAX_COMPONENTS - 1))
    most += b"/" + b"n" * (MAX_PATH - len(most) - 1)
    assert RelativePath.parse(most).raw == most
    with pytest.raises(UnsafePath):
        RelativePath.parse(most + b"n")
    deepest = b"/".join([b"n"] * MAX_COMPONENTS)
    assert len(RelativePath.parse(deepest).parts) == MAX_COMPONENTS
    with pytest.raises(UnsafePath):
        RelativePath.parse(deepest + b"/n")


def test_a_refusal_shows_the_name_safely() -> None:
    """
    Nothing of a hostile name reaches a terminal as it is.
    """
    with pytest.raises(UnsafePath) as caught:
        RelativePath.parse(b"../\x1b[2J\n")
    assert str(caught.value).isprintable()


@given(st.binary())
@example(b"\\x41")
@example(b"caf\xc3\xa9\n\xff")
@example("‮ bidi".encode())
@example("\ud800".encode("utf-8", "surrogatepass"))
def test_printable_can_be_read_back(name: bytes) -> None:
    """
    Text for people is one harmless line and says exactly which bytes it stands for.
    """
    text = printable(name)
    assert text.isprintable()
    text.encode("utf-8")
    assert unprintable(text) == name


@given(st.binary(), st.binary())
def test_two_names_never_look_alike(first: bytes, second: bytes) -> None:
    """
    Different bytes, different text.
    """
    assert (printable(first) == printable(second)) == (first == second)


@given(st.binary())
def test_names_from_the_command_line_are_the_same(name: bytes) -> None:
    """
    A name that Python has decoded shows as its bytes do.
    """
    assert printable(os.fsdecode(name)) == printable(name)


@pytest.mark.parametrize("text", ["\\", "\\x", "\\x4", "\\xGG", "\\n", "a\\q", "\\x4A"])
def test_text_that_printable_never_makes_is_refused(text: str) -> None:
    """
    Nothing is guessed about a backslash.
    """
    with pytest.raises(ValueError, match="not a name"):
        unprintable(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b".a.realize-part", True),
        (b"..realize-part", True),
        (b".realize-part", True),
        (b"a.realize-part", False),
        (b".a.realize-part2", False),
    ],
)
def test_partials_are_known_by_their_name(name: bytes, expected: bool) -> None:
    """
    Both affixes make a partial.
    """
    assert is_partial(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b".realize-moved-0123456789abcdef", True),
        (b".realize-moved-0123456789abcdef\n", False),
        (b".realize-moved-0123456789abcde", False),
        (b".realize-moved-0123456789abcdefa", False),
        (b".realize-moved-0123456789ABCDEF", False),
        (b"x.realize-moved-0123456789abcdef", False),
    ],
)
def test_hidden_directories_are_known_by_their_name(
    name: bytes, expected: bool
) -> None:
    """
    A prefix and sixteen hexadecimal digits, and nothing more.
    """
    assert is_hidden_directory(name) is expected


def test_reserved_names_have_something_in_common() -> None:
    """
    By which most names are known at once not to be reserved.
    """
    for name in (b".photo.realize-part", b".realize-moved-0123456789abcdef"):
        assert is_reserved(name)
        assert RESERVED_INFIX in name
    assert not is_reserved(b"photo.realize-part")
    assert not is_reserved(b".realize-moved-0123")
