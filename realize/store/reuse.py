"""
Copying what the present file and the new version of it have in common.

Where the file system can, both files share the blocks: that takes places that agree
within a block, and what is shared is then read for the digest.  A file system of
another host copies there (``copy_file_range``).  Elsewhere the bytes pass through this
process as those do that are sent, which reads them once: that takes less time than to
have the kernel copy them and then to read them.
Holes of the present file are not copied: they become holes.  So do zeros that are sent,
if the source said that its file has holes: where the present file has data, nothing
else tells of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import define, field

from realize.delta.exchange import MAX_REUSED, Patch
from realize.delta.plan import Reuse, Step
from realize.errors import BadRequest, DigestMismatch
from realize.store.filesystem import FileSystem
from realize.store.partial import Partial
from realize.store.sparse import HoleMap, cut_holes, zero_runs
from realize.store.syscalls import UNSUPPORTED, share_blocks

#: Bytes copied at a time: no more than the processor's cache keeps.
_PART: Final = 256 * 1024

#: What shared blocks are a multiple of, on nearly every file system.
_BLOCK: Final = 4096

#: What the kernel answers where two files cannot share blocks, or it cannot copy.
#: A ZFS cannot share for some seconds what has just been written.
_CANNOT: Final = UNSUPPORTED | {
    errno.EXDEV,
    errno.ENOTTY,
    errno.EPERM,
    errno.EAGAIN,
    errno.ETXTBSY,
}


def check_patch(patch: Patch, payload: memoryview, have: int, size: int) -> None:
    """
    Hold a patch against the file it is for.

    :param have: bytes in the partial.
    :param size: bytes that it may have.
    :raises BadRequest: it has a gap, does not continue the partial, reaches beyond its
        end, takes too much, or comes with another number of bytes than it says.
    """
    end = have
    for step in patch.steps:
        if step.offset != end or step.length <= 0:
            raise BadRequest(f"a patch at {step.offset} after {end} bytes")
        if isinstance(step, Reuse) and step.present < 0:
            raise BadRequest("bytes before the beginning of the present file")
        end += step.length
    if end > size:
        raise BadRequest(f"a patch to {end} bytes of a file of {size}")
    if patch.reused > MAX_REUSED:
        raise BadRequest(f"a patch that takes {patch.reused} bytes")
    if patch.fetched != len(payload):
        raise BadRequest(f"{len(payload)} bytes for a patch of {patch.fetched}")


def apply_patch(
    partial: Partial,
    present: int,
    steps: Sequence[Step],
    payload: memoryview,
) -> None:
    """
    Add the stretch that *steps* describe to the partial.

    :param present: descriptor of the present file.
    :param payload: what the present file does not have.
    :raises DigestMismatch: the present file is shorter than it was.
    :raises OSError: give the partial up.
    """
    at = 0
    holes = HoleMap.of(present)
    copier = _Copier(partial, present)
    for step in steps:
        if isinstance(step, Reuse):
            for part, is_hole in _runs(step, holes):
                if is_hole:
                    partial.extend(part.offset + part.length)
                else:
                    copier.copy(part)
        else:
            data = payload[at : at + step.length]
            at += step.length
            _write(partial, step.offset, data)


def _write(partial: Partial, offset: int, data: memoryview) -> None:
    runs = zero_runs(data, offset) if partial.sparse else []
    dense = cut_holes(runs, data) if runs else None
    if dense is None:
        partial.write(offset, data)
    else:
        partial.write_runs(offset, runs, memoryview(dense))


def _runs(step: Reuse, holes: HoleMap | None) -> Iterator[tuple[Reuse, bool]]:
    """
    Cut a step where holes of the present file begin and end, which stay holes.
    """
    done = 0
    while done < step.length:
        count, is_hole = step.length - done, False
        at = step.present + done
        if holes is not None and at < holes.size:
            end, is_hole = holes.run(at)
            count = min(count, end - at)
        yield Reuse(step.offset + done, count, at), is_hole
        done += count


@define
class _Copier:
    """
    Copies from the present file, in the best way until it turns out that it cannot.
    """

    _partial: Partial
    _present: int
    _shares: bool = True
    _remote: bool = field(init=False)
    _buffer: memoryview = field(factory=lambda: memoryview(bytearray(_PART)))

    def __attrs_post_init__(self) -> None:
        self._remote = FileSystem.known_at(self._present).remote

    def copy(self, step: Reuse) -> None:
        """
        :raises DigestMismatch: the present file is shorter than it was.
        """
        begin, end = step.offset, step.offset + step.length
        shift = step.present - step.offset
        if self._shares and shift % _BLOCK == 0:
            first, last = begin + -begin % _BLOCK, end - end % _BLOCK
            if first < last:
                self._read(begin, first, shift)
                begin = last if self._share(first, last, shift) else first
        if self._remote:
            begin = self._copy_remotely(begin, end, shift)
        self._read(begin, end, shift)

    def _share(self, begin: int, end: int, shift: int) -> bool:
        try:
            share_blocks(
                self._present, begin + shift, self._partial.fd, begin, end - begin
            )
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self._shares = False
            return False
        self._partial.extend_written(end)
        return True

    def _copy_remotely(self, begin: int, end: int, shift: int) -> int:
        """
        :returns: up to where it was copied.
        """
        try:
            while begin < end:
                count = os.copy_file_range(
                    self._present, self._partial.fd, end - begin, begin + shift, begin
                )
                if not count:
                    break
                begin += count
                self._partial.extend_written(begin)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self._remote = False
        return begin

    def _read(self, begin: int, end: int, shift: int) -> None:
        while begin < end:
            part = self._buffer[: end - begin]
            count = os.preadv(self._present, [part], begin + shift)
            if not count:
                raise DigestMismatch("the present file is shorter than it was")
            self._partial.write(begin, part[:count])
            begin += count
