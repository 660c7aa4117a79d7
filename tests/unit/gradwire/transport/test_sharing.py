from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwire.transport.sharing import Ring
from gradwire.v1 import values_pb2

SIZE = 4096


@given(st.lists(st.one_of(st.integers(1, SIZE), st.just(None)), max_size=60))
def test_slices_in_use_never_overlap_and_all_of_it_comes_back(steps: list[int | None]) -> None:
    ring = Ring(1, bytearray(SIZE))
    used: deque[tuple[int, values_pb2.RegionSlice]] = deque()
    for size in steps:
        if size is None:
            if used:
                ring.free(used.popleft()[0])
            continue
        piece = ring.take(size)
        if piece is None:
            assert used, "an empty ring has room for whatever it can hold"
            continue
        assert piece.size_bytes == size
        for _, other in used:
            assert (
                piece.offset + size <= other.offset
                or other.offset + other.size_bytes <= piece.offset
            )
        used.append((ring.position, piece))
    while used:
        ring.free(used.popleft()[0])
    assert ring.take(SIZE) is not None


def test_what_was_never_sent_is_given_back() -> None:
    ring = Ring(1, bytearray(SIZE))
    assert ring.take(SIZE // 2) is not None
    sent = ring.position
    assert ring.take(SIZE // 2) is not None
    assert ring.take(1) is None
    ring.rewind(sent)
    assert ring.take(SIZE // 2) is not None


@pytest.mark.parametrize(
    ("region", "offset", "size"),
    [(2, 0, 1), (1, -1, 1), (1, 0, SIZE + 1), (1, SIZE, 1), (1, 9, -1)],
)
def test_a_slice_elsewhere_is_not_believed(region: int, offset: int, size: int) -> None:
    ring = Ring(1, bytearray(SIZE))
    with pytest.raises(ValueError, match="no memory"):
        ring.read(
            values_pb2.RegionSlice(region=region, offset=offset, size_bytes=size),
            memoryview(bytearray(SIZE)),
        )
