"""
Putting bytes into files under construction: those that are sent, and those that the
present file has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from realize.conflicts import Conflicts
from realize.delta.exchange import Patch
from realize.errors import BadRequest, NotAllowed
from realize.model import Failure, Piece, Written
from realize.observe.recorder import Recorder
from realize.paths import printable
from realize.store.commit import Commits
from realize.store.guesses import Guesses
from realize.store.incoming import Incoming, IncomingFiles
from realize.store.kept import DirectoriesInTurn
from realize.store.partial import Partial
from realize.store.present import open_present
from realize.store.reuse import apply_patch, check_patch
from realize.store.root import Root
from realize.store.spelling import refused
from realize.store.syscalls import UNSUPPORTED, start_writeback

#: A piece of so many bytes starts its way to the disk at once.
_LARGE: Final = 1024 * 1024


class Writer:
    """
    Writes the files of one destination.  Called from several threads, but never from
    two at once for the same file.

    :param files: those that were offered.
    :param commits: knows what must not be written any more.
    :param conflicts: what is done about present files.
    :param recorder: told of what was written, and what failed.
    :param guesses: of the one who writes: a part of the present file and a digest of
        the whole are one.
    :param pause: called every few milliseconds of what may take long.
    """

    def __init__(
        self,
        root: Root,
        files: IncomingFiles,
        commits: Commits,
        conflicts: Conflicts,
        recorder: Recorder,
        guesses: Guesses,
        pause: Callable[[], object] = lambda: None,
    ) -> None:
        self._pause = pause
        self._root = root
        self._files = files
        self._commits = commits
        self._conflicts = conflicts
        self._recorder = recorder
        self._guesses = guesses

    def write(
        self, pieces: Sequence[Piece], payload: memoryview
    ) -> list[Written | Failure]:
        """
        As :meth:`realize.store.interface.Destination.write`.
        """
        self._root.check()
        results: list[Written | Failure] = []
        position = 0
        with (
            self._files.using({piece.path for piece in pieces}),
            self._root.directories() as directories,
        ):
            for piece in pieces:
                end = position + piece.carried
                data = payload[position:end]
                results.append(self._write_one(piece, data, directories))
                position = end
        self._recorder.written(
            (piece.path, piece.length)
            for piece, result in zip(pieces, results, strict=True)
            if isinstance(result, Written)
        )
        return results

    def reuse(self, patch: Patch, payload: memoryview) -> Written | Failure:
        """
        As :meth:`realize.store.interface.Destination.reuse`.
        """
        self._root.check()
        with self._files.using([patch.path]):
            result = self._attempt(
                patch.path, lambda file: self._patch(file, patch, payload)
            )
        if isinstance(result, Written):
            self._recorder.reused(patch.reused)
            self._recorder.written([(patch.path, patch.fetched)])
        return result

    # -- one file

    def _write_one(
        self, piece: Piece, data: memoryview, directories: DirectoriesInTurn
    ) -> Written | Failure:
        return self._attempt(
            piece.path, lambda file: self._take(file, piece, data, directories)
        )

    def _attempt(
        self, path: bytes, write: Callable[[Incoming], int]
    ) -> Written | Failure:
        file = self._files.get(path)
        if file is None:
            return Failure.of(self._files.missing(path))
        if file.failure is None:
            try:
                return Written(write(file))
            except Exception as error:  # noqa: BLE001 - of this file only
                file.failure = Failure.of(self._root.error_of(error, path, "write"))
            self._files.close(file)
            # Nothing more is written of it: others may have its room.
            self._files.promise(file, file.size)
            self._recorder.failed(file.path, file.failure.error)
        return file.failure

    def _take(
        self,
        file: Incoming,
        piece: Piece,
        data: memoryview,
        directories: DirectoriesInTurn,
    ) -> int:
        length = sum(piece.runs) if piece.runs else len(data)
        if (
            length != piece.length
            or piece.offset + length > file.size
            or (piece.keep and length)
        ):
            raise BadRequest(
                f"{printable(file.path)}: {piece.length} bytes at {piece.offset}"
                f" of a file of {file.size}"
            )
        partial = file.partial
        if piece.keep or piece.offset == 0:
            file.reuses = b""
        if piece.keep:
            partial = partial or self._open(file, Partial.resume, directories)
            partial.sparse = file.sparse
            partial.keep(piece.offset, piece.keep, self._pause)
            self._files.promise(file, partial.stored)
            return partial.size
        if piece.offset == 0:
            if partial is None:
                partial = self._open(file, Partial.begin, directories)
            else:
                partial.sparse = file.sparse
                partial.restart()
            self._files.promise(file, 0)
        elif partial is None:
            raise BadRequest(f"{printable(file.path)}: begins at {piece.offset}")
        if not partial.sparse and (piece.runs or piece.offset > partial.size):
            raise BadRequest(f"{printable(file.path)}: a hole, but offered without")
        if file.holes and partial.stored + len(data) > file.size - file.holes:
            self._files.promise(file, partial.stored + len(data))
        partial.write_runs(piece.offset, piece.runs, data)
        return self._grown(file, partial, piece.offset, len(data))

    def _grown(self, file: Incoming, partial: Partial, begin: int, data: int) -> int:
        """
        Bytes were added from *begin* on, of which so many are *data*.

        :returns: bytes in the partial.
        """
        self._files.promise(file, partial.stored)
        if data >= _LARGE:
            try:
                start_writeback(partial.fd, begin, partial.size - begin)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
        return partial.size

    def _patch(self, file: Incoming, patch: Patch, payload: memoryview) -> int:
        if not self._conflicts.takes_names:
            raise NotAllowed(f"{printable(file.path)}: may not be replaced")
        partial = file.partial
        anew = bool(patch.steps) and patch.steps[0].offset == 0
        begin = 0 if anew or partial is None else partial.size
        check_patch(patch, payload, begin, file.size)
        if anew or file.reuses != patch.version:
            self._guesses.check(patch.version)
            self._guesses.wrong(patch.version)
            file.reuses = patch.version
        with self._root.directories() as directories:
            if partial is None:
                partial = self._open(file, Partial.begin, directories)
            elif anew:
                partial.restart()
            self._files.promise(file, partial.stored)
            directory = directories.descriptor(file.directory)
            with open_present(directory, file.name, patch.version) as present:
                apply_patch(partial, present, patch.steps, payload)
        return self._grown(file, partial, begin, partial.size - begin)

    def _open(
        self,
        file: Incoming,
        opening: Callable[[int, bytes, bool], Partial],
        directories: DirectoriesInTurn,
    ) -> Partial:
        self._commits.check(file.path, file.directory)
        if file.kept_out is not None:
            raise file.kept_out.error
        directory = directories.descriptor(file.directory)
        try:
            return self._files.open(
                file, lambda: opening(directory, file.partial_name, file.sparse)
            )
        except OSError as error:
            raise refused(error, file.path, file.name) or error from None
