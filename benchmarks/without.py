"""
Run a program of ours without one of the things that keep files safe.

    python -P without.py WHAT PROGRAM WORD...

Only to measure what that thing costs: the program itself has no such switch, and what
is moved this way is not safe.  Both ends have to be run like this.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import runpy
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


def _tls() -> None:
    """
    Each end shows its public key, and is believed.
    """
    from twisted.protocols.policies import ProtocolWrapper

    from realize.net import tls
    from realize.net.keys import public_bytes

    class Plain(ProtocolWrapper):
        negotiatedProtocol = tls.ALPN  # noqa: N815
        key: bytes | None = None
        early = b""

        def makeConnection(self, transport: Any) -> None:
            super().makeConnection(transport)
            transport.write(factory_of(self).own)

        def dataReceived(self, data: bytes) -> None:
            if self.key is None:
                self.early += data
                if len(self.early) < 32:
                    return
                self.key, data = self.early[:32], self.early[32:]
                wrapped: Any = self.wrappedProtocol
                wrapped.handshakeCompleted()
            if data:
                super().dataReceived(data)

        def writeSequence(self, sequence: Any) -> None:
            for piece in sequence:
                self.write(bytes(piece))

        def getPeerCertificate(self) -> bytes | None:
            return self.key

        def failVerification(self, _reason: object) -> None:  # noqa: N802
            self.abortConnection()

    def factory_of(protocol: Any) -> Any:
        return protocol.factory

    made: Any = tls._PinnedFactory
    begin = made.__init__

    def init(self: Any, is_client: bool, wrapped: Any, key: Any, *more: Any) -> None:
        begin(self, is_client, wrapped, key, *more)
        self.own = public_bytes(key)

    made.__init__ = init
    made.protocol = Plain
    vars(tls)["_certificate_key"] = lambda certificate: certificate


def _digests() -> None:
    """
    All content has the same digest.
    """
    import blake3 as library

    class Same:
        def __init__(self, _data: object = b"", **_options: object) -> None:
            pass

        def update(self, _data: object) -> None:
            pass

        def copy(self) -> Same:
            return self

        def digest(self) -> bytes:
            return bytes(32)

    real = library.blake3
    vars(library)["blake3"] = Same
    digest = importlib.import_module("realize.digest")
    vars(library)["blake3"] = real
    # Those that tell places and blocks apart stay.
    root = importlib.import_module("realize.store.root")
    assert (digest.blake3, root.blake3) == (Same, real)


def _fsync() -> None:
    """
    Nothing is waited for, as if all were on the disk.
    """
    nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    vars(os)["fsync"] = nothing

    from realize.store import syscalls

    syscalls.sync_file_system = nothing
    syscalls.start_writeback = nothing


def _leases() -> None:
    """
    No file is open for writing.
    """
    from realize.store import guard as module

    def granted(_fd: int, _command: int, _argument: int = 0) -> int:
        return fcntl.F_RDLCK

    names = {name: getattr(fcntl, name) for name in dir(fcntl)}
    vars(module)["fcntl"] = SimpleNamespace(**names | {"fcntl": granted})


WITHOUT = {"TLS": _tls, "digests": _digests, "fsync": _fsync, "leases": _leases}


def main(what: str, program: str) -> None:
    """
    Take away and run.
    """
    WITHOUT[what]()
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    what = sys.argv[1]
    del sys.argv[:2]
    main(what, sys.argv[0])
