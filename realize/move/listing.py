"""
The listing as it comes in: what is left out of it, and batches to be offered.

At most :attr:`MoveSettings.look_ahead` files wait here, so that the totals are known
early and memory does not grow with the number of files.  Small and large files wait
apart, so that neither hold up the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import define, field

from realize.model import (
    EVERYTHING,
    MAX_BATCH,
    Directory,
    File,
    Notice,
    Page,
    Subset,
    last_change,
)
from realize.move.line import MAX_NAMES
from realize.move.names import batches
from realize.move.outcome import MoveSettings
from realize.move.run import Run
from realize.move.selection import Selection
from realize.move.tally import Item
from realize.move.window import LARGEST_SLICE
from realize.paths import parent_of

#: Most bytes of files in one batch of offers of more than one: what is offered is
#: reserved at the destination.
MAX_OFFERED_BYTES: Final = 256 * 1024 * 1024


@define(eq=False)
class Chunk:
    """
    The files of one page that wait, from the one numbered *start* on.
    """

    files: list[File]
    directories: dict[bytes, Directory]
    start: int = 0


@define(eq=False)
class Lister:
    """
    The step that lists the source, always some pages ahead.

    :ivar may_begin: whether it may list more in the state the line is in.
    """

    _run: Run
    _settings: MoveSettings
    _may_begin: Callable[[], bool]
    _small: deque[Chunk] = field(factory=deque)
    _large: deque[Chunk] = field(factory=deque)
    _waiting: int = 0
    _largest_page: int = 0
    _cursor: int = 0
    _listing: bool = False
    #: Directories from which nothing can be removed, and what is to be told of each;
    #: None once it was.
    _unremovable: dict[bytes, Notice | None] = field(factory=dict)
    #: What is to be looked for; None for everything.
    _names: Iterator[Sequence[bytes]] | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        names = self._settings.names
        self._names = None if names is None else batches(names)

    @property
    def load(self) -> int:
        """
        Files that wait here.
        """
        return self._waiting

    def has(self, large: bool) -> bool:
        """
        Whether a large, or a small, file waits here.
        """
        return bool(self._large if large else self._small)

    @property
    def exhausted(self) -> bool:
        """
        Whether nothing waits here and nothing more will come.
        """
        return self._run.tally.totals.complete and not self._waiting

    def begin(self) -> None:
        """
        Ask for a page, if there is room for it.
        """
        if (
            not self._listing
            and not self._run.tally.totals.complete
            and self._has_room()
            and self._may_begin()
        ):
            self._run.line.start(self._list())

    def _has_room(self) -> bool:
        if not self._waiting:
            return True
        return self._waiting + self._largest_page <= self._settings.look_ahead

    async def _list(self) -> None:
        subset = EVERYTHING
        if self._names is not None and not self._cursor:
            names = next(self._names, None)
            if names is None:
                self._run.tally.totals.complete = True
                return
            subset = Subset(list(names), self._settings.recurse)
        self._listing = True
        try:
            page = await self._run.source.list(
                self._cursor, restore=not self._settings.dry_run, subset=subset
            )
            if page.files and not self._settings.dry_run:
                await self._run.try_out()
        finally:
            self._listing = False
        self._cursor = page.next
        self._largest_page = max(self._largest_page, len(page.files))
        for notice in page.notices:
            if notice.kind == "unremovable":
                self._unremovable.setdefault(notice.path, notice)
            elif not self._leaves_out(notice):
                self._run.tally.noticed(notice)
        files = self._wanted(page)
        directories = {entry.path: entry for entry in page.directories}
        large = [file for file in files if file.size > LARGEST_SLICE]
        if large:
            files = [file for file in files if file.size <= LARGEST_SLICE]
            self._large.append(Chunk(large, directories))
        if files:
            self._small.append(Chunk(files, directories))
        self._waiting += len(files) + len(large)
        if not page.next and self._names is None:
            self._run.tally.totals.complete = True

    def _wanted(self, page: Page) -> list[File]:
        """
        The files of a page that are to be moved.
        """
        # Some file systems name a file twice that is renamed meanwhile, and others lie.
        files = list({file.path: file for file in page.files}.values())
        selection, refused = self._settings.selection, self._run.tally.refused
        if selection is not None:
            named = len(files)
            files = [file for file in files if selection.takes(file, page.now_ns)]
            if len(files) < named:
                self._count_left_out(selection, page, named - len(files))
        if refused:
            files = [file for file in files if file.path not in refused]
        if self._unremovable:
            files = [file for file in files if self._may_go(file)]
        self._run.tally.listed(files)
        if self._settings.settle > 0:
            files = self._settled(files, page.now_ns)
        return files

    def _count_left_out(self, selection: Selection, page: Page, count: int) -> None:
        system = sum(selection.leaves_out_as_system(file.path) for file in page.files)
        totals = self._run.tally.totals
        totals.system += system
        totals.excluded += count - system

    def _leaves_out(self, notice: Notice) -> bool:
        """
        Whether a notice is of something that is not to be moved (any more).
        """
        if notice.kind == "missing" and self._run.tally.again:
            return True  # Moved before the connection was lost.
        selection = self._settings.selection
        if selection is None:
            return False
        # Whether it is a directory is not known: globs that match only those count.
        place = notice.path + b"/"
        if not (selection.leaves_out(notice.path) or selection.leaves_out(place)):
            return False
        if selection.leaves_out_as_system(place):
            self._run.tally.totals.system += 1
        return True

    def _may_go(self, file: File) -> bool:
        """
        Whether the source could remove a file; if not, that is told of its directory.
        """
        parent = parent_of(file.path)
        if parent not in self._unremovable:
            return True
        notice, self._unremovable[parent] = self._unremovable[parent], None
        if notice is not None:
            self._run.tally.noticed(notice)
        return False

    def _settled(self, files: list[File], now_ns: int) -> list[File]:
        """
        Defer what is too young, or dated so little into the future that a clock
        may be off.
        """
        settle_ns = int(self._settings.settle * 1e9)
        settled, young = list[File](), list[File]()
        for file in files:
            changed_ns = last_change(file.mtime_ns, file.ctime_ns, now_ns)
            age = min(abs(now_ns - file.mtime_ns), abs(now_ns - changed_ns))
            (settled if age >= settle_ns else young).append(file)
        if young:
            self._run.tally.unsettled(young)
        return settled

    def take(
        self, large: bool, most: int = MAX_BATCH
    ) -> tuple[list[Item], list[Directory]]:
        """
        The next batch to be offered, and the directories above its files, parents
        first.

        :param large: of the files of more than one slice, or of the others.
        :param most: how many files; at least one.
        """
        chunks = self._large if large else self._small
        now = self._run.clock.seconds()
        items, chosen = list[Item](), dict[bytes, Directory]()
        paths = set[bytes]()
        names = nbytes = 0
        last_parent = None
        while chunks and len(items) < min(most, MAX_BATCH):
            chunk = chunks[0]
            file = chunk.files[chunk.start]
            names += len(file.path)
            nbytes += file.size
            parent = parent_of(file.path)
            if parent != last_parent:
                names += _choose(parent, chunk.directories, chosen)
                last_parent = parent
            # Counted before it is known to fit: the directories of the one file too
            # many are created a moment early.
            if items and (names > MAX_NAMES or nbytes > MAX_OFFERED_BYTES):
                break
            if file.path in paths:
                break  # a request names a file once; two pages may both have it
            paths.add(file.path)
            items.append(Item(file, now))
            chunk.start += 1
            if chunk.start == len(chunk.files):
                chunks.popleft()
        self._waiting -= len(items)
        return items, list(chosen.values())


def _choose(
    parent: bytes,
    known: dict[bytes, Directory],
    chosen: dict[bytes, Directory],
) -> int:
    """
    Add a directory and those above it to *chosen*, parents first.

    :returns: bytes in their paths.
    """
    missing = []
    while parent and parent not in chosen:
        missing.append(known.get(parent))
        parent = parent_of(parent)
    names = 0
    for entry in reversed(missing):
        if entry is not None:
            chosen[entry.path] = entry
            names += len(entry.path)
    return names
