"""
Signatures of files on this host.

A page is one pass over a part of the file, with the file opened for it.  Between two
pages nothing stays open, only where the next begins, and for a source the digest of
what was read: it comes to the digest of the whole file, which needs no pass of its own.
The blocks of the groups in a page are remembered, within bounds; those that are not
are cut and digested once more when they are asked for.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from attrs import define, field
from twisted.internet.defer import CancelledError

from realize.delta.chunks import LARGEST_FILE, SMALLEST_CHUNK, SMALLEST_FILE, Cutting
from realize.delta.exchange import PAGE, Sign, Signed
from realize.delta.signature import (
    SHORT_DIGEST,
    PartList,
    Signature,
    pages_of,
    sign_blocks,
    sign_chunks,
    sign_group,
)
from realize.digest import Hasher, new_hasher
from realize.errors import BadRequest, SourceChanged
from realize.paths import parent_of, printable
from realize.store.guard import Guard, TooFresh
from realize.store.identity import matches, size_of
from realize.store.present import open_present
from realize.store.root import Root, disk_error

#: Most files whose next page is remembered, and most blocks of all of them, which take
#: 24 bytes each.
MAX_BEGUN: Final = 64
MAX_BLOCKS: Final = 2**18

#: Bytes of the longest groups that a page can have.
MOST_OF_A_PAGE: Final = PAGE * 8 * 1024 * 1024

#: Bytes of the shortest part of a present file whose digest is told: the shortest chunk
#: that is not cut off by the end of its stretch.
LEAST_TOLD: Final = SMALLEST_CHUNK // 2

#: Opens the version of the file that is asked for, and looks afterwards whether it
#: still was that version.
Opening = Callable[[Sign], AbstractContextManager[int]]


def signed_bytes(wanted: Sign) -> int:
    """
    About how many bytes are read for what is asked.

    :raises BadRequest: the version is none.
    """
    if wanted.spans:
        return sum(span.length for span in wanted.spans)
    return min(size_of(wanted.version), MOST_OF_A_PAGE)


def opening_source(
    root: Root, guard: Guard, sleep: Callable[[float], object]
) -> Opening:
    """
    Opens files to be moved.

    :param sleep: waits for some seconds, little more than two; in a thread.
    """

    @contextmanager
    def opening(wanted: Sign) -> Iterator[int]:
        path = root.path(wanted.path)
        with root.directory(parent_of(path.raw)) as directory:
            try:
                fd, version = guard.open_version(
                    directory, path.name, path.raw, wanted.version, fresh=False
                )
            except TooFresh as reason:
                sleep(reason.wait_ns / 1e9)
                fd, version = guard.open_version(
                    directory, path.name, path.raw, wanted.version
                )
            try:
                yield fd
                status = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
                if not matches(status, version):
                    raise SourceChanged(f"{path}: changed while being read")
            except FileNotFoundError:
                raise SourceChanged(f"{path}: changed while being read") from None
            except OSError as error:
                raise disk_error(error, path.raw, "read") from None
            finally:
                os.close(fd)

    return opening


def opening_present(root: Root) -> Opening:
    """
    Opens files that are about to be replaced.
    """

    @contextmanager
    def opening(wanted: Sign) -> Iterator[int]:
        path = root.path(wanted.path)
        with (
            root.directory(parent_of(path.raw)) as directory,
            open_present(directory, path.name, wanted.version) as fd,
        ):
            yield fd

    return opening


class _Blocks(PartList):
    """
    The blocks of the first groups of a file.
    """

    def add(self, group: Signature) -> None:
        """
        Remember a group, unless some before it were not.
        """
        if group.offset == self.end and len(self) < MAX_BLOCKS:
            self.append(group)


@define(eq=False)
class _Begun:
    """
    A file of which some pages were made.

    :ivar pages: how many.
    :ivar offset: where the next begins, in bytes.
    :ivar hasher: has seen all bytes before.
    :ivar blocks: of the pages.
    """

    version: bytes
    cutting: Cutting
    hasher: Hasher
    pages: int = 0
    offset: int = 0
    blocks: _Blocks = field(factory=_Blocks)


@define(eq=False)
class _Stream:
    """
    The bytes of a file from an offset on.
    """

    fd: int
    offset: int
    end: int
    pause: Callable[[], object]

    def readinto(self, buffer: memoryview) -> int:
        """
        See :class:`realize.delta.chunks.Readable`.
        """
        self.pause()
        count = os.preadv(self.fd, [buffer[: self.end - self.offset]], self.offset)
        self.offset += count
        return count


class Signer:
    """
    Signs files of one store.  Called from several threads, but for pages never from two
    at once for the same file.

    :param opening: as :data:`Opening`.
    :param digests: whether the digest of whole files is wanted: that of files to be
        moved.  Of those to be replaced only so much is told as does not show what they
        hold.
    :param pause: called every few milliseconds; what it raises ends this.
    """

    def __init__(
        self,
        opening: Opening,
        *,
        digests: bool,
        pause: Callable[[], object] = lambda: None,
    ) -> None:
        self._opening = opening
        self._pause = pause
        self._digests = digests
        self._begun: OrderedDict[bytes, _Begun] = OrderedDict()
        self._lock = threading.Lock()
        self._stopped = False

    def sign(self, wanted: Sign) -> Signed:
        """
        As :meth:`realize.store.interface.Source.sign`.
        """
        size = size_of(wanted.version)
        if size > LARGEST_FILE:
            raise BadRequest(f"{printable(wanted.path)}: too large to be compared")
        wanted.check(size)
        if not self._digests and size < SMALLEST_FILE:
            raise BadRequest(f"{printable(wanted.path)}: too small to be compared")
        if not wanted.spans:
            signed = self._page(wanted, size)
        elif wanted.blocks:
            signed = self._blocks(wanted)
        else:
            signed = self._chunks(wanted)
        return signed if self._digests else self._veiled(wanted, size, signed)

    def _veiled(self, wanted: Sign, size: int, signed: Signed) -> Signed:
        """
        An answer for somebody who may not read the file: what a digest could be guessed
        from is veiled.  It matches nothing then, and is sent.

        Short parts are, and those at an edge that is not known to be one of the file's
        own: whoever may choose where a part begins learns byte after byte.
        """
        with self._lock:
            begun = self._begun.get(wanted.path)
        known = _Blocks()
        if begun and (begun.version, begun.cutting) == (wanted.version, wanted.cutting):
            known = begun.blocks
        return Signed(
            [
                _veil(
                    each,
                    first=each.offset > 0 and not known.has_edge(each.offset),
                    last=each.end < size and not known.has_edge(each.end),
                )
                if wanted.spans
                else _veil(each)
                for each in signed.signatures
            ],
            signed.digest,
        )

    def stop(self) -> None:
        """
        End passes over files early.  Called from any thread.
        """
        self._stopped = True

    def _page(self, wanted: Sign, size: int) -> Signed:
        begun = self._take(wanted)
        if begun.offset == size and begun.pages:
            page, digest = Signature(size, [], b""), b""
        else:
            try:
                with self._opening(wanted) as fd:
                    page = self._groups(fd, begun, size)
            except BaseException:
                with self._lock:
                    self._begun.pop(wanted.path, None)
                raise
            digest = (
                begun.hasher.digest() if page.end == size and self._digests else b""
            )
        begun.offset = page.end
        begun.pages += 1
        with self._lock:
            self._begun[wanted.path] = begun
            self._begun.move_to_end(wanted.path)
            if len(self._begun) > MAX_BEGUN:
                self._begun.popitem(last=False)
            remembered = sum(len(each.blocks) for each in self._begun.values())
            for each in self._begun.values():
                if remembered <= MAX_BLOCKS or each is begun:
                    break
                remembered -= len(each.blocks)
                each.blocks = _Blocks()
        return Signed([page], digest)

    def _take(self, wanted: Sign) -> _Begun:
        with self._lock:
            if not wanted.page:
                hasher = new_hasher(wanted.sparse)
                fresh = _Begun(wanted.version, wanted.cutting, hasher)
                self._begun[wanted.path] = fresh
                return fresh
            begun = self._begun.get(wanted.path)
        if begun is None or (begun.version, begun.cutting, begun.pages) != (
            wanted.version,
            wanted.cutting,
            wanted.page,
        ):
            raise BadRequest(
                f"{printable(wanted.path)}: not the next page of its signature"
            )
        return begun

    def _groups(self, fd: int, begun: _Begun, size: int) -> Signature:
        offset = begun.offset
        os.posix_fadvise(fd, offset, 0, os.POSIX_FADV_SEQUENTIAL)
        stream = _Stream(fd, offset, size, self._go_on)
        watch = begun.hasher.update if self._digests else _ignore
        groups = sign_blocks(stream, offset, begun.cutting, watch)

        def remembered() -> Iterator[Signature]:
            for group in groups:
                begun.blocks.add(group)
                yield group

        pages = pages_of(remembered(), offset, PAGE)
        return next(pages, Signature(offset, [], b""))

    def _blocks(self, wanted: Sign) -> Signed:
        with self._lock:
            begun = self._begun.get(wanted.path)
        known = _Blocks()
        if begun and (begun.version, begun.cutting) == (wanted.version, wanted.cutting):
            known = begun.blocks
        found = {
            span: known.between(span.offset, span.offset + span.length)
            for span in wanted.spans
        }
        missing = [span for span, signature in found.items() if signature is None]
        if missing:
            with self._opening(wanted) as fd:
                for span in missing:
                    stream = _Stream(
                        fd, span.offset, span.offset + span.length, self._go_on
                    )
                    found[span] = sign_group(stream, span.offset, wanted.cutting)
        return Signed([each for span in wanted.spans if (each := found[span])])

    def _chunks(self, wanted: Sign) -> Signed:
        signatures = []
        largest = max(span.length for span in wanted.spans)
        buffer = memoryview(bytearray(largest))
        with self._opening(wanted) as fd:
            for span in wanted.spans:
                self._go_on()
                stretch = buffer[: span.length]
                have = 0
                while have < span.length and (
                    count := os.preadv(fd, [stretch[have:]], span.offset + have)
                ):
                    have += count
                signatures.append(
                    sign_chunks(stretch[:have], span.offset, wanted.cutting)
                )
        return Signed(signatures)

    def _go_on(self) -> None:
        if self._stopped:
            raise CancelledError
        self._pause()


def _veil(signature: Signature, first: bool = False, last: bool = False) -> Signature:
    """
    A signature without the digests of short parts.

    :param first: nor that of the first part.
    :param last: nor that of the last.
    """
    lengths = signature.lengths
    veiled = {at for at, length in enumerate(lengths) if length < LEAST_TOLD}
    if first and lengths:
        veiled.add(0)
    if last and lengths:
        veiled.add(len(lengths) - 1)
    if not veiled:
        return signature
    digests = bytearray(signature.digests)
    for at in veiled:
        digests[at * SHORT_DIGEST : (at + 1) * SHORT_DIGEST] = bytes(SHORT_DIGEST)
    return Signature(signature.offset, lengths, bytes(digests))


def _ignore(_block: memoryview) -> None:
    pass
