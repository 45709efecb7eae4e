"""
Whether files that were made final are still there.

The source has hidden its own when it asks, and removes it if the answer is yes.  So the
answer must be about what is there now, and not about what some cache remembers; and the
file must not be the source's own, seen through another mount.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from realize.errors import BadRequest, NoSuchFile, SameFile
from realize.model import Claim, Confirmed, Failure, Finish
from realize.paths import is_hidden, parent_of, printable
from realize.store.commit import Commits, Entry
from realize.store.hidden import is_there
from realize.store.identity import is_version
from realize.store.kept import DirectoriesInTurn
from realize.store.present import look
from realize.store.root import Root
from realize.store.syscalls import refresh_attributes

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Claims:
    """
    Looks at files of one destination once more.  Called from several threads.

    :param commits: proves files that look changed.
    """

    def __init__(self, root: Root, commits: Commits) -> None:
        self._root = root
        self._commits = commits

    def confirm(self, claims: Sequence[Claim]) -> list[Confirmed | Failure]:
        """
        As :meth:`realize.store.interface.Destination.confirm`.
        """
        results: list[Confirmed | Failure] = []
        unseen: set[tuple[bytes, bytes]] = set()
        with self._root.directories() as directories:
            for claim in claims:
                try:
                    self._confirm(claim, directories, unseen)
                except Exception as error:  # noqa: BLE001 - of this file only
                    failure = self._root.error_of(error, claim.path, "look at")
                    results.append(Failure.of(failure))
                else:
                    results.append(Confirmed())
        return results

    def _confirm(
        self,
        claim: Claim,
        directories: DirectoriesInTurn,
        unseen: set[tuple[bytes, bytes]],
    ) -> None:
        name = self._root.path(claim.path).name
        parent = parent_of(claim.path)
        directory = directories.descriptor(parent)
        # Before the file: the question about a name that is in no cache has NFS ask for
        # its directory anew.
        if (parent, claim.mark) not in unseen:
            if not is_hidden(claim.mark):
                raise BadRequest("no mark of a hidden file")
            if is_there(directory, claim.mark):
                raise SameFile(
                    f"{printable(claim.path)}: hidden at the source, it is hidden here"
                    " too: they are the same file"
                )
            unseen.add((parent, claim.mark))
        status = look(directory, name)
        if (
            status is not None
            and self._root.filesystem_of(status.st_dev, directory).cached
        ):
            status = self._ask_anew(directory, name)
        if status is None:
            raise NoSuchFile(f"{printable(claim.path)}: is not there any more")
        if not is_version(status, claim.version):
            self._prove(claim, parent, name)

    def _ask_anew(self, directory: int, name: bytes) -> os.stat_result | None:
        """
        Open the file: that it is there must not come from a cache, nor how it is.
        """
        try:
            fd = os.open(name, _READ, dir_fd=directory)
        except FileNotFoundError:
            return None
        try:
            refresh_attributes(fd)
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _prove(self, claim: Claim, parent: bytes, name: bytes) -> None:
        """
        Read a file that is another version now, as far as its file system can tell, and
        make it durable, whoever wrote it.

        :raises PeerError: it has not this content.
        """
        wanted = Finish(claim.path, claim.size, claim.digest, 0, 0)
        entry = Entry(wanted, parent, name, 0, exact=True)
        self._commits.commit([entry])
        if entry.error is not None:
            raise entry.error
