"""
The same place twice, by whatever names: refused, or stopped, and nothing is lost.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.proof.trees import Sums, checksums, grow
from tests.support.programs import World
from tests.support.requirements import needs

RIGHTS = 'put = ["me"]\nreplace = ["me"]\ntake = ["me"]'

#: Wherever the daemon's directory is, and its sub-directory.
INBOX, BELOW = "nas:inbox", "nas:inbox/many"


@contextmanager
def mounted(point: Path, *words: str | Path) -> Iterator[Path]:
    """
    Something mounted, for as long as the block runs.
    """
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", *words, point], check=True, capture_output=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def tree_of(root: Path) -> Sums:
    """
    A small tree, just made.
    """
    return grow(root, seed=1, small=30)


def point_at(world: World, host: str, name: str, path: Path) -> None:
    """
    Let a daemon offer *path* as the directory *name*.
    """
    server = world.nas if host == "nas" else world.box
    if name in server.settings:
        server.directory(name).rmdir()
    else:
        server.settings[name] = RIGHTS
    world.configure()
    text = server.config.read_text()
    server.config.write_text(text.replace(f'"{server.directory(name)}"', f'"{path}"'))


def two_ids(world: World) -> tuple[str, str]:
    """
    Two directories of one daemon have one path.
    """
    point_at(world, "nas", "again", world.nas.directory("inbox"))
    return INBOX, "nas:again"


def one_inside(world: World) -> tuple[str, str]:
    """
    One directory of a daemon is inside another.
    """
    point_at(world, "nas", "again", world.nas.directory("inbox") / "many")
    return INBOX, "nas:again"


def one_around(world: World) -> tuple[str, str]:
    """
    The same the other way round.
    """
    point_at(world, "nas", "again", world.nas.directory("inbox") / "many")
    return "nas:again", INBOX


def sub_directory(world: World) -> tuple[str, str]:
    """
    A sub-directory of the source.
    """
    return INBOX, BELOW


def new_sub_directory(world: World) -> tuple[str, str]:
    """
    One that would be created.
    """
    return INBOX, "nas:inbox/not/yet"


def two_daemons(world: World) -> tuple[str, str]:
    """
    Two daemons of this host offer one path.
    """
    point_at(world, "box", "inbox", world.nas.directory("inbox"))
    return INBOX, "box:inbox"


def daemon_and_path(world: World) -> tuple[str, str]:
    """
    This host's own daemon, and the path that it offers.
    """
    return str(world.nas.directory("inbox")), INBOX


def path_and_daemon(world: World) -> tuple[str, str]:
    """
    The same the other way round, and inside.
    """
    return INBOX, str(world.nas.directory("inbox") / "many")


def symbolic_link(world: World) -> tuple[str, str]:
    """
    A link to it.
    """
    link = world.folder / "link"
    link.symlink_to(world.nas.directory("inbox"))
    return INBOX, str(link)


def local_link(world: World) -> tuple[str, str]:
    """
    Both local, one by way of a link.
    """
    link = world.folder / "link"
    link.symlink_to(world.nas.directory("inbox"))
    return str(world.nas.directory("inbox")), f"{link}/many"


@pytest.mark.parametrize(
    "arrange",
    [
        two_ids,
        one_inside,
        one_around,
        sub_directory,
        new_sub_directory,
        two_daemons,
        daemon_and_path,
        path_and_daemon,
        symbolic_link,
        local_link,
    ],
)
def test_refused(world: World, arrange: Callable[[World], tuple[str, str]]) -> None:
    """
    Before anything was listed, and not a byte has changed.
    """
    before = tree_of(world.nas.directory("inbox"))
    source, destination = arrange(world)
    world.nas.start()
    if destination.startswith("box:"):
        world.box.start()
    said = world.realize("move", source, destination, status=2)
    assert "are the same directory, or one is inside the other" in said.err
    assert checksums(world.nas.directory("inbox")) == before


@needs(root=True)
@pytest.mark.parametrize("below", ["", "/many"])
@pytest.mark.parametrize("remote", [False, True])
def test_a_bind_mount_is_refused(
    tmp_path: Path, world: World, below: str, remote: bool
) -> None:
    """
    The same directory, mounted in a second place; or what is in it.
    """
    inbox = world.nas.directory("inbox")
    before = tree_of(inbox)
    with mounted(tmp_path / "bound", "--bind", inbox) as bound:
        world.nas.start()
        source = INBOX if remote else str(inbox)
        said = world.realize("move", source, f"{bound}{below}", status=2)
        assert "the same directory" in said.err
        said = world.realize("move", f"{bound}{below}", source, status=2)
        assert "the same directory" in said.err
    assert checksums(inbox) == before


@needs(root=True)
def test_two_mounts_of_one_tmpfs_are_refused(tmp_path: Path) -> None:
    """
    Renaming from one to the other is not possible, although it is one file system.
    """
    world = World.create(tmp_path / "world")
    with ExitStack() as stack:
        one = stack.enter_context(
            mounted(tmp_path / "one", "-t", "tmpfs", "-o", "size=8m", "tmpfs")
        )
        before = tree_of(one)
        two = stack.enter_context(mounted(tmp_path / "two", "--bind", one))
        for source, destination in [(one, two), (one, two / "many"), (two / "a", one)]:
            said = world.realize("move", source, destination, status=2)
            assert "the same directory" in said.err
        assert checksums(one) == before
        # Two directories of it are not the same place; files are copied.
        world.realize("move", one / "many", two / "a")
        moved = {p.rpartition(b"/")[2]: s for p, s in before.items() if b"many/" in p}
        after = checksums(two / "a")
        assert all(after[name] == each for name, each in moved.items())


@needs(root=True)
def test_a_mount_inside_is_not_seen_and_loses_nothing(tmp_path: Path) -> None:
    """
    What a bind mount shows of the inside of a directory does not look like its
    inside.  Files then only go round.
    """
    world = World.create(tmp_path / "world")
    outside = tmp_path / "outside"
    (outside / "many").mkdir(parents=True)
    before = tree_of(outside)
    contents = sorted(each.digest for each in before.values())
    with mounted(tmp_path / "bound", "--bind", outside / "many") as bound:
        world.realize("move", bound, outside, status=0)
        assert sorted(each.digest for each in checksums(outside).values()) == contents
        world.realize("move", outside, bound, "--max-duration=5s", status=None)
        assert sorted(each.digest for each in checksums(outside).values()) == contents


@needs(root=True)
@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("forth", [False, True])
def test_a_layer_of_an_overlay_is_stopped(
    tmp_path: Path, world: World, remote: bool, forth: bool
) -> None:
    """
    The same files, with other device numbers, as on a network file system: found out
    before anything is moved, by a name that appears at both ends.
    """
    inbox = world.nas.directory("inbox")
    before = tree_of(inbox)
    (tmp_path / "lower").mkdir()
    (tmp_path / "work").mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={inbox},workdir={tmp_path}/work"
    overlay = ("-t", "overlay", "overlay", "-o", options)
    with mounted(tmp_path / "over", *overlay) as over:
        assert os.stat(over).st_dev != os.stat(inbox).st_dev
        world.nas.start()
        ends = [INBOX if remote else inbox, over]
        said = world.realize("move", *(ends if forth else ends[::-1]), status=2)
    assert "are the same place" in said.err
    assert checksums(inbox) == before


@contextmanager
def seen_by_bindfs(what: Path, point: Path) -> Iterator[Path]:
    """
    A directory as a program shows it, with the caches that it has by default.
    """
    point.mkdir()
    subprocess.run(["bindfs", what, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False)


@contextmanager
def seen_by_sshfs(what: Path, point: Path) -> Iterator[Path]:
    """
    The same as another host shows it, with caches of a minute.
    """
    point.mkdir()
    script = point.with_name("ssh")
    script.write_text("#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n")
    script.chmod(0o755)
    options = f"ssh_command={script},dcache_timeout=60,attr_timeout=60,entry_timeout=60"
    subprocess.run(["sshfs", "-o", options, f"x:{what}", point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=False)


@needs("bindfs", "sshfs", root=True)
@pytest.mark.parametrize("view", [seen_by_bindfs, seen_by_sshfs])
@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("below", [("", ""), ("/many", ""), ("", "/many")])
@pytest.mark.parametrize("forth", [False, True])
def test_a_view_is_refused(
    tmp_path: Path,
    world: World,
    view: Callable[[Path, Path], AbstractContextManager[Path]],
    remote: bool,
    below: tuple[str, str],
    forth: bool,
) -> None:
    """
    Through a program that shows the directory, whichever end is inside the other, and
    whatever its caches have seen before.
    """
    inbox = world.nas.directory("inbox")
    before = tree_of(inbox)
    with view(inbox, tmp_path / "view") as seen:
        checksums(seen)
        world.nas.start()
        ends = [f"{INBOX if remote else inbox}{below[0]}", f"{seen}{below[1]}"]
        said = world.realize("move", *(ends if forth else ends[::-1]), status=2)
        assert "are the same place" in said.err
    assert checksums(inbox) == before
    assert not list(inbox.rglob(".realize*"))


@needs(root=True)
@pytest.mark.parametrize("ends", ["lower merged", "merged lower", "merged upper"])
@pytest.mark.parametrize("links", [False, True])
def test_an_overlay_in_all_positions(tmp_path: Path, ends: str, links: bool) -> None:
    """
    Where layers and what is shown of them do not see the same changes.
    """
    world = World.create(tmp_path / "world")
    with mounted(tmp_path / "all", "-t", "tmpfs", "tmpfs") as folder:
        places = {name: folder / name for name in ("lower", "upper", "work", "merged")}
        for place in places.values():
            place.mkdir()
        for number in range(5):
            (places["lower"] / f"f{number}").write_text(f"only {number}")
            if links:
                os.link(places["lower"] / f"f{number}", places["lower"] / f"g{number}")
        options = f"lowerdir={places['lower']},upperdir={places['upper']}"
        options += f",workdir={places['work']}"
        overlay = ("-t", "overlay", "overlay", "-o", options)
        with mounted(places["merged"], *overlay):
            one, other = (places[name] for name in ends.split())
            said = world.realize("move", one, other, status=2)
            assert "are the same place" in said.err
        assert len(list(places["lower"].iterdir())) == 5 * (1 + links)
        assert list(places["upper"].iterdir()) == []


@pytest.mark.parametrize("remote", [False, True])
def test_two_links_to_one_file_are_not_the_same_place(
    world: World, remote: bool
) -> None:
    """
    The source's name goes, the destination's stays, and with it the content.
    """
    inbox = world.nas.directory("inbox")
    source = world.folder / "source"
    source.mkdir()
    (source / "file").write_text("once")
    os.link(source / "file", inbox / "file")
    world.nas.start()
    world.realize("move", source, INBOX if remote else inbox)
    assert list(source.iterdir()) == []
    assert (inbox / "file").read_text() == "once"
