"""
Names that a file system takes for one, changes, or refuses.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from realize.errors import NameRefused, NameTaken, NameTooLong
from realize.model import Finish, Offer, Piece
from realize.paths import MAX_NAME, cut, is_partial
from realize.store.partial import partial_name
from realize.store.spelling import Shown, refused
from tests.support.fuse.mounting import mount, needs_fuse
from tests.support.fuse.switches import Switches
from tests.support.mounts import mounted
from tests.support.putting import Putting, codes, contents, finish_of
from tests.support.requirements import needs


@pytest.fixture
def directory(tree: Path) -> Iterator[int]:
    """
    Descriptor of *tree*.
    """
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def mounted_with(tmp_path: Path) -> Iterator[Callable[[Switches], Path]]:
    """
    Mounts a file system that does something otherwise.
    """
    with ExitStack() as stack:
        yield (
            lambda switches: stack.enter_context(mount(tmp_path / "fs", switches)).root
        )


@pytest.fixture
def folding(mounted_with: Callable[[Switches], Path]) -> Path:
    """
    A directory that ignores case.
    """
    return mounted_with(Switches(folds=True))


def names(path: Path) -> set[str]:
    """
    All there is below a directory, but no partials.
    """
    return {name for name in contents(path) if not is_partial(os.fsencode(name))}


class TestShown:
    """
    What a directory shows.
    """

    def test_alike(self, directory, tree):
        """
        Only another name, and only one that may be the same.
        """
        (tree / "README").touch()
        shown = Shown(directory)
        assert shown.alike(b"readme") == b"README"
        assert shown.alike(b"README") is None
        assert shown.alike(b"other") is None
        (tree / "OTHER").touch()
        shown.forget()
        assert shown.alike(b"other") == b"OTHER"

    def test_names_that_came_later(self, directory, tree):
        """
        Are found; the directory is listed again before anything is said to be missing.
        """
        shown = Shown(directory)
        assert not shown.has(b"x")
        (tree / "x").touch()
        assert shown.has(b"x")
        shown.check(b"x", b"d/x")

    @pytest.mark.parametrize(
        ("there", "wanted"),
        [
            ("README", "readme"),
            ("caf\u00e9", "cafe\u0301"),
            ("dots", "dots. ."),
            ("STRASSE", "stra\u00dfe"),
        ],
    )
    def test_both_names_are_told(self, directory, tree, there, wanted):
        """
        The one that is there, and the one that would be taken for it.
        """
        (tree / there).touch()
        with pytest.raises(NameTaken) as caught:
            Shown(directory).check(wanted.encode(), b"d/" + wanted.encode())
        assert f"takes {there} and {wanted} for one name" in str(caught.value)

    def test_a_name_that_was_changed(self, directory):
        """
        What became of it is not known, but why is guessed.
        """
        with pytest.raises(NameTaken, match=r'drops the "\." at the end'):
            Shown(directory).check(b"x.", b"x.")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"a:b", 'character 2, ":"'),
        (b"tab\there", 'character 4, "\\x09"'),
        (b"a\xffb", "byte 2 of it, 0xff, is not UTF-8"),
        (b"dot.", 'it ends with "."'),
        (b"aux.txt", "aux is the name of a device there"),
        ("caf\u00e9".encode(), 'character 4, "\u00e9"'),
        (b"plain", "some of its characters"),
    ],
)
def test_which_character_is_refused(name, said):
    """
    So that a person can give it another name.
    """
    error = refused(OSError(errno.EINVAL, ""), b"d/" + name, name)
    assert isinstance(error, NameRefused)
    assert said in str(error)


def test_length_that_is_refused():
    """
    In both units, since it is not known in which it was counted.
    """
    name = "\u00e9".encode() * 100
    error = refused(OSError(errno.ENAMETOOLONG, ""), name, name)
    assert isinstance(error, NameTooLong)
    assert "200 bytes, 100 characters" in str(error)


def test_other_errors_say_nothing_of_names():
    """
    They are told as they are.
    """
    assert refused(OSError(errno.EIO, ""), b"x", b"x") is None


@given(st.text(min_size=1, max_size=200), st.integers(0, 255))
def test_cut_at_characters(text, most):
    """
    What is left of a name in UTF-8 is UTF-8, and no shorter than need be.
    """
    try:
        name = text.encode()
    except UnicodeEncodeError:
        return
    left = cut(name, most)
    assert name.startswith(left)
    assert len(left) <= most
    assert text.startswith(left.decode())
    assert len(left) == len(name) or len(left) > most - 4


@given(st.binary(min_size=1, max_size=255), st.binary(min_size=1, max_size=255))
def test_partials_of_names_that_may_be_one(one, other):
    """
    No two names have the same partial, whatever the file system folds, and it fits
    wherever there is room for 143 bytes.
    """
    first, second = (partial_name(name, folds=True) for name in (one, other))
    assert len(first) <= 143 <= MAX_NAME
    assert is_partial(first)
    assert (first.lower() == second.lower()) == (one == other)


@needs_fuse
class TestFolding:
    """
    A file system that ignores case.
    """

    def test_in_one_batch(self, folding):
        """
        One arrives, the other is told of; neither in place of the other.
        """
        putting = Putting(folding)
        files = {b"README": b"one", b"readme": b"two"}
        assert codes(putting.put(files)) == ["Finished", "NAME_TAKEN"]
        assert (folding / "README").read_bytes() == b"one"
        assert names(folding) == {"README"}
        putting.close()

    def test_between_runs(self, folding):
        """
        A file of the other spelling is neither replaced nor taken for present.
        """
        (folding / "README").write_bytes(b"one")
        putting = Putting(folding)
        assert codes(putting.offer(Offer(b"readme", 3))) == ["NAME_TAKEN"]
        assert codes(putting.finish(finish_of(b"readme", b"one"))) == ["NAME_TAKEN"]
        assert codes(putting.finish(finish_of(b"README", b"one"))) == ["Finished"]
        assert contents(folding) == {"README": b"one"}
        putting.close()

    def test_name_taken_between_offer_and_finish(self, folding):
        """
        The last look is the one that counts.
        """
        putting = Putting(folding)
        putting.send({b"readme": b"two"})
        (folding / "README").write_bytes(b"one")
        (result,) = putting.finish(finish_of(b"readme", b"two"))
        assert result.text == (
            "readme: this file system takes README and readme for one name"
        )
        assert (folding / "README").read_bytes() == b"one"
        assert names(folding) == {"README"}
        putting.close()

    @pytest.mark.parametrize("between_runs", [False, True])
    def test_directories(self, folding, between_runs):
        """
        Files do not go into a directory of the other spelling.
        """
        if between_runs:
            (folding / "DCIM").mkdir()
        putting = Putting(folding)
        files = {b"DCIM/a": b"one", b"dcim/a": b"two", b"dcim/b/c": b"three"}
        results = putting.put(files)
        assert codes(results)[0] == "Finished"
        assert "Finished" not in codes(results)[1:]
        assert names(folding) == {"DCIM", "DCIM/a"}
        assert (folding / "DCIM/a").read_bytes() == b"one"
        asked = Finish(b"dcim/a", 3, finish_of(b"", b"one").digest, 0o640, 0)
        assert codes(putting.finish(asked)) == ["NAME_TAKEN"]
        putting.close()

    def test_going_on_with_a_partial(self, folding):
        """
        What an earlier run left is found, in just this spelling.
        """
        putting = Putting(folding)
        putting.send({b"README": b"one"})
        putting.close()
        putting = Putting(folding)
        held = putting.offer(Offer(b"readme", 3), Offer(b"README", 3))
        assert [each.partial for each in held] == [0, 3]
        putting.close()


@needs_fuse
@pytest.mark.parametrize(
    ("switches", "kept", "changed"),
    [
        (Switches(lowers=True), "readme", "README"),
        (Switches(normalises="NFC"), "caf\u00e9", "cafe\u0301"),
        (Switches(normalises="NFD"), "cafe\u0301", "caf\u00e9"),
        (Switches(strips=True), "dot", "dot."),
    ],
)
@pytest.mark.parametrize("noreplace", ["done", "refused"])
@pytest.mark.parametrize("first", ["kept", "changed"])
def test_changed_into_another_of_the_batch(
    mounted_with, switches, kept, changed, noreplace, first
):
    """
    That one arrives, and stays; the other is told of, in each run.
    """
    path = mounted_with(evolve(switches, noreplace=noreplace))
    files = {kept.encode(): b"kept", changed.encode(): b"changed"}
    if first == "changed":
        files = dict(reversed(files.items()))
    putting = Putting(path)
    results = dict(zip(files, codes(putting.put(files)), strict=True))
    assert results == {kept.encode(): "Finished", changed.encode(): "NAME_TAKEN"}
    assert names(path) == {kept}
    assert (path / kept).read_bytes() == b"kept"
    putting.close()
    putting = Putting(path)
    assert codes(putting.offer(Offer(changed.encode(), 7))) == ["NAME_TAKEN"]
    putting.close()


@needs_fuse
@pytest.mark.parametrize(
    ("switches", "name"),
    [
        (Switches(lowers=True), "README"),
        (Switches(normalises="NFC"), "cafe\u0301"),
        (Switches(normalises="NFD"), "caf\u00e9"),
        (Switches(strips=True), "dot."),
        (Switches(strips=True), "space "),
    ],
)
@pytest.mark.parametrize("directory", [False, True])
def test_names_that_are_changed(mounted_with, switches, name, directory):
    """
    No file is left under a name that it should not have; what was sent is kept.
    """
    place = mounted_with(switches)
    path = f"{name}/x" if directory else name
    putting = Putting(place)
    files = {path.encode(): b"content", b"plain": b"content"}
    offered = putting.offer(*(Offer(each, 7) for each in files))
    if directory:
        assert codes(offered) == ["NAME_TAKEN", "Held"]
        assert contents(place) == {}
    else:
        results = putting.put(files)
        assert codes(results) == ["NAME_TAKEN", "Finished"]
        assert names(place) == {"plain"}
        assert len(contents(place)) == 2
    putting.close()


@needs_fuse
@pytest.mark.parametrize(
    ("switches", "name", "said"),
    [
        (Switches(forbidden=":"), b"a:b", 'character 2, ":"'),
        (Switches(text=True), b"a\xff", "is not UTF-8"),
        (Switches(longest=60), b"n" * 61, "61 bytes"),
    ],
)
@pytest.mark.parametrize("directory", [False, True])
def test_names_that_are_refused(mounted_with, switches, name, said, directory):
    """
    One line says which character, or how long.
    """
    place = mounted_with(switches)
    putting = Putting(place)
    path = name + b"/x" if directory else name
    results = putting.offer(Offer(path, 7))
    if codes(results) == ["Held"]:
        results = putting.write(b"content", Piece(path, 0, 7))
    if codes(results) == ["Written"]:
        results = putting.finish(finish_of(path, b"content"))
    assert codes(results)[0] in ("NAME_REFUSED", "NAME_TOO_LONG")
    assert said in results[0].text
    assert names(place) == set()
    putting.close()


@needs("mkfs.ntfs", "lowntfs-3g", root=True)
def test_ntfs_without_case(tmp_path):
    """
    It shows all names in lower case.
    """
    with mounted("lowntfs-3g", tmp_path) as place:
        putting = Putting(place)
        files = {b"readme": b"one", b"README": b"two"}
        assert codes(putting.put(files)) == ["Finished", "NAME_TAKEN"]
        assert (place / "readme").read_bytes() == b"one"
        putting.close()


@needs("mkfs.ntfs", "ntfs-3g", root=True)
def test_long_names_of_wide_characters(tmp_path):
    """
    The partial is cut at a character.
    """
    name = ("a" + "\u00e9" * 123).encode()
    with mounted("ntfs-3g", tmp_path) as place:
        putting = Putting(place)
        assert codes(putting.put({name: b"content"})) == ["Finished"]
        assert list(contents(place)) == [name.decode()]
        putting.close()
