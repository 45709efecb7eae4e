"""
Lines of receipts, and what may have become of them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import BytesIO

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from realize.observe.appending import CANCELLED
from realize.observe.receipts import MAX_LINE, Receipt, ReceiptReader

RECEIPT = Receipt(
    "final", "inbox", b"/srv/in", b"a/b", 7, b"\xab" * 32, "laptop", "5e55"
)
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def line(receipt: Receipt = RECEIPT, **changed: object) -> bytes:
    """
    A receipt as it is written, with some values changed.
    """
    document = json.loads(receipt.line(NOW)) | changed
    return json.dumps(document).encode() + b"\n"


def read(data: bytes) -> tuple[list[Receipt], ReceiptReader]:
    """
    What a reader makes of a file.
    """
    reader = ReceiptReader(BytesIO(data))
    return list(reader), reader


names = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)


@given(path=names, place=st.binary(min_size=1, max_size=40))
def test_every_name_comes_back(path: bytes, place: bytes) -> None:
    """
    Whatever its bytes.
    """
    receipt = evolve(RECEIPT, path=path, place=place)
    assert read(receipt.line(NOW).encode())[0] == [receipt]


def test_the_longest_path_fits() -> None:
    """
    A line of ours is never too long to be read.
    """
    path = b"/".join([b"\xff" * 255] * 15)
    receipt = evolve(RECEIPT, path=path, place=b"/" + path)
    assert len(receipt.line(NOW)) < MAX_LINE
    assert read(receipt.line(NOW).encode())[0] == [receipt]


DAMAGED = {
    "no JSON": b"nothing\n",
    "no object": b"7\n",
    "NUL": b"\0" * 100 + b"\n",
    "cut, with a line feed": line()[:50] + b"\n",
    "nested too deep": b"[" * 60_000 + b"\n",
    "too long": b"[" * 3 * MAX_LINE + b"\n",
    "not UTF-8": line().replace(b"inbox", b"inb\xffx"),
    "half a surrogate": line().replace(b"inbox", rb"\ud800"),
    "a field is missing": line().replace(b'"size"', b'"sise"'),
    "NaN": line(size=float("nan")),
    "Infinity": line(size=float("inf")),
    "below zero": line(size=-1),
    "a fraction": line(size=7.5),
    "a number as text": line(size="7"),
    "a huge number": line().replace(b": 7", b": " + b"9" * 5000),
    "beyond 63 bits": line(size=2**63),
    "no digest": line(blake3=""),
    "half a digest": line(blake3="ab" * 16),
    "no hexadecimal": line(blake3="xy" * 32),
    "null": line(path=None),
    "out of the directory": line(path="../a"),
    "absolute": line(path="/etc/passwd"),
    "no name of ours": line(path="a\\q"),
    "a list": line(place=["/srv"]),
    "no place": line(place=""),
    "another event": line(event="moved"),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_line_costs_that_line(data: bytes) -> None:
    """
    It is counted, and those around it are read.
    """
    whole = line()
    receipts, reader = read(whole + data + whole)
    assert receipts == [RECEIPT, RECEIPT]
    assert (reader.damaged, reader.first_damaged, reader.torn) == (1, 2, 0)


@given(st.lists(st.one_of(st.binary(max_size=200), st.just(line())), max_size=8))
def test_whatever_is_in_it(pieces: list[bytes]) -> None:
    """
    It comes to its end, and says nothing that was not written.
    """
    receipts, _ = read(b"".join(pieces))
    assert all(receipt == RECEIPT for receipt in receipts)


@pytest.mark.parametrize("length", range(1, len(line()) - 1, 7))
def test_what_a_crash_cut_short_is_no_damage(length: int) -> None:
    """
    Wherever, at the end, or where somebody went on behind it; also with the zeros that
    a file system may leave.
    """
    torn = RECEIPT.line(NOW).encode()[:length]
    for end in (b"", b"\0" * 50, CANCELLED + line()):
        _, reader = read(line() + torn + end)
        assert (reader.damaged, reader.torn) == (0, 1)


def test_a_removal_need_not_know_the_digest() -> None:
    """
    Who takes a file says which version; not all do that by a digest.
    """
    receipts, _ = read(line(event="removed", blake3=""))
    assert [receipt.event for receipt in receipts] == ["removed"]
