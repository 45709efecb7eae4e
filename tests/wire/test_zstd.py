"""
Content as zstd frames, and frames of people who mean no good.
"""

from __future__ import annotations

import os
import struct
import threading
import tracemalloc

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from realize.wire.payload import MAX_PAYLOAD, Malformed, pack
from realize.wire.zstd import Codec

HEAD = pack([1, 2, 3]).head
TEXT = b"never lost, " * 10_000


def payload(data: bytes, level: int = 3) -> bytes:
    """
    A compressed payload, whatever its data is.
    """
    return HEAD + zstandard.ZstdCompressor(level=level).compress(data)


@given(data=st.binary(min_size=1, max_size=100_000), level=st.sampled_from([1, 3, 6]))
@example(TEXT, 6)
@example(bytes(MAX_PAYLOAD - 100), 1)
def test_round_trip(data, level):
    """
    What comes out is what went in, or nothing is gained and nothing comes out.
    """
    codec = Codec()
    frame, seconds = codec.compress(memoryview(data), level)
    assert seconds >= 0
    if frame is not None:
        assert len(frame) < len(data)
        assert codec.decompress(HEAD + frame, len(data)) == HEAD + data


def test_what_does_not_shrink():
    """
    Is not compressed: neither noise, nor what a sample takes for noise.
    """
    codec = Codec()
    for size in (10, 5000, 1_000_000):
        assert codec.compress(os.urandom(size), 3)[0] is None
    frame, _ = codec.compress(TEXT, 3)
    assert frame is not None
    assert len(frame) < len(TEXT) // 10


def test_in_several_threads():
    """
    Each thread has contexts of its own.
    """
    codec = Codec()
    texts = [b"%d, " % n * 50_000 for n in range(8)]
    wrong = []

    def work(text: bytes) -> None:
        for _ in range(10):
            frame, _ = codec.compress(text, 3)
            if codec.decompress(HEAD + (frame or b""), len(text)) != HEAD + text:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("raw", "length"),
    [
        (b"", 10),
        (b"\0\0", 10),
        (struct.pack(">I", 2**32 - 1) + b"x", 10),
        (HEAD, 10),
        (HEAD + b"no frame", 10),
        (payload(TEXT), len(TEXT) - 1),
        (payload(TEXT), len(TEXT) + 1),
        (payload(TEXT)[:-1], len(TEXT)),
        (payload(TEXT) + b"x", len(TEXT)),
        (payload(TEXT) + payload(TEXT)[len(HEAD) :], len(TEXT)),
        (payload(bytes(MAX_PAYLOAD)), MAX_PAYLOAD),
        (payload(bytes(2**26)), 2**26),
        (payload(bytes(2**26)), 100),
        (
            HEAD + zstandard.ZstdCompressor(write_content_size=False).compress(TEXT),
            len(TEXT),
        ),
    ],
    ids=[
        "empty",
        "no head",
        "long head",
        "no frame",
        "garbage",
        "more",
        "less",
        "cut short",
        "trailing byte",
        "two frames",
        "too long with its head",
        "bomb",
        "hidden bomb",
        "without a length",
    ],
)
def test_malformed(raw, length):
    """
    Refused, and no memory is taken for it.
    """
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            Codec().decompress(raw, length)
        assert tracemalloc.get_traced_memory()[1] < MAX_PAYLOAD
    finally:
        tracemalloc.stop()


def test_frame_with_a_huge_window():
    """
    A good frame that asks for a window of 128 MiB, which would be taken if it were cut
    short.
    """
    length = 1000
    # Content size in two bytes, a window of 2^27 bytes, one raw block.
    frame = b"\x28\xb5\x2f\xfd" + bytes([0b0100_0000, 17 << 3])
    frame += struct.pack("<H", length - 256)
    frame += struct.pack("<I", length << 3 | 1)[:3] + bytes(length)
    assert zstandard.ZstdDecompressor().decompress(frame) == bytes(length)
    with pytest.raises(Malformed):
        Codec().decompress(HEAD + frame, length)


@given(
    raw=st.binary(max_size=200) | st.just(payload(TEXT)),
    length=st.integers(1, MAX_PAYLOAD),
    at=st.integers(0, 10_000),
    value=st.integers(0, 255),
)
def test_any_bytes(raw, length, at, value):
    """
    Whatever arrives is malformed, or as long as was said.
    """
    damaged = bytearray(raw)
    if damaged:
        damaged[at % len(damaged)] = value
    for claimed in (length, len(TEXT)):
        try:
            whole = Codec().decompress(bytes(damaged), claimed)
        except Malformed:
            continue
        assert len(whole) <= MAX_PAYLOAD
        assert len(whole) >= claimed
