"""
What stores are asked, and answer, about the content of one file.

The groups of a file come in pages, in order, like a listing; the blocks of groups, and
the chunks of stretches, which are blocks in a row, are asked for.  Plans are carried
out a patch at a time.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from realize.delta.chunks import (
    LARGEST_CHUNK,
    LARGEST_FILE,
    SMALLEST_CHUNK,
    Cutting,
)
from realize.delta.plan import Fetch, Reuse, Span
from realize.delta.signature import SHORT_DIGEST, Signature, check_parts
from realize.digest import is_digest
from realize.errors import BadRequest
from realize.model import (
    MAX_BATCH,
    Identity,
    Natural,
    OptionalDigest,
    Path,
    Value,
)

#: Groups in a page.
PAGE: Final = 64

#: Most groups or stretches, and bytes in them, whose parts are asked for at once.  The
#: chunks of so many bytes fit into one payload however they are cut.
MAX_SPANS: Final = 256
MAX_SIGNED: Final = 64 * 1024 * 1024

#: Bytes that a group, a block or a chunk takes in an answer.
_PART: Final = SHORT_DIGEST + 5

#: Most bytes that one patch takes from the present file.
MAX_REUSED: Final = 64 * 1024 * 1024


class Sign(Value, frozen=True):
    """
    A part of the signature of a version of a file.

    :ivar version: which: a :attr:`~realize.model.File.identity`, or a
        :attr:`~realize.model.Held.version`.
    :ivar chunk: average bytes in a chunk, as in
        :class:`~realize.delta.chunks.Cutting`.
    :ivar page: 0 for the first groups of the file, then one more each time.
    :ivar spans: stretches, no longer than a group may be, whose chunks are wanted; with
        any, *page* means nothing.
    :ivar blocks: *spans* are groups, whose blocks are wanted.
    :ivar sparse: which digest is wanted of a source's file, as in
        :mod:`realize.digest`.
    """

    path: Path
    version: Identity
    chunk: Annotated[int, msgspec.Meta(ge=SMALLEST_CHUNK, le=LARGEST_CHUNK)]
    page: Natural = 0
    spans: Annotated[list[Span], msgspec.Meta(max_length=MAX_SPANS)] = msgspec.field(
        default_factory=list
    )
    blocks: bool = False
    sparse: bool = False

    @property
    def cutting(self) -> Cutting:
        """
        How the file is to be cut.

        :raises BadRequest: no chunks have this size.
        """
        try:
            return Cutting(self.chunk)
        except ValueError:
            raise BadRequest(f"chunks of {self.chunk} bytes") from None

    def check(self, size: int) -> None:
        """
        Hold what is asked for against the size of the file.

        :param size: bytes.
        :raises BadRequest: it is not in the file, or more than may be asked for.
        """
        largest = self.cutting.largest_group
        if len(self.spans) > MAX_SPANS or (
            sum(span.length for span in self.spans) > MAX_SIGNED
        ):
            raise BadRequest("the parts of more bytes than may be asked for")
        for span in self.spans:
            if (
                span.offset < 0
                or not 0 < span.length <= largest
                or span.offset + span.length > size
            ):
                raise BadRequest(f"{span.length} bytes at {span.offset} are no group")

    def most_parts(self, length: int) -> int:
        """
        How many blocks, or chunks, can be in a span of *length* bytes.
        """
        if self.blocks:
            return self.cutting.most_blocks(length)
        return self.cutting.most_chunks(length)


class Signed(Value, frozen=True):
    """
    What was asked for by :class:`Sign`.

    :ivar signatures: one, the page, which is empty behind the last; or one for each
        of the spans.
    :ivar digest: of the whole file, with the last groups of a source's;
        otherwise empty.
    """

    signatures: Annotated[list[Signature], msgspec.Meta(max_length=MAX_SPANS)]
    digest: OptionalDigest = b""


class Patch(Value, frozen=True):
    """
    The next stretch of a file under construction.

    :ivar version: of the present file, as in :attr:`~realize.model.Held.version`.
    :ivar steps: in order and without a gap; the first continues what is there.  The
        bytes to fetch come along.
    """

    path: Path
    version: Identity
    steps: Annotated[list[Reuse | Fetch], msgspec.Meta(max_length=MAX_BATCH)]

    @property
    def fetched(self) -> int:
        """
        Bytes that come along.
        """
        return sum(step.length for step in self.steps if isinstance(step, Fetch))

    @property
    def reused(self) -> int:
        """
        Bytes that the present file gives.
        """
        return sum(step.length for step in self.steps if isinstance(step, Reuse))


def weight_of(wanted: Sign) -> int:
    """
    Bytes that the answer may have, more or less.

    :raises BadRequest: as :meth:`Sign.check` does.
    """
    if not wanted.spans:
        return PAGE * _PART
    wanted.check(LARGEST_FILE)
    most = sum(wanted.most_parts(span.length) for span in wanted.spans)
    return most * _PART


def check_signed(wanted: Sign, signed: Signed) -> None:
    """
    Hold an answer of a peer against what was asked for.

    :raises ValueError: they do not belong together.
    """
    signatures = signed.signatures
    if len(signatures) != max(1, len(wanted.spans)):
        raise ValueError("another number of signatures")
    if signed.digest and not is_digest(signed.digest):
        raise ValueError("a digest that is none")
    if not wanted.spans and len(signatures[0].lengths) > PAGE:
        raise ValueError("a page of too many groups")
    for span, signature in zip(wanted.spans, signatures, strict=False):
        most = wanted.most_parts(span.length)
        check_parts(signature, span.offset, span.length, most)
