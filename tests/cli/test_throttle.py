"""
``realize throttle``, ``realize status`` and the limits of a move: what is said to the
user, and what is refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from realize.cli.main import status_of
from realize.cli.status import local_lines, status_lines
from realize.texts import Label
from realize.wire.status import (
    ConnectionStatus,
    DirectoryStatus,
    PartialStatus,
    Status,
    Throttle,
)

PEER = """
[peers.nas]
pubkey = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
address = "127.0.0.1:1"

[peers.laptop]
pubkey = "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    A configuration with a peer that can be reached and one that can't; no key.
    """
    path = tmp_path / "config.toml"
    path.write_text(PEER)
    monkeypatch.setenv("REALIZE_CONFIG", str(path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return path


@pytest.mark.parametrize("option", ["--throttle", "--throttle-up", "--throttle-down"])
@pytest.mark.parametrize(
    ("rate", "says"),
    [
        ("0", 'to lift the limit: "off"'),
        ("-1M", "must not be negative"),
        ("8Mbit", 'write "1MB"'),
        ("1Mb", "bits"),
        ("1m", 'write "1M"'),
        ("5KB", 'write "5KiB" or "5kB"'),
        ("100", "128 to"),
        ("2048T", "128 to"),
        ("99999999T", "less than"),
        ("fast", 'such as "8M"'),
        ("", 'such as "8M"'),
        ("unlimited", 'such as "8M"'),
        ("1M 2M", 'such as "8M"'),
    ],
)
def test_unclear_rates_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    rate: str,
    says: str,
) -> None:
    """
    With what to write instead; never read as "no limit".
    """
    words = ["move", str(tmp_path), str(tmp_path), f"{option}={rate}"]
    assert status_of(words) == 2
    err = capsys.readouterr().err
    assert says in err
    assert option in err


@pytest.mark.parametrize("other", ["--throttle-up", "--throttle-down"])
def test_throttle_is_given_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    """
    Which of two values is meant is not guessed, even if they are the same.
    """
    words = ["move", str(tmp_path), str(tmp_path), "--throttle=1M", f"{other}=1M"]
    assert status_of(words) == 2
    assert "give it alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name a PEER"),
        (["nas", "--all"], "name a PEER"),
        (["--pid", "5", "--all"], "name a PEER"),
        (["nas", "--up", "1M"], "--up and --down are for running moves"),
        (["--all", "--send", "1M"], "are for the daemon"),
        (["--all", "--service"], "are for the daemon"),
        (["nas", "--service", "--peer", "x", "--send", "1M"], "one of --service"),
        (["nas", "--peer", "x"], "give --send RATE"),
        (["nas", "--peer", ""], "give --send RATE"),
        (["--all", "--peer", ""], "are for the daemon"),
        (["nas", "--for", "1h"], "--for goes with a limit"),
        (["nas", "--for", "0.5s", "--send", "1M"], "at least one second"),
        (["nas", "--for", "1", "--send", "1M"], "expected a duration"),
        (["nas", "--send", "0"], 'to lift the limit: "off"'),
        (["nas", "--connection", "0", "--send", "1M"], "--connection"),
        (["--pid", "0"], "--pid"),
        (["naz"], "did you mean 'nas'?"),
        (["laptop"], "no address"),
        (["nas"], "private key"),
    ],
)
def test_usage_of_throttle(
    config: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    """
    What does not fit together is refused before anything is asked.
    """
    assert status_of(["throttle", *words]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["nas", "--local"]])
def test_usage_of_status(
    config: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """
    A peer, or this host.
    """
    assert status_of(["status", *words]) == 2
    assert "name a PEER, or --local" in capsys.readouterr().err


def test_no_moves(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Nothing to list is no error; a move that is named has to be there.
    """
    assert status_of(["status", "--local"]) == 0
    assert "no moves" in capsys.readouterr().err
    assert status_of(["throttle", "--all", "--up", "1M"]) == 0
    assert "no moves" in capsys.readouterr().err
    assert status_of(["throttle", "--pid", "1"]) == 3
    assert "XDG_RUNTIME_DIR" in capsys.readouterr().err


def test_status_is_shown_safely() -> None:
    """
    Everything that is told, with names that do nothing to a terminal; not the
    connection that asks.
    """
    mib = 1024 * 1024
    connection = ConnectionStatus(
        Throttle("connection", "laptop", 3, mib, None, mib, 2 * mib, 90.0),
        address="192.0.2.1",
        software=Label("realize/1\x1b[2J"),
        seconds=61.0,
        sent=1,
        received=2,
        send_rate=1024,
        receive_rate=0,
        queued=0,
        stores=["put inbox"],
        is_own=False,
    )
    own = ConnectionStatus(
        Throttle("connection", "admin", 9), "::1", "", 0.0, 0, 0, 0, 0, 0, [], True
    )
    status = Status(
        Label("realize/1\x1b[2J"),
        3600.0,
        Throttle("service", send=mib, send_seconds=59.0),
        [Throttle("peer", "laptop", receive=2 * mib)],
        [connection, own],
        [
            DirectoryStatus(
                "inbox",
                "its disk is slow",
                5 * mib,
                1,
                1024,
                [PartialStatus(b"a\x1b\xff", 2048, 1024, "laptop")],
                ["fuse.sshfs: leases do not tell of all who write"],
            ),
            DirectoryStatus("outbox", "", None, 0, 0, [], []),
        ],
    )
    text = "\n".join(status_lines("nas", status))
    assert "\x1b" not in text
    assert "admin" not in text
    for line in (
        "nas: realize/1\\x1b[2J, running for 1h",
        "service      1 MiB/s for 59s  off",
        "peer laptop  off              2 MiB/s",
        "3   laptop  192.0.2.1  1m1s  1 KiB/s  1 MiB/s for 1m30s  0 B/s     2 MiB/s"
        "  put inbox",
        "inbox      5 MiB  1 file, 1 KiB (its disk is slow)",
        "outbox     ?      -",
        "inbox, on fuse.sshfs: leases do not tell of all who write",
        "inbox/a\\x1b\\xff  1 KiB of 2 KiB  laptop",
    ):
        assert " ".join(line.split()) in " ".join(text.split()), text


def test_local_moves_are_shown() -> None:
    """
    What they are doing, their limits, and what was asked for if that is something
    else.
    """
    answer = {
        "pid": 7,
        "source": "photos",
        "destination": "nas:inbox",
        "seconds": 60.0,
        "files": 2,
        "sent": 4096,
        "left": 3,
        "complete": True,
        "limits": {
            "up": {"asked": 2048, "effective": 1024, "seconds_left": 9.5, "rate": 1000}
        },
    }
    assert list(local_lines(answer)) == [
        "7: photos to nas:inbox: 2 files moved, 3 left, 4 KiB sent in 1m",
        "  up: 1000 B/s now, limit 1 KiB/s for 9.5s (2 KiB/s asked for)",
    ]
