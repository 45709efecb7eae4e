"""
What is done about a file whose name another one has at the destination.

Files of the same content are never in conflict.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from attrs import frozen

from realize.errors import AlreadyExists, NotAllowed, PeerError, Skipped
from realize.paths import RelativePath, printable

#: ``replace``: the older one gives way.  ``keep-both``: the newer one gets a number.
#: ``backup``: the older one goes to a directory first.  ``skip``: the newer one stays
#: at the source, and is deferred.  ``fail``: it stays there, and that is a failure.
OnConflict = Literal["replace", "keep-both", "backup", "skip", "fail"]

CHOICES: Final[tuple[OnConflict, ...]] = get_args(OnConflict)

#: Where ``backup`` puts older files if nobody says otherwise.
DEFAULT_BACKUP: Final = b"older"


@frozen
class Conflicts:
    """
    What is done at one destination.

    :ivar backup: directory, below the root, that older files go to: a canonical path.
    :ivar strict: whether no file gives way even where a file system cannot promise it:
        then nothing is put there.  Otherwise it is looked, just before.
    """

    choice: OnConflict = "fail"
    backup: bytes = DEFAULT_BACKUP
    strict: bool = True

    @property
    def replaces(self) -> bool:
        """
        Whether present files give way, and are gone.
        """
        return self.choice == "replace"

    @property
    def takes_names(self) -> bool:
        """
        Whether a name that another file has leads to the newer one afterwards.
        """
        return self.choice in _TAKE_NAMES

    @property
    def refuses(self) -> bool:
        """
        Whether the newer file stays at the source.
        """
        return self.choice in ("skip", "fail")

    def error(self, path: bytes) -> PeerError:
        """
        What to answer for a file that stays at the source.
        """
        name = printable(path)
        if self.choice == "skip":
            return Skipped(f"{name}: another file has its name, and it was skipped")
        return AlreadyExists(f"{name}: exists, and may not be replaced")


_TAKE_NAMES: Final = ("replace", "backup")


@frozen
class Asked:
    """
    What a mover asks for.

    :ivar choice: None for what is usual there.
    :ivar backup: as of :class:`Conflicts`; empty for what is usual there.
    """

    choice: OnConflict | None = None
    backup: bytes = b""


#: A mover that asks for nothing.
USUAL: Final = Asked()


def agreed(
    asked: Asked, configured: OnConflict | None, backup: bytes, may_replace: bool
) -> Conflicts:
    """
    What is done where one asks and another one allows.

    :param configured: for the directory; None if nothing is.
    :param backup: directory for older files that is configured; empty if none is.
    :param may_replace: whether the right to replace files was granted.
    :raises NotAllowed: not what was asked for.
    :raises UnsafePath: the directory for older files is not canonical.
    """
    choice = _agreed(asked.choice, configured, may_replace)
    goes = backup or asked.backup or DEFAULT_BACKUP
    if choice == "backup":
        RelativePath.parse(goes)
    return Conflicts(choice, goes, strict=not may_replace)


def _agreed(
    asked: OnConflict | None, configured: OnConflict | None, may_replace: bool
) -> OnConflict:
    usual: OnConflict = configured or ("replace" if may_replace else "fail")
    if usual in _TAKE_NAMES and not may_replace:
        usual = "fail"
    if asked is None or asked == usual or asked not in _TAKE_NAMES:
        return asked or usual
    if not may_replace:
        raise NotAllowed(
            f"--on-conflict {asked} needs the right `replace` there; keep-both, skip"
            " and fail do not"
        )
    if configured is not None and (asked, configured) != ("backup", "replace"):
        raise NotAllowed(
            f"--on-conflict {asked}: that directory has on_conflict = "
            f'"{configured}"; keep-both, skip and fail are possible besides'
        )
    return asked
