"""
Digests of content, exact for files with holes at the cost of their data.

An *ordinary* digest is the BLAKE3 of all bytes.  That of a file whose holes are larger
than the fastest processor can digest has to leave them out, and to be the same wherever
each file system has its holes.  So a *sparse* digest goes by the content alone:

- A file is cut into blocks of :data:`BLOCK` bytes, the last of which may be shorter.
  Those that hold nothing but zeros are *absent*, whether written or a hole.
- Without absent blocks it is the ordinary digest.
- Otherwise it is :data:`MARK` and the BLAKE3, with :data:`CONTEXT` for deriving keys,
  of these: for each run of blocks that are there how many bytes it has, and how many
  zeros follow, 8 bytes each, the least significant first; and the BLAKE3 of all runs
  joined.  The first run may have no bytes, and the last no zeros behind it.

Equal content has equal sparse digests, and other content others, as far as BLAKE3
tells them apart: runs, and what is in them, are the whole content.

Which of the two a file has is for the source to choose, by what it takes on its disk
(:attr:`realize.model.File.holes`); a digest shows by its mark which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from attrs import define, field
from blake3 import blake3

#: Bytes in an ordinary digest, and what a sparse one begins with.
DIGEST_SIZE: Final = 32
MARK: Final = b"\x01"
SPARSE_DIGEST_SIZE: Final = len(MARK) + DIGEST_SIZE

#: Bytes in a block.
BLOCK: Final = 64 * 1024

#: What a BLAKE3 derives its key from that tells the digest of a file with absent blocks
#: from that of any content.
CONTEXT: Final = "realize 2026-11-28 digest of content with absent blocks"

#: What a sparse digest begins with as text.
_PREFIX: Final = "sparse:"

#: Compares with any buffer as fast as memory can be read; ``bytes`` would not.
_ZEROS: Final = bytearray(BLOCK)

_PLENTY: Final = memoryview(bytes(256 * 1024))


def _on() -> None:
    """Nothing holds up, or ends, what digests much."""


class Hasher(Protocol):
    """
    What a digest of a file is made with, from its first byte to its last.
    """

    def update(self, data: bytes | memoryview) -> None:
        """
        Bytes that come next.
        """

    def zeros(self, count: int, pause: Callable[[], object] = _on) -> None:
        """
        So many zeros that come next.

        :param pause: called every few milliseconds; what it raises ends this.
        """

    def copy(self) -> Hasher:
        """
        Another that has seen the same.
        """

    def digest(self) -> bytes:
        """
        Of what was seen so far.
        """


@define(eq=False)
class OrdinaryHasher:
    """
    A :class:`Hasher` to which zeros are bytes like others.
    """

    _hasher: blake3 = field(factory=blake3)

    def update(self, data: bytes | memoryview) -> None:
        """
        See :class:`Hasher`.
        """
        self._hasher.update(data)

    def zeros(self, count: int, pause: Callable[[], object] = _on) -> None:
        """
        See :class:`Hasher`.  Costs as much as bytes do.
        """
        while count > 0:
            pause()
            part = _PLENTY[:count]
            self._hasher.update(part)
            count -= len(part)

    def copy(self) -> OrdinaryHasher:
        """
        See :class:`Hasher`.
        """
        return OrdinaryHasher(self._hasher.copy())

    def digest(self) -> bytes:
        """
        See :class:`Hasher`.
        """
        return self._hasher.digest()


@define(eq=False)
class SparseHasher:
    """
    A :class:`Hasher` that costs nothing for zeros.

    :ivar _present: has seen the runs of blocks that are there.
    :ivar _runs: has seen how long each but the last is, and the zeros behind it.
    :ivar _run: bytes of the last run.
    :ivar _zeros: zeros behind it, from the beginning of a block on.
    :ivar _position: bytes seen.
    :ivar _absent: whether ``_runs`` has seen any.
    """

    _present: blake3 = field(factory=blake3)
    _runs: blake3 = field(factory=lambda: blake3(derive_key_context=CONTEXT))
    _run: int = 0
    _zeros: int = 0
    _position: int = 0
    _absent: bool = False

    def update(self, data: bytes | memoryview) -> None:
        """
        See :class:`Hasher`.
        """
        view = memoryview(data)
        at = 0
        if self._position % BLOCK:
            # The rest of a block that was begun.
            at = min(len(view), BLOCK - self._position % BLOCK)
            if self._zeros and _ZEROS[:at] == view[:at]:
                self._add_zeros(at)
            else:
                self._add(view[:at])
        begin = at
        while at < len(view):
            block = view[at : at + BLOCK]
            end = at + len(block)
            zeros = _ZEROS if len(block) == BLOCK else _ZEROS[: len(block)]
            if zeros == block:
                self._add(view[begin:at])
                self._add_zeros(len(block))
                begin = end
            at = end
        self._add(view[begin:])

    def zeros(self, count: int, pause: Callable[[], object] = _on) -> None:
        """
        See :class:`Hasher`.
        """
        if self._position % BLOCK and not self._zeros:
            rest = min(count, BLOCK - self._position % BLOCK)
            self._add(memoryview(_ZEROS)[:rest])
            count -= rest
        self._add_zeros(count)

    def copy(self) -> SparseHasher:
        """
        See :class:`Hasher`.
        """
        return SparseHasher(
            self._present.copy(),
            self._runs.copy(),
            self._run,
            self._zeros,
            self._position,
            self._absent,
        )

    def digest(self) -> bytes:
        """
        See :class:`Hasher`.
        """
        present = self._present.digest()
        if not self._zeros and not self._absent:
            return present
        runs = self._runs.copy()
        if self._run or self._zeros:
            runs.update(_pair(self._run, self._zeros))
        return MARK + runs.update(present).digest()

    def _add_zeros(self, count: int) -> None:
        self._zeros += count
        self._position += count

    def _add(self, data: memoryview) -> None:
        """
        Bytes of blocks that are there; zeros seen before in the same block are, too.
        """
        if not len(data):
            return
        rest = self._zeros % BLOCK
        if absent := self._zeros - rest:
            self._runs.update(_pair(self._run, absent))
            self._run = 0
            self._absent = True
        self._zeros = 0
        if rest:
            self._present.update(_PLENTY[:rest])
        self._present.update(data)
        self._run += rest + len(data)
        self._position += len(data)


def _pair(run: int, zeros: int) -> bytes:
    return run.to_bytes(8, "little") + zeros.to_bytes(8, "little")


def new_hasher(sparse: bool) -> Hasher:
    """
    One that has seen nothing.

    :param sparse: whether the digest is to be a sparse one.
    """
    return SparseHasher() if sparse else OrdinaryHasher()


def is_digest(value: bytes) -> bool:
    """
    Whether it can be a digest.
    """
    return len(value) == DIGEST_SIZE or is_sparse(value)


def is_sparse(digest: bytes) -> bool:
    """
    Whether it is one of content with absent blocks.
    """
    return len(digest) == SPARSE_DIGEST_SIZE and digest.startswith(MARK)


def digest_text(digest: bytes) -> str:
    """
    As people and programs read it: 64 hexadecimal digits, as ``b3sum`` prints them, or
    for a sparse one ``sparse:`` and 64 digits.  Empty if it is empty.
    """
    if is_sparse(digest):
        return _PREFIX + digest.removeprefix(MARK).hex()
    return digest.hex()


def parse_digest(text: str) -> bytes:
    """
    The reverse of :func:`digest_text`.

    :raises ValueError: it is no digest.
    """
    digits = text.removeprefix(_PREFIX)
    digest = bytes.fromhex(digits)
    if digits != text:
        digest = MARK + digest
    if text and not is_digest(digest):
        raise ValueError(text)
    return digest
