"""
Reading: the bytes asked for, of the version asked for, and their digests.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from attrs import evolve
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError

from realize.errors import (
    BadRequest,
    DiskError,
    NoSuchFile,
    SourceChanged,
    StillOpen,
    UnsafePath,
)
from realize.model import PREFIX_STEP, Digests, Extent, Failure, Prefix, Range
from realize.store.filesystem import COARSE_NS, TICK_NS, FileSystem
from realize.store.guard import Guard
from realize.store.identity import differs_by_links
from realize.store.reading import MAX_MARKS, MAX_OPEN, Reader, _OpenFile
from realize.store.root import Root
from tests.support.changing import append, overwrite, replace, truncate
from tests.support.files import as_nobody, identity_at, in_a_minute
from tests.support.requirements import needs

SIZE = 100_000
CONTENT = random.Random(7).randbytes(SIZE)  # noqa: S311 - not for secrets


class Meddling(Guard):
    """
    A guard after whose look at a file somebody does something to it.
    """

    def __init__(self, now_ns=in_a_minute):
        super().__init__(0, lambda reason: None, now_ns)
        self.meddle = lambda: None
        self.opened = 0

    def open_version(self, *args, **options):
        """
        Open, and then it happens.
        """
        opened = super().open_version(*args, **options)
        self.opened += 1
        self.meddle()
        return opened


@pytest.fixture
def guard():
    """
    Does nothing, unless told to.
    """
    return Meddling()


@pytest.fixture
def reader(root, guard):
    """
    A reader of *tree*.
    """
    reader = Reader(root, guard)
    yield reader
    reader.close()


@pytest.fixture
def file(tree):
    """
    A file of :data:`SIZE` bytes.
    """
    path = tree / "file"
    path.write_bytes(CONTENT)
    return path


def whole(path: Path, tree: Path) -> Range:
    """
    All of a file.
    """
    name = os.fsencode(path.relative_to(tree))
    return Range(name, identity_at(path), 0, path.stat().st_size)


def part(path: Path, offset: int, length: int) -> Range:
    """
    A part of a file in the root.
    """
    return Range(os.fsencode(path.name), identity_at(path), offset, length)


def prefix(path: Path, length: int) -> Prefix:
    """
    A beginning of a file in the root.
    """
    return Prefix(os.fsencode(path.name), identity_at(path), length)


def read_one(reader, item):
    """
    The extent and bytes of one range, or the error that it failed with.
    """
    (extent,), data = reader.read([item])
    if isinstance(extent, Failure):
        assert data == b""
        raise extent.error
    assert extent.length == len(data)
    return extent, data


def digest_one(reader, item):
    """
    The digests of one beginning, or the error that it failed with.
    """
    (answer,) = reader.digest([item])
    if isinstance(answer, Failure):
        raise answer.error
    return answer.steps


def descriptors():
    """
    How many this process has.
    """
    return len(os.listdir("/proc/self/fd"))


def test_small_files(tree, reader):
    """
    A batch from several directories: bytes in order, each with its digest.
    """
    contents = {"a": b"one", "sub/b": b"", "sub/c": b"three" * 1000, "d": b"4"}
    (tree / "sub").mkdir()
    for name, content in contents.items():
        (tree / name).write_bytes(content)
    extents, data = reader.read([whole(tree / name, tree) for name in contents])
    assert extents == [
        Extent(len(content), blake3(content).digest()) for content in contents.values()
    ]
    assert data == b"".join(contents.values())


@pytest.mark.parametrize(
    "name", [b"x" * 255, b"\xff\xfe", b"new\nline", b"{}", b"-rf", b"\x1b[31m"]
)
def test_awkward_names(tree, reader, name):
    """
    Names are bytes.
    """
    path = Path(os.fsdecode(os.path.join(os.fsencode(tree), name)))
    path.write_bytes(b"content")
    assert read_one(reader, whole(path, tree))[1] == b"content"


def test_one_failure_leaves_the_others(tree, reader):
    """
    The bytes of the others close up.
    """
    for name in "abc":
        (tree / name).write_bytes(name.encode() * 3)
    ranges = [whole(tree / name, tree) for name in "abc"]
    (tree / "b").write_bytes(b"changed")
    (one, two, three), data = reader.read(ranges)
    assert isinstance(one, Extent)
    assert isinstance(two.error, SourceChanged)
    assert isinstance(three, Extent)
    assert data == b"aaaccc"


@pytest.mark.parametrize("path", [b"../x", b"/etc/passwd", b"a/../b", b"", b"a\0"])
def test_refuses_names(reader, path):
    """
    What is not canonical, also in a batch.
    """
    with pytest.raises(UnsafePath):
        read_one(reader, Range(path, bytes(40), 0, 0))
    with pytest.raises(UnsafePath):
        digest_one(reader, Prefix(path, bytes(40), 0))


def test_missing(tree, reader, file):
    """
    The file, or its directory.
    """
    for path in (b"none", b"none/file"):
        with pytest.raises(NoSuchFile):
            read_one(reader, Range(path, identity_at(file), 0, SIZE))


def test_one_missing_directory_leaves_the_others(reader, file):
    """
    A batch is not one fate.
    """
    item = part(file, 0, SIZE)
    missing = Range(b"none/file", item.identity, 0, SIZE)
    (one, two, three), _data = reader.read([missing, item, missing])
    assert [type(each) for each in (one, two, three)] == [Failure, Extent, Failure]


@needs(root=True)
def test_unreadable(public, guard):
    """
    A file without permission is an error with its reason.
    """
    (public / "file").write_bytes(b"x")
    (public / "file").chmod(0)
    root = Root.open(public)
    item = whole(public / "file", public)
    with as_nobody(), pytest.raises(DiskError, match="Permission denied"):
        read_one(Reader(root, guard), item)
    root.close()


# -- every moment at which a file may change


def delete(path):
    """
    Gone.
    """
    path.unlink()


def become_link(path):
    """
    A symbolic link to what it was.
    """
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


CHANGES = [append, overwrite, truncate, replace, delete, become_link]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("length", [SIZE, SIZE // 2])
def test_changed_before(reader, file, change, length):
    """
    Between listing and reading, of a whole file or of a part.
    """
    item = part(file, 0, length)
    time.sleep(TICK_NS / 1e9)  # older kernels' clocks move in steps
    change(file)
    with pytest.raises((SourceChanged, NoSuchFile)):
        read_one(reader, item)
    with pytest.raises((SourceChanged, NoSuchFile)):
        digest_one(reader, Prefix(item.path, item.identity, length))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("length", [SIZE, SIZE // 2])
def test_changed_while_reading(reader, guard, file, change, length):
    """
    After it was opened: what was read counts for nothing.
    """
    item = part(file, 0, length)
    time.sleep(TICK_NS / 1e9)
    guard.meddle = lambda: change(file)
    before = descriptors()
    with pytest.raises(SourceChanged):
        read_one(reader, item)
    assert descriptors() <= before + 1  # the directory


@pytest.mark.parametrize("change", CHANGES)
def test_changed_while_digesting(reader, guard, file, change):
    """
    The same for a digest.
    """
    item = prefix(file, SIZE)
    time.sleep(TICK_NS / 1e9)
    guard.meddle = lambda: change(file)
    with pytest.raises(SourceChanged):
        digest_one(reader, item)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_between_ranges(reader, file, change):
    """
    A large file that stays open is looked at again with each range.
    """
    first, second = part(file, 0, 60_000), part(file, 60_000, SIZE - 60_000)
    read_one(reader, first)
    time.sleep(TICK_NS / 1e9)
    change(file)
    before = descriptors()
    with pytest.raises(SourceChanged):
        read_one(reader, second)
    assert descriptors() == before - 1


def test_opened_for_writing_before(reader, file):
    """
    Deferred, whether or not anything was written.
    """
    with file.open("ab"):
        for length in (SIZE, 10):
            with pytest.raises(StillOpen):
                read_one(reader, part(file, 0, length))
        for length in (SIZE, 10, 0):
            with pytest.raises(StillOpen):
                digest_one(reader, prefix(file, length))
    assert read_one(reader, part(file, 0, SIZE))


# -- large files


@pytest.mark.parametrize("step", [SIZE - 1, SIZE // 2, 33_333, 10_001])
def test_in_ranges(reader, guard, file, step):
    """
    In ascending order: one open, one pass, and the digest with the last range.
    """
    data = b""
    for offset in range(0, SIZE, step):
        length = min(step, SIZE - offset)
        extent, piece = read_one(reader, part(file, offset, length))
        data += piece
        last = offset + length == SIZE
        assert extent.digest == (blake3(CONTENT).digest() if last else b"")
    assert data == CONTENT
    assert guard.opened == 1


def test_with_a_gap(reader, file):
    """
    Without all bytes there is no digest; the bytes are right all the same.
    """
    read_one(reader, part(file, 0, 10))
    extent, data = read_one(reader, part(file, 20, SIZE - 20))
    assert extent.digest == b""
    assert data == CONTENT[20:]


def test_again_from_the_beginning(reader, file):
    """
    A second try has a digest of its own.
    """
    read_one(reader, part(file, 0, 60_000))
    read_one(reader, part(file, 0, 50_000))
    extent, _data = read_one(reader, part(file, 50_000, SIZE - 50_000))
    assert extent.digest == blake3(CONTENT).digest()


def test_another_version_of_an_open_file(reader, file):
    """
    The version asked for now is read, and not the one that is open.
    """
    read_one(reader, part(file, 0, 60_000))
    file.unlink()
    file.write_bytes(CONTENT[::-1])
    _extent, data = read_one(reader, part(file, 60_000, 10))
    assert data == CONTENT[::-1][60_000:60_010]


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, SIZE + 1), (SIZE, 1), (-1, 10), (10, -1), (0, 0), (SIZE, 0), (1, SIZE)],
)
def test_ranges_outside(reader, file, offset, length):
    """
    Refused before memory is taken.
    """
    with pytest.raises(BadRequest):
        read_one(reader, part(file, offset, length))


@pytest.mark.parametrize("identity", [b"", bytes(41)])
def test_not_an_identity(reader, file, identity):
    """
    Made up by the other side.
    """
    with pytest.raises(BadRequest):
        read_one(reader, Range(b"file", identity, 0, 10))


def test_bounded_number_of_open_files(tree, reader):
    """
    Those left longest are closed; they are opened again, without a digest.
    """
    paths = [tree / f"f{number}" for number in range(MAX_OPEN + 5)]
    before = descriptors()
    for path in paths:
        path.write_bytes(b"x" * 100)
        read_one(reader, part(path, 0, 50))
    assert descriptors() <= before + MAX_OPEN + 1
    digest = blake3(b"x" * 100).digest()
    assert read_one(reader, part(paths[0], 50, 50))[0].digest == b""
    assert read_one(reader, part(paths[-1], 50, 50))[0].digest == digest
    reader.close()
    assert descriptors() <= before + 1


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offsets=st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 60)), min_size=1, max_size=8
    )
)
def test_any_ranges(tree, reader, offsets):
    """
    Whatever is read before, bytes are right, and so is a digest if there is one.
    """
    path, content = tree / "any", bytes(range(60))
    if not path.exists():
        path.write_bytes(content)
    for offset, length in offsets:
        length = min(length, 60 - offset)
        if length:
            extent, data = read_one(reader, part(path, offset, length))
            assert data == content[offset : offset + length]
            assert extent.digest in (b"", blake3(content).digest())
            if (offset, length) == (0, 60):
                assert extent.digest


# -- beginnings


@pytest.mark.parametrize("length", [1, SIZE // 2, SIZE])
def test_digest_of_a_beginning(reader, file, length):
    """
    One step, if it is short.
    """
    steps = digest_one(reader, prefix(file, length))
    assert steps == [blake3(CONTENT[:length]).digest()]


def test_digest_of_nothing(reader, guard, file):
    """
    Only checks that the file could be taken.
    """
    assert digest_one(reader, prefix(file, 0)) == [blake3().digest()]
    with pytest.raises(NoSuchFile):
        digest_one(reader, Prefix(b"none", identity_at(file), 0))


def test_digest_of_too_much(reader, file):
    """
    Longer than the file.
    """
    for length in (SIZE + 1, -1):
        with pytest.raises(BadRequest):
            digest_one(reader, prefix(file, length))


def sparse(tree, size):
    """
    A large file that takes no space: a little at both ends.
    """
    path = tree / "sparse"
    with path.open("wb") as file:
        file.write(b"beginning")
        file.truncate(size - 3)
        file.seek(0, os.SEEK_END)
        file.write(b"end")
    return path


def test_steps_of_a_large_file(tree, reader):
    """
    The digest of each step's end, and of the whole length.
    """
    length = 2 * PREFIX_STEP + 1000
    path = sparse(tree, length + 500)
    content = path.read_bytes()
    assert digest_one(reader, prefix(path, length)) == [
        blake3(content[:end]).digest() for end in (PREFIX_STEP, 2 * PREFIX_STEP, length)
    ]
    assert digest_one(reader, prefix(path, PREFIX_STEP)) == [
        blake3(content[:PREFIX_STEP]).digest()
    ]


@pytest.mark.parametrize("kept", [0, PREFIX_STEP, PREFIX_STEP + 1000])
def test_reading_on_after_a_digest(tree, reader, guard, kept):
    """
    From wherever the destination goes on: no second pass, and a digest at the end.
    """
    size = PREFIX_STEP + 2000
    path = sparse(tree, size)
    content = path.read_bytes()
    digest_one(reader, prefix(path, PREFIX_STEP + 1000))
    position = kept
    while position < size:
        length = min(3 * 1024 * 1024, size - position)
        extent, data = read_one(reader, part(path, position, length))
        assert data == content[position : position + length]
        position += length
    assert extent.digest == blake3(content).digest()
    assert guard.opened == 1


def test_reading_on_from_elsewhere(tree, reader):
    """
    Where no digest ended there is none to go on with.
    """
    path = sparse(tree, 5000)
    digest_one(reader, prefix(path, 4000))
    assert read_one(reader, part(path, 3000, 2000))[0].digest == b""


def test_marks_are_bounded(reader, file):
    """
    A file of any length needs bounded memory for its digests.
    """
    opened = _OpenFile(b"file", b"", b"", -1, None, sparse=False)
    for _ in range(MAX_MARKS + 10):
        opened.add(b"x")
        opened.mark()
    assert len(opened.marks) == MAX_MARKS
    opened.seek(MAX_MARKS)
    assert opened.hasher.digest() == blake3(b"x" * MAX_MARKS).digest()
    opened.seek(1)
    assert opened.hasher is None


def test_stop_ends_a_long_digest(reader, file):
    """
    Closing a store does not wait for a pass over a large file.
    """
    reader.stop()
    before = descriptors()
    with pytest.raises(CancelledError):
        reader.digest([prefix(file, SIZE)])
    assert descriptors() <= before + 1


# -- files that changed just now


class Naps:
    """
    Notes for how long it was to sleep, and lets something happen meanwhile.
    """

    def __init__(self, meanwhile=lambda: None):
        self.seconds = []
        self.meanwhile = meanwhile

    def __call__(self, seconds):
        """
        Do not sleep.
        """
        self.seconds.append(seconds)
        self.meanwhile()


def test_fresh_files_wait_once(tree, root):
    """
    The batch waits once for all that changed just now, and then reads them; those that
    did not change are not affected.
    """
    for name in "abcd":
        (tree / name).write_bytes(name.encode())
    newest = max((tree / name).stat().st_ctime_ns for name in "abcd")
    naps = Naps()
    guard = Meddling(lambda: newest + 10_000_000)
    reader = Reader(root, guard, naps)
    extents, data = reader.read([whole(tree / name, tree) for name in "abcd"])
    assert data == b"abcd"
    assert naps.seconds == [pytest.approx(0.04)]
    assert all(isinstance(extent, Extent) for extent in extents)


def test_fresh_file_that_changes_again(tree, root):
    """
    This is what the wait is for: what comes in the same step of the clock is seen.
    """
    file = tree / "file"
    file.write_bytes(b"one")
    born = file.stat().st_ctime_ns
    item = whole(file, tree)
    naps = Naps(lambda: file.write_bytes(b"other"))
    reader = Reader(root, Meddling(lambda: born), naps)
    with pytest.raises(SourceChanged):
        read_one(reader, item)
    assert len(naps.seconds) == 1


def test_check_does_not_wait(tree, root):
    """
    Nothing is read, so there is nothing to wait for.
    """
    file = tree / "file"
    file.write_bytes(b"one")
    naps = Naps()
    reader = Reader(root, Meddling(lambda: 0), naps)
    assert isinstance(reader.digest([prefix(file, 0)])[0], Digests)
    assert naps.seconds == []
    assert isinstance(reader.digest([prefix(file, 3)])[0], Digests)
    assert naps.seconds == [TICK_NS / 1e9]


def test_file_that_has_lost_a_link(reader, tree, file):
    """
    It is read as it is now, and to the end; what is removed, its content will tell.
    """
    other = tree / "other"
    os.link(file, other)
    item = whole(file, tree)
    other.unlink()
    (extent,), data = reader.read([item])
    assert (extent.digest, data) == (blake3(CONTENT).digest(), CONTENT)
    (digests,) = reader.digest([Prefix(b"file", item.identity, SIZE)])
    assert digests.steps[-1] == extent.digest


def rename_other(tree):
    """
    Another link gets another name.
    """
    (tree / "other").rename(tree / "another")


def remove_other(tree):
    """
    Another link goes.
    """
    (tree / "other").unlink()


@pytest.mark.parametrize("change", [rename_other, remove_other])
def test_other_links_change_while_it_is_read(reader, tree, file, guard, change):
    """
    Its change time tells nothing any more of what was read: its content does.
    """
    os.link(file, tree / "other")
    item = whole(file, tree)
    guard.meddle = lambda: change(tree)
    (extent,), data = reader.read([item])
    assert (extent.digest, data) == (blake3(CONTENT).digest(), CONTENT)


def leave_as_it_is(file):
    """
    Only its change time becomes another; it may have been just now, for the kernel.
    """
    before = file.stat()
    while file.stat().st_ctime_ns == before.st_ctime_ns:
        file.chmod(before.st_mode & 0o7777)


def edit_and_hide(file):
    """
    An edit that keeps the size, and sets the time of modification back.
    """
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(b"edited" + CONTENT[6:])
    os.utime(file, ns=times)


def test_other_links_change_and_so_does_it(reader, tree, file, guard, monkeypatch):
    """
    What was read is not what is there any more.
    """
    os.link(file, tree / "other")
    item = whole(file, tree)
    guard.meddle = lambda: leave_as_it_is(file)
    edits = [edit_and_hide]

    def look(status, version):
        while edits:
            edits.pop()(file)
        return differs_by_links(status, version)

    monkeypatch.setattr("realize.store.reading.differs_by_links", look)
    (failure,), data = reader.read([item])
    assert isinstance(failure.error, SourceChanged)
    assert not data


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("change", [rename_other, remove_other])
def test_other_links_change_between_ranges(reader, tree, file, change, edited):
    """
    An edit before what is read now, that sets its time of modification back, shows.
    """
    os.link(file, tree / "other")
    identity = whole(file, tree).identity
    half = SIZE // 2
    reader.read([Range(b"file", identity, 0, half)])
    if edited:
        edit_and_hide(file)
    change(tree)
    leave_as_it_is(file)
    (extent,), data = reader.read([Range(b"file", identity, half, SIZE - half)])
    if edited:
        assert isinstance(extent.error, SourceChanged)
    else:
        assert (extent.digest, data) == (blake3(CONTENT).digest(), CONTENT[half:])


@pytest.mark.parametrize(
    ("age", "wait"), [(0.4, 1.65), (2.04, 0.01), (2.05, None), (60, None)]
)
def test_coarse_times_are_waited_for_once(root, tree, age, wait):
    """
    Where times have steps of seconds, one wait is for all files of a batch that changed
    within one, and old files wait for nothing.
    """
    paths = [tree / f"file{number}" for number in range(3)]
    for path in paths:
        path.write_bytes(CONTENT)
    born = max(path.stat().st_ctime_ns for path in paths)
    naps = Naps()
    guard = Guard(
        0,
        lambda _: None,
        lambda: born + round(age * 1e9),
        lambda _device, fd: evolve(FileSystem.of(fd), step_ns=COARSE_NS),
    )
    reader = Reader(root, guard, naps)
    extents, _data = reader.read([whole(path, tree) for path in paths])
    assert [each.digest for each in extents] == [blake3(CONTENT).digest()] * 3
    assert naps.seconds == ([] if wait is None else [pytest.approx(wait)])
