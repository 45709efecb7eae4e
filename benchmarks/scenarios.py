"""
What is measured: the cases, by scenario, and what they are held to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from attrs import field, frozen

from benchmarks import data
from benchmarks.contenders import (
    COPY,
    RCLONE,
    REALIZE,
    RSYNC,
    RSYNC_FSYNC,
    RSYNC_SSH,
    Realize,
    RsyncDaemon,
)
from benchmarks.costs import COSTS
from benchmarks.setup import Contender, Direction
from benchmarks.starting import Help, Idle

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB

#: Seconds that bytes take in each direction of a far line.
_FAR: Final = 0.025


@frozen
class Recipe:
    """
    Data, and how it is made.

    :ivar name: the same for the same data.
    :ivar fill: makes it, in an empty directory.
    """

    name: str
    fill: Callable[[Path], None] = field(eq=False)


@frozen(kw_only=True)
class Case:
    """
    Work that contenders do in turn.

    :ivar name: unique; begins with the scenario's.
    :ivar title: what the report calls it.
    :ivar source: what is moved.
    :ivar present: what the destination holds before; nothing if None.
    :ivar keeps_present: whether the destination is made once, and only what a run moved
        there is removed after it.
    :ivar from_memory: whether the source is on tmpfs.
    :ivar to_memory: whether the destination is on tmpfs.
    :ivar delay: seconds that bytes take in each direction.
    :ivar rounds: those that count, if not as many as usual.
    :ivar warm_up: whether there is a round that does not count.
    :ivar moves: whether files are moved at all.
    """

    name: str
    title: str
    source: Recipe
    contenders: Sequence[Contender]
    direction: Direction = "push"
    present: Recipe | None = None
    keeps_present: bool = False
    from_memory: bool = False
    to_memory: bool = False
    delay: float = 0.0
    rounds: int | None = None
    warm_up: bool = True
    moves: bool = True

    @property
    def scenario(self) -> str:
        """
        What the user asks for it by.
        """
        return self.name.partition(" ")[0]


@frozen
class Sizes:
    """
    How much of everything; files where nothing else is said, else bytes.
    """

    large: int = 2 * GIB
    far: int = 256 * MIB
    small: int = 20_000
    mixed: int = GIB
    present: int = 200_000
    arriving: int = 1_000
    many: int = 500_000
    edited: int = GIB
    edits: int = 1_000
    inserted: int = MIB
    appended: int = 10 * MIB
    idle: int = 30
    compress: int = 32 * MIB


FULL: Final = Sizes()

#: Enough to see that everything runs.
SMOKE: Final = Sizes(
    large=16 * MIB,
    far=2 * MIB,
    small=200,
    mixed=4 * MIB,
    present=500,
    arriving=50,
    many=1_000,
    edited=16 * MIB,
    edits=16,
    inserted=MIB // 4,
    appended=MIB,
    idle=1,
    compress=2 * MIB,
)


def cases(sizes: Sizes) -> Iterator[Case]:
    """
    All, in the order of the report.
    """
    large = Recipe("large", lambda p: data.write_noise(p / "large", sizes.large, "L"))
    far = Recipe("far", lambda p: data.write_noise(p / "large", sizes.far, "L"))
    small = Recipe("small", lambda p: data.write_files(p, sizes.small, 4096, 200))
    mixed = Recipe(
        "mixed",
        lambda p: data.copy_files(data.largest_tree(sizes.mixed), p, sizes.mixed),
    )
    everyone = (REALIZE, RSYNC, RSYNC_FSYNC, RSYNC_SSH, RCLONE)
    rsync = (REALIZE, RSYNC, RSYNC_FSYNC)

    yield Case(name="large", title="One large file", source=large, contenders=everyone)
    yield Case(
        name="large memory",
        title="One large file, in memory at both ends",
        source=large,
        from_memory=True,
        to_memory=True,
        contenders=(REALIZE, RSYNC, RSYNC_SSH),
    )
    yield Case(name="small", title="Small files", source=small, contenders=everyone)
    yield Case(name="mixed", title="A real tree", source=mixed, contenders=everyone)
    for direction in ("pull", "relay"):
        for recipe, title in ((large, "One large file"), (small, "Small files")):
            yield Case(
                name=f"{direction} {recipe.name}",
                title=f"{title}, {_DIRECTIONS[direction]}",
                source=recipe,
                direction=direction,
                contenders=rsync if direction == "pull" else (REALIZE,),
            )
    for recipe, title in ((far, "One large file"), (small, "Small files")):
        yield Case(
            name=f"far {'large' if recipe is far else 'small'}",
            title=f"{title}, 50 ms away",
            source=recipe,
            delay=_FAR,
            contenders=(REALIZE, RSYNC, RSYNC_FSYNC, RSYNC_SSH),
        )
    yield Case(
        name="compress",
        title="Programs and their text, limited to 5 MiB/s",
        source=Recipe(
            "compress",
            lambda p: data.copy_files(Path(os.__file__).parent, p, sizes.compress),
        ),
        contenders=[
            *(
                Realize(
                    f"realize --compress {mode}",
                    options=("--throttle", "5M", "--compress", mode),
                )
                for mode in ("auto", "always", "never")
            ),
            RsyncDaemon(options=("--bwlimit=5m",)),
            RsyncDaemon(options=("-z", "--bwlimit=5m")),
        ],
    )
    for recipe, title in ((large, "One large file"), (small, "Small files")):
        yield Case(
            name=f"costs {recipe.name}",
            title=f"{title}, with less safety",
            source=recipe,
            contenders=COSTS,
        )
    yield from _growth(sizes)
    yield from _edited(sizes)
    yield from _local(large, small, far)
    yield from _starting(sizes)


_DIRECTIONS: Final[dict[Direction, str]] = {
    "pull": "from a daemon",
    "relay": "from daemon to daemon",
}


def _growth(sizes: Sizes) -> Iterator[Case]:
    """
    Whether costs grow with what there is.
    """
    arriving, present = sizes.arriving, sizes.present
    arrivals = Recipe(
        "arriving", lambda p: data.write_files(p, arriving, 4096, arriving, "new-")
    )
    yield Case(
        name="big-destination empty",
        title="Files into an empty directory",
        source=arrivals,
        contenders=(REALIZE, RSYNC),
    )
    yield Case(
        name="big-destination full",
        title="Files into a directory that holds many",
        source=arrivals,
        present=Recipe(
            "present", lambda p: data.write_files(p, present, 1, present, "old-")
        ),
        keeps_present=True,
        contenders=(REALIZE, RSYNC),
    )
    for name, title, count, each in (
        ("many tenth", "A tenth of that", sizes.many // 10, 1000),
        ("many", "Very many files", sizes.many, 1000),
        ("many together", "Very many in one directory", sizes.many, sizes.many),
    ):
        yield Case(
            name=name,
            title=title,
            source=Recipe(
                name, partial(data.write_files, count=count, size=1, each=each)
            ),
            contenders=(REALIZE,),
            rounds=1,
            warm_up=False,
        )


def _edited(sizes: Sizes) -> Iterator[Case]:
    """
    New versions of a file that the destination has.
    """
    size = sizes.edited

    def version(change: Callable[[Path], None] | None, directory: Path) -> None:
        file = directory / "file"
        data.write_noise(file, size, "edited")
        if change:
            change(file)
        # rsync takes files of equal size and time for equal.
        hour = 1 if change else 0
        os.utime(file, (hour * 3600, hour * 3600))

    present = Recipe("edited present", partial(version, None))
    changes: list[tuple[str, str, Callable[[Path], None]]] = [
        ("scattered", "Scattered edits", partial(data.edit, edits=sizes.edits)),
        (
            "inserted",
            "Inserted at the front",
            partial(data.insert, size=sizes.inserted),
        ),
        ("appended", "Appended", partial(data.append, size=sizes.appended)),
        ("cut", "Cut off at 60%", partial(data.cut_off, share=0.6)),
    ]
    for name, title, change in changes:
        yield Case(
            name=f"edited {name}",
            title=f"A large file: {title.lower()}",
            source=Recipe(f"edited {name}", partial(version, change)),
            present=present,
            contenders=(REALIZE, RSYNC, RSYNC_FSYNC),
        )


def _local(large: Recipe, small: Recipe, far: Recipe) -> Iterator[Case]:
    """
    Without a network.
    """
    for recipe, title in ((large, "One large file"), (small, "Small files")):
        yield Case(
            name=f"local {recipe.name}",
            title=f"{title}, to another file system",
            source=recipe,
            direction="local",
            from_memory=True,
            contenders=(REALIZE, COPY),
        )
    for recipe, title in ((far, "A file"), (large, "A larger file")):
        yield Case(
            name=f"local within {recipe.name}",
            title=f"{title}, within a file system",
            source=recipe,
            direction="local",
            contenders=(REALIZE,),
        )


def _starting(sizes: Sizes) -> Iterator[Case]:
    """
    What it costs to have the programs at all.
    """
    nothing = Recipe("nothing", lambda p: None)
    one = Recipe("one", lambda p: data.write_files(p, 1, 4096, 1))
    yield Case(
        name="start help",
        title="realize --help",
        source=nothing,
        direction="local",
        contenders=(Help(),),
        moves=False,
    )
    yield Case(
        name="start one",
        title="One small file",
        source=one,
        contenders=(REALIZE, RSYNC, RSYNC_SSH, RCLONE),
    )
    yield Case(
        name="start idle",
        title="A daemon without work",
        source=nothing,
        contenders=(Idle(sizes.idle),),
        rounds=1,
        warm_up=False,
        moves=False,
    )
