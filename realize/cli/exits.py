"""
What the command's exit status says.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from realize.errors import (
    ConfigError,
    NoSuchScope,
    NotAllowed,
    PeerGone,
    PeerRefused,
    RealizeError,
)


class Exit(IntEnum):
    """
    The exit statuses; ``docs/cli.md`` has them for people.

    :cvar MOVED: everything was moved, or there was nothing to do.
    :cvar FAILED: some files failed, or an unexpected error.
    :cvar USAGE: a flag, an argument or the configuration is wrong; nothing was done.
    :cvar UNREACHABLE: a peer could not be reached or refused us.
    :cvar DEFERRED: some files were left for a later run, none failed.
    :cvar TIME_UP: ``--max-duration`` was exceeded.
    :cvar NOT_PUSHED: everything was moved, but the metrics could not be pushed.
    :cvar HOOK_FAILED: everything was moved, but ``--on-moved`` failed.
    :cvar DAMAGED: what could be verified was right, but lines of the log were not
        receipts.
    :cvar INTERRUPTED: stopped by a signal.
    """

    MOVED = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    DEFERRED = 4
    TIME_UP = 11
    NOT_PUSHED = 12
    HOOK_FAILED = 13
    DAMAGED = 14
    INTERRUPTED = 20


_BY_ERROR: Final[tuple[tuple[type[RealizeError], Exit], ...]] = (
    (ConfigError, Exit.USAGE),
    (NoSuchScope, Exit.USAGE),
    (PeerGone, Exit.UNREACHABLE),
    (PeerRefused, Exit.UNREACHABLE),
    (NotAllowed, Exit.UNREACHABLE),
    (RealizeError, Exit.FAILED),
)


def exit_for(error: RealizeError) -> Exit:
    """
    The status for an error that ended the program.
    """
    return next(status for kind, status in _BY_ERROR if isinstance(error, kind))


def exit_after(*, failed: int, deferred: int) -> Exit:
    """
    The status for a move that came to its end.

    :param failed: files, and directories that could not be listed.
    :param deferred: files left for a later run.
    """
    if failed:
        return Exit.FAILED
    return Exit.DEFERRED if deferred else Exit.MOVED


#: Statuses by weight, the one that matters most first.
_WEIGHT: Final = (
    Exit.INTERRUPTED,
    Exit.TIME_UP,
    Exit.USAGE,
    Exit.UNREACHABLE,
    Exit.FAILED,
    Exit.DEFERRED,
    Exit.NOT_PUSHED,
    Exit.HOOK_FAILED,
    Exit.MOVED,
)


def worse(one: Exit, other: Exit) -> Exit:
    """The status that says more, of two moves of one command."""
    return min(one, other, key=_WEIGHT.index)
