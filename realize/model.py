"""
What stores tell each other: plain values, the same in memory and on the wire.

They are msgspec structs encoded as arrays, so the order of their fields is part of
the protocol: new fields go to the end, with a default.  Paths are canonical bytes
(:class:`realize.paths.RelativePath`), relative to the root of their store.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from realize.conflicts import OnConflict
from realize.digest import DIGEST_SIZE, SPARSE_DIGEST_SIZE
from realize.errors import InternalError, PeerError, is_code, peer_error
from realize.paths import MAX_NAME
from realize.texts import Label, Line

#: A kept prefix is compared in steps of so many bytes, so that a tail of zeros left by
#: a power cut costs one step and not the whole partial; of more, twice, four times,
#: ... as many, where there would be more than this number of steps.
PREFIX_STEP: Final = 64 * 1024 * 1024
MAX_STEPS: Final = 1024

#: Most files, ranges or pieces in one batch.
MAX_BATCH: Final = 1024

#: Most bytes in one batch of ranges or pieces.
MAX_BATCH_BYTES: Final = 3 * 1024 * 1024

#: Most runs in one extent or piece; a file that is more scattered is sent as data.
MAX_RUNS: Final = 4096

#: Of a file, holes of fewer bytes in all are not worth a word: it is taken for one
#: without.
HOLES_WORTH_TELLING: Final = 64 * 1024

#: Most runs that are told ahead.
MAX_AHEAD: Final = 1024


#: Least and greatest time, in nanoseconds since 1970: of the years 1677 and 2554.  More
#: than the greatest msgpack has no number for.
MIN_TIME: Final = -(2**63)
MAX_TIME: Final = 2**64 - 1

#: Most bytes that arrive as a path; more than a path may have.
MAX_RAW_PATH: Final = 65_535

#: Most bytes in an identity or a version.
MAX_IDENTITY: Final = 255

#: Most doubts about a file system that are told.
MAX_DOUBTS: Final = 16

#: Most directories above a root.
MAX_CHAIN: Final = 4096

#: Sizes, offsets and counts, and permission bits; what arrives outside is refused.
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Mode = Annotated[int, msgspec.Meta(ge=0, le=0o777)]

#: Nanoseconds since 1970, and seconds from one time to another.
Time = Annotated[int, msgspec.Meta(ge=MIN_TIME)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=2**63)]

#: A path: what is canonical is for :class:`realize.paths.RelativePath` to say, so that
#: one which is too long is the failure of that file.
Path = Annotated[bytes, msgspec.Meta(max_length=MAX_RAW_PATH)]

#: A single name.
Name = Annotated[bytes, msgspec.Meta(max_length=MAX_NAME)]

#: What tells a version of a file from any other; opaque outside its store.
Identity = Annotated[bytes, msgspec.Meta(max_length=MAX_IDENTITY)]

#: A digest of either kind, and one that may be left out; a token, and the same.
Digest = Annotated[
    bytes, msgspec.Meta(min_length=DIGEST_SIZE, max_length=SPARSE_DIGEST_SIZE)
]
OptionalDigest = Annotated[bytes, msgspec.Meta(max_length=SPARSE_DIGEST_SIZE)]
Token = Annotated[bytes, msgspec.Meta(min_length=DIGEST_SIZE, max_length=DIGEST_SIZE)]
OptionalToken = Annotated[bytes, msgspec.Meta(max_length=DIGEST_SIZE)]

#: Bytes of data, of the hole that follows, of the data after that, and so on, zeros
#: included; empty if there is no hole.
Runs = Annotated[list[Natural], msgspec.Meta(max_length=MAX_RUNS)]


def decode_hook(kind: type[Any], value: object) -> Any:
    """
    What decoders make of the texts of the other side, as ``dec_hook``.
    """
    if isinstance(value, str) and issubclass(kind, Line):
        return kind(value)
    raise TypeError(f"not a {kind.__name__}")


def encode_hook(value: object) -> object:
    """
    What encoders make of our own, as ``enc_hook``.
    """
    if isinstance(value, Line):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be sent")


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    The common form: immutable, compact, and free of reference cycles.
    """


class File(Value, frozen=True):
    """
    One version of one regular file at the source.

    :ivar size: bytes.
    :ivar mtime_ns: modification time, nanoseconds since 1970.
    :ivar mode: permission bits (0o777 at most).
    :ivar identity: tells this version from any other; opaque outside its store.
    :ivar holes: about how many of its bytes take no room on the disk: holes, or what
        the file system compressed.  0 if less than :data:`HOLES_WORTH_TELLING`.
    :ivar ctime_ns: change time, nanoseconds since 1970; 0 if it is not known.
    """

    path: Path
    size: Natural
    mtime_ns: Time
    mode: Mode
    identity: Identity
    holes: Natural = 0
    ctime_ns: Time = 0


def carried(time_ns: int) -> int:
    """
    The time that is nearest to this one among those that are carried.
    """
    return min(max(time_ns, MIN_TIME), MAX_TIME)


def last_change(mtime_ns: int, ctime_ns: int, now_ns: int) -> int:
    """
    When a file was changed last, in nanoseconds since 1970.

    A time of modification in the future was set by hand: then the change time alone
    tells when.  Otherwise the later of the two does, since either may stand still.
    """
    return ctime_ns if mtime_ns > now_ns else max(mtime_ns, ctime_ns)


class Directory(Value, frozen=True):
    """
    A directory that holds listed files, directly or further down.

    :ivar mode: permission bits (0o777 at most).
    """

    path: Path
    mode: Mode


#: Why something found by a listing is not among its files.  ``unreadable`` and
#: ``missing`` are failures, ``kept`` and ``hidden`` a warning, the others are counted.
#: Files that are ``kept`` or ``set-id`` are among them all the same, and so are those
#: of a directory that is ``unremovable``, which is a failure for whoever moves them.
NoticeKind = Literal[
    "symlink",
    "special",
    "partial",
    "unreadable",
    "missing",
    "kept",
    "set-id",
    "hidden",
    "unremovable",
]

#: Those that are failures.
FAILURES: Final[tuple[NoticeKind, ...]] = ("unreadable", "missing", "unremovable")


class Notice(Value, frozen=True):
    """
    Something found by a listing that is not moved, or deserves a word.

    :ivar kind: ``symlink``; ``special`` (device, socket, pipe); ``partial`` (a name
        that looks like a file under construction); ``unreadable`` (a directory or
        file that could not be looked at); ``missing`` (a name that was asked for and
        is not there); ``kept`` (a file put back after a crash,
        under another name); ``set-id`` (a file with set-user-id, set-group-id or
        sticky bit, which does not cross); ``hidden`` (a file that a crash left hidden,
        and that a listing which may change something would put back);
        ``unremovable`` (a directory from which files cannot be removed).
    :ivar text: the reason, for ``unreadable``, ``missing``, ``kept``, ``hidden`` and
        ``unremovable``.
    """

    path: Path
    kind: NoticeKind
    text: Line = Line("")


class Page(Value, frozen=True):
    """
    A part of a listing, in the order of the file system.

    :ivar directories: every directory above a file of this page, parents first, so
        that each page can be understood alone.
    :ivar next: cursor of the page that follows; 0 after the last.
    :ivar now_ns: the time at the source, nanoseconds since 1970, against which ages
        are reckoned.
    """

    files: list[File]
    directories: list[Directory]
    notices: list[Notice]
    next: Natural
    now_ns: Time


class Subset(Value, frozen=True):
    """
    The part of a tree that a listing is of.

    :ivar names: canonical paths of files and directories; none for everything.
    :ivar recurse: whether a path of a directory means all that is in it; otherwise it
        means nothing.
    """

    names: Annotated[list[Path], msgspec.Meta(max_length=MAX_BATCH)] = []
    recurse: bool = True


#: A whole tree.
EVERYTHING: Final = Subset()


class Failure(Value, frozen=True, tag="!"):
    """
    Why one file of a batch was not done; takes the place of its result.

    :ivar code: :attr:`realize.errors.PeerError.code`; one that this version does not
        know becomes that of :class:`~realize.errors.InternalError`, and the text
        begins with it.
    """

    code: Label
    text: Line

    def __post_init__(self) -> None:
        """
        See :attr:`code`.
        """
        if not is_code(self.code):
            text = Line(f"{self.code}: {self.text}")
            msgspec.structs.force_setattr(self, "text", text)
            msgspec.structs.force_setattr(self, "code", Label(InternalError.code))

    @classmethod
    def of(cls, error: PeerError) -> Failure:
        """
        The outcome that stands for *error*.
        """
        return cls(Label(error.code), Line(str(error)))

    @property
    def error(self) -> PeerError:
        """
        The exception this stands for.
        """
        return peer_error(self.code, self.text)


class Offer(Value, frozen=True):
    """
    A file the destination is asked about.

    :ivar size: bytes it will have; writes beyond are refused.
    :ivar holes: as of :class:`File`: so many bytes less need room.  With any, its
        digests are sparse ones.
    """

    path: Path
    size: Natural
    holes: Natural = 0


class Held(Value, frozen=True, tag="held"):
    """
    What the destination already has of a file.

    :ivar partial: bytes in the partial; 0 without one.
    :ivar present: bytes in the file of this name; -1 without one.
    :ivar version: tells this version of the present file from any other; opaque,
        empty without one.
    :ivar mtime_ns: of the present file, nanoseconds since 1970; 0 without one.
    :ivar conflict: what is done if another file has the name; empty if none has it.
        With ``keep-both`` the present file is one of the same size that has the name,
        or it with a number; and it has no version, since it stays.
    """

    partial: Natural = 0
    present: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)] = -1
    version: Identity = b""
    mtime_ns: Time = 0
    conflict: OnConflict | Literal[""] = ""


class Prefix(Value, frozen=True):
    """
    The first *length* bytes of a version of a file; all of it if *length* is its size.

    :ivar sparse: which digest is wanted, as in :mod:`realize.digest`.
    """

    path: Path
    identity: Identity
    length: Natural
    sparse: bool = False


def prefix_step(length: int) -> int:
    """
    Bytes in a step of the digests of a prefix of *length* bytes.
    """
    step = PREFIX_STEP
    while length > step * MAX_STEPS:
        step *= 2
    return step


def prefix_steps(length: int) -> int:
    """
    How many digests there are of a prefix of *length* bytes.
    """
    return max(1, -(-length // prefix_step(length)))


class Digests(Value, frozen=True, tag="digests"):
    """
    Digests of ever longer beginnings of a file.

    :ivar steps: of the first :func:`prefix_step` bytes, of twice as many, and so on;
        the last is of the whole length asked for.  Always at least one.
    """

    steps: Annotated[list[Digest], msgspec.Meta(min_length=1)]


class Range(Value, frozen=True):
    """
    Bytes wanted of a version of a file.

    :ivar length: bytes; 0 only for an empty file.
    :ivar sparse: whether the answer may tell holes apart, and its digest is to be a
        sparse one; otherwise holes are sent as the zeros that they stand for.
    :ivar holes: how many of the bytes are known to be holes, as :attr:`Extent.ahead`
        tells; the file has changed if there are fewer.  Only with *sparse*, and for a
        part of a file.
    """

    path: Path
    identity: Identity
    offset: Natural
    length: Natural
    sparse: bool = False
    holes: Natural = 0

    @property
    def carried(self) -> int:
        """
        Most bytes that the answer has.
        """
        return self.length - self.holes


class Extent(Value, frozen=True, tag="extent"):
    """
    Bytes read: this many, at the place in the payload that follows the extents before.

    :ivar digest: of the whole file, if this range ends the file and its bytes were
        read in ascending order without a gap; otherwise empty.
    :ivar runs: which of them are holes; only data is in the payload.
    :ivar ahead: what comes after this range, as far as that is known, at most
        :data:`MAX_AHEAD` runs: no data, and bytes of the hole, of the data after that,
        and so on.  Empty if it is not a hole that comes next.
    """

    length: Natural
    digest: OptionalDigest = b""
    runs: Runs = []
    ahead: Runs = []

    @property
    def carried(self) -> int:
        """
        Bytes of it in the payload.
        """
        return sum(self.runs[::2]) if self.runs else self.length


class Piece(Value, frozen=True):
    """
    Bytes for a partial, taken in turn from the payload.

    A piece at offset 0 begins the partial anew.  A piece with *keep* carries no
    bytes: it asks how much of the partial may stay, and the next piece begins there.
    Other pieces continue where the one before ended.

    :ivar keep: digests as in :class:`Digests`, of the first *offset* bytes.
    :ivar runs: which of the bytes are holes; only data is in the payload.  Not of a
        file that was offered without holes.
    """

    path: Path
    offset: Natural
    length: Natural
    keep: list[Digest] = []
    runs: Runs = []

    @property
    def carried(self) -> int:
        """
        Bytes of it in the payload.
        """
        return sum(self.runs[::2]) if self.runs else self.length


class Written(Value, frozen=True, tag="written"):
    """
    :ivar size: bytes now in the partial.
    """

    size: Natural


class Finish(Value, frozen=True):
    """
    A file to be made final.

    :ivar size: bytes.
    :ivar digest: of the whole file; shows which kind it is.
    :ivar mode: permission bits (0o777 at most).
    :ivar mtime_ns: nanoseconds since 1970.
    """

    path: Path
    size: Natural
    digest: Digest
    mode: Mode
    mtime_ns: Time


#: What a file has beside its content that may not be kept.
Attribute = Literal["permissions", "time"]

#: How a file came to be final.
How = Literal["written", "replaced", "present", "renamed"]


class Finished(Value, frozen=True, tag="finished"):
    """
    The file is verified, durable and under its name.

    :ivar how: ``written`` (a new name), ``replaced`` (an old file gave way),
        ``present`` (no byte was written: it was there already) or ``renamed`` (moved
        inside one file system).
    :ivar version: as in :class:`Held`.
    :ivar not_kept: what the file system there did not take over.
    :ivar name: that it got instead of its own, which another file has; else empty.
    :ivar older: path of the file that gave way to it, if that was kept; else empty.
    :ivar gave_way: whether another file gave way to it.
    """

    how: How
    version: Identity = b""
    not_kept: Annotated[list[Attribute], msgspec.Meta(max_length=2)] = []
    name: Name = b""
    older: Path = b""
    gave_way: bool = False


#: ``hide``: put out of sight, so that the destination can be asked whether its file is
#: still there.  ``unlink`` and ``restore`` end that.
RemovalStep = Literal["hide", "unlink", "restore"]


class Removal(Value, frozen=True):
    """
    A version of a source file that is safe at the destination and may go.

    :ivar digest: of what was moved.
    """

    path: Path
    identity: Identity
    digest: Digest
    step: RemovalStep = "hide"


class Removed(Value, frozen=True, tag="removed"):
    """
    :ivar found: False if the file was gone already, as after an answer that was
        lost with its connection.
    :ivar mark: after ``hide``: a name, never seen before, that can be seen beside the
        file as long as it is hidden.
    """

    found: bool = True
    mark: Name = b""


class Claim(Value, frozen=True):
    """
    A file that the destination has made final, and is asked about once more.

    :ivar version: that it had then.
    :ivar size: bytes.
    :ivar digest: BLAKE3 of the whole file.
    :ivar mark: as of :class:`Removed`.
    """

    path: Path
    version: Identity
    size: Natural
    digest: Digest
    mark: Name


class Confirmed(Value, frozen=True, tag="confirmed"):
    """
    The file is there, as it was made final; and it is not the source's own.
    """


class Place(Value, frozen=True):
    """
    Where a store's root is, in a form that can be compared but not read.

    Tokens are BLAKE3 digests of boot id, device and inode.

    :ivar root: token of the root; empty if it does not exist yet.
    :ivar chain: tokens of the root, if it exists, and of every directory above it.
    :ivar doubts: for people: what is not believed of its file system, and what follows.
    :ivar lasting: BLAKE3 of the id of the file system and the inode of the directory
        that holds what is moved; the same after the host was started anew.  Empty
        where a file system has no such id.
    """

    root: OptionalToken
    chain: Annotated[list[Token], msgspec.Meta(max_length=MAX_CHAIN)]
    doubts: Annotated[list[Line], msgspec.Meta(max_length=MAX_DOUBTS)] = []
    lasting: OptionalDigest = b""

    def is_still(self, other: Place) -> bool:
        """
        Whether this is the place that the other was, at an earlier time.  It may have
        been made since.
        """
        if self.lasting and other.lasting:
            return self.lasting == other.lasting
        return not other.chain or other.chain[0] in self.chain

    def overlaps(self, other: Place) -> bool:
        """
        Whether one root is the other, or inside it.
        """
        return self.root in other.chain or other.root in self.chain
