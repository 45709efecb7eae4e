"""
What happens to the files of a directory, told once and kept three ways: counted,
logged, and written down as receipts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Literal

from attrs import field, frozen
from prometheus_client import CollectorRegistry
from txaio.tx import make_logger

from realize.errors import DiskError, PeerError, SyncFailed
from realize.model import How
from realize.observe.audit import AuditLog, Receipt
from realize.observe.events import (
    FILE_DEFERRED,
    FILE_FAILED,
    FILE_FINAL,
    FILE_REMOVED,
    FILES_FINAL,
    FILES_REMOVED,
    SYNC_FAILED,
    Event,
)
from realize.observe.metrics import DirectoryMetrics
from realize.paths import join, printable

#: Groups of more files than this get one line for all, so that the journal's limit
#: (10,000 lines in 30 s) is not met by a move of small files.
LINES_PER_GROUP: Final = 8


@frozen
class Party:
    """
    For whom a store is open.

    :ivar peer: a peer's name, or ``local``.
    :ivar session: hexadecimal; the same for all that one run does.
    """

    peer: str = "local"
    session: str = ""


#: For whom a store is open if nobody else is named.
LOCAL: Final = Party()


@frozen
class Settled:
    """
    A file that became final or was removed.

    :ivar size: bytes.
    :ivar digest: BLAKE3 of the content; empty where it is not known.
    :ivar how: as in :data:`realize.model.How`; empty for a removal.
    """

    path: bytes
    size: int
    digest: bytes
    how: How | Literal[""] = ""


@frozen
class Records:
    """
    Where what happens in one directory of this host is kept.

    :ivar directory: its id, or ``local``.
    :ivar metrics: shared with other directories.
    :ivar audit: where receipts go, if anywhere.
    """

    directory: str
    metrics: DirectoryMetrics
    audit: AuditLog | None = None

    @classmethod
    def unseen(cls, directory: str) -> Records:
        """
        Counted where nobody looks, and logged.
        """
        metrics = DirectoryMetrics.create(CollectorRegistry(), [directory])
        return cls(directory, metrics)


@frozen(eq=False)
class Recorder:
    """
    Keeps what one store does.  All methods may be called from any thread.

    :ivar below: where its root is below the directory, for the paths in receipts.
    :ivar tell: has a function called in the reactor's thread; for logging.
    """

    records: Records
    party: Party
    below: bytes
    tell: Callable[..., object] = field(repr=False)

    log = make_logger()

    @property
    def directory(self) -> str:
        """
        The id of the directory, or ``local``.
        """
        return self.records.directory

    @property
    def metrics(self) -> DirectoryMetrics:
        """
        The instruments.
        """
        return self.records.metrics

    # -- files

    def final(self, files: Sequence[Settled]) -> None:
        """
        These are verified, durable and under their names.  Blocks for the receipts.

        :raises DiskError: the receipts could not be written; the sources must stay.
        """
        self._write_receipts("final", files)
        for how, number in Counter(each.how for each in files).items():
            self.metrics.finished.labels(self.directory, how).inc(number)
        self._log_group(FILE_FINAL, FILES_FINAL, files)

    def removed(self, files: Sequence[Settled]) -> None:
        """
        These were deleted, since they are safe elsewhere.  Blocks for the receipts.
        """
        self.metrics.removed.labels(self.directory).inc(len(files))
        self._log_group(FILE_REMOVED, FILES_REMOVED, files)
        self._write_receipts("removed", files)

    def failed(self, path: bytes, error: PeerError) -> None:
        """
        A file was not listed, read, written or removed, or is left for later.
        """
        if error.defers:
            self.metrics.deferred.labels(self.directory).inc()
            event = FILE_DEFERRED
        else:
            self.metrics.failed.labels(self.directory).inc()
            event = FILE_FAILED
        # Mostly the text begins with the path, which the message has already.
        text = str(error).removeprefix(f"{printable(path)}: ")
        self._log(
            event,
            path=path,
            text=text,
            code=error.code,
            peer=self.party.peer,
            session=self.party.session,
        )
        if isinstance(error, SyncFailed):
            self._log(
                SYNC_FAILED,
                path=path,
                text=text,
                peer=self.party.peer,
                session=self.party.session,
            )

    def _write_receipts(
        self, event: Literal["final", "removed"], files: Sequence[Settled]
    ) -> None:
        audit, party = self.records.audit, self.party
        if audit is None or not files:
            return
        try:
            audit.write(
                Receipt(
                    event,
                    self.directory,
                    join(self.below, each.path),
                    each.size,
                    each.digest,
                    party.peer,
                    party.session,
                )
                for each in files
            )
        except OSError as error:
            raise DiskError(
                f"the audit log cannot be written: {error.strerror}"
            ) from None

    def _log_group(self, one: Event, many: Event, files: Sequence[Settled]) -> None:
        common = {
            "directory": self.directory,
            "peer": self.party.peer,
            "session": self.party.session,
        }
        if len(files) > LINES_PER_GROUP:
            self._log(
                many,
                count=len(files),
                size=sum(each.size for each in files),
                path=files[-1].path,
                **common,
            )
            return
        for each in files:
            how = {"how": each.how} if each.how else {}
            self._log(
                one,
                path=each.path,
                size=each.size,
                blake3=each.digest.hex(),
                **how,
                **common,
            )

    def _log(self, event: Event, **fields: object) -> None:
        fields.setdefault("directory", self.directory)
        self.tell(event.log, self.log, **fields)

    # -- bytes and groups

    def read(self, nbytes: int) -> None:
        """
        Content was read for a move.
        """
        self.metrics.file_bytes.labels(self.directory, "read").inc(nbytes)

    def written(self, nbytes: int) -> None:
        """
        Content was written into partials.
        """
        self.metrics.file_bytes.labels(self.directory, "written").inc(nbytes)

    def reused(self, nbytes: int) -> None:
        """
        Content was taken from what was present.
        """
        self.metrics.reused_bytes.labels(self.directory).inc(nbytes)

    def committed(self, files: int, seconds: float) -> None:
        """
        A group of files was made durable.
        """
        self.metrics.commit_files.labels(self.directory).observe(files)
        self.metrics.commit_duration.labels(self.directory).observe(seconds)

    def partials(self, files: int, nbytes: int) -> None:
        """
        So many more (or fewer) files, and bytes in them, are under construction.
        """
        if files:
            self.metrics.partial_files.labels(self.directory).inc(files)
        if nbytes:
            self.metrics.partial_bytes.labels(self.directory).inc(nbytes)
