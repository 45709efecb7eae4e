"""
Check later that what was moved is still there: receipts against a store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from attrs import define, frozen

from realize.digest import is_sparse
from realize.model import Digests, Failure, File, Prefix
from realize.store.interface import Source

#: What became of a file: its content differs, it is not there, or it could not be read.
Finding = Literal["different", "missing", "unreadable"]


@frozen
class Expected:
    """
    What a receipt says of a file.

    :ivar size: bytes.
    :ivar digest: of the content.
    """

    size: int
    digest: bytes


@define
class Verification:
    """
    Compares the files of a store with receipts.

    The store is listed, and only files with a receipt are read.

    :ivar expected: by path; emptied as files are found.
    :ivar report: told of each file that is not as it should be, and why.
    :ivar verified: files that are as they should be, so far.
    :ivar wrong: files that are not, so far.
    """

    expected: dict[bytes, Expected]
    report: Callable[[bytes, Finding, str], None]
    verified: int = 0
    wrong: int = 0

    async def run(self, source: Source) -> None:
        """
        Check everything once.

        :raises PeerError: the store cannot be listed.
        :raises PeerGone: the connection was lost.
        """
        cursor = 0
        while True:
            page = await source.list(cursor, restore=False)
            await self._check(source, page.files)
            for notice in page.notices:
                if notice.kind == "unreadable":
                    self._find_below(notice.path, notice.text)
            cursor = page.next
            if not cursor:
                break
        for path in sorted(self.expected):
            self._wrong(path, "missing", "")
        self.expected.clear()

    async def _check(self, source: Source, files: list[File]) -> None:
        wanted: list[tuple[File, Expected]] = []
        for file in files:
            expected = self.expected.pop(file.path, None)
            if expected is None:
                continue
            if file.size != expected.size:
                sizes = f"{file.size} bytes instead of {expected.size}"
                self._wrong(file.path, "different", sizes)
            else:
                wanted.append((file, expected))
        if not wanted:
            return
        results = await source.digest(
            [
                Prefix(file.path, file.identity, file.size, is_sparse(expected.digest))
                for file, expected in wanted
            ]
        )
        for (file, expected), result in zip(wanted, results, strict=True):
            self._compare(file, expected, result)

    def _compare(
        self, file: File, expected: Expected, result: Digests | Failure
    ) -> None:
        if isinstance(result, Failure):
            self._wrong(file.path, "unreadable", result.text)
        elif result.steps[-1] != expected.digest:
            self._wrong(file.path, "different", "the content has changed")
        else:
            self.verified += 1

    def _find_below(self, path: bytes, text: str) -> None:
        inside = path + b"/" if path else b""
        below = [
            each for each in self.expected if each == path or each.startswith(inside)
        ]
        for each in sorted(below):
            del self.expected[each]
            self._wrong(each, "unreadable", text)

    def _wrong(self, path: bytes, finding: Finding, text: str) -> None:
        self.wrong += 1
        self.report(path, finding, text)
