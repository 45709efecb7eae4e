"""
The values that stores exchange, as they cross the wire.
"""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realize import model
from realize.errors import Busy, DiskError, peer_errors
from realize.model import (
    Failure,
    NoticeKind,
    Place,
    Value,
    decode_hook,
    encode_hook,
)
from realize.texts import Label, Line

sizes = st.integers(0, 2**63 - 1)
names = st.binary(max_size=40)
texts = st.text(max_size=20).map(Line)
CODES = [kind.code for kind in peer_errors()]
digests = st.binary(min_size=32, max_size=32)

files = st.builds(model.File, names, sizes, sizes, st.integers(0, 0o777), digests)
directories = st.builds(model.Directory, names, st.integers(0, 0o777))
notices = st.builds(model.Notice, names, st.sampled_from(get_args(NoticeKind)), texts)

VALUES: dict[type[Value], st.SearchStrategy[Value]] = {
    model.File: files,
    model.Directory: directories,
    model.Notice: notices,
    model.Page: st.builds(
        model.Page,
        st.lists(files, max_size=3),
        st.lists(directories, max_size=3),
        st.lists(notices, max_size=3),
        sizes,
        sizes,
    ),
    model.Failure: st.builds(model.Failure, st.sampled_from(CODES).map(Label), texts),
    model.Offer: st.builds(model.Offer, names, sizes),
    model.Held: st.builds(model.Held, sizes, st.integers(-1, 2**63 - 1), names),
    model.Prefix: st.builds(model.Prefix, names, digests, sizes),
    model.Digests: st.builds(model.Digests, st.lists(digests, min_size=1)),
    model.Range: st.builds(model.Range, names, digests, sizes, sizes),
    model.Extent: st.builds(model.Extent, sizes, st.just(b"") | digests),
    model.Piece: st.builds(
        model.Piece, names, sizes, sizes, st.lists(digests, max_size=3)
    ),
    model.Subset: st.builds(model.Subset, st.lists(names, max_size=3), st.booleans()),
    model.Written: st.builds(model.Written, sizes),
    model.Finish: st.builds(
        model.Finish,
        names,
        sizes,
        digests,
        st.integers(0, 0o777),
        sizes,
    ),
    model.Finished: st.builds(
        model.Finished, st.sampled_from(get_args(model.How)), names
    ),
    model.Removal: st.builds(
        model.Removal,
        names,
        digests,
        digests,
        st.sampled_from(get_args(model.RemovalStep)),
    ),
    model.Removed: st.builds(model.Removed, st.booleans(), names),
    model.Claim: st.builds(model.Claim, names, digests, sizes, digests, names),
    model.Confirmed: st.builds(model.Confirmed),
    model.Place: st.builds(model.Place, digests, st.lists(digests, max_size=3)),
}


def test_every_value_is_tested_here() -> None:
    """
    A value that is added to the model is added to the round trip.
    """
    assert set(VALUES) == {
        kind for kind in Value.__subclasses__() if kind.__module__ == model.__name__
    }


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_values_survive_the_crossing(kind: type[Value], data: st.DataObject) -> None:
    """
    What is encoded on one side is decoded to an equal value on the other.
    """
    value = data.draw(VALUES[kind])
    encoded = msgspec.msgpack.encode(value, enc_hook=encode_hook)
    assert msgspec.msgpack.decode(encoded, type=kind, dec_hook=decode_hook) == value


@pytest.mark.parametrize(
    "kind",
    [
        model.Held,
        model.Digests,
        model.Extent,
        model.Written,
        model.Finished,
        model.Removed,
    ],
    ids=lambda kind: kind.__name__,
)
@given(data=st.data())
def test_a_failure_takes_the_place_of_a_result(
    kind: type[Value], data: st.DataObject
) -> None:
    """
    Results and failures, mixed in one batch, are told apart.
    """
    batch = data.draw(st.lists(VALUES[kind] | VALUES[Failure], max_size=5))
    encoded = msgspec.msgpack.encode(batch, enc_hook=encode_hook)
    decoder = msgspec.msgpack.Decoder(list[kind | Failure], dec_hook=decode_hook)
    assert decoder.decode(encoded) == batch


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x93\x01\x02", b"\x90"])
def test_junk_is_refused(junk: bytes) -> None:
    """
    What is no file does not become one.
    """
    with pytest.raises(msgspec.MsgspecError):
        msgspec.msgpack.decode(junk, type=model.File)


def test_a_failure_is_the_error_it_was_made_of() -> None:
    """
    Code and text make the same exception again.
    """
    error = Failure.of(Busy("held by laptop")).error
    assert isinstance(error, Busy)
    assert error.defers
    assert not DiskError("x").defers


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Place(b"a", [b"a", b"r"]), Place(b"a", [b"a", b"r"]), True),
        (Place(b"a", [b"a", b"r"]), Place(b"b", [b"b", b"a", b"r"]), True),
        (Place(b"b", [b"b", b"a", b"r"]), Place(b"a", [b"a", b"r"]), True),
        (Place(b"a", [b"a", b"r"]), Place(b"b", [b"b", b"r"]), False),
        (Place(b"", [b"a", b"r"]), Place(b"a", [b"a", b"r"]), True),
        (Place(b"", [b"a", b"r"]), Place(b"", [b"a", b"r"]), False),
        (Place(b"", [b"r"]), Place(b"a", [b"a", b"r"]), False),
    ],
)
def test_places_overlap_if_one_is_in_the_other(
    first: Place, second: Place, expected: bool
) -> None:
    """
    The same root, or one above the other; having a parent in common is no overlap.
    """
    assert first.overlaps(second) is expected
    assert second.overlaps(first) is expected
