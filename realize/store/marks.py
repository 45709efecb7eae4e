"""
Marks: whether two roots are one place, seen through different mounts.

Numbers of devices and inodes tell that of local mounts only.  A name that was never
there before tells it of all: no cache can know it.  So a root gets an empty directory
of such a name for a moment, and the other end looks whether it sees it.
"""

from __future__ import annotations

from contextlib import suppress

from attrs import define, field

from realize.errors import BadRequest, PeerError
from realize.paths import is_hidden_directory
from realize.store.hidden import HiddenDirectory
from realize.store.root import Root


@define(eq=False)
class Marks:
    """
    The mark of one root.  Not called from two threads at once, but for :meth:`sees`.

    A crash leaves an empty hidden directory, which is removed by the next listing.
    """

    _root: Root
    _made: HiddenDirectory | None = field(default=None, init=False)

    def make(self) -> bytes:
        """
        Make a mark, in place of one that there is already.

        :returns: its name; ``b""`` if the root does not exist, or takes none.
        """
        self.remove()
        with suppress(OSError, PeerError), self._root.directory(b"") as directory:
            self._made = HiddenDirectory.make(directory)
            return self._made.name
        return b""

    def remove(self) -> None:
        """
        Remove it, if there is one.
        """
        made, self._made = self._made, None
        if made is None:
            return
        try:
            with suppress(OSError), self._root.directory(b"") as directory:
                made.remove(directory)
        except PeerError:
            made.give_up()

    def sees(self, mark: bytes, above: bool) -> bool:
        """
        As :meth:`realize.store.interface.Store.sees`.
        """
        if not is_hidden_directory(mark):
            raise BadRequest("no mark")
        return self._root.sees(mark, above)
