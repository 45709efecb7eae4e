"""
Globs that leave files out.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realize.move.excludes import Excludes


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
    assert Excludes.parse([glob]).match(path) is matches


def test_any_of_several() -> None:
    """
    One glob that matches is enough; no globs match nothing.
    """
    excludes = Excludes.parse(["*.a", "*.b"])
    assert excludes.match(b"x.a")
    assert excludes.match(b"x.b")
    assert not excludes.match(b"x.c")
    assert not Excludes.parse([]).match(b"x")


@pytest.mark.parametrize(
    ("glob", "says"),
    [
        ("!x", 'write "\\!"'),
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
        Excludes.parse([glob])
    assert says in str(caught.value)
    assert f'"{glob}"' in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(
    globs=st.lists(
        st.builds(
            lambda start, names, end: start + "/".join(names) + end,
            st.sampled_from(["", "/"]),
            st.lists(
                # Git itself is odd about "a**/b".
                st.text("ab*?", min_size=1, max_size=3).filter(
                    lambda name: name == "**" or "**" not in name
                ),
                min_size=1,
                max_size=3,
            ),
            st.sampled_from(["", "/"]),
        ),
        min_size=1,
        max_size=1,
    ),
    paths=st.sets(
        st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=3).map(
            "/".join
        ),
        min_size=10,
        max_size=30,
    ),
)
def test_agrees_with_git(
    tmp_path_factory: pytest.TempPathFactory, globs: list[str], paths: set[str]
) -> None:
    """
    For paths without special characters, the answer is that of ``git check-ignore``.
    """
    repository = _repository(tmp_path_factory)
    (repository / ".gitignore").write_text("".join(f"{glob}\n" for glob in globs))
    answer = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=repository,
        input="\0".join(sorted(paths)).encode(),
        capture_output=True,
        check=False,
    )
    ignored = set(answer.stdout.decode().split("\0")) - {""}
    excludes = Excludes.parse(globs)
    assert {path for path in paths if excludes.match(path.encode())} == ignored


def _repository(factory: pytest.TempPathFactory) -> Path:
    """
    One empty repository for all examples.
    """
    path = factory.getbasetemp() / "ignoring"
    if not path.exists():
        path.mkdir()
        subprocess.run(["git", "init", "-q", str(path)], check=True)
    return path
