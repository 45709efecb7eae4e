"""
Steps that tests of the contract have in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from blake3 import blake3

from realize.digest import SparseHasher
from realize.model import Failure, File, Finish, Offer, Page, Piece, Removal
from realize.store.interface import Destination, Source
from tests.contract.pairs import Pair, run

MTIME_NS = 1_234_567_890_123_456_789


def digest(content: bytes) -> bytes:
    """
    BLAKE3.
    """
    return blake3(content).digest()


def sparse_digest(content: bytes) -> bytes:
    """
    That of a file with holes.
    """
    hasher = SparseHasher()
    hasher.update(content)
    return hasher.digest()


def finish_of(path: bytes, content: bytes, mode: int = 0o640) -> Finish:
    """
    How a file of this content is finished.
    """
    return Finish(path, len(content), digest(content), mode, MTIME_NS)


def codes(results: Iterable[Any]) -> list[str]:
    """
    Of each result the code of its failure, or its kind.
    """
    return [
        each.code if isinstance(each, Failure) else type(each).__name__
        for each in results
    ]


def put(pair: Pair, destination: Destination, files: dict[bytes, bytes]) -> list[Any]:
    """
    Offer, write and finish whole small files.
    """
    run(pair, destination.offer([Offer(p, len(c)) for p, c in files.items()], []))
    pieces = [Piece(path, 0, len(content)) for path, content in files.items()]
    run(pair, destination.write(pieces, b"".join(files.values())))
    return list(
        run(pair, destination.finish([finish_of(p, c) for p, c in files.items()]))
    )


def all_pages(pair: Pair, source: Source) -> list[Page]:
    """
    A whole listing.
    """
    pages = [run(pair, source.list(0))]
    while pages[-1].next:
        pages.append(run(pair, source.list(pages[-1].next)))
    return pages


def files_of(pair: Pair, source: Source) -> dict[bytes, File]:
    """
    All files of a listing, by path.
    """
    pages = all_pages(pair, source)
    return {file.path: file for page in pages for file in page.files}


def removal(file: File, content: bytes, step: str = "hide") -> Removal:
    """
    How a file of this content is removed.
    """
    return Removal(file.path, file.identity, digest(content), step)  # type: ignore[arg-type]
