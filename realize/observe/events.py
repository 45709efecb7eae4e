"""
The catalogue of everything that is logged.

An event has a name, a level, a message and fields.  Code logs by these objects only,
so ``docs/logging.md``, which a test compares with this list, is complete.  Messages
are constant; what varies is in the fields.
"""

from __future__ import annotations

from string import Formatter
from typing import Any, Final, Literal

from attrs import field, frozen


@frozen
class Event:
    """
    A kind of thing that is worth a line.

    :ivar name: lower-case words with hyphens; stable, so that it can be searched for.
    :ivar level: ``error``: something is lost to the operator unless they act.
        ``warn``: look at it today.  ``info``: what a person would tell another.
        ``debug``: each step.
    :ivar message: with fields in braces.
    :ivar when: for the documentation.
    :ivar extra: fields beside those in the message.
    """

    name: str
    level: Literal["error", "warn", "info", "debug"]
    message: str
    when: str
    extra: tuple[str, ...] = field(default=())

    @property
    def fields(self) -> tuple[str, ...]:
        """
        The names of all its fields.
        """
        named = [name for _text, name, _spec, _c in Formatter().parse(self.message)]
        return (*dict.fromkeys(name for name in named if name), *self.extra)

    def log(self, logger: Any, **fields: object) -> None:
        """
        Log it once.

        :param logger: made by ``txaio.tx.make_logger``.
        :param fields: exactly :attr:`fields`; names of files as bytes.
        """
        getattr(logger, self.level)(self.message, event=self.name, **fields)

    def log_failure(self, logger: Any, failure: object, **fields: object) -> None:
        """
        Log something that nobody planned: one line, and its traceback at debug.

        :param failure: a ``twisted.python.failure.Failure``.
        :param fields: as for :meth:`log`.
        """
        logger.failure(self.message, failure=failure, event=self.name, **fields)


# -- the program

STARTED: Final = Event(
    "started",
    "info",
    "realized {version} listens on {address}, offering {directories}.",
    "the daemon is ready for connections",
    ("peers",),
)
STOPPING: Final = Event(
    "stopping",
    "info",
    "Stopping: no new connections, finishing what is being committed.",
    "the daemon was told to end",
)
STOPPED: Final = Event("stopped", "info", "Stopped.", "the daemon has ended cleanly")
STOP_INCOMPLETE: Final = Event(
    "stop-incomplete",
    "warn",
    "Not everything was finished within {seconds} s; the next run repeats the rest.",
    "the daemon has ended although files were still being committed",
)
RELOADED: Final = Event(
    "reloaded",
    "info",
    "Configuration read again: {changes}.",
    "the daemon was told to reload and the new configuration is in force",
)
RELOAD_REFUSED: Final = Event(
    "reload-refused",
    "error",
    "Configuration not changed: {reason}",
    "the daemon was told to reload and the file is not usable; the old one holds",
)
LOG_NOT_REOPENED: Final = Event(
    "log-not-reopened",
    "error",
    "{path} cannot be opened again ({reason}); the old file stays in use.",
    "the daemon was told to reopen its log or its audit log, and could not",
)
LOG_LOST: Final = Event(
    "log-lost",
    "error",
    "The log {path} cannot be written ({reason}): lines are lost until it can be.",
    "a log file is full, or a pipe that nobody reads; told where the log would be "
    "without --log-file, once a minute",
)
LOG_GAP: Final = Event(
    "log-gap",
    "warn",
    "{count} lines are missing here, while {path} could not be written.",
    "a log file can be written again",
)
LEVEL_CHANGED: Final = Event(
    "level-changed",
    "info",
    "Log level is {new} (was {old}), by {by}.",
    "somebody changed the log level, or its time was over",
    ("seconds",),
)

# -- peers

PEER_CONNECTED: Final = Event(
    "peer-connected",
    "info",
    "{peer} connected from {address} with {software}.",
    "a peer was recognised by its key and welcomed",
    ("connection",),
)
PEER_LEFT: Final = Event(
    "peer-left",
    "info",
    "{peer} left after {seconds:.1f} s: {received} B received, {sent} B sent.",
    "a connection that was served has ended; the bytes are those of its TCP connection",
    ("connection", "reason"),
)
PEER_REFUSED: Final = Event(
    "peer-refused",
    "warn",
    "Refused {peer}: {reason}.",
    "a connection was not served, or was cut off for what it sent; a stranger is "
    "called by its address",
)
ERRORS_SUPPRESSED: Final = Event(
    "errors-suppressed",
    "warn",
    "{count} more complaints about {peer} were not logged.",
    "one peer, or all strangers, caused more than ten lines in a second, or more than "
    "there is room for in the long run",
)

# -- files in directories of this host

FILE_FINAL: Final = Event(
    "file-final",
    "info",
    "{path} is in {directory}: {size} B from {peer}, {how}, in {seconds:.3f} s.",
    "a file is verified, durable and under its name; crossed is how many of its bytes "
    "were sent for it",
    ("blake3", "crossed", "session"),
)
FILES_FINAL: Final = Event(
    "files-final",
    "info",
    "{count} files are in {directory}: {size} B from {peer}; the last is {path}.",
    "many files became final together; instead of a line for each",
    ("crossed", "session"),
)
FILE_REMOVED: Final = Event(
    "file-removed",
    "info",
    "{path} left {directory}: {size} B taken by {peer}, in {seconds:.3f} s.",
    "a source file was deleted because it is safe elsewhere; crossed is how many of "
    "its bytes were read for that",
    ("blake3", "crossed", "session"),
)
FILES_REMOVED: Final = Event(
    "files-removed",
    "info",
    "{count} files left {directory}: {size} B taken by {peer}; the last was {path}.",
    "many source files were deleted together; instead of a line for each",
    ("crossed", "session"),
)
FILE_FAILED: Final = Event(
    "file-failed",
    "warn",
    "{path} in {directory}: {text}",
    "a file could not be read, written or removed; it is still at its source",
    ("code", "peer", "session"),
)
FILE_DEFERRED: Final = Event(
    "file-deferred",
    "debug",
    "{path} in {directory} is left for later: {text}",
    "a file was changing, open for writing, or held by somebody else",
    ("code", "peer", "session"),
)
SYNC_FAILED: Final = Event(
    "sync-failed",
    "error",
    "{directory}: the disk did not keep {path}: {text}",
    "an fsync failed; the file is still at its source, the disk needs a look",
    ("peer", "session"),
)
RECEIPTS_LOST: Final = Event(
    "receipts-lost",
    "error",
    "The audit log cannot be written ({reason}): nothing in it tells that {count} "
    "files left {directory}; the last was {path}.",
    "files were removed because they are safe elsewhere, and then the disk of the "
    "audit log was full or failed",
    ("peer", "session"),
)
DIRECTORY_GONE: Final = Event(
    "directory-gone",
    "error",
    "{directory}: {reason}",
    "the root of a directory, or its marker, is not there (any more)",
)
DIRECTORY_BACK: Final = Event(
    "directory-back",
    "info",
    "{directory} is there again.",
    "a directory that was gone can be used again",
)
DISK_NEARLY_FULL: Final = Event(
    "disk-nearly-full",
    "warn",
    "{directory}: {free} B free, {min_free} B are to be kept.",
    "less than twice the reserve, or less than 2% of the disk, is left; once until "
    "there is more again",
)
LEASES_UNAVAILABLE: Final = Event(
    "leases-unavailable",
    "warn",
    "{directory}: cannot tell whether files are open for writing ({reason}); those "
    "that changed recently are left for a later run.",
    "once for each directory where the file system or missing rights prevent leases",
)
REMOVALS_NOT_DURABLE: Final = Event(
    "removals-not-durable",
    "warn",
    "{directory}: removals may not be durable ({reason}); files that come back after "
    "a power cut are removed by the next run.",
    "once for each source directory that could not be synchronised",
)
DISK_SLOW: Final = Event(
    "disk-slow",
    "warn",
    "{directory}: the disk has not answered for {seconds:.0f} s.",
    "work on a disk has hung for longer than thirty seconds; once until it answers",
)
DISK_ANSWERS: Final = Event(
    "disk-answers",
    "info",
    "{directory}: the disk answers again after {seconds:.0f} s.",
    "after disk-slow",
)

# -- limits

LIMIT_CHANGED: Final = Event(
    "limit-changed",
    "info",
    "{scope}: {direction} limit in B/s is {new} (was {old}), by {by}.",
    "a limit was set, changed, lifted or ended",
)
LIMIT_REFUSED: Final = Event(
    "limit-refused",
    "warn",
    "{scope}: {direction} limit not changed for {by}: {reason}",
    "somebody asked for a limit that is not valid or not theirs to set",
)

# -- the command

MOVE_BEGAN: Final = Event(
    "move-began",
    "info",
    "Moving {source} to {destination}.",
    "the command has opened both ends",
    ("session",),
)
FILE_MOVED: Final = Event(
    "file-moved",
    "info",
    "{path} is in {destination} and no longer in {source}: {size} B, {how}, in "
    "{seconds:.3f} s.",
    "a file was moved by the command; crossed is how many of its bytes were sent",
    ("blake3", "crossed", "kept", "reused", "session"),
)
FILES_MOVED: Final = Event(
    "files-moved",
    "info",
    "{count} files are in {destination} and no longer in {source}: {size} B; the last "
    "is {path}.",
    "many files were moved together by the command; instead of a line for each",
    ("crossed", "kept", "reused", "session"),
)
FILE_STAYS: Final = Event(
    "file-stays",
    "warn",
    "{path} in {directory} is not moved: {text}",
    "the command has found something that cannot be read, looks like the partial of "
    "another move, or was put back under another name",
    ("kind", "session"),
)
MOVE_NOTE: Final = Event(
    "move-note",
    "warn",
    "{text}",
    "something that the user of the command should know at once: an interruption, an "
    "option without effect; only with --output log, else it is said in another way",
)
MOVE_FAILED: Final = Event(
    "move-failed",
    "error",
    "{reason}",
    "the command could not begin or go on",
)
MOVE_ENDED: Final = Event(
    "move-ended",
    "info",
    "Moved {moved} files, {size} B, in {seconds:.1f} s; {failed} failed, {deferred} "
    "deferred.",
    "the command ends, however it ends",
    ("source", "destination", "exit", "sent", "session"),
)
CONNECTION_LOST: Final = Event(
    "connection-lost",
    "warn",
    "{reason}; trying again in {seconds:.0f} s.",
    "the command lost a connection in the middle of a move",
    ("attempt",),
)
SSH_SAID: Final = Event(
    "ssh-said",
    "warn",
    "{peer}: {text}",
    "ssh, or the other end of a session by ssh, wrote a line to standard error after "
    "the session had begun",
)
ANSWER_LATE: Final = Event(
    "answer-late",
    "warn",
    "{peer} has not answered for {seconds:.0f} s ({commands}), and is alive: its disk "
    "is slow, or hangs.",
    "requests about files wait, and nothing comes back but signs of life; once until "
    "something does",
)
RECONNECTED: Final = Event(
    "reconnected",
    "info",
    "Connected again; going on.",
    "after connection-lost",
    ("attempt",),
)
PUSH_FAILED: Final = Event(
    "push-failed",
    "warn",
    "Metrics not pushed: {reason}",
    "the Pushgateway did not take the metrics; the move is not affected",
)

# -- steps

BYTES_READ: Final = Event(
    "bytes-read",
    "debug",
    "{size} B of {directory} were read.",
    "each batch of ranges of files that is taken",
    ("peer", "session"),
)
BYTES_WRITTEN: Final = Event(
    "bytes-written",
    "debug",
    "{size} B were written in {directory}.",
    "each batch of pieces of files that is put",
    ("peer", "session"),
)
GROUP_COMMITTED: Final = Event(
    "group-committed",
    "debug",
    "{count} files in {directory} were made durable in {seconds:.3f} s.",
    "each group of files that is committed together",
    ("peer", "session"),
)
REQUEST_MADE: Final = Event(
    "request-made",
    "debug",
    "{command} was answered by {peer} after {seconds:.3f} s: {outcome}.",
    "each request of the protocol, at the end that asked",
)
REQUEST_ANSWERED: Final = Event(
    "request-answered",
    "debug",
    "{command} of {peer} answered in {seconds:.3f} s: {outcome}.",
    "each request of the protocol, at the end that answers",
)
BUG: Final = Event(
    "bug",
    "error",
    "{what} failed in a way nobody planned: {error}",
    "please report it; the traceback follows at debug",
)


def catalogue() -> list[Event]:
    """
    Every event, in the order of this file.
    """
    return [value for value in globals().values() if isinstance(value, Event)]
