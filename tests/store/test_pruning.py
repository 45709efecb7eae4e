"""
Directories that removals have emptied.
"""

from __future__ import annotations

import pytest

from realize.errors import SourceChanged
from realize.model import Removal, Removed
from realize.store.removal import Remover
from realize.store.root import Root
from tests.support.files import names_below
from tests.support.removing import CONTENT, Meddling, Warnings, one, removal, step


def test_prunes(tree, remover):
    """
    Directories that became empty, and their parents; not those that hold anything.
    """
    for name in ("a/b/c/file", "a/other/x", "d/e/file", "d/e/second"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(CONTENT)
    items = [
        removal(tree, tree / name) for name in ("a/b/c/file", "d/e/file", "d/e/second")
    ]
    assert remover.remove(items, True) == [Removed()] * 3
    assert names_below(tree) == {"a", "a/other", "a/other/x"}


def test_never_prunes_the_root(tree):
    """
    Nor anything above it.
    """
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_bytes(CONTENT)
    root = Root.open(tree, b"a")
    remover = Remover(root, Meddling(), Warnings())
    assert one(remover, removal(tree / "a", tree / "a/b/file"), prune=True) == Removed()
    assert names_below(tree) == {"a"}
    remover.close()
    root.close()


def test_does_not_prune_unless_asked(tree, remover):
    """
    Drop boxes have owners.
    """
    (tree / "a").mkdir()
    (tree / "a/file").write_bytes(CONTENT)
    one(remover, removal(tree, tree / "a/file"))
    assert names_below(tree) == {"a"}


def test_does_not_prune_for_a_file_that_stays(tree, remover, file):
    """
    Only what the move emptied.
    """
    (tree / "a").mkdir()
    (tree / "a/file").write_bytes(CONTENT)
    item = removal(tree, tree / "a/file")
    (tree / "a/file").write_bytes(b"other")
    with pytest.raises(SourceChanged):
        one(remover, item, prune=True)
    assert (tree / "a/file").exists()


def test_prunes_again(tree, remover):
    """
    After an answer that was lost the directory may still be there, or have gone.
    """
    (tree / "a/b").mkdir(parents=True)
    item = Removal(b"a/b/file", bytes(40), bytes(32))
    for _ in range(2):
        assert one(remover, item, prune=True) == Removed(found=False)
        assert names_below(tree) == set()


def test_prunes_after_the_second_step(tree, remover):
    """
    Not while the file is only hidden.
    """
    (tree / "a").mkdir()
    (tree / "a/file").write_bytes(CONTENT)
    item = removal(tree, tree / "a/file", "hide")
    one(remover, item, prune=True)
    assert len(names_below(tree)) == 3
    one(remover, step(item, "unlink"), prune=True)
    assert names_below(tree) == set()
