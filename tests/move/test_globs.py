"""
Globs that name files.
"""

from __future__ import annotations

import os

import pytest

from realize.move.globs import Globs


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("*.tmp", b"a.tmp", True),
        ("*.tmp", b"deep/down/a.tmp", True),
        ("*.tmp", b"a.tmp/below", True),
        ("*.tmp", b"a.tmpx", False),
        ("*.tmp", b"a.tmp\n", False),
        ("*.tmp", b"a\nb.tmp", True),
        ("name", b"a\nb/name", True),
        ("name", b"surname", False),
        ("name", b"names", False),
        ("/cache", b"cache/a", True),
        ("/cache", b"cache", True),
        ("/cache", b"a/cache", False),
        ("a/b", b"a/b/c", True),
        ("a/b", b"x/a/b", False),
        ("a/*", b"a/b/c", True),
        ("a/*/c", b"a/b/c", True),
        ("a/*/c", b"a/b/b/c", False),
        ("a/**/c", b"a/c", True),
        ("a/**/c", b"a/b/b/c", True),
        ("a/**/c", b"a/bc", False),
        ("**/c", b"c", True),
        ("**/c", b"a/b/c", True),
        ("a/**", b"a/b/c", True),
        ("a/**", b"b/a/c", False),
        ("**", b"anything/at all", True),
        ("build/", b"x/build/out", True),
        ("build/", b"x/build", False),
        ("a?c", b"abc", True),
        ("a?c", "aéc".encode(), True),
        ("a?c", b"a\xffc", True),
        ("a?c", b"a/c", False),
        ("a[!b]c", b"a/c", False),
        ("a[!b]c", b"axc", True),
        ("a[^b]c", b"abc", False),
        ("a[a-c]c", b"abc", True),
        ("[]]x", b"]x", True),
        ("[a\\]]x", b"]x", True),
        ("[[]x", b"[x", True),
        ("[&&--]x", b"&x", True),
        ("\\*", b"*", True),
        ("\\*", b"a", False),
        ("\\!x", b"!x", True),
        ("a.c", b"abc", False),
        ("#x#", b"#x#", True),
        (os.fsdecode(b"caf\xe9"), b"caf\xe9", True),
    ],
)
def test_glob(glob: str, path: bytes, matches: bool) -> None:
    """
    Each rule, with a path that it leaves out and one that it does not.
    """
    assert Globs.parse([glob]).match(path) is matches


def test_any_of_several() -> None:
    """
    One glob that matches is enough; no globs match nothing.
    """
    globs = Globs.parse(["*.a", "*.b"])
    assert globs.match(b"x.a")
    assert globs.match(b"x.b")
    assert not globs.match(b"x.c")
    assert not Globs.parse([]).match(b"x")


@pytest.mark.parametrize(
    ("glob", "says"),
    [
        ("./x", 'write "/x"'),
        ("a/./b", 'write "/a/b"'),
        ("../x", "never matches"),
        (".", "never matches"),
        ("", "matches nothing"),
        ("/", "matches nothing"),
        ("a//b", "matches nothing"),
        ("a[bc", 'write "\\["'),
        ("a\\", 'write "\\\\"'),
        ("[z-a]", "[z-a]"),
    ],
)
def test_refused(glob: str, says: str) -> None:
    """
    What would silently match nothing, or something else, is refused with a hint.
    """
    with pytest.raises(ValueError, match=r"^") as caught:
        Globs.parse([glob])
    assert says in str(caught.value)
    assert f'"{glob}"' in str(caught.value)
