"""
Several moves of the same files at once, in whatever directions: the last copy of a file
is never removed.

The real step that removes, and stores in memory.  Each request takes effect when the
test says so, and it says so in every order there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from blake3 import blake3
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from realize.model import Confirmed, File, Finished, Removed
from realize.move.line import Line
from realize.move.pace import Pace
from realize.move.removing import Remover
from realize.move.run import Run
from realize.move.tally import Item, Tally
from tests.support.memory.destination import MemoryDestination
from tests.support.memory.disk import Disk
from tests.support.memory.source import MemorySource
from tests.support.moving import Recorder

T = TypeVar("T")

CONTENT = b"precious"


class Gate:
    """
    A way to a store on which a request takes effect when :meth:`go` is called.
    """

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []

    async def carry(self, _operation: str, effect: Callable[[], T]) -> T:
        """
        Wait, and do it.
        """
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        await waiting
        return effect()

    def go(self) -> None:
        """
        Let the next request take effect.
        """
        if self.waiting:
            self.waiting.pop(0).callback(None)


class Mover:
    """
    A move whose destination has answered that it has the file.
    """

    def __init__(self, here: Disk, there: Disk, kind: type[Remover]) -> None:
        self.gate = Gate()
        self.source = MemorySource(here, self.gate)  # type: ignore[arg-type]
        destination = MemoryDestination(there, self.gate)  # type: ignore[arg-type]
        line, clock = Line(), Clock()
        run = Run(
            line, self.source, destination, Tally(Recorder()), clock, Pace(line, clock)
        )
        node = here.files[b"f"]
        item = Item(File(b"f", len(CONTENT), 0, 0o644, node.identity), 0.0)
        item.digest = blake3(CONTENT).digest()
        remover = kind(run, False, {})
        line.steps = (remover,)
        remover.put([(item, Finished("present", there.files[b"f"].identity))])
        remover.begin()

    def close(self) -> None:
        """
        Its session is lost: what it has hidden is put back, and nothing that it asked
        for and that has not arrived happens any more.
        """
        self.gate.waiting.clear()
        Deferred.fromCoroutine(self.source.close())


def orders(left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """
    All orders in which so many things of each can happen.
    """
    if not any(left):
        yield ()
    for which, number in enumerate(left):
        if number:
            fewer = (*left[:which], number - 1, *left[which + 1 :])
            for rest in orders(fewer):
                yield (which, *rest)


#: Hide, confirm, unlink or restore.
STEPS = 3


def play(
    movers: int, order: tuple[int, ...], kind: type[Remover], lost: int | None = None
) -> bool:
    """
    Let things happen in this order.

    :param lost: after so many steps the session of each move is lost.
    :returns: whether the file was there all the time, and is not hidden in the end.
    """
    disks = [Disk(str(number)) for number in range(movers)]
    for disk in disks:
        disk.put(b"f", CONTENT)
    moves = [
        Mover(disk, disks[(number + 1) % movers], kind)
        for number, disk in enumerate(disks)
    ]
    taken = [0] * movers
    for which in order:
        if taken[which] == lost:
            moves[which].close()
        else:
            moves[which].gate.go()
        taken[which] += 1
        if not any(disk.files or disk.hidden for disk in disks):
            return False
    for move in moves:
        move.close()
    return any(disk.files for disk in disks)


@pytest.mark.parametrize("movers", [2, 3])
def test_every_order(movers: int) -> None:
    """
    Two that move back and forth, three that move in a ring.
    """
    every = list(orders((STEPS,) * movers))
    assert len(every) == {2: 20, 3: 1680}[movers]
    assert all(play(movers, order, Remover) for order in every)


@pytest.mark.parametrize("lost", range(STEPS + 1))
def test_every_order_with_lost_sessions(lost: int) -> None:
    """
    At every step of both, in every order.
    """
    every = list(orders((STEPS + 1,) * 2))
    assert len(every) == 70
    assert all(play(2, order, Remover, lost) for order in every)


def test_one_of_them_wins() -> None:
    """
    If nobody is in the way of the other, files are moved.
    """
    disks = [Disk("one"), Disk("other")]
    for disk in disks:
        disk.put(b"f", CONTENT)
    mover = Mover(*disks, Remover)
    for _ in range(STEPS):
        mover.gate.go()
    assert (list(disks[0].files), list(disks[1].files)) == ([], [b"f"])


class AsksFirst(Remover):
    """
    What must not be done: asks before it hides.
    """

    async def _remove(self, batch: list[Item]) -> None:
        answers = await self._confirm([(item, b".realize-moved-") for item in batch])
        for item, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Confirmed):
                (hidden,) = await self._ask([item], "hide")
                if isinstance(hidden, Removed):
                    await self._ask([item], "unlink")


class AsksNobody(Remover):
    """
    What must not be done: believes the answer that it had.
    """

    async def _remove(self, batch: list[Item]) -> None:
        await self._ask(batch, "hide")
        await self._ask(batch, "unlink")


@pytest.mark.parametrize("kind", [AsksFirst, AsksNobody])
@pytest.mark.parametrize("movers", [2, 3])
def test_it_would_be_noticed(kind: type[Remover], movers: int) -> None:
    """
    Any other way loses the file in some order.
    """
    every = orders((STEPS,) * movers)
    assert not all(play(movers, order, kind) for order in every)
