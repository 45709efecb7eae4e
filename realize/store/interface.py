"""
What a store can do, whether it is on this host or a peer's.

Rules common to all operations:

- A batch holds at most :data:`~realize.model.MAX_BATCH` items and
  :data:`~realize.model.MAX_BATCH_BYTES` bytes, and holes of any size.  Its answer has
  one result per item, in the same order; one that failed is a
  :class:`~realize.model.Failure`.
- An exception means that the whole operation did nothing: a
  :class:`~realize.errors.PeerError` if the store says so, or
  :class:`~realize.errors.PeerGone` if a remote store lost its connection, after
  which it is not known whether the operation took place.
- Operations may be begun without waiting for the ones before.  Those that name the
  same file take effect in the order in which they were begun; others in any order.
- Names that arrive are checked by the store (:class:`~realize.errors.UnsafePath`).
- Cancelling an operation gives up the answer, not the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from realize.delta.exchange import Patch, Sign, Signed
from realize.model import (
    EVERYTHING,
    Claim,
    Confirmed,
    Digests,
    Directory,
    Extent,
    Failure,
    File,
    Finish,
    Finished,
    Held,
    Offer,
    Page,
    Piece,
    Place,
    Prefix,
    Range,
    Removal,
    Removed,
    Subset,
    Written,
)


class Store(Protocol):
    """
    A root opened for one run; closed, with all it holds, by :meth:`close`.
    """

    @property
    def name(self) -> str:
        """
        What messages call it: a path, or ``PEER:DIRECTORY/SUBDIR``.
        """

    async def place(self) -> Place:
        """
        Where the root is, to find out whether two stores are the same place.
        """

    async def mark(self) -> bytes:
        """
        Make a directory in the root, for a moment, with a name that was never there.

        :returns: the name; ``b""`` if there can be none.
        """

    async def unmark(self) -> None:
        """
        Remove it.  :meth:`close` does that too.
        """

    async def sees(self, mark: bytes, above: bool = True) -> bool:
        """
        Whether the mark of another store can be seen here: then they are one place.

        :param above: or in a directory above the root: then one is inside the other.
        :raises BadRequest: it is not what :meth:`mark` returns.
        """

    async def close(self) -> None:
        """
        Give up everything held: partials stay on disk, open files are closed,
        hidden files are put back.  Waits for what is being committed.
        """


class Source(Store, Protocol):
    """
    A store that files are taken from.
    """

    async def list(
        self, cursor: int, restore: bool = True, subset: Subset = EVERYTHING
    ) -> Page:
        """
        A page of the listing.

        The walk goes on where the page before ended; it holds one open listing per
        level, and nothing per file but the names that it looks for.

        :param cursor: 0 begins a new walk; otherwise :attr:`Page.next` of the page
            before.
        :param restore: whether a new walk puts files back that a crash left hidden;
            otherwise it changes nothing and only tells of them.
        :param subset: what a new walk looks for.
        :raises BadRequest: *cursor* is not the next of the present walk.
        :raises UnsafePath: a name is not canonical.
        :raises DirectoryGone: the root has vanished.
        """

    async def digest(self, files: Sequence[Prefix]) -> Sequence[Digests | Failure]:
        """
        Read and digest beginnings of files.

        A length of 0 only checks that the file could be taken: identity, and nobody
        writing.  A later :meth:`read` from where a digest ended needs no second pass.
        """

    async def read(
        self, ranges: Sequence[Range]
    ) -> tuple[Sequence[Extent | Failure], bytes | memoryview]:
        """
        Read parts of files.

        After the last byte of a file it is checked again that it is the version
        asked for (:class:`~realize.errors.SourceChanged` if not).

        :returns: the extents and, joined, their bytes without holes.
        """

    async def sign(self, wanted: Sign) -> Signed:
        """
        A part of the signature of a file.  Changes nothing.

        Pages may be asked for without waiting for the ones before.  The last comes
        with the digest of the file, if it was asked for from the first on.

        :raises BadRequest: not the next page, or groups that are none.
        :raises PeerError: the file is not this version, or cannot be read, as for
            :meth:`read`.
        """

    async def remove(self, files: Sequence[Removal]) -> Sequence[Removed | Failure]:
        """
        Delete files that are still the version that was moved: hide them, so that the
        destination can be asked for its own, and then unlink them or put them back.
        Only what was hidden in this run can be unlinked.
        """

    async def prune(self, directories: Sequence[bytes]) -> None:
        """
        Remove directories that are empty, and then their parents if that left those
        empty; never the root, and nothing else.

        :param directories: their paths.  One that is not empty, or not there, stays as
            it is.
        """


class Destination(Store, Protocol):
    """
    A store that files are put into.  It is never listed.
    """

    async def offer(
        self,
        files: Sequence[Offer],
        directories: Sequence[Directory],
        reserve: bool = True,
    ) -> Sequence[Held | Failure]:
        """
        Ask what is there already and announce what will be written.

        Safe to repeat.  Without *reserve* nothing is changed or held, and the answer
        says what would be: this is how a dry run asks.  With it, space is reserved
        until the file is finished or the store closed, missing directories are
        created, and the files may be written.

        :param directories: those above the files, parents first, with the modes to
            create them with.  One that is missing here gets a default mode.
        """

    async def compare(self, files: Sequence[Finish]) -> Sequence[Held | Failure]:
        """
        Whether the present files have the content described; changes nothing.

        :class:`~realize.errors.DigestMismatch` if not, or
        :class:`~realize.errors.NoSuchFile`.
        """

    async def write(
        self, pieces: Sequence[Piece], payload: bytes | memoryview
    ) -> Sequence[Written | Failure]:
        """
        Write into partials of files that were offered.

        Once a piece failed, all that follow for the same file fail in the same way
        until it is offered again, and so does :meth:`finish`; the partial is kept.

        Of a file that was offered with holes, holes become holes; so does what lies
        between the end of a partial and a piece that begins further on.

        :param payload: the bytes of all pieces, joined, without holes.
        """

    async def sign(self, wanted: Sign) -> Signed:
        """
        The same for the present file of a name.

        :raises NotAllowed: present files may not be replaced.
        :raises NoSuchFile: there is none.
        :raises DigestMismatch: it is not this version, or is being changed.
        :raises BadRequest: as for :meth:`Source.sign`.
        """

    async def reuse(
        self, patch: Patch, payload: bytes | memoryview
    ) -> Written | Failure:
        """
        Write the next stretch of a file that was offered, in part from the file that
        is present, which stays as it is.  A patch from offset 0 on begins the partial
        anew.

        Fails, and makes what follows fail, as :meth:`write` does; with
        :class:`~realize.errors.NoSuchFile` or
        :class:`~realize.errors.DigestMismatch` if the present file is another.

        :param payload: what is to be fetched, joined.
        """

    async def finish(self, files: Sequence[Finish]) -> Sequence[Finished | Failure]:
        """
        Verify, make durable, put under the final name, and make that durable.

        From the partial that this store wrote; without one, from the present file if
        it has the digest, which is made durable again all the same.  The group is
        committed together.  Safe to repeat: an answer lost with its connection is
        asked for again.
        """

    async def confirm(self, claims: Sequence[Claim]) -> Sequence[Confirmed | Failure]:
        """
        Whether files that were finished are still there, while the source has its own
        hidden.  The answer is about now: it comes from no cache.

        One that looks changed is proven and made durable once more, as by
        :meth:`finish`.  Failures are :class:`~realize.errors.NoSuchFile`,
        :class:`~realize.errors.DigestMismatch`,
        :class:`~realize.errors.SameFile` if the source's mark can be seen here, and
        whatever keeps it from being found out.
        """

    async def adopt(
        self, source: Source, files: Sequence[File], directories: Sequence[Directory]
    ) -> Sequence[Finished | Failure] | None:
        """
        Move files that are on the same file system by renaming them.

        Without files, only whether that is likely to be possible is found out.

        :returns: None if these two stores cannot; nothing has been done then.
        """
