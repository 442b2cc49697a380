import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skcompress._file.coding.huffman import Huffman, decode, encode

SYMBOLS = st.one_of(
    hnp.arrays(np.uint8, st.integers(0, 300)),
    hnp.arrays(np.uint8, st.integers(0, 300), elements=st.integers(0, 3)),
    hnp.arrays(np.uint8, st.integers(0, 50), elements=st.sampled_from([0, 255])),
)


@given(SYMBOLS)
def test_round_trip_in_the_bytes_that_were_announced(symbols):
    code = Huffman(symbols)
    stream = code.write()
    assert len(stream) == code.size
    np.testing.assert_array_equal(decode(stream, len(symbols)), symbols)


def best_bits(symbols):
    """Bits of an optimal prefix code: the sum of all inner nodes of Huffman's tree."""
    heap = np.unique(symbols, return_counts=True)[1].tolist()
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        node = heapq.heappop(heap) + heapq.heappop(heap)
        total += node
        heapq.heappush(heap, node)
    return total


@given(SYMBOLS)
def test_as_short_as_can_be(symbols):
    table = 1 + 256 // 2 + 16  # at most
    assert Huffman(symbols).size <= (best_bits(symbols) + 7) // 8 + table


def test_no_code_is_longer_than_fifteen_bits():
    """Fibonacci numbers make the deepest tree: here 24 levels without a bound."""
    counts = [1, 1]
    while len(counts) < 25:
        counts.append(counts[-1] + counts[-2])
    symbols = np.repeat(np.arange(25, dtype=np.uint8), counts)
    np.random.default_rng(0).shuffle(symbols)
    stream = encode(symbols)
    np.testing.assert_array_equal(decode(stream, len(symbols)), symbols)
    assert len(stream) < best_bits(symbols) / 8 * 1.01 + 20


@pytest.mark.parametrize("n", [1, 2**14 // 3, 2**14, 2**14 + 1, 100_000])
def test_streams_that_end_about_a_window(n):
    symbols = (np.random.default_rng(n).geometric(0.4, n) - 1).astype(np.uint8)
    np.testing.assert_array_equal(decode(encode(symbols), n), symbols)


def test_the_stream_is_the_documented_one():
    # lengths 1, 0 (once), 2, 2: nibbles 1 0 0 2 2; codes 0, 10, 11: bits 0 10 11 0
    symbols = np.array([0, 2, 3, 0], dtype=np.uint8)
    assert encode(symbols) == bytes([3, 0x10, 0x02, 0x20, 0b01011000])
    assert encode(np.full(9, 5, np.uint8)) == bytes([5, 0x04, 0x10])
    assert encode(np.zeros(0, np.uint8)) == b""


GOOD = encode(np.array([0, 2, 3, 0], dtype=np.uint8))


@pytest.mark.parametrize(
    ("stream", "n", "message"),
    [
        (b"", 4, "cut off"),
        (GOOD[:2], 4, "cut off"),
        (GOOD[:-1], 4, "end before the last"),
        (GOOD, 60, "end before the last"),
        (GOOD, 10**15, "end before the last"),
        (GOOD + b"\0", 4, "after the last"),
        (GOOD[:-1] + bytes([0b01011001]), 4, "after the last"),
        (GOOD[:3] + bytes([0x21]) + GOOD[4:], 4, "filled up"),
        (bytes([1, 0x11, 0]), 10, "end before the last"),
        (bytes([1, 0x12, 0]), 2, "does not describe"),
        (bytes([2, 0x11, 0x10]), 2, "does not describe"),
        (bytes([0, 0x20]), 2, "does not describe"),
        (bytes([0, 0x01, 0x10]), 2, "runs over"),
        (bytes([5, 0x04, 0x10, 0]), 9, "after the last"),
        (b"\0", 0, "after the last"),
    ],
)
def test_streams_that_are_none(stream, n, message):
    with pytest.raises(ValueError, match=message):
        decode(stream, n)


@given(SYMBOLS, st.data())
def test_changed_streams_are_read_as_something_or_refused(symbols, data):
    stream = bytearray(encode(symbols) + b"\0")
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] = data.draw(st.integers(0, 255))
    try:
        read = decode(bytes(stream), len(symbols))
    except ValueError:
        return
    assert len(read) == len(symbols)
