"""
Listings: complete, page by page, and what a crash left is put back first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import threading
from pathlib import PurePath

import msgspec
import pytest
from attrs import evolve

from realize.accounts import Resource
from realize.errors import NoSuchFile
from realize.model import Directory, Notice, Page, Subset
from realize.paths import MAX_PATH
from realize.store.hidden import HiddenDirectory
from realize.store.identity import identity_of
from realize.store.listing import PAGE_BYTES, PAGE_ENTRIES, Walk
from realize.store.root import Root
from realize.wire.payload import pack
from tests.support.files import as_nobody, descriptors, identity_at, names_below
from tests.support.requirements import needs

HIDDEN = ".realize-moved-0123456789abcdef"


class Ticking:
    """
    A clock on which so much time passes with each look.
    """

    def __init__(self, step):
        self.now = 0.0
        self.step = step

    def __call__(self):
        """
        Seconds.
        """
        self.now += self.step
        return self.now


def pages_of(walk):
    """
    All pages of a walk.
    """
    pages = []
    while not pages or pages[-1].next:
        pages.append(walk.page())
    return pages


def paths_of(pages):
    """
    The paths of their files, in order.
    """
    return [file.path for page in pages for file in page.files]


def notices_of(pages):
    """
    Their notices.
    """
    return [notice for page in pages for notice in page.notices]


def grow(tree, *paths):
    """
    Create files, with directories as needed.
    """
    for path in paths:
        where = os.path.join(os.fsencode(tree), os.fsencode(path))
        os.makedirs(os.path.dirname(where), exist_ok=True)
        with open(where, "wb") as file:
            file.write(where)


def test_files(tree, root):
    """
    Size, time, mode and identity are those on disk; set-id bits are not listed, and
    that is told.
    """
    grow(tree, "a", "sub/b")
    (tree / "a").chmod(0o4755)
    (tree / "sub").chmod(0o2750)
    (page,) = pages_of(Walk(root, now_ns=lambda: 17))
    files = {file.path: file for file in page.files}
    assert set(files) == {b"a", b"sub/b"}
    status = (tree / "a").stat()
    assert files[b"a"].size == status.st_size
    assert files[b"a"].mtime_ns == status.st_mtime_ns
    assert files[b"a"].mode == 0o755
    assert files[b"a"].identity == identity_at(tree / "a")
    assert page.directories == [Directory(b"sub", 0o750)]
    assert page.notices == [Notice(b"a", "set-id")]
    assert page.now_ns == 17


def test_empty(tree, root):
    """
    Empty directories are not listed; they hold nothing to move.
    """
    (tree / "a" / "b").mkdir(parents=True)
    (page,) = pages_of(Walk(root))
    assert (page.files, page.directories, page.notices, page.next) == ([], [], [], 0)


@pytest.mark.parametrize(
    "name",
    [b"x" * 255, b"\xff\xfe", b"new\nline", b"{}", b"-rf", b"\x1b[31m", b".hidden"],
)
def test_awkward_names(tree, root, name):
    """
    Names are bytes, of files and of directories.
    """
    grow(tree, name + b"/" + name)
    (page,) = pages_of(Walk(root))
    assert paths_of([page]) == [name + b"/" + name]
    assert [each.path for each in page.directories] == [name]


def test_what_is_not_moved(tree, root):
    """
    It is told of, each kind by its word, and not followed.
    """
    grow(tree, "file", "sub/.x.realize-part", ".d.realize-part/inside")
    (tree / "link").symlink_to("file")
    (tree / "directory-link").symlink_to("sub")
    (tree / "dangling").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(tree)  # the path may be too long for a socket
        listener.bind("socket")
        os.chdir(here)
    pages = pages_of(Walk(root))
    assert paths_of(pages) == [b"file"]
    assert sorted((each.path, each.kind) for each in notices_of(pages)) == [
        (b".d.realize-part", "partial"),
        (b"dangling", "symlink"),
        (b"directory-link", "symlink"),
        (b"link", "symlink"),
        (b"pipe", "special"),
        (b"socket", "special"),
        (b"sub/.x.realize-part", "partial"),
    ]


@needs(root=True)
def test_unreadable_directory(public):
    """
    It is told of, with the reason; the rest is listed.
    """
    grow(public, "closed/a", "open/b")
    (public / "closed").chmod(0o700)
    (public / "open").chmod(0o755)
    with as_nobody():
        root = Root.open(public)
        pages = pages_of(Walk(root))
        root.close()
    assert paths_of(pages) == [b"open/b"]
    notices = {notice.kind: notice for notice in notices_of(pages)}
    assert notices.keys() == {"unreadable", "unremovable"}
    assert notices["unreadable"].path == b"closed"
    assert notices["unremovable"].path == b"open"
    assert all("Permission denied" in notice.text for notice in notices.values())


def test_pages(tree, root):
    """
    Each file once, on pages of bounded length, each of which names the directories
    above its files, parents first.
    """
    expected = set()
    for number in range(int(2.5 * PAGE_ENTRIES)):
        path = f"a/b{number % 3}/c/{number}"
        expected.add(path.encode())
        grow(tree, path)
    pages = pages_of(Walk(root))
    paths = paths_of(pages)
    assert set(paths) == expected
    assert len(paths) == len(expected)
    assert [len(page.files) for page in pages] == [1000, 1000, 500]
    assert [page.next for page in pages] == [1, 2, 0]
    for page in pages:
        directories = [each.path for each in page.directories]
        assert len(set(directories)) == len(directories)
        for index, path in enumerate(directories):
            parent = path.rpartition(b"/")[0]
            assert not parent or parent in directories[:index]
        assert {file.path.rpartition(b"/")[0] for file in page.files} <= set(
            directories
        )


def test_notices_count_as_entries(tree, root):
    """
    A directory of nothing but links does not make one endless page.
    """
    for number in range(PAGE_ENTRIES + 5):
        (tree / str(number)).symlink_to("x")
    pages = pages_of(Walk(root))
    assert [len(page.notices) for page in pages] == [PAGE_ENTRIES, 5]


def test_bytes_of_a_page_are_bounded(tree, root):
    """
    Long paths make shorter pages.
    """
    deep = "/".join(["d" * 250] * 12)
    for number in range(900):
        grow(tree, f"{deep}/{number}")
    pages = pages_of(Walk(root))
    assert len(paths_of(pages)) == 900
    sizes = [sum(len(file.path) for file in page.files) for page in pages]
    assert len(pages) > 2
    assert max(sizes) <= PAGE_BYTES


def test_time_of_a_page_is_bounded(tree, root):
    """
    On a slow disk a page ends early; an empty one goes on too.
    """
    for number in range(200):
        (tree / str(number)).mkdir()
    grow(tree, *map(str, range(1000, 1100)))
    pages = pages_of(Walk(root, seconds=Ticking(0.6)))
    assert len(paths_of(pages)) == 100
    assert len(pages) > 3
    assert len(pages_of(Walk(root, seconds=Ticking(0.0)))) == 1


def test_too_deep(tree, root):
    """
    What has no path that could be sent is told of once for each directory.
    """
    grow(tree, "d/" * 63 + "fits")
    deep = tree.joinpath(*["d"] * 63)
    grow(deep, "e/one", "e/two", "f/three")
    pages = pages_of(Walk(root))
    assert paths_of(pages) == [b"d/" * 63 + b"fits"]
    assert {(each.path, each.kind) for each in notices_of(pages)} == {
        (b"/".join([b"d"] * 63 + [name]), "unreadable") for name in (b"e", b"f")
    }


def test_too_long(tree, root):
    """
    The same for the length of a path.
    """
    here = os.open(tree, os.O_RDONLY)
    depth = MAX_PATH // 251
    for _ in range(depth):
        os.mkdir(b"d" * 250, dir_fd=here)
        deeper = os.open(b"d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    spare = MAX_PATH - depth * 251
    for name in (b"x" * spare, b"x" * (spare + 1), b"y" * (spare + 1)):
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    (page,) = pages_of(Walk(root))
    assert [len(file.path) for file in page.files] == [MAX_PATH]
    (notice,) = page.notices
    assert (notice.path, notice.kind) == (b"/".join([b"d" * 250] * depth), "unreadable")
    shutil.rmtree(tree)


def test_single_file(tree, root):
    """
    With a name given, nothing else is looked at.
    """
    grow(tree, "a", "b", "sub/a")
    (page,) = pages_of(Walk(root, subset=Subset([b"a"])))
    assert paths_of([page]) == [b"a"]
    assert page.directories == []


def test_single_file_that_has_gone(tree, root):
    """
    There is nothing to list then.
    """
    (page,) = pages_of(Walk(root, subset=Subset([b"a"])))
    assert paths_of([page]) == []


@pytest.mark.parametrize(
    ("names", "recurse", "found"),
    [
        (["b"], True, {"b"}),
        (["d"], True, {"d/x", "d/e/y", "d/e/z"}),
        (["d"], False, set()),
        (["d/e"], True, {"d/e/y", "d/e/z"}),
        (["d/e/y", "d/x"], False, {"d/e/y", "d/x"}),
        (["d/e/y", "d"], True, {"d/x", "d/e/y", "d/e/z"}),
        (["d", "d/e/y"], True, {"d/x", "d/e/y", "d/e/z"}),
        (["d", "d/e/y"], False, {"d/e/y"}),
        (["b", "b"], True, {"b"}),
    ],
)
def test_named_files_and_directories(tree, root, names, recurse, found):
    """
    Only what is named is found, once, with the directories above it.
    """
    grow(tree, "a", "b", "d/x", "d/e/y", "d/e/z", "f/q")
    subset = Subset([os.fsencode(name) for name in names], recurse)
    (page,) = pages_of(Walk(root, subset=subset))
    paths = [os.fsdecode(path) for path in paths_of([page])]
    assert sorted(paths) == sorted(found)
    above = {os.fsdecode(each.path) for each in page.directories}
    assert above == {str(up) for path in paths for up in PurePath(path).parents} - {"."}
    assert page.notices == []


def test_named_files_that_are_not_there(tree, root):
    """
    Each has a notice, also one below what is not there or no directory.
    """
    grow(tree, "a", "d/x")
    subset = Subset([b"none", b"a", b"d/none", b"no/where"])
    (page,) = pages_of(Walk(root, subset=subset))
    assert paths_of([page]) == [b"a"]
    assert [(each.path, each.kind) for each in page.notices] == [
        (b"none", "missing"),
        (b"d/none", "missing"),
        (b"no", "missing"),
    ]


def test_skips_a_name(tree, root):
    """
    In the root only.
    """
    grow(tree, ".mounted", "sub/.mounted")
    assert paths_of(pages_of(Walk(root, skip=b".mounted"))) == [b"sub/.mounted"]


def test_vanishes_meanwhile(tree, root):
    """
    What is removed during the walk is not there; that is no error.
    """
    for number in range(PAGE_ENTRIES):
        grow(tree, f"a/{number}")
    grow(tree, "b/c/file")
    walk = Walk(root)
    first = walk.page()
    shutil.rmtree(tree / "a")
    shutil.rmtree(tree / "b")
    rest = pages_of(walk)
    assert notices_of([first, *rest]) == []
    left = PAGE_ENTRIES - len(first.files)
    assert len(paths_of(rest)) <= left + 1


def test_root_below_that_does_not_exist(tree):
    """
    The walk cannot begin.
    """
    root = Root.open(tree, b"none")
    with pytest.raises(NoSuchFile):
        Walk(root)
    root.close()


def test_holds_one_directory_per_level(tree, root):
    """
    Descriptors do not grow with the width of the tree, and are given back.
    """
    for number in range(PAGE_ENTRIES + 10):
        grow(tree, f"{number}/a/b/c")
    before = descriptors()
    walk = Walk(root)
    assert walk.page().next
    assert descriptors() <= before + 1 + 2 * 4
    walk.close()
    assert descriptors() <= before + 1
    pages_of(Walk(root))
    assert descriptors() <= before + 1


@pytest.mark.parametrize("count", [1, 2, 6])
def test_few_descriptors(tree, count):
    """
    However few: everything is listed, once, with no more open than may be.
    """
    deep = "/".join(f"d{number}" for number in range(30))
    grow(tree, *(f"{deep[:end]}/{end}" for end in (2, 11, 35, 59, 83, len(deep))))
    grow(tree, *(f"{number}/a/{number}" for number in range(30)), "last")
    few = Resource("descriptors", "descriptors", count * 16 // 9 + 1, least=1)
    plenty = Root.open(tree)
    expected = paths_of(pages_of(Walk(plenty)))
    before = descriptors()
    root = Root.open(tree, descriptors=few.account("a", "1"))
    walk = Walk(root)
    found, cursor = [], 1
    while cursor:
        page = walk.page()
        found += [file.path for file in page.files]
        assert [notice.text for notice in page.notices] == []
        # The level that it is in, and the directory that is opened, in any case.
        assert descriptors() <= before + 1 + count + 3
        cursor = page.next
    assert sorted(found) == sorted(expected)
    walk.close()
    root.close()
    assert (few.held, descriptors()) == (0, before)
    plenty.close()


# -- what a crash left


def hide(tree, *names):
    """
    What a crash leaves while files are being removed.
    """
    grow(tree, *(f"{HIDDEN}/{name}" for name in names))


def test_puts_back(tree, root):
    """
    Hidden files are listed under their names, once each, and the directory goes.
    """
    hide(tree, "a", "b")
    grow(tree, "c")
    (tree / "sub").mkdir()
    hide(tree / "sub", "d")
    pages = pages_of(Walk(root))
    assert sorted(paths_of(pages)) == [b"a", b"b", b"c", b"sub/d"]
    assert notices_of(pages) == []
    assert names_below(tree) == {"a", "b", "c", "sub", "sub/d"}
    assert (tree / "a").read_bytes().endswith(b"/a")
    assert {file.path: file.identity for file in pages[0].files}[b"a"] == identity_at(
        tree / "a"
    )


def test_puts_back_many_once(tree, root):
    """
    However the file system's listing mixes old and new names, no file comes twice.
    """
    hide(tree, *(f"hidden{number}" for number in range(1500)))
    grow(tree, *(f"file{number}" for number in range(1500)))
    paths = paths_of(pages_of(Walk(root)))
    assert len(paths) == 3000
    assert len(set(paths)) == 3000


def test_only_tells_when_nothing_may_be_changed(tree, root):
    """
    Hidden files are no files of such a listing; what is empty or held is not told of.
    """
    hide(tree, "a", "b")
    (tree / "sub").mkdir()
    hide(tree / "sub", "c")
    grow(tree, "d", ".realize-moved-1111111111111111/held")
    (tree / ".realize-moved-2222222222222222").mkdir()
    held = os.open(tree / ".realize-moved-1111111111111111", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    before = names_below(tree)
    pages = pages_of(Walk(root, restore=False))
    assert paths_of(pages) == [b"d"]
    told = notices_of(pages)
    assert {notice.kind for notice in told} == {"hidden"}
    assert sorted(notice.path for notice in told) == [b"a", b"b", b"sub/c"]
    assert names_below(tree) == before
    os.close(held)
    assert len(paths_of(pages_of(Walk(root)))) == 5


def test_keeps_both_when_the_name_is_taken(tree, root):
    """
    The hidden file gets another name, is listed under that, and told of.
    """
    hide(tree, "a")
    (tree / "a").write_bytes(b"new")
    pages = pages_of(Walk(root))
    (notice,) = notices_of(pages)
    assert notice.kind == "kept"
    assert notice.path.startswith(b"a.realize-kept-")
    assert len(notice.path) == len(b"a.realize-kept-") + 16
    assert sorted(paths_of(pages)) == [b"a", notice.path]
    assert (tree / "a").read_bytes() == b"new"
    assert (tree / os.fsdecode(notice.path)).read_bytes().endswith(b"/a")


def test_keeps_long_names_too(tree, root):
    """
    The other name has to fit.
    """
    name = "n" * 255
    hide(tree, name)
    (tree / name).write_bytes(b"new")
    (notice,) = notices_of(pages_of(Walk(root)))
    assert len(notice.path) == 255


def test_one_file_under_both_names(tree, root):
    """
    A crash between linking it back and unlinking the hidden name: it is one file.
    """
    hide(tree, "a")
    os.link(tree / HIDDEN / "a", tree / "a")
    pages = pages_of(Walk(root))
    assert paths_of(pages) == [b"a"]
    assert notices_of(pages) == []
    assert (tree / "a").stat().st_nlink == 1


def test_leaves_alone_what_is_held(tree, root):
    """
    While its lock is held, in this process too, a hidden directory is not there.
    """
    hide(tree, "a")
    fd = os.open(tree / HIDDEN, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    pages = pages_of(Walk(root))
    assert (paths_of(pages), notices_of(pages)) == ([], [])
    assert names_below(tree) == {HIDDEN, f"{HIDDEN}/a"}
    os.close(fd)
    assert paths_of(pages_of(Walk(root))) == [b"a"]


@pytest.mark.parametrize(
    "name",
    [
        ".realize-moved-0123456789abcde",
        ".realize-moved-0123456789abcdeg",
        ".realize-moved",
    ],
)
def test_other_names_are_ordinary(tree, root, name):
    """
    Only exactly our names are ours.
    """
    grow(tree, f"{name}/a")
    assert paths_of(pages_of(Walk(root))) == [f"{name}/a".encode()]


def test_file_of_that_name_is_ordinary(tree, root):
    """
    Hidden directories are directories.
    """
    grow(tree, HIDDEN)
    assert paths_of(pages_of(Walk(root))) == [HIDDEN.encode()]


@needs(root=True)
def test_hidden_directory_of_somebody_else(public):
    """
    It cannot be emptied, and that is said.
    """
    hide(public, "a")
    (public / HIDDEN).chmod(0o700)
    with as_nobody():
        root = Root.open(public)
        (notice,) = notices_of(pages_of(Walk(root)))
        root.close()
    assert (notice.path, notice.kind) == (HIDDEN.encode(), "unreadable")


@pytest.mark.parametrize("moment", ["removed", "held"])
def test_listing_comes_before_the_lock(tree, moment):
    """
    A new hidden directory that a listing tidies away before it is locked is not used.
    """
    directory = os.open(tree, os.O_RDONLY)
    first = []

    def lock(fd, operation):
        if not first:
            first.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
            if moment == "removed":
                os.rmdir(first[0], dir_fd=directory)
            else:
                raise BlockingIOError
        fcntl.flock(fd, operation)

    before = descriptors()
    hidden = HiddenDirectory.make(directory, lock)
    assert hidden.name != first[0].encode()
    assert (tree / os.fsdecode(hidden.name)).is_dir()
    hidden.remove(directory)
    assert descriptors() == before
    os.close(directory)


def test_hiding_and_listing_at_the_same_time(tree, root):
    """
    A listing that comes by between the making of a hidden directory and its lock
    tidies it away; the maker notices and makes another.
    """
    directory = os.open(tree, os.O_RDONLY)
    stop = threading.Event()
    notices = []

    def list_on():
        while not stop.is_set():
            notices.extend(notices_of(pages_of(Walk(root))))

    lister = threading.Thread(target=list_on)
    lister.start()
    try:
        for _ in range(500):
            hidden = HiddenDirectory.make(directory)
            assert os.path.samestat(
                os.fstat(hidden.fd), os.stat(hidden.name, dir_fd=directory)
            )
            hidden.remove(directory)
    finally:
        stop.set()
        lister.join()
        os.close(directory)
    assert notices == []
    assert names_below(tree) == set()


def test_notice_for_people(tree, root):
    """
    Names in the text of a notice are printable.
    """
    hide(tree, "a\n")
    (tree / "a\n").touch()
    (notice,) = notices_of(pages_of(Walk(root)))
    assert isinstance(notice, Notice)
    assert "a\\x0a" in notice.text


@pytest.mark.parametrize("when", [-(2**31), -1, 2**33, 9_223_372_037, 15_032_385_535])
def test_times_of_other_centuries(tree, root, when):
    """
    All that disks have are listed, whether or not they fit into 63 bits.
    """
    grow(tree, "odd")
    os.utime(tree / "odd", ns=(0, when * 10**9))
    (page,) = pages_of(Walk(root))
    (file,) = page.files
    assert file.mtime_ns == (tree / "odd").stat().st_mtime_ns == when * 10**9
    assert file.identity == identity_at(tree / "odd")
    assert file.ctime_ns == (tree / "odd").stat().st_ctime_ns
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(page), type=Page) == page


@pytest.mark.parametrize("when", [-(2**34), 2**34 + 2**33])
def test_times_that_cannot_be_carried(in_memory, when):
    """
    They are told of, and keep nothing else from being listed.
    """
    grow(in_memory, "a", "odd", "z")
    os.utime(in_memory / "odd", ns=(0, when * 10**9))
    root = Root.open(in_memory)
    try:
        (page,) = pages_of(Walk(root))
    finally:
        root.close()
    assert {file.path for file in page.files} == {b"a", b"z"}
    (notice,) = page.notices
    assert (notice.path, notice.kind) == (b"odd", "unreadable")
    assert "time" in notice.text
    assert pack(page)


@pytest.mark.parametrize("inodes", [True, False])
def test_inodes_count_where_they_stay(tree, root, monkeypatch, inodes):
    """
    Each directory's file system decides.
    """
    grow(tree, "a", "sub/b")
    real = root.filesystem_of
    monkeypatch.setattr(
        root, "filesystem_of", lambda *args: evolve(real(*args), inodes=inodes)
    )
    (page,) = pages_of(Walk(root))
    for file in page.files:
        status = (tree / os.fsdecode(file.path)).stat()
        assert file.identity == identity_of(status, inodes)


@pytest.mark.parametrize(
    "hidden",
    [
        ".realize-moved-0123456789abcdef/file",
        ".realize-moved-0123456789abcdef~file",
    ],
)
def test_a_wanted_file_that_a_crash_left_hidden(tree, root, hidden):
    """
    It is put back and listed as in a listing of all, and what was hidden with it is put
    back; a dry run tells of it, and of no other.
    """
    (tree / hidden).parent.mkdir(exist_ok=True)
    (tree / hidden).write_bytes(b"content")
    (tree / hidden).with_name("other").write_bytes(b"other")
    wanted = Subset([b"file", b"none"])
    page = Walk(root, wanted, restore=False).page()
    assert [(each.path, each.kind) for each in page.notices] == [
        (b"file", "hidden"),
        (b"none", "missing"),
    ]
    page = Walk(root, wanted).page()
    assert [file.path for file in page.files] == [b"file"]
    assert [each.path for each in page.notices] == [b"none"]
    assert names_below(tree) == {"file", "other"}
