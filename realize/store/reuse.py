"""
Copying what the present file and the new version of it have in common.

The bytes go from file to file without passing through this process where the kernel
can do that, and are shared by both files where the file system can: that takes places
that agree within a block.  They are then read once, from the partial, for its digest.
Holes of the present file are not copied: they become holes.  So do zeros that are sent,
if the source said that its file has holes: where the present file has data, nothing
else tells of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import Final

from realize.delta.exchange import MAX_REUSED, Patch
from realize.delta.plan import Reuse, Step
from realize.errors import BadRequest, DigestMismatch
from realize.store.partial import Partial
from realize.store.sparse import HoleMap, cut_holes, zero_runs

#: Bytes copied at a time, and between two blocks that can be shared.
_PART: Final = 4 * 1024 * 1024
_BLOCK: Final = 4096

#: What the kernel answers where it cannot copy between two files.
_CANNOT: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
)


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
    sparse: bool,
) -> None:
    """
    Add the stretch that *steps* describe to the partial.

    :param present: descriptor of the present file.
    :param payload: what the present file does not have.
    :param sparse: whether the new version has holes.
    :raises DigestMismatch: the present file is shorter than it was.
    :raises OSError: give the partial up.
    """
    at = 0
    holes = HoleMap.of(present)
    for step in steps:
        if isinstance(step, Reuse):
            for part, is_hole in _runs(step, holes):
                if is_hole:
                    partial.extend(part.offset + part.length)
                else:
                    _copy(partial, present, part)
        else:
            data = payload[at : at + step.length]
            at += step.length
            _write(partial, step.offset, data, sparse)


def _write(partial: Partial, offset: int, data: memoryview, sparse: bool) -> None:
    runs = zero_runs(data, offset) if sparse else []
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


def _copy(partial: Partial, present: int, step: Reuse) -> None:
    offset, at, end = step.offset, step.present, step.offset + step.length
    agree = (offset - at) % _BLOCK == 0
    while offset < end:
        count = min(_PART, end - offset)
        if agree and offset % _BLOCK and count > _BLOCK:
            count = _BLOCK - offset % _BLOCK
        elif agree and count > _BLOCK:
            count -= (offset + count) % _BLOCK
        copied = _copy_part(partial.fd, present, at, offset, count)
        if not copied:
            raise DigestMismatch("the present file is shorter than it was")
        partial.extend_written(offset + copied)
        offset += copied
        at += copied


def _copy_part(fd: int, present: int, at: int, offset: int, count: int) -> int:
    """
    :returns: bytes copied; 0 where the present file ends.
    """
    try:
        return os.copy_file_range(present, fd, count, at, offset)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    data = os.pread(present, count, at)
    return os.pwrite(fd, data, offset) if data else 0
