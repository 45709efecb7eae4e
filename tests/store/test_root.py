"""
Held directories: nothing is ever reached outside the root.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from realize.errors import (
    AlreadyExists,
    DirectoryGone,
    DiskError,
    NameTaken,
    NameTooLong,
    NoSpace,
    NoSuchFile,
    PeerError,
    UnsafePath,
)
from realize.store.kept import MAX_KEPT
from realize.store.root import Root, disk_error
from tests.support.files import as_nobody
from tests.support.requirements import needs

AWKWARD = [b"x" * 255, b"\xff\xfe", b"new\nline", b"{}", b"-rf", b"\x1b[31m", b" "]


def path_of(fd):
    """
    Where a descriptor leads.
    """
    return os.readlink(f"/proc/self/fd/{fd}")


def descriptors():
    """
    How many this process has.
    """
    return len(os.listdir("/proc/self/fd"))


def reached(root, path):
    """
    Where the root leads for *path*.
    """
    with root.directory(path) as fd:
        return path_of(fd)


def test_leads_to_directories(tree, root):
    """
    The root itself and what is below it, the first time and again.
    """
    (tree / "a" / "b").mkdir(parents=True)
    for _ in range(2):
        assert reached(root, b"") == str(tree)
        assert reached(root, b"a/b") == str(tree / "a" / "b")


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(tree, root, name):
    """
    Names are bytes.
    """
    os.mkdir(os.path.join(os.fsencode(tree), name))
    with root.directory(name) as fd:
        os.mkdir(b"in", dir_fd=fd)
    with root.directory(name + b"/in") as fd:
        assert os.path.samestat(
            os.fstat(fd), os.stat(os.path.join(os.fsencode(tree), name, b"in"))
        )


def test_missing_and_wrong_components(tree, root):
    """
    Each reason has its own error, which names the path and nothing above it.
    """
    (tree / "file").touch()
    (tree / "link").symlink_to(tree)
    with pytest.raises(NoSuchFile):
        reached(root, b"none/below")
    with pytest.raises(NameTaken) as taken:
        reached(root, b"file/below")
    with pytest.raises(UnsafePath) as unsafe:
        reached(root, b"link")
    with pytest.raises(NameTooLong):
        reached(root, b"x" * 256)
    assert str(tree) not in f"{taken.value}{unsafe.value}"


@pytest.mark.parametrize(
    "path",
    [b"..", b"a/..", b"./a", b"a//b", b"/etc", b"a/", b"a\0b", b"a/" * 64 + b"a"],
)
def test_refuses_what_is_not_canonical(tree, root, path):
    """
    Also where the directory before the odd component exists.
    """
    (tree / "a" / "b").mkdir(parents=True)
    with pytest.raises(UnsafePath):
        reached(root, path)


@pytest.fixture(scope="module")
def maze(tmp_path_factory):
    """
    A tree full of ways out.
    """
    top = tmp_path_factory.mktemp("maze")
    tree = top / "tree"
    for path in ("a/a", "a/b", "b/a"):
        (tree / path).mkdir(parents=True)
    (top / "secret").mkdir()
    for place in (tree, tree / "a", tree / "b"):
        (place / "up").symlink_to("..")
        (place / "out").symlink_to(top)
        (place / "loop").symlink_to("loop")
        (place / "file").touch()
    root = Root.open(tree)
    yield tree, root
    root.close()


COMPONENTS = st.sampled_from(
    [b"a", b"b", b"up", b"out", b"loop", b"file", b"..", b".", b"", b"secret", b"a\0"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.one_of(
        st.lists(COMPONENTS, max_size=6).map(b"/".join), st.binary(max_size=12)
    )
)
def test_no_path_leaves_the_root(maze, path):
    """
    Whatever the path, it is refused or leads to exactly the directory it spells.
    """
    tree, root = maze
    before = descriptors()
    with suppress(PeerError):
        assert reached(root, path) == os.path.join(str(tree), os.fsdecode(path)).rstrip(
            "/"
        )
    assert descriptors() <= before + path.count(b"/") + 1


def test_wins_the_race_against_a_symlink(tmp_path):
    """
    While somebody swaps a directory for a link to the outside, again and again, what
    is read is never from there.
    """
    tree = tmp_path / "tree"
    for name, content in (("tree/a/b", "inside"), ("outside/b", "outside")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text(content)
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            (tree / "a").rename(tree / "away")
            (tree / "a").symlink_to("../outside")
            (tree / "a").unlink()
            (tree / "away").rename(tree / "a")

    root = Root.open(tree)
    swapper = threading.Thread(target=swap)
    swapper.start()
    read, escaped_by_name = set(), 0
    try:
        for _ in range(5000):
            with suppress(PeerError, OSError), root.directory(b"a/b") as fd:
                file = os.open(b"file", os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
                read.add(os.read(file, 100))
                os.close(file)
            with suppress(OSError):
                escaped_by_name += (tree / "a/b/file").read_text() == "outside"
    finally:
        stop.set()
        swapper.join()
        root.close()
    assert read == {b"inside"}
    assert escaped_by_name  # else there was no race to win


def test_follows_what_was_renamed(tree, root):
    """
    A kept descriptor is not used when its path leads elsewhere by now.
    """
    (tree / "a").mkdir()
    assert reached(root, b"a") == str(tree / "a")
    (tree / "a").rename(tree / "old")
    (tree / "a").mkdir()
    assert reached(root, b"a") == str(tree / "a")
    (tree / "a").rmdir()
    with pytest.raises(NoSuchFile):
        reached(root, b"a")
    (tree / "a").symlink_to("old")
    with pytest.raises(UnsafePath):
        reached(root, b"a")


def test_an_ancestor_was_replaced(tree, root):
    """
    It is the whole path that has to lead there still.
    """
    (tree / "a/b").mkdir(parents=True)
    assert reached(root, b"a/b") == str(tree / "a/b")
    (tree / "a").rename(tree / "old")
    (tree / "a/b").mkdir(parents=True)
    assert reached(root, b"a/b") == str(tree / "a/b")


def test_keeps_a_bounded_number_open(tree, root):
    """
    Old descriptors are closed, but never one that is in use.
    """
    count = 2 * MAX_KEPT
    for number in range(count):
        (tree / str(number)).mkdir()
    before = descriptors()
    with root.directory(b"0") as first:
        for number in range(1, count):
            assert reached(root, str(number).encode()) == str(tree / str(number))
        assert path_of(first) == str(tree / "0")
        assert descriptors() <= before + MAX_KEPT + 1
    assert descriptors() <= before + MAX_KEPT
    root.close()
    assert descriptors() == before - 2 + 1  # the base is closed too


def test_forgets(tree, root):
    """
    A forgotten directory is opened anew; a user of it keeps its own.
    """
    (tree / "a").mkdir()
    with root.directory(b"a") as first:
        root.forget(b"a")
        root.forget(b"none")
        with root.directory(b"a") as second:
            assert first != second
        assert path_of(first) == str(tree / "a")


def test_many_threads_share_descriptors(tree, root):
    """
    Used from several threads at once, with eviction going on, each gets the directory
    that it asked for.
    """
    for number in range(MAX_KEPT + 20):
        (tree / str(number)).mkdir()
    wrong = []

    def use(offset):
        for step in range(600):
            name = str((step * 7 + offset) % (MAX_KEPT + 20))
            if (where := reached(root, name.encode())) != str(tree / name):
                wrong.append((name, where))

    users = [threading.Thread(target=use, args=(offset,)) for offset in range(4)]
    before = descriptors()
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert wrong == []
    assert descriptors() <= before + MAX_KEPT + 1


def test_root_that_is_not_there(tmp_path):
    """
    Missing, or no directory.
    """
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        with pytest.raises(DirectoryGone, match="inbox") as caught:
            Root.open(tmp_path / name, name="inbox")
        assert str(tmp_path) not in str(caught.value)


def test_root_through_a_link(tmp_path, tree):
    """
    Whoever configured the path may use links in it.
    """
    (tmp_path / "link").symlink_to(tree)
    root = Root.open(tmp_path / "link")
    assert reached(root, b"") == str(tree)
    root.check()
    root.close()


def test_marker(tree):
    """
    Without its marker a directory counts as absent, at the beginning and later.
    """
    before = descriptors()
    with pytest.raises(DirectoryGone, match="marker"):
        Root.open(tree, marker=".mounted")
    assert descriptors() == before
    (tree / ".mounted").touch()
    root = Root.open(tree, marker=".mounted")
    root.check()
    (tree / ".mounted").unlink()
    with pytest.raises(DirectoryGone, match="marker"):
        root.check()
    root.close()


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced"])
def test_root_that_vanishes(tree, root, how):
    """
    It has to be the directory that was opened, under the path it had.
    """
    root.check()
    if how == "removed":
        tree.rmdir()
    else:
        tree.rename(tree.with_name("elsewhere"))
    if how == "replaced":
        tree.mkdir()
    with pytest.raises(DirectoryGone):
        root.check()


def test_below(tree):
    """
    A root below the directory is looked up when it is used, and may come and go.
    """
    root = Root.open(tree, b"a/b")
    root.check()
    with pytest.raises(NoSuchFile):
        reached(root, b"")
    with pytest.raises(NoSuchFile):
        reached(root, b"c")
    (tree / "a/b/c").mkdir(parents=True)
    assert reached(root, b"") == str(tree / "a/b")
    assert reached(root, b"c") == str(tree / "a/b/c")
    shutil.rmtree(tree / "a")
    with pytest.raises(NoSuchFile):
        reached(root, b"c")
    root.close()


@pytest.mark.parametrize("below", [b"..", b"/etc", b"a//b"])
def test_below_is_canonical(tree, below):
    """
    It came from the other side, too.
    """
    with pytest.raises(UnsafePath):
        Root.open(tree, below)


def test_below_is_no_link(tree):
    """
    Nor leads through one.
    """
    (tree / "link").symlink_to(tree)
    root = Root.open(tree, b"link")
    with pytest.raises(UnsafePath):
        reached(root, b"")
    root.close()


def test_creates_what_is_missing(tree):
    """
    With the mode asked for, whatever the umask; what exists keeps its own.
    """
    (tree / "a").mkdir(mode=0o700)
    root = Root.open(tree, b"a/b/c")
    before = os.umask(0o077)
    try:
        root.create(0o2755)
        root.create(0o700)
    finally:
        os.umask(before)
    assert (tree / "a").stat().st_mode & 0o7777 == 0o700
    assert (tree / "a/b").stat().st_mode & 0o7777 == 0o2755
    assert (tree / "a/b/c").stat().st_mode & 0o7777 == 0o2755
    root.sync_above()
    root.close()


def test_creates_through_no_link(tree):
    """
    Nor in place of a file.
    """
    (tree / "link").symlink_to(tree)
    (tree / "file").touch()
    for below, error in ((b"link/x", UnsafePath), (b"file/x", NameTaken)):
        root = Root.open(tree, below)
        with pytest.raises(error):
            root.create(0o755)
        root.close()
    assert not (tree / "x").exists()


def test_place_of_the_same_directory(tmp_path, tree):
    """
    However it is reached.
    """
    (tmp_path / "link").symlink_to(tree)
    (tree / "a").mkdir()
    one, other = Root.open(tree, b"a"), Root.open(tmp_path / "link" / "a")
    assert one.place() == other.place()
    assert one.place().overlaps(other.place())
    one.close()
    other.close()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b"", b"", True),
        (b"", b"a/b", True),
        (b"a/b", b"", True),
        (b"a", b"b", False),
        (b"none", b"", True),
        (b"none", b"a", False),
        (b"", b"a/none/deeper", True),
        (b"none", b"none", False),
    ],
)
def test_places_overlap(tree, one, other, expected):
    """
    One inside the other, also when it does not exist yet.
    """
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "b").mkdir()
    roots = Root.open(tree, one), Root.open(tree, other)
    places = [root.place() for root in roots]
    assert places[0].overlaps(places[1]) is expected
    for root in roots:
        root.close()


def test_place_tells_no_numbers(tree, root):
    """
    Tokens are digests, one for each directory up to the top.
    """
    place = root.place()
    assert len(place.chain) == len(tree.parts)
    assert {len(token) for token in place.chain} == {32}
    assert place.root == place.chain[0]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("ENOENT", NoSuchFile),
        ("ENOTDIR", NameTaken),
        ("EEXIST", AlreadyExists),
        ("ELOOP", UnsafePath),
        ("ENAMETOOLONG", NameTooLong),
        ("ENOSPC", NoSpace),
        ("EDQUOT", NoSpace),
        ("EIO", DiskError),
        ("EROFS", DiskError),
    ],
)
def test_disk_errors(number, kind):
    """
    Which file, what was tried, and why; never a path of the host.
    """

    value = getattr(errno, number)
    error = disk_error(OSError(value, "x", "/secret/f"), b"a/f\n", "read")
    assert type(error) is kind
    assert str(error) == f"a/f\\x0a: cannot read: {os.strerror(value)}"


@needs(root=True)
def test_unreadable_directory(public):
    """
    What may not be opened is an error of the disk, with the reason.
    """
    (public / "closed").mkdir(mode=0o700)
    with as_nobody():
        root = Root.open(public)
        with pytest.raises(DiskError, match=r"closed: .*Permission denied"):
            reached(root, b"closed")
        root.close()
