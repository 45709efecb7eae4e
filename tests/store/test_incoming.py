"""
The files of a session, from several threads.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from functools import partial

import pytest

from realize.accounts import Account, Resource, new_space, unlimited
from realize.errors import BadRequest, OverShare
from realize.paths import RelativePath
from realize.store.incoming import LAPSE, Incoming, IncomingFiles
from realize.store.partial import Partial
from realize.store.space import SpaceLedger


def without_limit(_path: bytes) -> Account:
    """
    Takes a descriptor of which there are enough.
    """
    return unlimited("descriptors")


def test_many_threads(tree):
    """
    However they interleave: no more open than allowed, and nothing left in the end.
    """
    ledger = SpaceLedger()
    files = IncomingFiles(ledger, lambda: 2**40, 6, without_limit, unlimited("memory"))
    directory = os.open(tree, os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(150):
                path = RelativePath.parse(b"%d-%d" % (number, turn % 5))
                file = files.get(path.raw) or Incoming.of(path, 10)
                files.promise(file, 10)
                files.announce(file)
                with files.using([path.raw]):
                    if file.partial is None:
                        begin = partial(Partial.begin, directory, file.partial_name)
                        try:
                            files.open(file, begin)
                        except OverShare:
                            files.forget(path.raw)
                            continue
                    open_now = len(os.listdir("/proc/self/fd"))
                    # Besides, each thread may have one to look at this with.
                    assert open_now <= before + 6 + 8
                    assert file.partial is not None
                if turn % 3:
                    files.forget(path.raw)
        except BaseException as error:
            problems.append(error)
            raise

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert problems == []
    files.forget_all()
    assert ledger.promised == 0
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(directory)


def test_looking_for_room_while_others_close(tree):
    """
    Going through the open files does not mind that their number changes.
    """
    files = IncomingFiles(
        SpaceLedger(), lambda: 2**40, 300, without_limit, unlimited("memory")
    )
    directory = os.open(tree, os.O_RDONLY)
    problems: list[BaseException] = []
    done = threading.Event()

    def file_of(name: bytes) -> Incoming:
        file = Incoming.of(RelativePath.parse(name), 0)
        file.busy = True
        files.announce(file)
        return file

    def begin(file: Incoming) -> None:
        files.open(file, partial(Partial.begin, directory, file.partial_name))

    def look() -> None:
        wanted = file_of(b"wanted")
        try:
            while not done.is_set():
                with suppress(OverShare):
                    begin(wanted)
                    files.close(wanted)
        except BaseException as error:
            problems.append(error)
            raise

    held = [file_of(b"%d" % n) for n in range(300)]
    for file in held:
        begin(file)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    looking = threading.Thread(target=look)
    looking.start()
    try:
        for file in held:
            files.close(file)
            with suppress(OverShare):
                begin(file)
    finally:
        done.set()
        looking.join()
        sys.setswitchinterval(interval)
    assert problems == []
    files.forget_all()
    os.close(directory)


class Session:
    """
    The files of one session, by a clock that stands still.
    """

    def __init__(self, memory: Resource, space: Resource, peer: str) -> None:
        self.now = 0.0
        self.ledger = SpaceLedger(account=space.account(peer, "1"))
        self.files = IncomingFiles(
            self.ledger,
            lambda: 1000,
            300,
            without_limit,
            memory.account(peer, "1"),
            seconds=lambda: self.now,
        )

    def offer(self, name: bytes, size: int = 10) -> Incoming:
        """
        As an offer is taken.
        """
        file = Incoming.of(RelativePath.parse(name), size)
        self.files.announce(file)
        try:
            self.files.promise(file, 0)
        except BaseException:
            self.files.forget(name)
            raise
        return file


def plenty() -> Resource:
    """
    Enough memory for all.
    """
    return Resource("memory", "memory", 10**9)


def test_promises_lapse(tree):
    """
    Room for what nobody sends is given to others who get nothing, and what comes for it
    later has to be offered again.  Without others, nothing lapses.
    """
    memory, space = plenty(), new_space()
    idle, other = Session(memory, space, "a"), Session(memory, space, "b")
    directory = os.open(tree, os.O_RDONLY)
    begun = idle.offer(b"begun", 900)
    idle.files.open(begun, partial(Partial.begin, directory, begun.partial_name))
    with pytest.raises(BadRequest):
        raise idle.files.missing(b"never offered")
    idle.now = LAPSE - 1
    with pytest.raises(OverShare):
        other.offer(b"x", 500)
    assert idle.files.get(b"begun") is begun
    idle.now = LAPSE
    space.seconds = lambda: float("inf")
    other.offer(b"x", 500)
    assert (len(idle.files), idle.ledger.account.held) == (0, 0)
    assert begun.partial is None
    assert os.listdir(tree) == [os.fsdecode(begun.partial_name)]
    with pytest.raises(OverShare, match="offer it again"):
        raise idle.files.missing(b"begun")
    os.close(directory)


def test_what_was_not_begun_gives_way():
    """
    At once, the latest first, down to as much as others have; what was begun, or is
    being worked on, does not.
    """
    memory, space = plenty(), new_space()
    first, other = Session(memory, space, "a"), Session(memory, space, "b")
    files = [first.offer(b"%d" % number, 100) for number in range(10)]
    with first.files.using([b"9"]):
        other.offer(b"x", 250)
        assert [file.promised for file in files] == [100] * 2 + [0] * 7 + [100]
    assert other.ledger.account.held == 250


def test_memory_of_offers():
    """
    A peer that offers without end is told to wait; another is not, and all of it comes
    back.
    """
    memory, space = Resource("memory", "memory", 1_000_000), new_space()
    greedy, other = Session(memory, space, "a"), Session(memory, space, "b")
    for number in range(1000):
        with suppress(OverShare):
            greedy.offer(b"%0200d/%d" % (0, number), 0)
    assert 300 < len(greedy.files) < 600
    greedy.offer(b"%0200d/1" % 0, 0)
    other.offer(b"x", 0)
    greedy.files.forget_all()
    other.files.forget_all()
    assert (memory.held, space.held) == (0, 0)
