"""
The way of the files from one open store to another.

The way of a file::

    list -> adopt? -> offer -+-> prove -----------------------------------+-> remove
                             |     | differs                              |
                             +-----+-> resume? -+-> send ------+-> finish-+
                                                +-> compare ->-+

- *adopt*: both ends are on one file system and a rename does it all.
- *prove*: the destination has a file of this name and size; the source digests its
  own, and the destination finishes from what it has, if that is the same.
- *resume*: the destination has a partial from an earlier run, and keeps of it what
  the source's digests confirm.
- *compare*: the destination has a file of this name with other content; both ends
  sign theirs, and what the destination has is copied there, the rest is sent.  A file
  of the same size that was modified at another time is compared rather than proven.
- *finish*: the destination verifies, makes durable, renames, makes durable.
- *receipt*: what is final is written down, if an audit log is kept.
- *remove*: only after the answer of *finish*, and the receipt.

Invariant: a removal is asked for only of files of which the destination has said
:class:`~realize.model.Finished`, in this run or in one before that lost its
connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from realize.move.adopting import Adopter
from realize.move.finishing import Finisher
from realize.move.listing import Lister
from realize.move.offering import Offerer
from realize.move.outcome import MoveSettings
from realize.move.patching import Patcher
from realize.move.receipts import NO_RECEIPTS, Receipts
from realize.move.removing import Remover
from realize.move.resuming import Resumer
from realize.move.run import Run
from realize.move.sending import Sender
from realize.move.tally import Item
from realize.move.window import Window


@define(eq=False)
class Assembly:
    """
    The line of a move, put together.

    :ivar pending: files that are safe and not known to be removed; kept by the
        caller beyond a lost connection.
    """

    _run: Run
    _settings: MoveSettings
    _window: Window
    _pending: dict[bytes, Item]
    _receipts: Receipts = NO_RECEIPTS
    #: Whether removals left over from before are still in progress.
    _clearing: bool = True
    _lister: Lister = field(init=False)
    _offerer: Offerer = field(init=False)
    _resumer: Resumer = field(init=False)
    _sender: Sender = field(init=False)
    _patcher: Patcher = field(init=False)
    _finisher: Finisher = field(init=False)
    _remover: Remover = field(init=False)

    def __attrs_post_init__(self) -> None:
        run, settings, receipts = self._run, self._settings, self._receipts
        self._remover = Remover(
            run, settings.remove_directories, self._pending, receipts
        )
        self._finisher = Finisher(
            run, receipts, done=self._remover.put, again=self._offer_again
        )
        self._lister = Lister(run, settings, self._may_list)
        self._sender = Sender(
            run,
            self._window,
            self._finisher.written.put,
            waiting=lambda: self._finisher.written.load + self._patcher.open,
            more=lambda: self._lister.load > 0 or self._offerer.offering,
        )
        self._patcher = Patcher(
            run,
            self._window,
            self._finisher.written.put,
            self._offer_again,
            has_room=self._sender.has_free_partials,
            others=lambda: self._sender.load > 0,
        )
        self._resumer = Resumer(
            run, go_on=self._go_on, complete=lambda it: self._finisher.written.put([it])
        )
        self._offerer = Offerer(
            run,
            self._lister,
            Adopter(
                run,
                receipts,
                again=self._offer_again,
                prune=self._remover.prune,
            ),
            compares=self._patcher.takes,
            queued_bytes=self._sender.queued_bytes,
            equal=self._finisher.present.put,
            other=self._send,
        )
        self._remover.put_again()
        run.line.steps = (
            self._remover,
            self._finisher.written,
            self._patcher,
            self._sender,
            self._resumer,
            self._finisher.present,
            self._offerer,
            self._lister,
        )
        run.pace.active = self._active
        run.pace.open = self._sender.open_partials

    def _active(self) -> int:
        """
        Files between offer and end.
        """
        return sum(step.load for step in self._run.line.steps) - self._lister.load

    def _may_list(self) -> bool:
        # What was left to be removed must be gone, or it would be listed again.
        if self._clearing and not self._remover.load:
            self._clearing = False
        return self._run.may_go_on() and not self._clearing

    def _offer_again(self, item: Item) -> None:
        self._offerer.put_again(item)

    def _send(self, items: Sequence[Item]) -> None:
        """
        Queue files of which the destination has no file with the same content, as
        far as is known.
        """
        fresh, begun, changed = list[Item](), list[Item](), list[Item]()
        for item in items:
            resumable = item.partial and item.file.size > self._window.slice
            if resumable and not item.whole:
                begun.append(item)
            elif self._patcher.takes(item):
                changed.append(item)
            else:
                fresh.append(item)
        self._sender.put(fresh)
        self._resumer.put(begun)
        self._patcher.put(changed)

    def _go_on(self, item: Item) -> None:
        """
        Queue a file of which a partial was kept.
        """
        if self._patcher.takes(item):
            self._patcher.put([item])
        else:
            self._sender.resume(item)
