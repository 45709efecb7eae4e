"""
Cutting data where its content says so, so that an insertion moves no other cut.

The cutting is FastCDC's (Xia and others, 2020), by ``pyfastcdc``, the only library
used here and used nowhere else.  Three levels: a file is cut into *blocks*, so many of
which are a *group* as their digests say; and blocks in a row into *chunks*, on their
own.  Cutting forgets everything at a cut, so that a part of a file which begins at a
cut is cut as the whole file is: signatures can be made page by page, and of some
groups or blocks only.

Groups are what is sent first, few enough to be sent of the whole file; chunks are fine
enough for what is fetched to be little.  Blocks are in between: cutting a whole file
into them costs no more than into groups, since most of it is not looked at, and their
digests are few enough to be remembered.  So only the blocks that differ, and not their
groups, are read again for their chunks.

**The library.**  On 1 GiB of random bytes, page cache, seconds of processor time on a
busy virtual EPYC core; chunks of 8 KiB, and groups of 1 MiB:

=====================================  ======  ======
cutting by                             8 KiB   1 MiB
=====================================  ======  ======
pyfastcdc 0.3.1, mapped file           0.54    0.38
pyfastcdc 0.3.1, ``readinto``          0.56    0.51
fastcdc 1.7.0, mapped file             0.72    0.73
=====================================  ======  ======

``pyfastcdc`` also lets other threads run while it looks for a cut, has no further
dependencies to speak of (``fastcdc`` brings five, for its command line), has wheels
for Python 3.9 to 3.15 on x86-64 and ARM with glibc and musl (``fastcdc`` ends at 3.12
on x86-64 and is pure Python beyond), and is still being released.  Its cuts are those
of the ``fastcdc`` crate for Rust, version 2020, which would be the way out if it were
abandoned.  A test holds a few cuts fixed: two ends that cut in different ways would
still move every file, but find nothing in common.

Files are read, not mapped: a mapped file that somebody truncates kills the process
with SIGBUS, and a page that has to come from a slow disk would stop every other
thread.  What mapping saves is in the table.

**The sizes.**  For 1 GiB, groups of 1 MiB and chunks of 8 KiB: a group costs 20 bytes
of signature and a chunk 19.  Megabytes that cross the wire, computed by cutting real
versions of a random file, four times the figures for 256 MiB where they grow with it:

============================  =====  =====  ======  ===========
version                       4 KiB  8 KiB  16 KiB  rsync 3.5.0
============================  =====  =====  ======  ===========
1,000 edits of 16 bytes         8.3   11.8    21.3         32.4
1 MiB inserted at the front    1.08   1.09    1.14         1.41
10 MiB appended               10.52  10.52   10.51        10.85
cut off at 60%                 0.07   0.05    0.04         0.33
============================  =====  =====  ======  ===========

(Computed with smallest chunks of a quarter of the average, without blocks.  What
crosses now, with all that goes with it, ``python -m benchmarks edited`` measures.)

For other sizes chunks grow with the square root, as rsync's blocks do: what an edit
costs in chunks and what it costs in signatures then stay in proportion.

Blocks have at least 15/16 of their average: cutting a GiB takes 0.14 s of processor
time so, and 0.21 s with 3/4.  After a change cuts agree again in 280 KB on average
instead of 240, and in 600 KB if lengths are pulled more to the average (level 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Protocol

from attrs import field, frozen
from attrs.validators import in_
from pyfastcdc import FastCDC, NormalizedChunking

#: Bytes in the smallest and the largest average chunk; powers of two.
SMALLEST_CHUNK: Final = 2 * 1024
LARGEST_CHUNK: Final = 1024 * 1024

#: Average chunks in a file, at most.
MAX_CHUNKS: Final = 2**22

#: Bytes of the largest file that is compared; larger ones are sent whole.
LARGEST_FILE: Final = MAX_CHUNKS * LARGEST_CHUNK

#: Bytes of the smallest file that is compared: below, asking takes longer than sending.
SMALLEST_FILE: Final = 128 * 1024

#: Average chunks in a block and in a group, as far as their sizes allow.
_CHUNKS_IN_BLOCK: Final = 8
_CHUNKS_IN_GROUP: Final = 128

#: Bytes in the smallest and the largest average block, unless a chunk has more.
_SMALLEST_BLOCK: Final = 64 * 1024
_LARGEST_BLOCK: Final = 512 * 1024

#: Bytes in the smallest and the largest average group.
_SMALLEST_GROUP: Final = 1024 * 1024
_LARGEST_GROUP: Final = 4 * 1024 * 1024

#: How strongly lengths are pulled towards the average.
_NORMALIZATION: Final[NormalizedChunking] = 2

_CHUNK_SIZES: Final = [
    1 << bits
    for bits in range(SMALLEST_CHUNK.bit_length() - 1, LARGEST_CHUNK.bit_length())
]


class Readable(Protocol):
    """
    Bytes in order, as an unbuffered file has them.
    """

    def readinto(self, buffer: memoryview, /) -> int:
        """
        Fill the beginning of *buffer*; 0 at the end.
        """


@frozen
class Cutting:
    """
    How finely a file is cut.  Both ends have to use the same.

    :ivar chunk: average bytes in a chunk: a power of two, :data:`SMALLEST_CHUNK` to
        :data:`LARGEST_CHUNK`; anything else is a :exc:`ValueError`.
    """

    chunk: int = field(validator=in_(_CHUNK_SIZES))

    @classmethod
    def of(cls, size: int) -> Cutting:
        """
        What suits files of this many bytes, of the two versions the larger.
        """
        wanted = max(math.isqrt(size) // 4, -(-size // MAX_CHUNKS))
        chunk = 1 << max(0, wanted - 1).bit_length()
        return cls(min(max(chunk, SMALLEST_CHUNK), LARGEST_CHUNK))

    @property
    def block(self) -> int:
        """
        Average bytes in a block.
        """
        block = min(max(self.chunk * _CHUNKS_IN_BLOCK, _SMALLEST_BLOCK), _LARGEST_BLOCK)
        return max(block, self.chunk)

    @property
    def smallest_block(self) -> int:
        """
        Bytes that every block has, except the last.
        """
        return self.block // 16 * 15

    @property
    def largest_block(self) -> int:
        """
        Bytes that no block exceeds.
        """
        return 2 * self.block

    @property
    def group(self) -> int:
        """
        Average bytes in a group, more or less.
        """
        group = self.chunk * _CHUNKS_IN_GROUP
        return min(max(group, _SMALLEST_GROUP), _LARGEST_GROUP)

    @property
    def smallest_group(self) -> int:
        """
        Bytes that every group has, except the last.
        """
        return self._half * self.smallest_block

    @property
    def largest_group(self) -> int:
        """
        Bytes that no group exceeds.
        """
        return 4 * self._half * self.largest_block

    @property
    def _half(self) -> int:
        """
        Half the average number of blocks in a group.
        """
        return self.group // self.block // 2

    def ends_group(self, count: int, digest: bytes) -> bool:
        """
        Whether a block is the last of its group.

        :param count: blocks in the group, with this one.
        :param digest: of the block.
        """
        if count < self._half:
            return False
        return digest[0] % self._half == 0 or count == 4 * self._half

    def most_blocks(self, length: int) -> int:
        """
        How many blocks there can be in one group of *length* bytes.
        """
        return -(-length // self.smallest_block)

    @property
    def smallest_chunk(self) -> int:
        """
        Bytes that every chunk has, except the last of its stretch.
        """
        return self.chunk // 2

    def most_chunks(self, length: int) -> int:
        """
        How many chunks there can be in one stretch of *length* bytes.
        """
        return -(-length // self.smallest_chunk)


def comparable(size: int, present: int) -> bool:
    """
    Whether a version of *size* bytes may be compared with one of *present* bytes.
    """
    return min(size, present) >= SMALLEST_FILE and max(size, present) <= LARGEST_FILE


def cut_blocks(stream: Readable, cutting: Cutting) -> Iterator[memoryview]:
    """
    The blocks of a file, from where *stream* stands, which is a cut or the beginning.

    Reads ahead of what it yields, four average blocks at most.  What it yields is
    valid until the next.
    """
    cutter = FastCDC(
        cutting.block,
        min_size=cutting.smallest_block,
        max_size=cutting.largest_block,
        normalized_chunking=_NORMALIZATION,
    )
    for block in cutter.cut_stream(stream):
        yield block.data


def cut_chunks(stretch: bytes | memoryview, cutting: Cutting) -> Iterator[memoryview]:
    """
    The chunks of blocks in a row.
    """
    cutter = FastCDC(
        cutting.chunk,
        min_size=cutting.smallest_chunk,
        max_size=cutting.chunk * 4,
        normalized_chunking=_NORMALIZATION,
    )
    for chunk in cutter.cut_buf(stretch):
        yield chunk.data
