"""
Lists of names that are to be moved.
"""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realize.errors import ConfigError
from realize.model import MAX_BATCH
from realize.move.names import NameList, batches
from realize.move.outcome import MoveSettings
from tests.support.moving import Scene

NAMES = st.lists(
    st.binary(min_size=1, max_size=20).filter(
        lambda name: not set(name) & {0, 47} and name not in (b".", b"..")
    )
)


@given(names=NAMES)
def test_null_terminated_names_are_kept_as_they_are(names: list[bytes]) -> None:
    """Any byte but null and slash may be in a name, and a list can be read again."""
    listed = NameList.read(BytesIO(b"".join(name + b"\0" for name in names)), null=True)
    names = [
        name.removeprefix(b"\xef\xbb\xbf") if not index else name
        for index, name in enumerate(names)
    ]
    assert list(listed) == list(listed) == [name for name in names if name]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"", []),
        (b"a\nb", [b"a", b"b"]),
        (b"a\n\n\nb\n", [b"a", b"b"]),
        (b"./a\n.//b/c\n.\n./\n", [b"a", b"b/c"]),
        (b"sub/\n", [b"sub"]),
        (b"/top/src/a\n/top/src/b/c\n", [b"a", b"b/c"]),
        (b"\xef\xbb\xbfa\n", [b"a"]),
        (b" a \n", [b" a "]),
    ],
)
def test_as_programs_print_them(text: bytes, names: list[bytes]) -> None:
    """What ``find`` puts before a name is taken off, and nothing else."""
    assert list(NameList.read(BytesIO(text), b"/top/src")) == names


@pytest.mark.parametrize("text", [b"a\n../b", b"ok\na/../b", b"ok\n/elsewhere/b"])
def test_what_is_not_below_the_source(text: bytes) -> None:
    """It is refused with its number."""
    with pytest.raises(ConfigError, match="--files-from: name 2: "):
        NameList.read(BytesIO(text), b"/top/src")


def test_long_list() -> None:
    """It comes in batches that one listing may look for."""
    many = [b"%06d/name" % number for number in range(3 * MAX_BATCH + 1)]
    listed = NameList.read(BytesIO(b"\n".join(many)))
    parts = list(batches(listed))
    assert [len(part) for part in parts] == [MAX_BATCH] * 3 + [1]
    assert [name for part in parts for name in part] == many
    long = [bytes([65 + number]) * 4000 for number in range(26)] * 10
    assert all(sum(map(len, part)) <= 256 * 1024 for part in batches(long))


def test_only_named_files_are_moved() -> None:
    """Others stay, one that is not there is told of, and all batches are listed."""
    names = [b"f%d" % number for number in range(2500)]
    scene = Scene(MoveSettings(names=(*names, b"none"), recurse=False))
    for number in range(2600):
        scene.here.put(b"f%d" % number, b"x")
    scene.here.put(b"d/below", b"x")
    scene.run()
    assert scene.mover.totals.succeeded == 2500
    assert scene.mover.totals.notices["missing"] == 1
    assert scene.mover.totals.failed == 1
    assert set(scene.there.files) == set(names)
