"""
What is configured, as values: directories, peers, the daemon itself.

:mod:`realize.config_file` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import Factory, field, frozen

from realize.conflicts import OnConflict
from realize.schedule import Schedule


@frozen
class DirectorySettings:
    """
    What a store has to know about a directory that is offered.

    :ivar path: absolute.
    :ivar file_mode: permission bits of arriving files; None keeps those of the
        source.
    :ivar directory_mode: the same for directories that are created; may hold the
        set-group-id and sticky bits.
    :ivar min_free: bytes of the file system that must stay free.
    :ivar marker: name of a file in the root without which the directory counts as
        absent, as when a disk is not mounted.
    :ivar on_conflict: what is done about a file whose name another one has; None for
        ``replace`` where that right was granted, and ``fail`` elsewhere.
    :ivar backup_directory: where older files go with ``backup``, below the root of
        what was opened; None for what the mover says.
    """

    path: Path
    file_mode: int | None = None
    directory_mode: int | None = None
    min_free: int = 0
    marker: str | None = None
    on_conflict: OnConflict | None = None
    backup_directory: str | None = None


@frozen
class DirectoryConfig:
    """
    A directory that is offered, and to whom.

    :ivar put: names of the peers that may add files.
    :ivar replace: those that may also do so onto existing names; all in *put*.
    :ivar take: those that may list, read and remove files.
    """

    id: str
    settings: DirectorySettings
    put: frozenset[str] = frozenset()
    replace: frozenset[str] = frozenset()
    take: frozenset[str] = frozenset()


@frozen
class PeerConfig:
    """
    Another host.

    :ivar public_key: 32 bytes, Ed25519; no two peers have the same.
    :ivar address: ``HOST:PORT`` where its service listens, checked; None if it is
        only ever the one who connects.
    :ivar control: may read the status of the service and change its limits.
    :ivar send_limit: on what all its connections together are sent; None for none.
    :ivar receive_limit: on what they send.
    """

    name: str
    public_key: bytes = field(repr=False)
    address: str | None = None
    control: bool = False
    send_limit: Schedule | None = None
    receive_limit: Schedule | None = None


@frozen
class ServiceConfig:
    """
    The daemon itself.

    :ivar address: where to listen, as the ``--address`` option takes it; not checked.
    :ivar metrics_addr: where to serve metrics, as ``--metrics-addr`` takes it; not
        checked.
    :ivar send_limit: on what all connections together are sent; None for none.
    :ivar receive_limit: on what they send.
    :ivar log_level: as ``--log-level`` takes it; not checked.
    :ivar log_format: as ``--log-format`` takes it; not checked.
    :ivar log_file: absolute path of the log.
    :ivar audit_log: absolute path of the receipts.
    """

    address: str | None = None
    metrics_addr: str | None = None
    send_limit: Schedule | None = None
    receive_limit: Schedule | None = None
    log_level: str | None = None
    log_format: str | None = None
    log_file: str | None = None
    audit_log: str | None = None


@frozen
class Config:
    """
    A whole configuration; without arguments, the empty one.

    :ivar privkey: absolute path of the private key.
    :ivar ssh: the command that reaches other hosts, as ``--ssh`` takes it; not
        checked.
    """

    privkey: Path | None = None
    ssh: str | None = None
    directories: Mapping[str, DirectoryConfig] = Factory(dict)
    peers: Mapping[str, PeerConfig] = Factory(dict)
    service: ServiceConfig = ServiceConfig()
