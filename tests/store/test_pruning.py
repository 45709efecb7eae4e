"""
Directories that removals have emptied.
"""

from __future__ import annotations

import pytest

from realize.errors import UnsafePath
from realize.store.removal import Remover
from realize.store.root import Root
from tests.support.files import names_below
from tests.support.removing import CONTENT, Meddling, Warnings


def test_prunes(tree, remover):
    """
    Directories that are empty, and their parents; not those that hold anything.
    """
    for name in ("a/b/c", "a/other", "d/e"):
        (tree / name).mkdir(parents=True)
    (tree / "a/other/x").write_bytes(CONTENT)
    remover.prune([b"a/b/c", b"d/e", b"a/other"])
    assert names_below(tree) == {"a", "a/other", "a/other/x"}


def test_never_prunes_the_root(tree):
    """
    Nor anything above it.
    """
    (tree / "a/b").mkdir(parents=True)
    root = Root.open(tree, b"a")
    remover = Remover(root, Meddling(), Warnings())
    remover.prune([b"b"])
    assert names_below(tree) == {"a"}
    remover.close()
    root.close()


def test_removes_nothing_but_directories(tree, remover):
    """
    Whatever has taken the name of one.
    """
    (tree / "file").write_bytes(CONTENT)
    (tree / "empty").mkdir()
    (tree / "link").symlink_to("empty")
    remover.prune([b"file", b"link", b"link/x", b"file/x"])
    assert names_below(tree) == {"file", "empty", "link"}


@pytest.mark.parametrize("path", [b"", b"..", b"/tmp", b"a/../b"])
def test_refuses_names(tree, remover, path):
    """
    None of the request is done then.
    """
    (tree / "good").mkdir()
    with pytest.raises(UnsafePath):
        remover.prune([b"good", path])
    assert names_below(tree) == {"good"}


def test_prunes_again(tree, remover):
    """
    After an answer that was lost the directory may still be there, or have gone.
    """
    (tree / "a/b").mkdir(parents=True)
    for _ in range(2):
        remover.prune([b"a/b"])
        assert names_below(tree) == set()
