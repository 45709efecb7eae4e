"""
Sources: what a store for taking files promises, without threads and with them.
"""

from __future__ import annotations

import contextlib
import os

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from realize.errors import BadRequest, DirectoryGone, PeerError, SourceChanged
from realize.model import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    Digests,
    Extent,
    Failure,
    Prefix,
    Range,
    Removal,
    Removed,
)
from realize.store.root import Root
from realize.store.source import LocalSource
from realize.store.work import DiskThreads, WorkPool, WorkQueue
from tests.support.files import descriptors, identity_at, in_a_minute, names_below
from tests.support.recording import new_recorder
from tests.support.threads import QueueReactor, result_of


def grow(tree, contents):
    """
    Create files, with directories as needed.
    """
    for name, content in contents.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def all_files(source):
    """
    Everything that is listed.
    """
    page = result_of(source.list(0))
    files = list(page.files)
    while page.next:
        page = result_of(source.list(page.next))
        files += page.files
    return files


def open_inodes():
    """
    Of the files that this process has open.
    """
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.fstat(int(fd)).st_ino)
    return found


CONTENTS = {"a": b"one", "sub/b": b"", "sub/deep/c": b"three" * 100_000}


def test_takes_files(tree, source):
    """
    Listed, read, removed: what was there has been read, and nothing is left.
    """
    grow(tree, CONTENTS)
    files = all_files(source)
    extents, data = result_of(
        source.read([Range(file.path, file.identity, 0, file.size) for file in files])
    )
    read = {}
    for file, extent in zip(files, extents, strict=True):
        read[file.path.decode()] = data[: extent.length]
        data = data[extent.length :]
    assert read == CONTENTS
    for word in ("hide", "unlink"):
        answers = result_of(
            source.remove(
                [
                    Removal(file.path, file.identity, extent.digest, word)
                    for file, extent in zip(files, extents, strict=True)
                ]
            )
        )
        assert all(answer.found for answer in answers)
    result_of(source.prune([b"sub/deep", b"sub", b"other"]))
    assert names_below(tree) == set()


def test_below(tree, open_source):
    """
    Paths are relative to the root of the store.
    """
    grow(tree, CONTENTS)
    source = open_source(b"sub")
    assert {file.path for file in all_files(source)} == {b"b", b"deep/c"}


def test_pages_in_turn(tree, source):
    """
    A page is asked for once, after the one before; 0 begins anew.
    """
    for number in range(1500):
        (tree / str(number)).touch()
    with pytest.raises(BadRequest):
        result_of(source.list(1))
    first = result_of(source.list(0))
    with pytest.raises(BadRequest):
        result_of(source.list(first.next + 1))
    again = result_of(source.list(0))
    assert {file.path for file in again.files} == {file.path for file in first.files}
    last = result_of(source.list(again.next))
    assert last.next == 0
    assert len(first.files) + len(last.files) == 1500
    for cursor in (first.next, last.next + 2):
        with pytest.raises(BadRequest):
            result_of(source.list(cursor))


def test_bounds(source):
    """
    More than one batch may hold is refused whole.
    """
    item = Range(b"x", bytes(40), 0, 1)
    with pytest.raises(BadRequest):
        result_of(source.read([item] * (MAX_BATCH + 1)))
    with pytest.raises(BadRequest):
        result_of(source.read([Range(b"x", bytes(40), 0, MAX_BATCH_BYTES), item]))
    # Negative lengths do not make room.
    items = [Range(b"x", bytes(40), 0, MAX_BATCH_BYTES + 1)]
    items.append(Range(b"x", bytes(40), 0, -MAX_BATCH_BYTES))
    with pytest.raises(BadRequest):
        result_of(source.read(items))
    with pytest.raises(BadRequest):
        result_of(source.digest([Prefix(b"x", bytes(40), 0)] * (MAX_BATCH + 1)))
    with pytest.raises(BadRequest):
        result_of(
            source.remove([Removal(b"x", bytes(40), bytes(32))] * (MAX_BATCH + 1))
        )


def test_empty_batches(source):
    """
    Nothing asked for, nothing answered.
    """
    assert result_of(source.read([])) == ([], b"")
    assert result_of(source.digest([])) == []
    assert result_of(source.remove([])) == []


@pytest.mark.parametrize("below", [b"", b"sub"])
def test_root_that_vanishes(tree, open_source, below):
    """
    Every request says so; above all, files are not "gone already".
    """
    grow(tree, CONTENTS)
    source = open_source(below)
    (tree / "sub" if below else tree).rename(tree.with_name("elsewhere"))
    for request in (
        source.list(0),
        source.digest([Prefix(b"b", bytes(40), 0)]),
        source.read([Range(b"b", bytes(40), 0, 1)]),
        source.remove([Removal(b"b", bytes(40), bytes(32))]),
    ):
        with pytest.raises(DirectoryGone):
            result_of(request)


def test_single_file(tree, open_source):
    """
    The place of a single file is its directory alone.
    """
    grow(tree, CONTENTS)
    single = open_source(b"sub", only=b"b")
    assert [file.path for file in all_files(single)] == [b"b"]
    place = result_of(single.place())
    assert place.overlaps(result_of(open_source(b"sub").place()))
    assert not place.overlaps(result_of(open_source(b"sub/deep").place()))
    assert not place.overlaps(result_of(open_source().place()))


def test_close_gives_everything_up(tree, source):
    """
    Open files, the walk, directories; hidden files are put back.
    """
    grow(tree, CONTENTS)
    before = descriptors()
    result_of(source.list(0))
    files = {file.path: file for file in all_files(source)}
    large = files[b"sub/deep/c"]
    result_of(source.read([Range(large.path, large.identity, 0, 1000)]))
    removal = Removal(b"a", files[b"a"].identity, blake3(b"one").digest(), "hide")
    assert result_of(source.remove([removal]))[0].found
    assert not (tree / "a").exists()
    result_of(source.close())
    assert names_below(tree) == {"a", "sub", "sub/b", "sub/deep", "sub/deep/c"}
    assert descriptors() == before - 1
    result_of(source.close())
    with pytest.raises(BadRequest, match="closed"):
        result_of(source.list(0))


def test_what_is_removed_is_not_kept_open(tree, source):
    """
    Of an update only a part may have been read: it must not keep the room of a file
    that is gone.
    """
    grow(tree, CONTENTS)
    large = next(f for f in all_files(source) if f.path == b"sub/deep/c")
    inode = (tree / "sub/deep/c").stat().st_ino
    result_of(source.read([Range(large.path, large.identity, 0, 1000)]))
    assert inode in open_inodes()
    digest = blake3(CONTENTS["sub/deep/c"]).digest()
    removal = Removal(large.path, large.identity, digest)
    assert result_of(source.remove([removal]))[0].found
    assert inode not in open_inodes()


def test_warns_of_what_lacks(tree, open_source):
    """
    The reasons arrive where warnings are made.
    """
    warnings = []
    source = open_source(warn=lambda *warning: warnings.append(warning))
    source.guard._no_leases("because")
    assert warnings == [("leases", "because")]


def test_reading_overtakes_no_removal(tree):
    """
    With real threads: operations on one file take effect in the order in which they
    were begun, whatever else goes on.
    """
    contents = {f"{number}": b"x" * number for number in range(200)}
    grow(tree, contents)
    reactor = QueueReactor()
    pool = WorkPool(reactor, DiskThreads(0, 4, "test"))
    source = LocalSource(
        Root.open(tree), WorkQueue(pool), 0, "tree", new_recorder(), now_ns=in_a_minute
    )

    def begin(operation):
        return Deferred.fromCoroutine(operation)

    page = reactor.wait_for(source.list(0))
    digest = blake3(b"").digest()
    rounds = []
    for file in page.files:
        whole = Range(file.path, file.identity, 0, file.size)
        removal = Removal(file.path, file.identity, digest, "hide")
        restore = Removal(file.path, file.identity, digest, "restore")
        rounds.append(
            [
                begin(source.read([whole])),
                begin(source.remove([removal])),
                begin(source.read([whole])),
                begin(source.remove([restore])),
                begin(source.digest([Prefix(file.path, file.identity, 0)])),
            ]
        )
    for read, hidden, missed, restored, checked in rounds:
        assert isinstance(reactor.wait_for(read)[0][0], Extent)
        assert reactor.wait_for(hidden)[0].found
        (failure,), _data = reactor.wait_for(missed)
        assert failure.code == "NO_SUCH_FILE"
        assert reactor.wait_for(restored) == [Removed()]
        (answer,) = reactor.wait_for(checked)
        # Renaming it has changed its change time.
        assert isinstance(answer, Failure)
        assert isinstance(answer.error, SourceChanged)
    reactor.wait_for(source.close())
    pool.close()
    assert names_below(tree) == set(contents)


def test_checks_files(tree, source):
    """
    A digest of nothing tells whether a file could be taken.
    """
    grow(tree, CONTENTS)
    files = all_files(source)
    answers = result_of(
        source.digest([Prefix(file.path, file.identity, 0) for file in files])
    )
    assert all(isinstance(answer, Digests) for answer in answers)


PATHS = st.one_of(
    st.binary(max_size=20),
    st.lists(
        st.sampled_from([b"..", b".", b"", b"out", b"sub", b"secret", b"etc"]),
        max_size=5,
    ).map(b"/".join),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, length=st.integers(-2, 2**63), offset=st.integers(-2, 2**63))
def test_nothing_outside_is_touched(tree, source, path, length, offset):
    """
    Whatever a peer asks for, with a right identity even: files outside the root are
    neither read nor removed, and the answer is a reason.
    """
    outside = tree.parent / "secret"
    if not outside.exists():
        outside.write_bytes(b"secret")
        (tree / "out").symlink_to("..")
        (tree / "sub").mkdir()
        (tree / "sub" / "out").symlink_to("../..")
    identity = identity_at(outside)
    requests = (
        source.digest([Prefix(path, identity, length)]),
        source.read([Range(path, identity, offset, length)]),
        source.remove([Removal(path, identity, bytes(32))]),
        source.prune([path]),
    )
    for request in requests:
        try:
            answer = result_of(request)
        except PeerError:
            continue
        if answer is None:
            continue
        if isinstance(answer, tuple):
            assert answer[1] == b""
            answer = answer[0]
        assert isinstance(answer[0], Failure) or answer == [Removed(found=False)]
    assert outside.read_bytes() == b"secret"
