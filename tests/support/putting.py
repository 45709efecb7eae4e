"""
Destinations for tests, without a reactor, and what is done with them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from realize.accounts import Account
from realize.config import DirectorySettings
from realize.conflicts import Conflicts
from realize.digest import new_hasher
from realize.model import Failure, Finish, Finished, Held, Offer, Piece, Written
from realize.store.destination import MAX_OPEN, LocalDestination
from realize.store.root import Root
from realize.store.space import SpaceLedger
from realize.store.together import sync_together
from realize.store.work import WorkPool, WorkQueue
from tests.support.recording import new_recorder
from tests.support.threads import InlineReactor, InlineThreads, result_of

MTIME_NS = 1_234_567_890_123_456_789


class Putting:
    """
    A destination on a directory, whose operations are done at once.

    :ivar store: the destination.
    :ivar ledger: of its space.
    """

    def __init__(
        self,
        path: Path,
        *,
        below: bytes = b"",
        replace: bool = True,
        sync: Callable[[int], None] = os.fsync,
        together: Callable[[int, int], bool] = sync_together,
        max_open: int = MAX_OPEN,
        ledger: SpaceLedger | None = None,
        descriptors: Account | None = None,
        **settings: Any,
    ) -> None:
        pool = WorkPool(InlineReactor(), InlineThreads())  # type: ignore[arg-type]
        self.ledger = ledger or SpaceLedger(settings.get("min_free", 0))
        self.store = LocalDestination(
            Root.open(
                path,
                below,
                marker=settings.get("marker"),
                name="there",
                descriptors=descriptors,
            ),
            WorkQueue(pool),
            self.ledger,
            DirectorySettings(path, **settings),
            Conflicts("replace" if replace else "fail", strict=not replace),
            "there",
            new_recorder(),
            sync=sync,
            together=together,
            max_open=max_open,
        )

    def offer(self, *offers: Offer, **options: Any) -> list[Held | Failure]:
        """
        Offer files.
        """
        return list(result_of(self.store.offer(offers, [], **options)))

    def write(self, payload: bytes, *pieces: Piece) -> list[Written | Failure]:
        """
        Write pieces.
        """
        return list(result_of(self.store.write(pieces, payload)))

    def finish(self, *files: Finish) -> list[Finished | Failure]:
        """
        Finish files.
        """
        return list(result_of(self.store.finish(files)))

    def send(self, files: dict[bytes, bytes]) -> None:
        """
        Offer and write whole files.
        """
        self.offer(*(Offer(path, len(content)) for path, content in files.items()))
        pieces = [Piece(path, 0, len(content)) for path, content in files.items()]
        self.write(b"".join(files.values()), *pieces)

    def put(self, files: dict[bytes, bytes]) -> list[Finished | Failure]:
        """
        Offer, write and finish whole files.
        """
        self.send(files)
        return self.finish(*(finish_of(path, files[path]) for path in files))

    def close(self) -> None:
        """
        Close it.
        """
        result_of(self.store.close())


def finish_of(
    path: bytes, content: bytes, mode: int = 0o640, sparse: bool = False
) -> Finish:
    """
    How a file of this content is finished.

    :param sparse: whether it was offered with holes.
    """
    hasher = new_hasher(sparse)
    hasher.update(content)
    return Finish(path, len(content), hasher.digest(), mode, MTIME_NS)


def codes(results: Iterable[Any]) -> list[str]:
    """
    Of each result the code of its failure, or its kind.
    """
    return [
        each.code if isinstance(each, Failure) else type(each).__name__
        for each in results
    ]


def contents(path: Path) -> dict[str, Any]:
    """
    Everything below a directory: bytes of files, None for directories.
    """
    return {
        str(each.relative_to(path)): None if each.is_dir() else each.read_bytes()
        for each in sorted(path.rglob("*"))
    }
