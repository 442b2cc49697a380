"""Arrays to as few bytes as their content needs, and back: the smallest of several codings.

A coding is chosen by its exact size, which is known before anything is written, so that a sweep
can ask what a net would take without packing it. Every stream begins with a byte that says which
coding it is. Nothing in a stream is believed: a stream that is not one raises ValueError, and
nothing is allocated that is larger than the array which the caller expects.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...nn.codes.bit_packing import pack, unpack
from . import huffman, mixing
from .byte_streams import Coding, Reader, framed, smallest, tagged, write_number, written

__all__ = ["code_levels", "code_values", "read_levels", "read_values"]

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

# First bytes of streams. A new coding takes a new number; the numbers are part of the format.
_PACKED, _HUFFMAN = 0, 1  # of symbols
_MASK, _GAPS = 0, 1  # of positions
_DENSE, _SPARSE, _SPARSE_BY_COLUMN, _MIXED = 0, 1, 2, 3  # of arrays
_BY_EXPONENT = 4  # added to one of the first three
_ESCAPE = 255


def code_levels(levels: npt.NDArray[np.int8], bits: int, level: str = "default") -> Coding:
    """Code small signed integers, many of which may be zero.

    Parameters
    ----------
    levels : ndarray of int8
        From ``-2**(bits-1)`` to ``2**(bits-1) - 1``. Any shape; the first axis are rows.
    bits : int
        2 to 8.
    level : {"default", "smallest"}
        The latter tries the slow coding of `skcompress._file.coding.mixing`, too.

    Examples
    --------
    >>> levels = np.zeros((50, 80), dtype=np.int8)
    >>> levels[::7, ::9] = 3
    >>> coding = code_levels(levels, bits=4)
    >>> coding.size < 4 * levels.size // 8 // 20
    True
    >>> bool((read_levels(coding.write(), levels.shape, bits=4) == levels).all())
    True
    """
    rows = _rows(_fold(levels))
    codings = [tagged(_DENSE, _code_symbols(rows.reshape(-1), bits))]
    for tag, ordered in ((_SPARSE, rows), (_SPARSE_BY_COLUMN, rows.T)):
        flat = ordered.reshape(-1)
        positions = np.flatnonzero(flat)
        values = _code_symbols(flat[positions] - np.uint8(1), bits)
        codings.append(tagged(tag, framed(_code_positions(positions, flat.size)), values))
    if level == "smallest":
        codings.append(tagged(_MIXED, written(mixing.encode(rows, bits))))
    return smallest(codings)


def read_levels(stream: bytes, shape: tuple[int, ...], bits: int) -> npt.NDArray[np.int8]:
    """Read an array that `code_levels` coded."""
    n = int(np.prod(shape, dtype=np.int64))
    n_rows, n_columns = _row_shape(shape, n)
    reader = Reader(stream)
    tag = reader.byte()
    if tag == _DENSE:
        flat = _read_symbols(reader, n, bits)
    elif tag in (_SPARSE, _SPARSE_BY_COLUMN):
        positions = _read_positions(reader.stream(), n)
        values = _read_symbols(reader, len(positions), bits).astype(np.int64) + 1
        flat = np.zeros(n, np.uint8)
        if values.size and values.max() >> bits:
            raise ValueError("a code in it is too large")
        flat[positions] = values
        if tag == _SPARSE_BY_COLUMN:
            flat = flat.reshape(n_columns, n_rows).T.reshape(-1)
    elif tag == _MIXED:
        flat = mixing.decode(bytes(reader.rest()), (n_rows, n_columns), bits).reshape(-1)
    else:
        raise ValueError(f"its coding {tag} is not known")
    return _unfold(flat).reshape(shape)


def code_values(values: npt.NDArray[np.generic]) -> Coding:
    """Code numbers of any dtype, to the last bit; those whose bits are all 0 may be many.

    Bytes of the same significance are coded together, or exponents of floats, which vary little.

    Parameters
    ----------
    values : ndarray
        Of numbers, in little-endian order.

    Examples
    --------
    >>> values = np.zeros((40, 50))
    >>> values[::4, ::5] = np.pi
    >>> coding = code_values(values)
    >>> coding.size < values.nbytes // 50
    True
    >>> read = read_values(coding.write(), values.dtype, values.shape)
    >>> bool((read == values).all())
    True
    """
    planes, is_float = _planes(values), values.dtype.kind == "f"
    occupied = planes.max(axis=0, initial=0) > 0
    is_sparse = 16 * np.count_nonzero(occupied) < 15 * occupied.size
    codings = _code_numbers(planes, _DENSE, is_float=is_float and not is_sparse)
    if is_sparse:
        # In either order the values are as long: only positions decide.
        tag, where, index = min(_orders(occupied, values.shape), key=lambda order: order[1].size)
        codings += _code_numbers(planes[:, index], tag, where, is_float=is_float)
    return smallest(codings)


def read_values(stream: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """Read an array that `code_values` coded."""
    n = int(np.prod(shape, dtype=np.int64))
    reader = Reader(stream)
    tag = reader.byte()
    by_exponent, how = divmod(tag, _BY_EXPONENT)
    if how == _MIXED or by_exponent > (dtype.kind == "f"):
        raise ValueError(f"its coding {tag} is not known")
    read = _read_by_exponent if by_exponent else _read_planes
    if how == _DENSE:
        planes = read(reader, n, dtype.itemsize)
    else:
        positions = _read_positions(reader.stream(), n)
        kept = read(reader, len(positions), dtype.itemsize)
        planes = np.zeros((dtype.itemsize, n), np.uint8)
        if how == _SPARSE_BY_COLUMN:
            n_rows, n_columns = _row_shape(shape, n)
            positions = positions % max(n_rows, 1) * n_columns + positions // max(n_rows, 1)
        planes[:, positions] = kept
    return np.ascontiguousarray(planes.T).view(dtype).reshape(shape)


def _orders(
    occupied: npt.NDArray[np.bool_], shape: tuple[int, ...]
) -> list[tuple[int, Coding, Ints]]:
    """Return both orders in which places may be told: tag, positions, and the places so ordered."""
    by_row = _by_row(np.arange(occupied.size), shape)
    found = []
    for tag, ordered in ((_SPARSE, by_row), (_SPARSE_BY_COLUMN, by_row.T)):
        index = ordered.reshape(-1)
        positions = np.flatnonzero(occupied[index])
        found.append((tag, framed(_code_positions(positions, index.size)), index[positions]))
    return found


def _row_shape(shape: tuple[int, ...], n: int) -> tuple[int, int]:
    n_rows = shape[0] if shape else 1
    return n_rows, (n // n_rows if n_rows else 0)


def _by_row(flat: npt.NDArray, shape: tuple[int, ...]) -> npt.NDArray:
    return flat.reshape(_row_shape(shape, flat.size))


def _rows(array: Bytes) -> Bytes:
    return _by_row(array.reshape(-1), array.shape)


def _fold(levels: npt.NDArray[np.int8]) -> Bytes:
    """0, -1, 1, -2, 2, … become 0, 1, 2, 3, 4, …: small symbols for small levels."""
    wide = levels.astype(np.int16)
    return np.where(wide < 0, -2 * wide - 1, 2 * wide).astype(np.uint8)


def _unfold(symbols: Bytes) -> npt.NDArray[np.int8]:
    wide = symbols.astype(np.int16)
    return np.where(wide & 1, -(wide + 1) // 2, wide // 2).astype(np.int8)


def _code_symbols(symbols: Bytes, bits: int) -> Coding:
    packed = Coding((symbols.size * bits + 7) // 8, lambda: pack(symbols, bits).tobytes())
    code = huffman.Huffman(symbols)
    return smallest([tagged(_PACKED, packed), tagged(_HUFFMAN, Coding(code.size, code.write))])


def _read_symbols(reader: Reader, n: int, bits: int) -> Bytes:
    tag, stream = reader.byte(), bytes(reader.rest())
    if tag == _PACKED:
        return unpack(np.frombuffer(stream, np.uint8), bits, n)
    if tag != _HUFFMAN:
        raise ValueError(f"the coding {tag} of its symbols is not known")
    symbols = huffman.decode(stream, n)
    if symbols.size and int(symbols.max()) >> bits:
        raise ValueError("a code in it is too large")
    return symbols


def _code_positions(positions: Ints, n: int) -> Coding:
    """Code increasing numbers below `n`: as a mask, or as the gaps between them."""
    mask = Coding((n + 7) // 8, lambda: _mask(positions, n))
    codings = [tagged(_MASK, mask)]
    if len(positions) < n // 2:
        gaps = np.diff(positions, prepend=-1) - 1
        # Low bits of long gaps are as good as random, and a long table would be wasted on them.
        most = max((n // max(len(positions), 1)).bit_length() - 1, 0)
        for low in sorted({0, most // 2, most}):
            coding = _code_gaps(gaps, low, shorter_than=smallest(codings).size - 1)
            codings += [] if coding is None else [tagged(_GAPS, coding)]
    return smallest(codings)


def _code_gaps(gaps: Ints, low: int, shorter_than: int) -> Coding | None:
    """Code the `low` lowest bits of gaps as they are, and what is above them by frequency.

    None if that takes `shorter_than` bytes or more, which often shows before the work.
    """
    high = gaps >> low
    repeats = high // _ESCAPE + 1
    symbols = np.full(int(repeats.sum()), _ESCAPE, np.uint8)
    symbols[np.cumsum(repeats) - 1] = high % _ESCAPE
    head = bytes([low]) + write_number(len(gaps)) + write_number(len(symbols) - len(gaps))
    code = huffman.Huffman(symbols)
    n_low = (low * len(gaps) + 7) // 8
    rest = len(head) + n_low
    if rest + code.least >= shorter_than or rest + code.size >= shorter_than:
        return None

    def write() -> bytes:
        bits = gaps[:, None] >> np.arange(low) & 1
        return head + np.packbits(bits.astype(bool), bitorder="little").tobytes() + code.write()

    return Coding(rest + code.size, write)


def _mask(positions: Ints, n: int) -> bytes:
    mask = np.zeros(n, bool)
    mask[positions] = True
    return np.packbits(mask, bitorder="little").tobytes()


def _read_positions(stream: bytes, n: int) -> Ints:
    reader = Reader(stream)
    tag = reader.byte()
    if tag == _MASK:
        packed = np.frombuffer(reader.take((n + 7) // 8), np.uint8)
        reader.finish()
        bits = np.unpackbits(packed, bitorder="little")
        if bits[n:].any():
            raise ValueError("a position in it is beyond the end")
        return np.flatnonzero(bits[:n])
    if tag != _GAPS:
        raise ValueError(f"the coding {tag} of its positions is not known")
    return _read_gaps(reader, n)


def _read_gaps(reader: Reader, n: int) -> Ints:
    low, n_gaps, n_escapes = reader.byte(), reader.number(), reader.number()
    # Each gap goes on by one position at least, each escape by 255.
    if low > 32 or n_gaps + _ESCAPE * n_escapes > n:
        raise ValueError("it has more positions than places")
    packed = np.frombuffer(reader.take((low * n_gaps + 7) // 8), np.uint8)
    bits = np.unpackbits(packed, count=low * n_gaps, bitorder="little").reshape(n_gaps, low)
    symbols = huffman.decode(bytes(reader.rest()), n_gaps + n_escapes)
    is_gap = symbols != _ESCAPE
    if np.count_nonzero(is_gap) != n_gaps or (n_gaps and not is_gap[-1]):
        raise ValueError("it has another number of positions than it says")
    reached = np.cumsum(symbols.astype(np.int64))[is_gap]
    high = np.diff(reached, prepend=0)
    gaps = (high << low) + bits.astype(np.int64) @ (1 << np.arange(low))
    positions = np.cumsum(gaps + 1) - 1
    if n_gaps and positions[-1] >= n:
        raise ValueError("a position in it is beyond the end")
    return positions


def _planes(values: npt.NDArray[np.generic]) -> Bytes:
    """Bytes of numbers, those of the same significance in one row."""
    data = np.frombuffer(values.tobytes(), np.uint8)
    return np.ascontiguousarray(data.reshape(-1, values.dtype.itemsize).T)


def _code_numbers(planes: Bytes, tag: int, *before: Coding, is_float: bool) -> list[Coding]:
    """Code numbers byte by byte and, if they are floats, by exponent, with what stands before."""
    codings = [tagged(tag, *before, _code_planes(planes))]
    if is_float and planes.size:
        codings.append(tagged(_BY_EXPONENT + tag, *before, _code_by_exponent(planes)))
    return codings


def _code_planes(planes: Bytes) -> Coding:
    streams = [framed(_code_symbols(plane, 8)) for plane in planes]
    size = sum(stream.size for stream in streams)
    return Coding(size, lambda: b"".join(stream.write() for stream in streams))


def _read_planes(reader: Reader, n: int, itemsize: int) -> Bytes:
    planes = np.empty((itemsize, n), np.uint8)
    for plane in planes:
        plane[:] = _read_symbols(Reader(reader.stream()), n, 8)
    reader.finish()
    return planes


def _code_by_exponent(planes: Bytes) -> Coding:
    """Code the 8 highest bits of the exponents by frequency; sign and fraction are as random.

    The exponent begins within a byte, so that bytes as they are hide how seldom most of them are.
    """
    turned = _turned_left(planes)
    top = int(turned[-1].max())
    exponents = framed(_code_symbols(top - turned[-1], 8))
    rest = Coding(turned[:-1].size, lambda: turned[:-1].tobytes())
    return tagged(top, exponents, rest)


def _read_by_exponent(reader: Reader, n: int, itemsize: int) -> Bytes:
    top = reader.byte()
    below = _read_symbols(Reader(reader.stream()), n, 8)
    if below.size and int(below.max()) > top:
        raise ValueError("an exponent in it is below all others")
    rest = np.frombuffer(reader.take((itemsize - 1) * n), np.uint8)
    reader.finish()
    return _turned_right(np.concatenate([rest, top - below]).reshape(itemsize, n))


def _turned_left(planes: Bytes) -> Bytes:
    """Turn numbers by one bit: the sign becomes the lowest, the exponent begins at the highest."""
    one, seven = np.uint8(1), np.uint8(7)
    return (planes << one) | (np.roll(planes, 1, axis=0) >> seven)


def _turned_right(planes: Bytes) -> Bytes:
    one, seven = np.uint8(1), np.uint8(7)
    return (planes >> one) | (np.roll(planes, -1, axis=0) << seven)
