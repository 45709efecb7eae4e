"""
Receipts.
"""

from __future__ import annotations

import json
import resource
import signal
import threading
from pathlib import Path

import pytest

from realize.observe.audit import AuditLog
from realize.observe.receipts import Receipt, ReceiptReader
from realize.paths import unprintable


def receipt(number: int, path: bytes = b"a") -> Receipt:
    """
    The receipt of a file of *number* bytes.
    """
    return Receipt(
        "final", "inbox", b"/srv", path, number, b"\xab" * 32, "laptop", "5e55"
    )


def test_line(tmp_path: Path) -> None:
    """
    One object with everything needed to check the file later.
    """
    name = b"\xff\n{x}"
    AuditLog(str(tmp_path / "audit")).write([receipt(7, name)])
    document = json.loads((tmp_path / "audit").read_text())
    assert unprintable(document.pop("path")) == name
    assert document.pop("time").endswith("Z")
    assert document == {
        "event": "final",
        "directory": "inbox",
        "place": "/srv",
        "size": 7,
        "blake3": "ab" * 32,
        "peer": "laptop",
        "session": "5e55",
    }


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    """
    Groups written at the same time stay whole lines, and none is lost to a rotation.
    """
    log = AuditLog(str(tmp_path / "audit"))

    def write() -> None:
        for _ in range(50):
            log.write(receipt(n) for n in range(20))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    (tmp_path / "audit").rename(tmp_path / "audit.1")
    log.reopen()
    for thread in threads:
        thread.join()
    lines = [
        json.loads(line)
        for name in ("audit", "audit.1")
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert len(lines) == 4 * 50 * 20


def test_full_disk_is_an_error() -> None:
    """
    The caller has to know, since a source without a receipt must stay.
    """
    with pytest.raises(OSError, match="No space"):
        AuditLog("/dev/full").write([receipt(1)])


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path) -> None:
    """
    As on a disk that was full for a while: the next receipt begins a new line.
    """
    path = tmp_path / "audit"
    log = AuditLog(str(path))
    log.write([receipt(7)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            log.write([receipt(7)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    log.write([receipt(7)])
    with path.open("rb") as lines:
        assert list(ReceiptReader(lines)) == [receipt(7), receipt(7)]
    assert path.read_bytes().count(b"\n") == 3
