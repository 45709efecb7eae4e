"""
The files of a session, from several threads.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from functools import partial

from realize.accounts import Account, unlimited
from realize.errors import OverShare
from realize.paths import RelativePath
from realize.store.incoming import Incoming, IncomingFiles
from realize.store.partial import Partial
from realize.store.space import SpaceLedger


def without_limit(_what: str) -> Account:
    """
    Takes a descriptor of which there are enough.
    """
    return unlimited("descriptors")


def test_many_threads(tree):
    """
    However they interleave: no more open than allowed, and nothing left in the end.
    """
    ledger = SpaceLedger()
    files = IncomingFiles(ledger, lambda: 2**40, 6, without_limit)
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
    files = IncomingFiles(SpaceLedger(), lambda: 2**40, 300, without_limit)
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
