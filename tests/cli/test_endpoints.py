"""
What the words SRC and DST can mean.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest

from realize.cli.endpoints import (
    LocalPlace,
    PeerPlace,
    SshPlace,
    parse_place,
    place_name,
)
from realize.config import PeerConfig
from realize.errors import ConfigError
from realize.net.ssh_command import SshHost

NAS = PeerConfig("nas", b"n" * 32, "nas.example:9771")
PEERS = {"nas": NAS, "shy": PeerConfig("shy", b"s" * 32)}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("word", "directory", "below"),
    [
        ("nas:inbox", "inbox", b""),
        ("nas:inbox/", "inbox", b""),
        ("nas:inbox/a/b", "inbox", b"a/b"),
        ("nas:inbox/a/b/", "inbox", b"a/b"),
        ("nas:inbox/a:b", "inbox", b"a:b"),
        ("nas:inbox/caf\udce9", "inbox", b"caf\xe9"),
    ],
)
def test_a_directory_of_a_peer(word: str, directory: str, below: bytes) -> None:
    """
    PEER:DIRECTORY[/SUBDIR], in both roles, with names as bytes.
    """
    for role in ("SRC", "DST"):
        place = parse_place(word, role, PEERS)
        assert place == PeerPlace(NAS, directory, below)
    assert str(parse_place("nas:inbox/a\n", "SRC", PEERS)) == "nas:inbox/a\\x0a"


@pytest.mark.parametrize(
    ("word", "host", "path", "at_home"),
    [
        ("box:/srv/in", SshHost("box"), b"srv/in", False),
        ("nas:/srv/in", SshHost("nas"), b"srv/in", False),
        ("me@box:/srv//in/./a/", SshHost("box", "me"), b"srv/in/a", False),
        ("a@b@box:/srv", SshHost("box", "a@b"), b"srv", False),
        ("box:/", SshHost("box"), b"", False),
        ("box:~", SshHost("box"), b"", True),
        ("box:~/", SshHost("box"), b"", True),
        ("box:~/in", SshHost("box"), b"in", True),
        ("[fe80::1%eth0]:/srv", SshHost("fe80::1%eth0"), b"srv", False),
        ("me@[::1]:~/x", SshHost("::1", "me"), b"x", True),
        ("ssh://box/srv", SshHost("box"), b"srv", False),
        ("ssh://me@box:2222/srv", SshHost("box", "me", 2222), b"srv", False),
        ("ssh://[::1]:22/srv", SshHost("::1", "", 22), b"srv", False),
        ("ssh://[::1]/~/x", SshHost("::1"), b"x", True),
        ("ssh://box:22/~", SshHost("box", "", 22), b"", True),
        ("ssh:/srv", SshHost("ssh"), b"srv", False),
        ("box:/a:b", SshHost("box"), b"a:b", False),
        ("box:/$(touch x) 'q' -rf\n", SshHost("box"), b"$(touch x) 'q' -rf\n", False),
        ("box:/caf\udce9", SshHost("box"), b"caf\xe9", False),
    ],
)
def test_a_place_that_ssh_reaches(
    word: str, host: SshHost, path: bytes, at_home: bool
) -> None:
    """
    A path from the root or from the home, in both roles, with names as bytes; and
    what is shown of it means the same place.
    """
    for role in ("SRC", "DST"):
        place = parse_place(word, role, PEERS)
        assert place == SshPlace(host, path, at_home)
        assert str(place).isprintable()
        named = os.fsdecode(place_name(place))
        assert parse_place(named, role, PEERS) == place


def test_what_need_not_exist_is_marked() -> None:
    """
    Of a destination below which each source has a directory of its own.
    """
    place = SshPlace(SshHost("box"), b"srv/in", below=b"a")
    assert (place.directory, place.asked) == ("/", b"srv/in/./a")
    assert str(place) == "box:/srv/in/a"
    assert SshPlace(SshHost("box"), b"in", at_home=True).directory == "~"


@pytest.mark.parametrize("name", ["nas:inbox", "a b", "-rf", "caf\udce9", "line\n"])
def test_a_local_path(name: str) -> None:
    """
    Anything whose first colon comes after a slash, or that has none.
    """
    os.mkdir(name)
    for role in ("SRC", "DST"):
        place = parse_place(f"./{name}", role, PEERS)
        assert place == LocalPlace(os.fsencode(f"./{name}"))


def test_a_single_file(tmp_path: Path) -> None:
    """
    Its directory, bounded to its name.
    """
    Path("one").touch()
    assert parse_place("one", "SRC", {}) == LocalPlace(b".", b"one")
    whole = tmp_path / "one"
    place = parse_place(str(whole), "SRC", {})
    assert place == LocalPlace(os.fsencode(tmp_path), b"one")
    assert str(place) == str(whole)


def test_a_symbolic_link_to_a_directory_is_followed() -> None:
    """
    For the word itself; what is below it is another matter.
    """
    os.mkdir("real")
    os.symlink("real", "link")
    assert parse_place("link", "SRC", {}) == LocalPlace(b"link")
    assert parse_place("link", "DST", {}) == LocalPlace(b"link")


@pytest.mark.parametrize(
    ("word", "role", "complaint"),
    [
        ("", "SRC", "write '.'"),
        (
            "nsa:inbox",
            "SRC",
            "no peer 'nsa' in the configuration (did you mean 'nas'?)",
        ),
        (
            "nsa:inbox",
            "SRC",
            "for a file of that name on this host write './nsa:inbox'",
        ),
        ("c:\x1b[2J", "SRC", "write './c:\\x1b[2J'"),
        (":inbox", "SRC", "no peer ''"),
        ("[::1]:inbox", "SRC", "no peer '[::1]'"),
        ("[::1]", "SRC", "no peer '[::1]'"),
        ("shy:inbox", "DST", "[peers.shy] has no address"),
        ("nas:", "DST", "Write nas:DIRECTORY"),
        ("nsa:inbox", "DST", "a host that ssh reaches write nsa:/inbox;"),
        ("a b:inbox", "DST", "a host that ssh reaches write HOST:/inbox;"),
        ("-oProxyCommand=x:/srv", "DST", "cannot be the name of a host"),
        ("ssh://-oProxyCommand=x/srv", "DST", "cannot be the name of a host"),
        ("-l@nas:/srv", "DST", "'-l' cannot be a user's name"),
        ("@nas:/srv", "DST", "'' cannot be a user's name"),
        (":/srv", "DST", "'' cannot be the name of a host"),
        ("$(id):/srv", "DST", "cannot be the name of a host"),
        ("nas\n:/srv", "DST", "cannot be the name of a host"),
        ("caf\udce9:/srv", "DST", "cannot be the name of a host"),
        ("[::g]:/srv", "DST", "cannot be the name of a host"),
        ("ssh://nas:99999/srv", "DST", "99999 is not a port"),
        ("ssh://nas", "DST", "which directory?"),
        ("nas:~you/x", "DST", "the home of another user"),
        ("nas:/srv/../etc", "SRC", "not a canonical relative path"),
        ("nas:/" + "x" * 5000, "DST", "too long"),
        ("nas:in\tbox", "DST", "not the id of a directory"),
        ("nas:inbox/../x", "DST", "not a canonical relative path"),
        ("nas:inbox//x", "DST", "not a canonical relative path"),
        ("nas:inbox/" + "x" * 5000, "DST", "too long"),
        ("missing", "SRC", "SRC: missing: No such file or directory"),
        ("missing", "DST", "it might be a disk that is not mounted"),
        ("file", "DST", "DST: file: not a directory"),
        ("file/x", "DST", "DST: file/x: Not a directory"),
        ("fifo", "SRC", "neither a directory nor a regular file"),
        ("link", "SRC", "a symbolic link; write the file: "),
    ],
)
def test_what_is_refused(word: str, role: str, complaint: str) -> None:
    """
    One line that says what to write.
    """
    Path("file").touch()
    os.mkfifo("fifo")
    os.symlink("file", "link")
    with pytest.raises(ConfigError) as caught:
        parse_place(word, "SRC" if role == "SRC" else "DST", PEERS)
    assert complaint in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("C:\\Users\\me", "a path of Windows; write it as this host does"),
        ("C:/Users/me", "may be '/mnt/c/Users/me'"),
        ("~/nowhere-at-all", "write it without quotes, or write '"),
        ("~nobody-at-all/x", "there is no user of that name"),
        ("nas:inbox/../outbox", "; write nas:outbox"),
        ("nas:inbox//x", "; write nas:inbox/x"),
    ],
)
@pytest.mark.parametrize("role", ["SRC", "DST"])
def test_first_mistakes_are_told_what_to_write(
    word: str, says: str, role: Literal["SRC", "DST"]
) -> None:
    """
    Paths of another system, what a shell would have replaced, and detours.
    """
    with pytest.raises(ConfigError) as raised:
        parse_place(word, role, PEERS)
    assert says in str(raised.value)


def test_files_of_such_names_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    If they are there.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~x").mkdir()
    assert parse_place("~x", "DST", PEERS) == LocalPlace(b"~x")
