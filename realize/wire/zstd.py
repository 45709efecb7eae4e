"""
Compressing and decompressing the content in a payload, in threads.

The head of a payload stays as it is; the data that follows it is one zstd frame, which
says how long its content is.  No memory is taken for a frame that says anything else
than the box did.
"""

from __future__ import annotations

import struct
import threading
import time
from typing import Final

import zstandard
from attrs import define, field

from realize.wire.payload import MAX_PAYLOAD, Malformed

#: Of the bytes before, at most so many have to be left for compressing to be worth it.
WORTH: Final = 0.95

#: The largest window of a frame, in bytes.
MAX_WINDOW: Final = 8 * 1024 * 1024

#: What is tried first: pieces of so many bytes, and how many of them.
_SAMPLE: Final = 4096
_SAMPLES: Final = 3

_HEAD = struct.Struct(">I")


@define(eq=False)
class Codec:
    """
    Has a context for each thread and level that it was called in.
    """

    _contexts: threading.local = field(factory=threading.local)

    def compress(
        self, data: bytes | memoryview, level: int
    ) -> tuple[bytes | None, float]:
        """
        Make a frame of *data*, if it shrinks.

        A sample decides whether it is tried at all: what is compressed already costs
        a hundredth of a thousandth of a second.

        :returns: the frame, or None; and the seconds that it took.
        """
        began = time.monotonic()
        view = memoryview(data)
        frame = None
        if self._shrinks(view):
            frame = self._compressor(level).compress(view)
            if len(frame) > len(view) * WORTH:
                frame = None
        return frame, time.monotonic() - began

    def decompress(self, payload: bytes | memoryview, length: int) -> bytes:
        """
        The payload as it was before its data was compressed.

        :param payload: head and frame.
        :param length: bytes of data, as the box says.
        :raises Malformed: it is not that, or longer than a payload may be.
        """
        raw = memoryview(payload)
        end = _HEAD.size
        if len(raw) >= end:
            end += _HEAD.unpack_from(raw)[0]
        if end >= len(raw) or end + length > MAX_PAYLOAD:
            raise Malformed("a compressed payload that is none, or too long")
        frame = raw[end:]
        try:
            parameters = zstandard.get_frame_parameters(frame)
            if parameters.content_size != length:
                raise Malformed("a frame of another length than its box says")
            if parameters.window_size > MAX_WINDOW:
                # If it is cut short, memory is taken for this much.
                raise Malformed("a frame with too large a window")
            data = self._decompressor().decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise Malformed(f"not zstd: {error}") from None
        if len(data) != length:
            raise Malformed("a frame that does not hold what it says")
        return b"".join((raw[:end], data))

    def _shrinks(self, data: memoryview) -> bool:
        if len(data) <= _SAMPLE * _SAMPLES:
            return True
        context, step = self._compressor(1), (len(data) - _SAMPLE) // (_SAMPLES - 1)
        samples = [data[at : at + _SAMPLE] for at in range(0, len(data), step)]
        left = sum(len(context.compress(each)) for each in samples[:_SAMPLES])
        return left <= _SAMPLE * _SAMPLES * WORTH

    def _compressor(self, level: int) -> zstandard.ZstdCompressor:
        kept: dict[int, zstandard.ZstdCompressor]
        kept = self._contexts.__dict__.setdefault("compressors", {})
        if level not in kept:
            kept[level] = zstandard.ZstdCompressor(level=level)
        return kept[level]

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        kept: zstandard.ZstdDecompressor | None
        kept = self._contexts.__dict__.get("decompressor")
        if kept is None:
            kept = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
            self._contexts.__dict__["decompressor"] = kept
        return kept
