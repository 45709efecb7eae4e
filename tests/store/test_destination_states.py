"""
Any order of offers, pieces, resumptions, finishes and lost sessions.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from attrs import define
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from realize.model import Offer, Piece, Written
from tests.support.putting import Putting, codes, finish_of

NAMES = [b"x", b"d/y", b"n" * 250]
#: These are offered with holes.
SPARSE = {NAMES[0], NAMES[2]}
names = st.sampled_from(NAMES)
data = st.just(b"") | st.binary(max_size=12)


@define
class Expected:
    """
    What a destination should know of a file it was offered.

    :ivar written: bytes in the partial, None while it is not open.
    :ivar failed: nothing more is taken until it is offered again.
    """

    size: int
    written: bytes | None = None
    failed: bool = False


class Sessions(RuleBasedStateMachine):
    """
    One directory; sessions that come and go; a model of what each should do.
    """

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="realize-states-"))
        self.final: dict[bytes, bytes] = {}
        self.partials: dict[bytes, bytes] = {}
        self.offered: dict[bytes, Expected] = {}

    @initialize()
    def open(self) -> None:
        """
        The first session.
        """
        self.putting = Putting(self.top, sync=lambda _fd: None)

    @rule()
    def session_ends(self) -> None:
        """
        Partials stay; everything else is forgotten.
        """
        self.putting.close()
        assert self.putting.ledger.promised == 0
        self.offered.clear()
        self.open()

    @rule(name=names, size=st.integers(0, 30))
    def offer(self, name: bytes, size: int) -> None:
        """
        The answer says what is there.
        """
        (held,) = self.putting.offer(Offer(name, size, int(name in SPARSE)))
        assert held.partial == len(self.partials.get(name, b""))
        present = len(self.final[name]) if name in self.final else -1
        assert held.present == present
        before = self.offered.get(name)
        written = before.written if before is not None else None
        self.offered[name] = Expected(size, written)

    @rule(name=names, offset=st.integers(0, 35), content=data)
    def write(self, name: bytes, offset: int, content: bytes) -> None:
        """
        At the beginning, where the last piece ended, behind it, or out of bounds.
        """
        results = self.putting.write(content, Piece(name, offset, len(content)))
        file = self.offered.get(name)
        if file is None:
            assert codes(results) == ["BAD_REQUEST"]
            return
        begun = file.written is not None
        good = offset + len(content) <= file.size and (
            offset == 0
            or (begun and offset == len(file.written))
            or (begun and offset > len(file.written) and name in SPARSE)
        )
        if file.failed or not good:
            assert codes(results) == ["BAD_REQUEST"]
            file.failed, file.written = True, None
            return
        kept = file.written if offset else b""
        file.written = kept + bytes(offset - len(kept)) + content
        self.partials[name] = file.written
        assert results == [Written(len(file.written))]

    @rule(name=names, more=data)
    def append(self, name: bytes, more: bytes) -> None:
        """
        The usual piece.
        """
        file = self.offered.get(name)
        if file is not None and file.written is not None:
            self.write(name, len(file.written), more[: file.size - len(file.written)])

    @rule(name=names, length=st.integers(0, 30), good=st.booleans())
    def keep(self, name: bytes, length: int, good: bool) -> None:
        """
        All of what was asked for, if it is there and agrees; otherwise nothing.
        """
        there = self.partials.get(name, b"")
        kept = there[:length] if good else b"something else"
        digest = finish_of(name, kept, sparse=name in SPARSE).digest
        results = self.putting.write(b"", Piece(name, length, 0, [digest]))
        file = self.offered.get(name)
        if file is None or file.failed or length > file.size:
            assert codes(results) == ["BAD_REQUEST"]
            if file is not None:
                file.failed, file.written = True, None
            return
        kept = there[:length] if good and length <= len(there) else b""
        file.written = self.partials[name] = kept
        assert results == [Written(len(kept))]

    @precondition(lambda self: self.offered)
    @rule(name=names)
    def finish(self, name: bytes) -> None:
        """
        With what was written, filled up with zeros if it may have holes.
        """
        file = self.offered.get(name)
        if file is None or file.written is None or file.failed:
            return
        if len(file.written) > file.size:
            return  # it was offered again, shorter
        content = file.written + bytes(file.size - len(file.written))
        sparse = name in SPARSE
        if len(content) > len(file.written) and not sparse:
            return
        (result,) = self.putting.finish(finish_of(name, content, sparse=sparse))
        assert result.how == ("replaced" if name in self.final else "written")
        self.final[name] = content
        del self.offered[name], self.partials[name]

    @rule(name=names, content=data, other=st.booleans())
    def finish_something_else(self, name: bytes, content: bytes, other: bool) -> None:
        """
        Not what was written: it is dropped.  Not written: it may be there already.
        """
        file = self.offered.get(name)
        sparse = name in SPARSE
        if other and (file is None or (file.written is None and not file.failed)):
            # What is present has a digest of either kind.
            sparse = not sparse
        wanted = finish_of(name, content, sparse=sparse)
        (result,) = self.putting.finish(wanted)
        if file is None or (file.written is None and not file.failed):
            if file is not None and file.size != len(content):
                assert result.code == "BAD_REQUEST"
                return
            self.offered.pop(name, None)
            if name not in self.final:
                assert result.code == "NO_SUCH_FILE"
            elif self.final[name] != content:
                assert result.code == "DIGEST_MISMATCH"
            else:
                assert result.how == "present"
                if file is not None:
                    self.partials.pop(name, None)
        elif file.failed or file.size != len(content):
            assert result.code == "BAD_REQUEST"
        elif len(file.written) > file.size:
            # Offered again, shorter: there is no cutting off.
            assert result.code == "BAD_REQUEST"
            del self.offered[name]
        elif name not in SPARSE and len(file.written) < file.size:
            assert result.code == "DIGEST_MISMATCH"
            del self.offered[name], self.partials[name]
        elif file.written.ljust(file.size, b"\0") == content:
            assert result.how == ("replaced" if name in self.final else "written")
            self.final[name] = content
            del self.offered[name], self.partials[name]
        else:
            assert result.code == "DIGEST_MISMATCH"
            del self.offered[name], self.partials[name]

    @invariant()
    def disk_is_as_expected(self) -> None:
        """
        Final names hold what was finished; partials what was written.
        """
        final, partials = {}, []
        for path in self.top.rglob("*"):
            name = os.fsencode(path.relative_to(self.top))
            if path.is_file() and path.name.endswith(".realize-part"):
                partials.append(path.read_bytes())
            elif path.is_file():
                final[name] = path.read_bytes()
        assert final == self.final
        assert sorted(partials) == sorted(self.partials.values())

    def teardown(self) -> None:
        """
        Nothing promised is left.
        """
        self.putting.close()
        assert self.putting.ledger.promised == 0
        shutil.rmtree(self.top)


TestSessions = Sessions.TestCase
TestSessions.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
