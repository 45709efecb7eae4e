"""
Zeros that may become holes.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realize.store.sparse import cut_holes, zero_runs

KIB = 1024


@given(
    offset=st.integers(0, 200 * KIB),
    parts=st.lists(st.tuples(st.booleans(), st.integers(1, 200 * KIB)), max_size=5),
)
def test_runs_of_zeros(offset, parts):
    """
    Only whole blocks of zeros; none is missed that ends before the next data begins.
    """
    content = b"".join((b"x" if full else b"\0") * size for full, size in parts)
    runs = zero_runs(memoryview(content), offset)
    if not runs:
        whole = range(-(-offset // (64 * KIB)) * 64 * KIB, offset + len(content))
        for begin in whole[:: 64 * KIB]:
            block = content[begin - offset : begin - offset + 64 * KIB]
            assert len(block) < 64 * KIB or any(block)
        return
    assert sum(runs) == len(content)
    assert cut_holes(runs, content) is not None
    at = offset
    for index, length in enumerate(runs):
        if index % 2:
            assert at % (64 * KIB) == length % (64 * KIB) == 0
        at += length
