"""
Directories from which nothing can be removed, found out beforehand.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from realize.store.filesystem import UNKNOWN, FileSystem
from realize.store.hidden import PROBE
from realize.store.listing import Walk
from realize.store.refusals import refusal
from realize.store.root import Root
from tests.support.files import as_nobody, names_below
from tests.support.requirements import needs


def why(path, known=None):
    """
    The reason of a directory.
    """
    root = Root.open(path)
    try:
        with root.directory(b"") as fd:
            return refusal(fd, known or FileSystem.of(fd))
    finally:
        root.close()


@pytest.mark.parametrize("known", [None, UNKNOWN])
def test_no_refusal(tree, known):
    """
    Nothing is left of having tried it.
    """
    assert why(tree, known) == ""
    assert names_below(tree) == set()


@needs(root=True)
def test_no_permission(public):
    """
    For whoever asks.
    """
    public.chmod(0o755)
    assert why(public) == ""
    with as_nobody():
        assert why(public) == "Permission denied"


@needs(root=True)
def test_left_by_another_user(public):
    """
    What a crash of theirs has left of trying it out says nothing of what we may do.
    """
    public.chmod(0o777)
    (public / os.fsdecode(PROBE)).mkdir(0o700)
    with as_nobody():
        assert why(public, UNKNOWN) == ""
    public.chmod(0o755)
    with as_nobody():
        assert why(public, UNKNOWN) == "Permission denied"


@needs("chattr", root=True)
@pytest.mark.parametrize("flag", ["i", "a"])
def test_flags(tree, flag):
    """
    For root too.
    """
    done = subprocess.run(["chattr", f"+{flag}", tree], check=False)
    if done.returncode:
        pytest.skip("no such flags here")
    try:
        assert "immutable" in why(tree)
    finally:
        subprocess.run(["chattr", f"-{flag}", tree], check=True)


@needs(root=True)
def test_read_only(public):
    """
    A mount of something that can be written to elsewhere.
    """
    subprocess.run(["mount", "--bind", public, public], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", public], check=True)
        assert why(public) == "Read-only file system"
    finally:
        subprocess.run(["umount", public], check=True)


@needs("bindfs", root=True)
@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--delete-deny", "cannot remove a file from it"),
        ("--rename-deny", "cannot rename a file in it"),
        ("--xattr-none", ""),
    ],
)
def test_a_program_that_refuses(tmp_path, option, reason):
    """
    Permissions do not tell.  However often it is tried, what is left is one directory,
    which no listing shows.
    """
    low, high = tmp_path / "low", tmp_path / "high"
    low.mkdir()
    high.mkdir()
    (low / "file").write_bytes(b"x")
    subprocess.run(["bindfs", option, low, high], check=True)
    try:
        for _ in range(3):
            assert why(high).startswith(reason)
            assert bool(why(high)) == bool(reason)
        root = Root.open(high)
        page = Walk(root).page()
        root.close()
    finally:
        subprocess.run(["umount", high], check=True)
    assert [file.path for file in page.files] == [b"file"]
    assert [each.kind for each in page.notices] == ["unremovable"] * bool(reason)
    assert len(list(low.iterdir())) <= 2
