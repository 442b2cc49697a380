r"""Symbols to bits by how often they occur, and back: canonical Huffman codes in numpy.

A stream is a table and the bits of the symbols. The table holds one nibble for each symbol from
0 to the last that occurs: the length of its code, 1 to 15. Nibble 0 stands for symbols that do
not occur, and the nibble after it for how many these are, less one. Codes are canonical: sorted
by length, then by symbol, each is the one before it plus 1, with zeros appended up to its length.
Bits are written most significant first. Where only one symbol occurs, it takes no bits at all.

Only integers decide, so a stream is the same on every machine.
"""

from __future__ import annotations

import heapq
import math
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["Huffman", "decode", "encode"]

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_LONGEST = 15
# Bits that the decoder reads at once; it bounds the memory used beside the result.
_WINDOW = 1 << 14


class Huffman:
    """The Huffman code of a sequence of bytes; its size is known before it is written.

    Parameters
    ----------
    symbols : ndarray of uint8
        One axis.

    Attributes
    ----------
    least : int
        No code of these symbols has fewer bytes; found in no time, while `size` takes a tree.
    size : int
        Bytes of table and bits.

    Examples
    --------
    >>> code = Huffman(np.array([0, 0, 0, 2, 0, 1], dtype=np.uint8))
    >>> code.least, code.size, len(code.write())
    (1, 4, 4)
    """

    def __init__(self, symbols: Bytes) -> None:
        self._symbols = symbols
        self._counts = np.bincount(symbols, minlength=256)

    @cached_property
    def least(self) -> int:
        """What no code of these symbols can go below, in bytes."""
        counts = self._counts[self._counts > 0]
        # Shannon's bound, less what rounding could have added.
        bits = (counts * np.log2(self._symbols.size / counts)).sum() * (1 - 1e-9)
        return math.ceil(bits / 8)

    @cached_property
    def size(self) -> int:
        """Bytes of table and bits."""
        lengths, table = self._code
        n_bits = 0 if self._is_constant else int((self._counts * lengths).sum())
        return len(table) + (n_bits + 7) // 8

    def write(self) -> bytes:
        """Return the stream."""
        lengths, table = self._code
        if self._is_constant:
            return table
        codes = _canonical_codes(lengths)
        return table + _join_bits(codes[self._symbols], lengths[self._symbols])

    @property
    def _code(self) -> tuple[Ints, bytes]:
        return _code_of(self._counts.astype(np.int64, copy=False).tobytes())

    @property
    def _is_constant(self) -> bool:
        return int(np.count_nonzero(self._counts)) <= 1


def encode(symbols: Bytes) -> bytes:
    """Return the Huffman stream of a sequence of bytes.

    Examples
    --------
    >>> stream = encode(np.array([7, 7, 7, 9], dtype=np.uint8))
    >>> decode(stream, 4)
    array([7, 7, 7, 9], dtype=uint8)
    """
    return Huffman(symbols).write()


def decode(stream: bytes, n: int) -> Bytes:
    """Read the `n` symbols of a stream that is theirs from the first byte to the last.

    Raises
    ------
    ValueError
        If no sequence of `n` symbols has this stream.
    """
    if n == 0:
        if stream:
            raise ValueError("there are bytes after the last symbol")
        return np.zeros(0, np.uint8)
    lengths, start = _read_table(stream)
    used = np.flatnonzero(lengths)
    if len(used) == 1:
        if start != len(stream):
            raise ValueError("there are bytes after the last symbol")
        return np.full(n, used[0], np.uint8)
    bits = np.frombuffer(stream, np.uint8, offset=start)
    if n > 8 * bits.size:  # before anything of this length is allocated
        raise ValueError("the bits end before the last symbol")
    return _read_symbols(bits, lengths, n)


# The same counts come again and again: those of the dense net for each setting of a sweep, those
# of one array in two orders.
@lru_cache(maxsize=1024)
def _code_of(counts: bytes) -> tuple[Ints, bytes]:
    """Lengths of the codes of symbols with these counts, and the table that says them."""
    lengths = _code_lengths(np.frombuffer(counts, np.int64))
    lengths.setflags(write=False)
    return lengths, _write_table(lengths) if lengths.any() else b""


def _code_lengths(counts: Ints) -> Ints:
    """Length of each symbol's code, 0 where it does not occur, at most `_LONGEST`."""
    lengths = np.zeros(256, np.int64)
    used = np.flatnonzero(counts)
    if len(used) <= 1:
        lengths[used] = 1
        return lengths
    weights = counts[used]
    while True:
        lengths[used] = _depths(weights.tolist())
        if lengths.max() <= _LONGEST:
            return lengths
        weights = (weights + 1) // 2  # flatter, and at last all equal


def _depths(weights: list[int]) -> list[int]:
    """Depths of the leaves in a Huffman tree; ties go to the node made first."""
    heap = [(weight, i) for i, weight in enumerate(weights)]
    heapq.heapify(heap)
    n = len(weights)
    parents = [0] * (2 * n - 1)
    for node in range(n, 2 * n - 1):
        first, a = heapq.heappop(heap)
        second, b = heap[0]
        parents[a] = parents[b] = node
        heapq.heapreplace(heap, (first + second, node))
    depths = [0] * (2 * n - 1)
    for node in range(2 * n - 3, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return depths[:n]


def _canonical_codes(lengths: Ints) -> Ints:
    """Return the code of each symbol as an integer, see the top of this module."""
    codes = np.zeros(256, np.int64)
    code = previous = 0
    for symbol in _canonical_order(lengths):
        length = int(lengths[symbol])
        code <<= length - previous
        codes[symbol] = code
        code, previous = code + 1, length
    return codes


def _canonical_order(lengths: Ints) -> Ints:
    used = np.flatnonzero(lengths)
    return used[np.argsort(lengths[used], kind="stable")]


def _join_bits(codes: Ints, lengths: Ints) -> bytes:
    """Write codes one after the other, most significant bit first."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    # Each code lies in the 64 bits that begin at a multiple of 32; as none is longer than 32, one
    # begins in each of these, and their bits do not overlap.
    places = (codes << (64 - (starts & 31) - lengths)).view(np.uint64)
    words = starts >> 5
    firsts = np.concatenate([[0], np.flatnonzero(words[1:] != words[:-1]) + 1])
    pairs = np.bitwise_or.reduceat(places, firsts)
    joined = np.zeros(len(pairs) + 1, ">u4")
    joined[:-1] = (pairs >> np.uint64(32)).astype(np.uint32)
    joined[1:] |= pairs.astype(np.uint32)
    return joined.tobytes()[: (int(ends[-1]) + 7) // 8]


def _write_table(lengths: Ints) -> bytes:
    nibbles: list[int] = []
    last = int(np.flatnonzero(lengths)[-1])
    missing = 0
    for length in lengths[: last + 1].tolist():
        if length == 0:
            missing += 1
            continue
        while missing:
            nibbles += [0, min(missing, 16) - 1]
            missing -= min(missing, 16)
        nibbles.append(length)
    nibbles += [0] * (len(nibbles) % 2)
    pairs = zip(nibbles[::2], nibbles[1::2], strict=True)
    return bytes([last, *(16 * high + low for high, low in pairs)])


def _read_table(stream: bytes) -> tuple[Ints, int]:
    """Lengths of the codes, and where the bits begin."""
    lengths = np.zeros(256, np.int64)
    last, symbol, at = int(stream[0]) if stream else 0, 0, 2  # `at` counts nibbles
    while symbol <= last:
        length = _nibble(stream, at)
        at += 1
        if length:
            lengths[symbol] = length
            symbol += 1
        else:
            symbol += _nibble(stream, at) + 1
            at += 1
    if symbol != last + 1:
        raise ValueError("the table of a Huffman code runs over its end")
    if at % 2 and _nibble(stream, at):
        raise ValueError("the table of a Huffman code is not filled up with zero")
    # Kraft's sum: each sequence of bits begins with exactly one code.
    total = (1 << (_LONGEST - lengths[lengths > 0])).sum()
    is_constant = np.count_nonzero(lengths) == 1 and lengths.max() == 1
    if total != 1 << _LONGEST and not is_constant:
        raise ValueError("the table of a Huffman code does not describe one")
    return lengths, (at + 1) // 2


def _nibble(stream: bytes, at: int) -> int:
    if at // 2 >= len(stream):
        raise ValueError("the table of a Huffman code is cut off")
    byte = stream[at // 2]
    return byte & 15 if at % 2 else byte >> 4


def _read_symbols(bits: Bytes, lengths: Ints, n: int) -> Bytes:
    """Read n symbols, window by window.

    Where a code begins is known only once the one before it is read, which would take a loop in
    Python over all symbols. So each bit of a window is first taken for the beginning of a code,
    and the symbol and length that it would have are looked up for all bits at once. Then those
    bits are selected at which codes do begin (`_follow`).
    """
    symbols = _canonical_order(lengths)
    # Look-up tables by the next 15 bits. A code of length l is the beginning of 2**(15 - l) such
    # numbers, which follow each other, and those of all codes do so in canonical order.
    spans = 1 << (_LONGEST - lengths[symbols])
    symbol_of = np.repeat(symbols.astype(np.uint8), spans)
    length_of = np.repeat(lengths[symbols], spans)
    padded = np.concatenate([bits, np.zeros(_WINDOW // 8 + 4, np.uint8)])
    result = np.empty(n, np.uint8)
    done = position = 0
    while done < n:
        heads = _heads(padded, position)
        visited = _follow(length_of[heads], _WINDOW)
        # At least one, as the first bit of a window is always one at which a code begins. The last
        # code may end behind the window, where the next one begins.
        inside = visited[visited < _WINDOW][: n - done]
        result[done : done + len(inside)] = symbol_of[heads[inside]]
        done += len(inside)
        last = int(inside[-1])
        position += last + int(length_of[heads[last]])
        if position > 8 * bits.size:
            raise ValueError("the bits end before the last symbol")
    if (position + 7) // 8 != bits.size or bits[-1] & ((1 << (-position % 8)) - 1):
        raise ValueError("there are bits after the last symbol")
    return result


def _heads(padded: Bytes, position: int) -> Ints:
    """Return the 15 bits that begin at each of the `_WINDOW` bits from `position` on."""
    # From three bytes any 15 bits can be read that begin in the first one.
    first = position // 8
    block = padded[first : first + _WINDOW // 8 + 3].astype(np.int64)
    triples = (block[:-2] << 16) | (block[1:-1] << 8) | block[2:]
    shifts = 9 - np.arange(8)
    heads = ((triples[:, None] >> shifts) & ((1 << _LONGEST) - 1)).reshape(-1)
    return heads[position % 8 : position % 8 + _WINDOW]


def _follow(lengths: Ints, end: int) -> Ints:
    """Return the bits at which codes begin, if one begins at bit 0: by pointer doubling.

    Invariant: before round k, `visited` holds the first 2**k of these bits, and `jumps` leads from
    any bit over 2**k codes. So the jumps of what is visited are the next 2**k bits, and the jumps
    of jumps lead over twice as many codes. A window takes log2 of its codes rounds, each a single
    look-up for all bits. What leaves the window stays at its end.
    """
    jumps = np.minimum(np.arange(end) + lengths, end)
    jumps = np.append(jumps, end)
    visited = np.zeros(1, np.int64)
    while visited[-1] < end:
        visited = np.concatenate([visited, jumps[visited]])
        jumps = jumps[jumps]
    return visited
