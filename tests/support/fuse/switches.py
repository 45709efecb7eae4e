"""
What a file system of ours does otherwise than an ordinary one, as values.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from attrs import asdict, frozen

#: How a request of a kind is answered: carried out, refused, or answered as if it were.
Answer = Literal["done", "refused", "ignored"]

#: An "error" that is none: the call does not come back until the fault is withdrawn.
HANG: Final = "HANG"

#: For a fault that happens each time.
ALWAYS: Final = 1 << 30


@frozen(kw_only=True)
class Switches:
    """
    Without any the file system is an ordinary one.

    :ivar folds: two names that differ in case are one; the first one's case is kept.
    :ivar lowers: names become lower case.
    :ivar normalises: names become NFC or NFD.
    :ivar strips: names lose dots and spaces at their end.
    :ivar forbidden: characters that are refused.
    :ivar text: names that are not UTF-8 are refused.
    :ivar longest: longest name, in *unit*.
    :ivar unit: what the length of a name is counted in.
    :ivar cache_s: attributes, names, and that there is no such name, may be so many
        seconds old.
    :ivar step_s: times are rounded down to so many seconds; 0 for none.
    :ivar ctimes: there is a change time; otherwise it is that of modification.
    :ivar inodes: inode numbers stay, or follow the path, or are new with each look.
    :ivar noreplace: ``RENAME_NOREPLACE``.
    :ivar link: hard links.
    :ivar chmod: permission bits; "ignored" shows ``0755`` for everything.
    :ivar utimens: times that are set.
    :ivar unlink: "hides" renames what is still open; "ignored" leaves it there.
    :ivar fsyncdir: fsync of a directory.
    :ivar locks: ``flock`` is seen within one mount; or also below it; refused; granted
        to everybody.  Only when it is mounted.
    """

    folds: bool = False
    lowers: bool = False
    normalises: Literal["", "NFC", "NFD"] = ""
    strips: bool = False
    forbidden: str = ""
    text: bool = False
    longest: int = 255
    unit: Literal["bytes", "characters", "utf-16"] = "bytes"
    cache_s: float = 0
    step_s: int = 0
    ctimes: bool = True
    inodes: Literal["stay", "path", "look"] = "stay"
    noreplace: Literal["done", "refused"] = "done"
    link: Literal["done", "refused"] = "done"
    chmod: Answer = "done"
    utimens: Answer = "done"
    unlink: Literal["done", "refused", "ignored", "hides"] = "done"
    fsyncdir: Answer = "done"
    locks: Literal["mount", "below", "refused", "granted"] = "mount"


@frozen(kw_only=True)
class Fault:
    """
    A call that goes wrong.

    :ivar call: its name in FUSE: ``getattr``, ``open``, ``create``, ``read``,
        ``write``, ``flush``, ``fsync``, ``fsyncdir``, ``release``, ``rename``,
        ``unlink``, ``mkdir``, ``rmdir``, ``readdir``, ``link``, ``chmod``,
        ``utimens``, ``truncate``, ``statfs``.
    :ivar error: such as ``EIO``; or :data:`HANG`.
    :ivar path: only calls for a path that has this in it, in either name of a rename.
    :ivar first: the first one that fails, from 1 ...
    :ivar times: ... and how many.
    :ivar after: it is carried out all the same.
    """

    call: str
    error: str
    path: str = ""
    first: int = 1
    times: int = 1
    after: bool = False


#: Each line of what file systems do otherwise, on its own.
ALONE: Final = {
    "ordinary": Switches(),
    "folds": Switches(folds=True),
    "lowers": Switches(lowers=True),
    "NFC": Switches(normalises="NFC"),
    "NFD": Switches(normalises="NFD"),
    "strips": Switches(strips=True),
    "forbidden": Switches(forbidden='<>:"\\|?*\n\t', text=True),
    "short": Switches(longest=60),
    "characters": Switches(longest=255, unit="characters", text=True),
    "utf-16": Switches(longest=255, unit="utf-16", text=True),
    "cached": Switches(cache_s=20),
    "seconds": Switches(step_s=1),
    "two seconds": Switches(step_s=2),
    "no ctime": Switches(ctimes=False),
    "inodes by path": Switches(inodes="path"),
    "inodes by look": Switches(inodes="look"),
    "no noreplace": Switches(noreplace="refused"),
    "no link": Switches(link="refused"),
    "neither": Switches(noreplace="refused", link="refused"),
    "chmod refused": Switches(chmod="refused"),
    "chmod ignored": Switches(chmod="ignored"),
    "utimens refused": Switches(utimens="refused"),
    "utimens ignored": Switches(utimens="ignored"),
    "unlink refused": Switches(unlink="refused"),
    "unlink ignored": Switches(unlink="ignored"),
    "unlink hides": Switches(unlink="hides"),
    "fsyncdir refused": Switches(fsyncdir="refused"),
    "fsyncdir ignored": Switches(fsyncdir="ignored"),
}

#: The same for what is decided when it is mounted.
LOCKS: Final = {
    "locks below": Switches(locks="below"),
    "locks refused": Switches(locks="refused"),
    "locks granted": Switches(locks="granted"),
}


@frozen
class Control:
    """
    All that a file system is told, as it stands in its control file.

    :ivar number: another one where the faults are to be counted anew.
    """

    switches: Switches = Switches()
    faults: tuple[Fault, ...] = ()
    number: int = 0

    def to_json(self) -> str:
        """
        As it is written.
        """
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Control:
        """
        As it is read.
        """
        read: dict[str, Any] = json.loads(text)
        faults = tuple(Fault(**each) for each in read["faults"])
        return cls(Switches(**read["switches"]), faults, read["number"])
