"""
Directories: opening stores, and what they share.
"""

from __future__ import annotations

import os

import pytest
from twisted.logger import capturedLogs

from realize.config import DirectorySettings
from realize.errors import DirectoryGone, NameTaken, NoSuchFile, UnsafePath
from realize.model import Offer, Prefix
from realize.store.directory import LocalDirectory
from realize.store.guard import Guard
from tests.support.files import as_nobody, descriptors
from tests.support.requirements import needs
from tests.support.threads import InlineReactor, InlineThreads, QueueReactor, result_of


@pytest.fixture
def make():
    """
    Makes directories that do everything at once.
    """
    made = []

    def make(path, **settings):
        directory = LocalDirectory(
            "inbox",
            DirectorySettings(path=path, **settings),
            InlineReactor(),
            InlineThreads(),
        )
        made.append(directory)
        return directory

    yield make
    for directory in made:
        result_of(directory.close())


def paths(store):
    """
    What a source lists.
    """
    return sorted(file.path for file in result_of(store.list(0)).files)


@pytest.mark.parametrize(
    "below",
    [
        b".a.realize-part",
        b"sub/.a.realize-part",
        b".realize-moved-0123456789abcdef",
        b".realize-moved-0123456789abcdef/a",
        b"sub/.realize-moved-0123456789abcdef/a",
        b".mounted",
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_names_of_its_own_are_not_opened(tree, make, below, there):
    """
    Neither as what is below the directory nor as its single file, to take from as to
    put into; and whether they are there is not told.
    """
    (tree / ".mounted").touch()
    path = tree / os.fsdecode(below)
    if there and below != b".mounted":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"unfinished")
    else:
        (tree / "sub").mkdir()
    before = descriptors()
    directory = make(tree, marker=".mounted")
    for opening in (directory.open_source, directory.open_destination):
        with pytest.raises(UnsafePath, match=r"unfinished work|marks the directory"):
            result_of(opening(below))
    assert descriptors() <= before  # others may let go of theirs meanwhile


def test_check(tree, make):
    """
    It is there, with its marker if it has one; nothing stays open.
    """
    before = descriptors()
    make(tree).check()
    with pytest.raises(DirectoryGone, match="inbox"):
        make(tree / "none").check()
    with pytest.raises(DirectoryGone, match="marker"):
        make(tree, marker=".mounted").check()
    (tree / ".mounted").touch()
    make(tree, marker=".mounted").check()
    assert descriptors() == before


def test_opens_sources(tree, make):
    """
    All of it, a part, or one file; with names for messages.
    """
    (tree / "sub").mkdir()
    for name in ("a", "sub/b", "sub/c\n"):
        (tree / name).touch()
    directory = make(tree)
    expected = {
        b"": ([b"a", b"sub/b", b"sub/c\n"], "inbox"),
        b"sub": ([b"b", b"c\n"], "inbox/sub"),
        b"sub/c\n": ([b"c\n"], "inbox/sub/c\\x0a"),
        b"a": ([b"a"], "inbox/a"),
    }
    for below, (files, name) in expected.items():
        store = result_of(directory.open_source(below))
        assert (paths(store), store.name) == (files, name)


def test_source_that_is_not_there(tree, make):
    """
    Each reason has its own error, and nothing stays open.
    """
    (tree / "link").symlink_to(tree)
    (tree / "a").touch()
    os.mkfifo(tree / "pipe")
    directory = make(tree)
    before = descriptors()
    for below, error in {
        b"none": NoSuchFile,
        b"none/deeper": NoSuchFile,
        b"../x": UnsafePath,
        b"link": UnsafePath,
        b"link/a": UnsafePath,
        b"pipe": NameTaken,
        b"a/b": NameTaken,
    }.items():
        with pytest.raises(error):
            result_of(directory.open_source(below))
    with pytest.raises(DirectoryGone):
        result_of(make(tree / "none").open_source())
    assert descriptors() == before


def test_marker_is_not_moved(tree, make):
    """
    Else the directory would be gone after the first run.
    """
    for name in (".mounted", "a"):
        (tree / name).touch()
    (tree / "sub").mkdir()
    (tree / "sub/.mounted").touch()
    directory = make(tree, marker=".mounted")
    assert paths(result_of(directory.open_source())) == [b"a", b"sub/.mounted"]
    assert paths(result_of(directory.open_source(b"sub"))) == [b".mounted"]


def test_opens_destinations(tree, make):
    """
    Below what need not exist yet; it is not created by opening.
    """
    directory = make(tree)
    store = result_of(directory.open_destination(b"new/sub"))
    assert store.name == "inbox/new/sub"
    (held,) = result_of(store.offer([Offer(b"a", 3)], [], reserve=False))
    assert (held.partial, held.present) == (0, -1)
    assert not (tree / "new").exists()
    with pytest.raises(UnsafePath):
        result_of(directory.open_destination(b".."))


def test_places(tree, make):
    """
    A source and a destination of one tree overlap.
    """
    (tree / "a").mkdir()
    source = result_of(make(tree).open_source(b"a"))
    destination = result_of(make(tree).open_destination(b"a/new"))
    assert result_of(source.place()).overlaps(result_of(destination.place()))


def test_closing_closes_stores(tree, make):
    """
    Those that are still open.
    """
    directory = make(tree)
    before = descriptors()
    stores = [
        result_of(directory.open_source()),
        result_of(directory.open_source()),
        result_of(directory.open_destination()),
    ]
    result_of(stores[0].close())
    result_of(directory.close())
    assert descriptors() == before


@needs(root=True)
def test_one_warning(public):
    """
    However many files have no lease, and however many stores.
    """
    for number in range(3):
        (public / str(number)).touch()
    directory = LocalDirectory(
        "inbox", DirectorySettings(path=public), InlineReactor(), InlineThreads()
    )
    with as_nobody(), capturedLogs() as events:
        for _ in range(2):
            store = result_of(directory.open_source(settle_ns=0))
            files = result_of(store.list(0)).files
            result_of(
                store.digest([Prefix(file.path, file.identity, 0) for file in files])
            )
    (event,) = [each for each in events if "reason" in each]
    assert event["event"] == "leases-unavailable"
    assert event["directory"] == "inbox"
    assert event["reason"] == "Permission denied"
    result_of(directory.close())


@pytest.mark.parametrize(
    ("lack", "name"),
    [
        ("leases", "leases-unavailable"),
        ("syncing", "removals-not-durable"),
    ],
)
def test_what_a_directory_lacks(make, lack, name):
    """
    Each is told once, whichever thread finds it, and by its own event.
    """
    directory = make("/")
    with capturedLogs() as events:
        for _ in range(2):
            directory._warn_from_thread(lack, "no")
    (event,) = events
    assert (event["event"], event["reason"]) == (name, "no")


@needs(root=True)
def test_settling(public):
    """
    How long is up to whoever opens the source.
    """
    (public / "a").touch()
    directory = LocalDirectory(
        "inbox", DirectorySettings(path=public), InlineReactor(), InlineThreads()
    )
    codes = []
    with as_nobody():
        for options in ({}, {"settle_ns": 0}):
            store = result_of(directory.open_source(**options))
            (file,) = result_of(store.list(0)).files
            (answer,) = result_of(store.digest([Prefix(file.path, file.identity, 0)]))
            codes.append(getattr(answer, "code", ""))
    assert codes == ["NOT_SETTLED", ""]
    result_of(directory.close())


def test_with_threads(tree):
    """
    By default it has threads of its own, which end with it.
    """
    (tree / "a").touch()
    reactor = QueueReactor()
    directory = LocalDirectory("inbox", DirectorySettings(path=tree), reactor)
    store = reactor.wait_for(directory.open_source())
    page = reactor.wait_for(store.list(0))
    assert [file.path for file in page.files] == [b"a"]
    reactor.wait_for(directory.close())
    assert isinstance(store.guard, Guard)
