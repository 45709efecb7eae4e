"""
Which name a file system takes for which.
"""

from __future__ import annotations

import errno
import os
import unicodedata

from tests.support.fuse.switches import Switches


def stored(name: str, switches: Switches) -> str:
    """
    What becomes of a name that is given.

    :param name: with surrogates for what is not UTF-8.
    :raises OSError: EINVAL, ENAMETOOLONG: there can be no such name.
    """
    if switches.text and not _is_text(name):
        raise OSError(errno.EINVAL, name)
    if any(character in switches.forbidden for character in name):
        raise OSError(errno.EINVAL, name)
    if length(name, switches.unit) > switches.longest:
        raise OSError(errno.ENAMETOOLONG, name)
    if switches.normalises:
        name = unicodedata.normalize(switches.normalises, name)
    if switches.lowers:
        name = name.lower()
    if switches.strips:
        name = name.rstrip(". ") or name
    return name


def length(name: str, unit: str) -> int:
    """
    How long a name is.

    :param unit: as in :class:`Switches`.
    """
    match unit:
        case "bytes":
            return len(os.fsencode(name))
        case "characters":
            return len(name)
        case _:
            return len(name.encode("utf-16-le", "surrogatepass")) // 2


def resolve(root: str, path: str, switches: Switches) -> str:
    """
    Where something is, or would be created, below *root*.

    :param path: absolute within the file system.
    :raises OSError: as of :func:`stored`.
    """
    at = root
    for name in path.split("/"):
        if name:
            at = f"{at}/{_found(at, stored(name, switches), switches)}"
    return at


def _found(folder: str, name: str, switches: Switches) -> str:
    if not switches.folds or os.path.lexists(f"{folder}/{name}"):
        return name
    wanted = name.casefold()
    try:
        names = os.listdir(folder)
    except OSError:
        return name
    return next((each for each in names if each.casefold() == wanted), name)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
