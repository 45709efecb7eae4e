"""
Files that are there already.
"""

from __future__ import annotations

import os
import threading

import msgspec
import pytest
from blake3 import blake3
from twisted.internet.defer import CancelledError

from realize.errors import DigestMismatch, NameTaken
from realize.model import MAX_TIME, MIN_TIME, Held, Offer
from realize.store.identity import identity_of
from realize.store.present import held, look, open_present, proven
from tests.support.fuse.mounting import mount, needs_fuse
from tests.support.fuse.switches import ALWAYS, Fault
from tests.support.putting import Putting, codes, finish_of


@pytest.fixture
def directory(tree):
    """
    Descriptor of *tree*.
    """
    fd = os.open(tree, os.O_RDONLY)
    yield fd
    os.close(fd)


def digest(content: bytes) -> bytes:
    """
    BLAKE3.
    """
    return blake3(content).digest()


def test_look(directory, tree):
    """
    A file, nothing, or something else.
    """
    (tree / "x").write_bytes(b"12345")
    (tree / "dangling").symlink_to("nothing")
    status = look(directory, b"x")
    assert held(status, 3) == Held(3, 5, identity_of(status), status.st_mtime_ns)
    assert look(directory, b"y") is None
    assert held(None, 3) == Held(3)
    with pytest.raises(NameTaken):
        look(directory, b"dangling")


def test_proven(directory, tree):
    """
    All of the content counts.
    """
    content = os.urandom(3 * 2**20 + 1)
    (tree / "x").write_bytes(content)
    with proven(directory, b"x", len(content), digest(content)) as (fd, status):
        assert os.fstat(fd) == status
    with (
        pytest.raises(DigestMismatch),
        proven(directory, b"x", len(content), digest(content[:-1])),
    ):
        pass


def test_holes_are_believed_once_the_data_is_on_the_disk(directory, tree):
    """
    Before the file system is asked where they are; a dense file is not waited for.
    """
    synced = []
    content = bytes(2**20) + b"end"
    with (tree / "x").open("wb") as file:
        file.seek(2**20)
        file.write(b"end")
    (tree / "dense").write_bytes(content)
    for name in (b"x", b"dense"):
        with proven(directory, name, len(content), digest(content), synced.append):
            pass
    assert len(synced) == 1


def test_another_size_is_not_read(directory, tree):
    """
    A file of a terabyte is not read to find out that it is not one of five bytes.
    """
    with (tree / "x").open("wb") as file:
        file.truncate(2**40)
    with (
        pytest.raises(DigestMismatch, match="1099511627776 bytes, not 5"),
        proven(directory, b"x", 5, digest(b"12345")),
    ):
        pass


def test_changing_while_it_is_read(directory, tree):
    """
    What was read first may be something else by now; its time tells.
    """
    size = 2**26
    with (tree / "x").open("wb") as file:
        file.truncate(size)
    done = threading.Event()

    def touch() -> None:
        while not done.is_set():
            os.utime(tree / "x")

    touching = threading.Thread(target=touch)
    touching.start()
    try:
        with (
            pytest.raises(DigestMismatch, match="x: the present file is changing"),
            proven(directory, b"x", size, digest(bytes(size))),
        ):
            pass
    finally:
        done.set()
        touching.join()


@pytest.mark.parametrize("when", [-(2**40), -1, 2**33, 2**40])
def test_any_time(in_memory, when):
    """
    What is said of it fits into an answer, whatever its time.
    """
    path = in_memory / "file"
    path.touch()
    os.utime(path, ns=(0, when * 10**9))
    answer = held(path.stat())
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=Held) == answer
    if MIN_TIME <= when * 10**9 <= MAX_TIME:
        assert answer.mtime_ns == when * 10**9


def test_version_of_one_of_several_links(directory, tree):
    """
    It stays the same when another link is renamed or removed, as that of the source
    may be.
    """
    (tree / "file").write_bytes(b"content")
    os.link(tree / "file", tree / "other")
    version = held((tree / "file").stat()).version
    (tree / "other").rename(tree / "another")
    assert held((tree / "file").stat()).version == version
    (tree / "another").unlink()
    with open_present(directory, b"file", version) as fd:
        assert os.read(fd, 100) == b"content"
    (tree / "file").write_bytes(b"CONTENT")
    with (
        pytest.raises(DigestMismatch),
        open_present(directory, b"file", version),
    ):
        pass


@needs_fuse
@pytest.mark.parametrize("call", ["open", "read"])
@pytest.mark.parametrize("error", ["EACCES", "EIO"])
def test_one_that_cannot_be_read_gives_way(tmp_path, call, error):
    """
    As one that differs does: nobody can tell whether it does.
    """
    with mount(tmp_path / "fs") as there:
        (there.below / "x").write_bytes(b"old")
        putting = Putting(there.root)
        there.fail(Fault(call=call, error=error, path="/x", times=ALWAYS))
        assert codes(putting.offer(Offer(b"x", 3))) == ["Held"]
        (result,) = putting.finish(finish_of(b"x", b"new"))
        assert result.code == DigestMismatch.code
        assert result.text.startswith("x: the present file cannot be read: ")
        assert codes(putting.put({b"x": b"new"})) == ["Finished"]
        assert (there.below / "x").read_bytes() == b"new"
        putting.close()


def test_a_huge_hole_pauses(directory, tree):
    """
    An ordinary digest of a hole costs what data would: others have their turns
    meanwhile, and it ends when nobody waits for it any more.
    """
    with (tree / "x").open("wb") as file:
        file.truncate(2**42)
    left = 10

    def pause() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise CancelledError

    with (
        pytest.raises(CancelledError),
        proven(directory, b"x", 2**42, digest(b""), pause=pause),
    ):
        pass  # never gets here
