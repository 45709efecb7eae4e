"""
What the service manager hears of a reload.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from attrs import Factory, define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from realize.daemon.upkeep import Upkeep


@define
class Reloading:
    """
    A reload that takes as long as the test wants.
    """

    is_untidy: bool = False
    done: Deferred[None] = Factory(Deferred)

    def reopen(self) -> None:
        """
        The logs.
        """

    async def reload(self) -> None:
        """
        The configuration.
        """
        await self.done


def test_a_reload_that_breaks_is_over_all_the_same(tmp_path: Path) -> None:
    """
    The service manager does not wait for it for ever.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"{tmp_path}/notify")
        listener.settimeout(5)
        reloading: Any = Reloading()
        environ = {"NOTIFY_SOCKET": f"{tmp_path}/notify"}
        upkeep = Upkeep(Clock(), reloading, reloading, lambda: "well", environ)
        upkeep.reload()
        assert listener.recv(4096).startswith(b"RELOADING=1")
        reloading.done.errback(ZeroDivisionError())
        assert listener.recv(4096) == b"READY=1\nSTATUS=well"
