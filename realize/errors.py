"""
Everything that can go wrong, as one tree of exceptions.

:class:`PeerError` and its subclasses cross the wire, alone or as the outcome of one
file of a batch (:class:`realize.model.Failure`).  Everything else stays in the
process that raised it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class RealizeError(Exception):
    """
    The root of all errors that this program raises on purpose.

    Its text is one line for the operator: what, which side, which file, what next.
    """


class ConfigError(RealizeError):
    """
    A setting, a flag or an argument is wrong; nothing was started.  Never sent.
    """


class SamePlace(ConfigError):
    """
    The two ends of a move are the same directory, or one is inside the other.
    """


class PeerGone(RealizeError):
    """
    The connection was lost or could not be made.  Trying again later can help.
    """


class NotWelcomed(PeerGone):
    """
    The connection was cut before the peer had said a word: it may have too many.

    Trying again soon can help.
    """


class PeerRefused(RealizeError):
    """
    The peer answered and does not want us, or is not who we expected.

    Trying again without changing a key or a configuration does not help.
    """


class Incompatible(PeerRefused):
    """
    The two ends speak different versions of the protocol.
    """


class PeerError(RealizeError):
    """
    An error that crosses the wire.

    AMP rebuilds these on the far side as ``cls(text)``, so a subclass takes exactly
    one string and keeps no other state.  The text is shown to whoever holds the
    other end: put no local absolute path in it.

    :cvar code: name on the wire; unique, upper-case ASCII, never reused.
    :cvar defers: the file is left for a later run, which is neither success nor
        failure, instead of failing.
    """

    code: ClassVar[str] = ""
    defers: ClassVar[bool] = False

    def __init__(self, text: str) -> None:
        super().__init__(text)


class InternalError(PeerError):
    """
    A bug or an unforeseen condition on the side that answers; its log has more.
    """

    code = "INTERNAL"


class BadRequest(PeerError):
    """
    The request breaks the protocol: a size, an offset or an order out of bounds.
    """

    code = "BAD_REQUEST"


class NoSuchScope(PeerError):
    """
    There is no peer of this name, or no connection of this number, to limit; the
    text says which there are.
    """

    code = "NO_SUCH_SCOPE"


class NotAllowed(PeerError):
    """
    The peer lacks the right, or the directory does not exist: one answer for both.
    """

    code = "NOT_ALLOWED"


class DirectoryGone(PeerError):
    """
    The root of the directory is not there (any more), or its marker is not.
    """

    code = "DIRECTORY_GONE"


class UnsafePath(PeerError):
    """
    The name is not a canonical relative path, or leads through a symbolic link.
    """

    code = "UNSAFE_PATH"


class NoSuchFile(PeerError):
    """
    There is no file of this name.
    """

    code = "NO_SUCH_FILE"


class NameTaken(PeerError):
    """
    Something that is no regular file has the name, a file stands where a directory is
    needed, or the file system takes this name and that of another file for one.
    """

    code = "NAME_TAKEN"


class NameTooLong(PeerError):
    """
    The file system has no room for a name of this length.
    """

    code = "NAME_TOO_LONG"


class NameRefused(PeerError):
    """
    The file system does not take such a name; the text says which character of it.
    """

    code = "NAME_REFUSED"


class AlreadyExists(PeerError):
    """
    Another file has this name and the peer may not replace it.
    """

    code = "ALREADY_EXISTS"


class Skipped(PeerError):
    """
    Another file has this name, and such files were to be left at the source.
    """

    code = "SKIPPED"
    defers = True


class DigestMismatch(PeerError):
    """
    What was written, or is present, is not what the digest says.

    Sending the whole file once more can help.
    """

    code = "DIGEST_MISMATCH"


class NoSpace(PeerError):
    """
    The disk or the quota is full, or would pass below the configured reserve.
    """

    code = "NO_SPACE"


class DiskError(PeerError):
    """
    The operating system refused a file operation; the text names which and why.
    """

    code = "DISK"


class SyncFailed(DiskError):
    """
    Data could not be made durable; what had been written is discarded.

    Never retried on the same descriptor: the kernel has marked the pages clean.
    """

    code = "SYNC_FAILED"


class OtherFileSystem(PeerError):
    """
    The file cannot be moved by renaming, unlike others of its batch.

    Copying it instead helps.
    """

    code = "OTHER_FILE_SYSTEM"


class SameFile(PeerError):
    """
    The source's file and the destination's are one, which showed only when the
    first was hidden.  It was put back, and the move ended.
    """

    code = "SAME_FILE"


class SourceChanged(PeerError):
    """
    The source file is no longer the one that was listed.
    """

    code = "SOURCE_CHANGED"
    defers = True


class StillOpen(PeerError):
    """
    Another process has the source file open for writing.
    """

    code = "STILL_OPEN"
    defers = True


class NotSettled(PeerError):
    """
    The source file changed too recently.
    """

    code = "NOT_SETTLED"
    defers = True


class Busy(PeerError):
    """
    Another session holds the file; the text says which.
    """

    code = "BUSY"
    defers = True


class OverShare(PeerError):
    """
    For now the peer holds its share of what the other end has for all: descriptors,
    memory, room that is set aside.

    What it asked for can be had later in the same run: it goes on with less.
    """

    code = "OVER_SHARE"
    defers = True


def peer_errors(root: type[PeerError] = PeerError) -> Iterator[type[PeerError]]:
    """
    Every class that crosses the wire, subclasses before their bases.
    """
    for kind in root.__subclasses__():
        yield from peer_errors(kind)
        yield kind


_BY_CODE = {kind.code: kind for kind in peer_errors()}


def is_code(text: str) -> bool:
    """
    Whether this version knows an error of this :attr:`PeerError.code`.
    """
    return text in _BY_CODE


def peer_error(code: str, text: str) -> PeerError:
    """
    The exception for a code that arrived from the other side.

    :param code: as in :attr:`PeerError.code`; one that this version does not know
        becomes :class:`InternalError` and is kept in the text.
    """
    kind = _BY_CODE.get(code)
    return kind(text) if kind else InternalError(f"{code}: {text}")
