"""
What a name leads to, and giving a finished file its name.

A partial is held by its descriptor and renamed by its name, and between the two
somebody can put another file under that name.  So each is looked at, before and after
(:func:`find`), and what was wrong is undone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from attrs import define, frozen

from realize.conflicts import Conflicts
from realize.errors import AlreadyExists, NameTaken, NoSuchFile
from realize.model import How
from realize.paths import PARTIAL_PREFIX, PARTIAL_SUFFIX, printable
from realize.store.filesystem import FileSystem
from realize.store.present import look
from realize.store.replaced import Replaced
from realize.store.spelling import Shown, refused
from realize.store.syscalls import NO_LINKS, UNSUPPORTED, rename_noreplace

#: What a file system says of an open file that it does not find any more.
_LOST: Final = frozenset({errno.ENOENT, errno.ESTALE})

_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@frozen
class Found:
    """
    What a name was found to lead to: the file that is open.

    :ivar status: as the name has it.
    :ivar certain: whether its inode says so; otherwise it looks like that file in all
        else, and only reading it tells.
    """

    status: os.stat_result
    certain: bool


def find(
    directory: int, name: bytes, fd: int, known: os.stat_result | None = None
) -> Found | None:
    """
    Whether a name leads to the file that is open; None if not.

    Where inode numbers do not stay those of their files, another one says nothing.

    :param directory: descriptor.
    :param known: status of the file, if its inode number has stayed since; it is asked
        for anew if the name seems to lead elsewhere.
    :raises OSError: it could not be looked at.
    """
    try:
        named = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if known is not None and os.path.samestat(named, known):
        return Found(named, certain=True)
    try:
        status = os.fstat(fd)
    except OSError as error:
        # Some look it up by the name that it had.
        if error.errno not in _LOST or FileSystem.of(directory).inodes:
            raise
        return Found(named, certain=False)
    if os.path.samestat(named, status):
        return Found(named, certain=True)
    if FileSystem.of(directory).inodes or _looks(named) != _looks(status):
        return None
    return Found(named, certain=False)


def unlink(directory: int, name: bytes, fd: int) -> None:
    """
    Delete a name if it leads to the file that is open; else leave it alone.

    :raises OSError: it could not be deleted.
    """
    if find(directory, name, fd) is not None:
        os.unlink(name, dir_fd=directory)


def may_keep_others(directory: int) -> bool:
    """
    Whether a file can be given a name here so that no other loses it: tried with a
    file of our own.

    :param directory: descriptor.
    :raises OSError: it could not be tried.
    """
    one, other = (
        PARTIAL_PREFIX + secrets.token_hex(8).encode("ascii") + PARTIAL_SUFFIX
        for _ in range(2)
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        os.close(os.open(one, flags, 0o600, dir_fd=directory))
        try:
            rename_noreplace(directory, one, directory, other)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        else:
            return True
        try:
            os.link(one, other, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return False
        return True
    finally:
        for name in (one, other):
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)


@define(eq=False)
class Naming:
    """
    Gives finished partials their names, in one directory.

    :ivar directory: descriptor.
    :ivar conflicts: what is done about present files; here, whether they give way.
    :ivar replaced: takes the large ones that did.
    :ivar shown: what the directory shows, where two names may be one.
    :ivar inodes: whether an inode number stays that of its file.
    """

    directory: int
    conflicts: Conflicts
    replaced: Replaced
    shown: Shown | None = None
    inodes: bool = False

    def give(
        self, fd: int, partial: bytes, name: bytes, path: bytes
    ) -> tuple[How, Found]:
        """
        Rename a partial to its final name, which then leads to it.

        :param fd: of the partial.
        :param partial: the name it has.
        :param path: of the file, for messages.
        :raises NoSuchFile: the partial's name led elsewhere, or the final one does.
        :raises AlreadyExists: the name is taken, and may not be replaced.
        :raises NameTaken: by something that is no regular file, or by a file of another
            name that the file system takes for the same.
        :raises NameRefused: the file system does not take such a name.
        :raises OSError: it could not be renamed.
        """
        before = find(self.directory, partial, fd)
        if before is None:
            raise NoSuchFile(
                f"{printable(path)}: somebody took its partial away; not finished"
            )
        try:
            how = self._rename(fd, partial, name, path)
        except OSError as error:
            raise refused(error, path, name) or error from None
        known = before.status if self.inodes and before.certain else None
        found = find(self.directory, name, fd, known)
        if found is None:
            self._undo(partial, name)
            raise NoSuchFile(
                f"{printable(path)}: its name leads to another file; somebody else"
                " is writing it, or took its partial away"
            )
        return how, found

    def _rename(self, fd: int, partial: bytes, name: bytes, path: bytes) -> How:
        directory = self.directory
        try:
            self._attempt(
                fd,
                partial,
                name,
                lambda: rename_noreplace(directory, partial, directory, name),
            )
        except FileExistsError:
            self._look(name, path)
            if not self.conflicts.replaces:
                raise AlreadyExists(
                    f"{printable(path)}: exists, and may not be replaced"
                ) from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            if not self.conflicts.replaces:
                self._link(fd, partial, name, path)
                return "written"
            if self._look(name, path) is None:
                self._rename_over(fd, partial, name)
                return "written"
        else:
            return "written"
        self.replaced.hold(directory, name)
        self._rename_over(fd, partial, name)
        return "replaced"

    def _look(self, name: bytes, path: bytes) -> os.stat_result | None:
        """
        The file that has the name, spelt in just this way; None if the name is free.
        """
        present = look(self.directory, name)
        if self.shown is None:
            return present
        # That there is no such name may be remembered from before there was.
        if present is not None or self.shown.alike(name) is not None:
            self.shown.check(name, path)
        return present

    def check_spelling(self, fd: int, partial: bytes, name: bytes, path: bytes) -> None:
        """
        Make sure that the directory shows the name that a file was given; call
        :meth:`~realize.store.spelling.Shown.forget` before the first of many.

        :param partial: the name that it gets back if not.
        :raises NameTaken: it shows another one, so that a file of that name would take
            its place.
        """
        if self.shown is None:
            return
        try:
            self.shown.check(name, path)
        except NameTaken:
            if find(self.directory, name, fd) is not None:
                with suppress(OSError):
                    os.rename(
                        name,
                        partial,
                        src_dir_fd=self.directory,
                        dst_dir_fd=self.directory,
                    )
            raise

    def _rename_over(self, fd: int, partial: bytes, name: bytes) -> None:
        directory = self.directory
        self._attempt(
            fd,
            partial,
            name,
            lambda: os.rename(
                partial, name, src_dir_fd=directory, dst_dir_fd=directory
            ),
        )

    def _link(self, fd: int, partial: bytes, name: bytes, path: bytes) -> None:
        directory = self.directory
        try:
            self._attempt(
                fd,
                partial,
                name,
                lambda: os.link(
                    partial, name, src_dir_fd=directory, dst_dir_fd=directory
                ),
            )
        except FileExistsError:
            raise AlreadyExists(
                f"{printable(path)}: exists, and may not be replaced"
            ) from None
        except OSError as error:
            if error.errno not in NO_LINKS or self.conflicts.strict:
                raise
            if self._look(name, path) is not None:
                raise AlreadyExists(
                    f"{printable(path)}: exists, and may not be replaced"
                ) from None
            self._rename_over(fd, partial, name)
            return
        unlink(directory, partial, fd)

    def _attempt(
        self, fd: int, partial: bytes, name: bytes, call: Callable[[], None]
    ) -> None:
        """
        Over a network a call may have been done although its answer says otherwise.
        """
        try:
            call()
        except OSError:
            found = find(self.directory, name, fd)
            # A file that only looks like ours was there already if ours still is.
            if found is None or not (
                found.certain or find(self.directory, partial, fd) is None
            ):
                raise

    def _undo(self, partial: bytes, name: bytes) -> None:
        """
        Give a partial of somebody else's its name back.

        Only what somebody is still writing: a file of which nobody holds the lock may
        have been put here by its owner, after us.
        """
        with suppress(OSError):
            fd = os.open(name, _LOOK, dir_fd=self.directory)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                rename_noreplace(self.directory, name, self.directory, partial)
            finally:
                os.close(fd)


def _looks(status: os.stat_result) -> tuple[int, ...]:
    return (
        stat.S_IFMT(status.st_mode),
        status.st_size,
        status.st_mtime_ns,
        status.st_uid,
        status.st_nlink,
    )
