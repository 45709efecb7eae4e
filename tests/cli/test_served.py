"""
What a session by ssh may use.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from realize.accounts import Accounts
from realize.cli.served import EVERYTHING, PEER, Grant, Served, make_directory
from realize.errors import NotAllowed, PeerError
from realize.observe.recorder import Party

PARTY = Party(PEER)


def served(*grants: Grant, home: bytes = b"/home/me") -> Served:
    """
    One with these.
    """
    return Served(
        grants or (EVERYTHING,), home, reactor, make_directory(reactor, Accounts())
    )


def test_rights_are_those_of_the_deepest_grant_that_has_them() -> None:
    """
    And a path is compared by its components.
    """
    one = served(
        Grant(b"/srv/in", put=True),
        Grant(b"/srv/in/new", put=True, replace=True),
        Grant(b"/srv/out", take=True),
    )
    for path, right, found in (
        (b"/srv/in", "put", (b"/srv/in", b"")),
        (b"/srv/in/a/b", "put", (b"/srv/in", b"a/b")),
        (b"/srv/in/new/b", "put", (b"/srv/in/new", b"b")),
        (b"/srv/out/x", "take", (b"/srv/out", b"x")),
    ):
        grant, below = one.find(path, right)
        assert (grant.path, below) == found
    for path, right in (
        (b"/srv/inbox", "put"),
        (b"/srv", "put"),
        (b"/", "put"),
        (b"/srv/in", "take"),
        (b"/srv/out", "put"),
        (b"/home/me", "take"),
    ):
        with pytest.raises(NotAllowed, match="it may put into /srv/in"):
            one.find(path, right)
    assert served().find(b"/anything", "take") == (EVERYTHING, b"anything")


def test_a_directory_may_be_asked_for_by_its_name_without_links(tmp_path: Path) -> None:
    """
    By the name that was granted too.
    """
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    one = served(
        Grant(os.fsencode(tmp_path / "link"), os.fsencode(tmp_path / "real"), put=True)
    )
    for name in ("real", "link"):
        _grant, below = one.find(os.fsencode(tmp_path / name / "x"), "put")
        assert below == b"x"


@pytest_twisted.ensureDeferred
async def test_what_is_granted_is_not_left(tmp_path: Path) -> None:
    """
    By no path, whatever is in it: what opens is the directory or below it.
    """
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    for each in (inbox / "sub", outside):
        each.mkdir(parents=True)
    (outside / "secret").write_text("secret")
    (inbox / "link").symlink_to(outside)
    (inbox / "file").symlink_to(outside / "secret")
    one = served(Grant(os.fsencode(inbox), take=True, put=True))
    beginning = one.directory("/")
    base = os.fsencode(inbox).lstrip(b"/")
    try:
        for below in (
            b"..",
            b"link/../../outside",
            b"../outside",
            b"/./../outside",
            b"sub/../../outside",
            b"//outside",
            b"link/secret",
            b"file",
            b"link",
            b"sub/\0",
            b".",
        ):
            with pytest.raises(PeerError):
                await beginning.open_source(base + b"/" + below, party=PARTY)
        source = await beginning.open_source(base + b"/sub", party=PARTY)
        assert not (await source.list(0)).files
        with pytest.raises(PeerError):
            await beginning.open_destination(base + b"/./../outside", True, party=PARTY)
    finally:
        await one.close()


@pytest_twisted.ensureDeferred
async def test_what_need_not_exist(tmp_path: Path) -> None:
    """
    Only what is behind the mark.
    """
    one = served()
    base = os.fsencode(tmp_path).lstrip(b"/")
    try:
        destination = await one.directory("/").open_destination(
            base + b"/./new/sub", True, PARTY
        )
        await destination.close()
        with pytest.raises(NotAllowed, match="create it first"):
            await one.directory("/").open_destination(base + b"/new", True, PARTY)
        with pytest.raises(NotAllowed):
            await one.directory("/").open_source(base + b"/new", party=PARTY)
    finally:
        await one.close()


def test_nothing_else_is_there() -> None:
    """
    Neither other directories nor anything to control.
    """
    one = served(Grant(b"/srv/in", put=True))
    granted = one.granted(PEER)
    assert set(granted) == {"/", "~"}
    assert all(each.put and not each.take for each in granted.values())
    assert not any(each.replace for each in granted.values())
    assert not one.may_control(PEER)
