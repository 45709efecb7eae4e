"""
What happens to the files of a directory, told once and kept three ways: counted,
logged, and written down as receipts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

from attrs import field, frozen
from prometheus_client import CollectorRegistry
from txaio.tx import get_global_log_level, make_logger

from realize.digest import digest_text
from realize.errors import DiskError, OverShare, PeerError, SyncFailed
from realize.model import How
from realize.observe.audit import AuditLog
from realize.observe.events import (
    BYTES_READ,
    BYTES_WRITTEN,
    ERRORS_SUPPRESSED,
    FILE_DEFERRED,
    FILE_FAILED,
    FILE_FINAL,
    FILE_REMOVED,
    FILES_FINAL,
    FILES_REMOVED,
    GROUP_COMMITTED,
    RECEIPTS_LOST,
    SYNC_FAILED,
    Event,
)
from realize.observe.journeys import GroupLines, Journeys, LineBudget, Sums, Unsaid
from realize.observe.metrics import DirectoryMetrics
from realize.observe.receipts import Receipt
from realize.paths import join, printable


@frozen
class Party:
    """
    For whom a store is open.

    :ivar peer: a peer's name, or ``local``.
    :ivar session: hexadecimal; the same for all that one run does.
    """

    peer: str = "local"
    session: str = ""


def session_name(token: bytes) -> str:
    """
    What logs call a session: enough of its token to tell it from others.
    """
    return token[:8].hex()


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
    :ivar place: the absolute path of the directory, for receipts.
    :ivar lines: how many may be about single files.
    :ivar tells_files: whether files that come to their end are logged; not if
        somebody else does that, who knows of both ends.
    """

    directory: str
    metrics: DirectoryMetrics
    audit: AuditLog | None = None
    place: bytes = b""
    lines: LineBudget = field(factory=LineBudget, repr=False)
    tells_files: bool = True

    @classmethod
    def unseen(cls, directory: str, tells_files: bool = True) -> Records:
        """
        Counted where nobody looks.
        """
        metrics = DirectoryMetrics.create(CollectorRegistry(), [directory])
        return cls(directory, metrics, tells_files=tells_files)


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
    _journeys: Journeys = field(init=False, factory=Journeys, repr=False)
    _lines: Mapping[str, GroupLines] = field(init=False, repr=False)
    _unsaid: Unsaid = field(init=False, factory=Unsaid, repr=False)

    log = make_logger()

    @_lines.default
    def _new_lines(self) -> Mapping[str, GroupLines]:
        budget = self.records.lines
        return {each.name: GroupLines(budget) for each in (FILES_FINAL, FILES_REMOVED)}

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
        if not files:
            return
        self._write_receipts("final", files)
        for how, number in Counter(each.how for each in files).items():
            self.metrics.finished.labels(self.directory, how).inc(number)
        self._log_group(FILE_FINAL, FILES_FINAL, files)

    def removed(self, files: Sequence[Settled]) -> None:
        """
        These were deleted, since they are safe elsewhere.  Blocks for the receipts.
        """
        if not files:
            return
        self.metrics.removed.labels(self.directory).inc(len(files))
        self._log_group(FILE_REMOVED, FILES_REMOVED, files)
        try:
            self._write_receipts("removed", files)
        except DiskError as error:
            # They are gone, and to say anything else would be wrong.
            self._log(
                RECEIPTS_LOST,
                reason=str(error),
                count=len(files),
                path=self._below(files[-1].path),
            )

    def failed(self, path: bytes, error: PeerError) -> None:
        """
        A file was not listed, read, written or removed, or is left for later.
        """
        if isinstance(error, OverShare):
            return  # it will be asked for again, perhaps many times
        self._journeys.end(path)
        if error.defers:
            self.metrics.deferred.labels(self.directory).inc()
            event = FILE_DEFERRED
        else:
            self.metrics.failed.labels(self.directory).inc()
            event = FILE_FAILED
        # Mostly the text begins with the path, which the message has already.
        text = str(error).removeprefix(f"{printable(path)}: ")
        if self.records.tells_files:
            self._log_trouble(event, path, text, error.code)
        if isinstance(error, SyncFailed):
            self._log(SYNC_FAILED, path=self._below(path), text=text)

    def _log_trouble(self, event: Event, path: bytes, text: str, code: str) -> None:
        """
        A line, unless somebody causes too many; those are counted.
        """
        if event.level == "debug":
            self._debug(event, path=self._below(path), text=text, code=code)
            return
        if not self.records.lines.take(1):
            self._unsaid.count()
            return
        self._log_unsaid()
        self._log(event, path=self._below(path), text=text, code=code)

    def _log_unsaid(self) -> None:
        if number := self._unsaid.take():
            self.tell(
                ERRORS_SUPPRESSED.log, self.log, peer=self.party.peer, count=number
            )

    def _below(self, path: bytes) -> bytes:
        return join(self.below, path)

    def _write_receipts(
        self, event: Literal["final", "removed"], files: Sequence[Settled]
    ) -> None:
        audit, party = self.records.audit, self.party
        if audit is None:
            return
        try:
            audit.write(
                Receipt(
                    event,
                    self.directory,
                    self.records.place,
                    self._below(each.path),
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
        journeys = [self._journeys.end(each.path) for each in files]
        if not self.records.tells_files:
            return
        each_told, sums = self._lines[many.name].take(
            Sums(
                files[-1].path,
                len(files),
                sum(each.size for each in files),
                sum(nbytes for _seconds, nbytes in journeys),
            )
        )
        self._log_sums(many, sums)
        if not each_told:
            return
        for each, (seconds, nbytes) in zip(files, journeys, strict=True):
            how = {"how": each.how} if each.how else {}
            self._log(
                one,
                path=self._below(each.path),
                size=each.size,
                blake3=digest_text(each.digest),
                seconds=seconds,
                crossed=nbytes,
                **how,
            )

    def _log_sums(self, event: Event, sums: Sums | None) -> None:
        if sums is not None:
            self._log(
                event,
                count=sums.count,
                size=sums.size,
                path=self._below(sums.path),
                crossed=sums.crossed,
            )

    def close(self) -> None:
        """
        The store is closed: log what was held back.
        """
        for event in (FILES_FINAL, FILES_REMOVED):
            self._log_sums(event, self._lines[event.name].rest())
        self._log_unsaid()

    def _log(self, event: Event, **fields: object) -> None:
        self.tell(
            event.log,
            self.log,
            directory=self.directory,
            peer=self.party.peer,
            session=self.party.session,
            **fields,
        )

    def _debug(self, event: Event, **fields: object) -> None:
        if get_global_log_level() == "debug":
            self._log(event, **fields)

    # -- bytes and groups

    def read(self, files: Iterable[tuple[bytes, int]]) -> None:
        """
        Content was read for a move: paths, and how many bytes of each.
        """
        total = self._moved("read", files)
        self._debug(BYTES_READ, size=total)

    def written(self, files: Iterable[tuple[bytes, int]]) -> None:
        """
        Content was written into partials: paths, and how many bytes of each.
        """
        total = self._moved("written", files)
        self._debug(BYTES_WRITTEN, size=total)

    def _moved(self, direction: str, files: Iterable[tuple[bytes, int]]) -> int:
        total = 0
        for path, nbytes in files:
            self._journeys.add(path, nbytes)
            total += nbytes
        self.metrics.file_bytes.labels(self.directory, direction).inc(total)
        return total

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
        self._debug(GROUP_COMMITTED, count=files, seconds=seconds)
