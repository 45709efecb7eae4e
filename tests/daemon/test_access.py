"""
Rights as the configuration says them, and what a new configuration changes.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from twisted.internet.task import Clock

from realize.config import Config, DirectoryConfig, DirectorySettings, PeerConfig
from realize.daemon.access import Access
from realize.observe.formats import as_json
from realize.observe.levels import Levels
from realize.observe.outputs import LogOutput, StreamSink
from realize.observe.switch import LevelSwitch
from realize.wire.commands import Granted

LAPTOP, ARCHIVE = bytes([1]) * 32, bytes([2]) * 32

CONFIG = Config(
    directories={
        "inbox": DirectoryConfig(
            "inbox",
            DirectorySettings(Path("/inbox")),
            put=frozenset({"laptop", "scanner"}),
            replace=frozenset({"laptop"}),
            take=frozenset({"archive"}),
        ),
        "outbox": DirectoryConfig(
            "outbox", DirectorySettings(Path("/outbox")), take=frozenset({"laptop"})
        ),
        "private": DirectoryConfig("private", DirectorySettings(Path("/private"))),
    },
    peers={
        "laptop": PeerConfig("laptop", LAPTOP),
        "archive": PeerConfig("archive", ARCHIVE),
        "scanner": PeerConfig("scanner", bytes(32)),
    },
)


@frozen(eq=False)
class Opened:
    """
    Stands for a directory: all that counts here is which one it is.
    """

    name: str
    settings: DirectorySettings


def access(config: Config = CONFIG) -> Any:
    """
    What the daemon would use.
    """
    clock = Clock()
    switch = LevelSwitch(LogOutput(StreamSink(io.StringIO(), as_json), Levels()), clock)
    made: Any = Access(Opened, clock, switch)  # type: ignore[arg-type]
    assert made.use(config) == []
    return made


def test_names() -> None:
    """
    A key is a peer's, or nobody's.
    """
    assert access().peer_name(LAPTOP) == "laptop"
    assert access().peer_name(bytes([3]) * 32) is None


def test_rights() -> None:
    """
    Each right is granted by itself, and what is not granted is not mentioned.
    """
    inbox = Granted("inbox", put=True, replace=True)
    assert access().granted("laptop") == {
        "inbox": inbox,
        "outbox": Granted("outbox", take=True),
    }
    assert access().granted("scanner") == {"inbox": Granted("inbox", put=True)}
    assert access().granted("archive") == {"inbox": Granted("inbox", take=True)}
    assert access().granted("nobody") == {}


def test_a_peer_that_goes() -> None:
    """
    A peer that is not in the new configuration is a stranger at once.
    """
    ours = access()
    kept = {name: peer for name, peer in CONFIG.peers.items() if name != "scanner"}
    ours.use(evolve(CONFIG, peers=kept, directories={}))
    assert ours.peer_name(bytes(32)) is None
    assert ours.granted("scanner") == {}
    assert ours.granted("laptop") == {}
    assert ours.peers == ["laptop", "archive"]


def test_directories_that_go() -> None:
    """
    Directories that are gone or have other settings are handed back to be closed; the
    others stay the same objects.
    """
    ours = access()
    before = dict(ours.directories)
    directories = dict(CONFIG.directories)
    del directories["private"]
    directories["outbox"] = evolve(
        directories["outbox"], settings=DirectorySettings(Path("/elsewhere"))
    )
    directories["inbox"] = evolve(directories["inbox"], put=frozenset())

    closed = ours.use(evolve(CONFIG, directories=directories))

    assert closed == [before["outbox"], before["private"]]
    assert ours.directory("inbox") is before["inbox"]
    assert ours.directory("outbox").settings.path == Path("/elsewhere")
    assert ours.granted("scanner") == {}


def test_an_id_may_stand_for_another_place() -> None:
    """
    What was opened by it is not offered any more; other settings do not matter.
    """
    made = access()
    before = made.directory("inbox")
    assert made.is_offered("inbox", before)
    changes: list[tuple[dict[str, Any], bool]] = [
        ({"min_free": 1}, True),
        ({"path": Path("/elsewhere")}, False),
        ({"marker": ".mark"}, False),
    ]
    for change, offered in changes:
        inbox = CONFIG.directories["inbox"]
        changed = evolve(inbox, settings=evolve(inbox.settings, **change))
        made.use(evolve(CONFIG, directories={**CONFIG.directories, "inbox": changed}))
        assert made.is_offered("inbox", before) is offered
    made.use(evolve(CONFIG, directories={}))
    assert not made.is_offered("inbox", before)
