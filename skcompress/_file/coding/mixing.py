r"""A matrix of small symbols to bits with a model that learns as it goes: slow, and the smallest.

Each symbol becomes a few yes-or-no decisions: is it zero, and if not, the bits of the symbol less
one, the highest first. For each decision several contexts (what stands beside and above, how full
the row and the column have been so far) each keep a probability of their own. These are mixed as
PAQ does [1]_: with :math:`x_i = \ln(p_i / (1 - p_i))`, the mixture is
:math:`p = 1 / (1 + e^{-\sum w_i x_i})`, and after the decision :math:`y` the weights move by
:math:`\eta\,x_i (y - p)`. The decision is then coded with :math:`p` by a binary arithmetic coder,
in :math:`-\log_2` of its probability bits. Nothing but integers and tables of integers takes
part, so a stream is the same, and is read the same, on every machine.

.. [1] Mahoney (2005), "Adaptive Weighing of Context Models for Lossless Data Compression".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["decode", "encode"]

Bytes = npt.NDArray[np.uint8]

_MASK = 0xFFFFFFFF
_ONE = 1 << 16  # of probabilities and of weights
_KNOTS = [1, 2, 3, 6, 10, 16, 27, 45, 73, 120, 194, 310, 488, 747, 1101, 1546, 2047]
_KNOTS += [2549, 2994, 3348, 3607, 3785, 3901, 3975, 4022, 4050, 4068, 4079, 4085, 4089, 4092]
_KNOTS += [4093, 4094, 4095]


def _squash(x: int) -> int:
    """4096 / (1 + exp(-x / 256)), by a table with straight lines between its entries."""
    x = max(-2047, min(2047, x))
    place, part = (x >> 7) + 16, x & 127
    return (_KNOTS[place] * (128 - part) + _KNOTS[place + 1] * part + 64) >> 7


def _inverse_of_squash() -> list[int]:
    inverse, first = [2047] * 4096, 0
    for x in range(-2047, 2048):
        last = _squash(x)
        for probability in range(first, last + 1):
            inverse[probability] = x
        first = max(first, last + 1)
    return inverse


_SQUASH = [_squash(x) for x in range(-2047, 2048)]
_STRETCH = _inverse_of_squash()
_SLOWEST = 255
# How far a context's probability moves to what has happened, by how often it was asked: about
# 1 / n, so that it is the share of ones so far.
_RATES = [2 * _ONE // (2 * n + 3) for n in range(_SLOWEST + 1)]
_LEARNING_RATE = 16


def _share_classes() -> list[int]:
    """Classes of shares of 256: 0 for none at all, then two for each doubling."""
    lengths = [share.bit_length() for share in range(257)]
    halves = [share >> max(n - 2, 0) & 1 for share, n in enumerate(lengths)]
    return [1 if n < 2 else 2 * n - 3 + half for n, half in zip(lengths, halves, strict=True)]


_SHARE_CLASSES = _share_classes()


class _Model:
    """Probabilities by context, and the weights that mix them."""

    def __init__(self, n_contexts: list[int], n_mixers: int) -> None:
        self._tables = [[_ONE >> 1] * n for n in n_contexts]
        self._counts = [[0] * n for n in n_contexts]
        start = (3 * _ONE) // (2 * len(n_contexts)) if len(n_contexts) > 1 else _ONE
        self._weights = [[min(start, _ONE)] * len(n_contexts) for _ in range(n_mixers)]

    def predict(self, contexts: tuple[int, ...], mixer: int) -> tuple[int, list[int]]:
        """Return the probability of a one, of 4096, and what went into it."""
        inputs = [
            _STRETCH[table[context] >> 4]
            for table, context in zip(self._tables, contexts, strict=True)
        ]
        weights = self._weights[mixer]
        mixed = 0
        for weight, value in zip(weights, inputs, strict=True):
            mixed += weight * value
        mixed >>= 16
        if mixed > 2047:
            mixed = 2047
        elif mixed < -2047:
            mixed = -2047
        return _SQUASH[mixed + 2047], inputs

    def learn(
        self, contexts: tuple[int, ...], mixer: int, inputs: list[int], p: int, bit: int
    ) -> None:
        """Move probabilities and weights to what has happened."""
        error = ((bit << 12) - p) * _LEARNING_RATE
        weights = self._weights[mixer]
        target = _ONE - 1 if bit else 0
        for i, context in enumerate(contexts):
            weights[i] += (inputs[i] * error + 0x8000) >> 16
            count = self._counts[i][context]
            table = self._tables[i]
            table[context] += ((target - table[context]) * _RATES[count]) >> 16
            if count < _SLOWEST:
                self._counts[i][context] = count + 1


class _Encoder:
    """Binary arithmetic coder with 32 bits, without carries."""

    def __init__(self) -> None:
        self._low, self._high = 0, _MASK
        self._out = bytearray()

    def code(self, p: int, bit: int) -> int:
        """Code a bit that is one with probability `p` of 4096."""
        middle = self._low + (((self._high - self._low) * p) >> 12)
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        while (self._low ^ self._high) >> 24 == 0:
            self._out.append(self._high >> 24)
            self._low = (self._low << 8) & _MASK
            self._high = (self._high << 8) & _MASK | 255
        return bit

    def finish(self) -> bytes:
        """Return all bytes; the reader supplies zeros after them."""
        # The highest bytes of low and high differ, so one byte and zeros lie between them.
        return bytes([*self._out, (self._low + 0xFFFFFF) >> 24])


class _Decoder:
    def __init__(self, stream: bytes) -> None:
        self._low, self._high = 0, _MASK
        self._stream, self._at = stream, 4
        self._value = int.from_bytes(stream[:4].ljust(4, b"\0"), "big")

    def code(self, p: int, bit: int) -> int:
        """Return the next bit; the argument `bit` is not looked at."""
        middle = self._low + (((self._high - self._low) * p) >> 12)
        if self._value <= middle:
            self._high, bit = middle, 1
        else:
            self._low, bit = middle + 1, 0
        while (self._low ^ self._high) >> 24 == 0:
            self._low = (self._low << 8) & _MASK
            self._high = (self._high << 8) & _MASK | 255
            byte = self._stream[self._at] if self._at < len(self._stream) else 0
            self._value = (self._value << 8) & _MASK | byte
            self._at += 1
        return bit

    def finish(self) -> None:
        """Refuse a stream that is longer or shorter than its symbols."""
        if len(self._stream) != self._at - 3:
            raise ValueError("its symbols do not end where it ends")


def encode(symbols: Bytes, bits: int) -> bytes:
    """Code a matrix of symbols below ``2**bits``, of which 0 may be frequent.

    Examples
    --------
    >>> symbols = np.zeros((64, 64), dtype=np.uint8)
    >>> symbols[:, 5] = 3
    >>> stream = encode(symbols, bits=4)
    >>> len(stream) < 64
    True
    >>> bool((decode(stream, (64, 64), bits=4) == symbols).all())
    True
    """
    coder = _Encoder()
    _walk(coder, symbols.tolist(), bits)
    return coder.finish()


def decode(stream: bytes, shape: tuple[int, int], bits: int) -> Bytes:
    """Read what `encode` returned."""
    coder = _Decoder(stream)
    rows = [[0] * shape[1] for _ in range(shape[0])]
    _walk(coder, rows, bits)
    coder.finish()
    symbols = np.array(rows, dtype=np.int64).reshape(shape)
    if symbols.size and symbols.max() >> bits:
        raise ValueError("a symbol in it is too large")
    return symbols.astype(np.uint8)


def _walk(coder: _Encoder | _Decoder, rows: list[list[int]], bits: int) -> None:
    """Send every symbol through the coder; of a decoder, `rows` receive the symbols."""
    n_columns = len(rows[0]) if rows else 0
    zero = _Model([64, 32 * 16, 32 * 16, 16 * 16], n_mixers=4)
    value = _Model([1 << bits, 4 << bits, 4 << bits], n_mixers=bits)
    in_column, last_in_column = [0] * n_columns, [0] * n_columns
    spans = [_age(j) for j in range(n_columns)]
    above = [0] * (n_columns + 2)
    for i, row in enumerate(rows):
        in_row = last_in_row = left = 0
        age = _age(i)
        current = [0] * (n_columns + 2)
        for j, symbol in enumerate(row):
            beside = above[j] << 5 | above[j + 1] << 4 | above[j + 2] << 3 | left
            column, so_far = _class(in_column[j], i), _class(in_row, j)
            contexts = (
                beside,
                age << 4 | column,
                spans[j] << 4 | so_far,
                column << 4 | so_far,
            )
            p, inputs = zero.predict(contexts, left & 3)
            occupied = coder.code(p, 1 if symbol else 0)
            zero.learn(contexts, left & 3, inputs, p, occupied)
            left = (left << 1 | occupied) & 7
            if occupied:
                kinds = (last_in_column[j], last_in_row)
                row[j] = _code_value(coder, value, symbol - 1, bits, kinds) + 1
                last_in_column[j] = last_in_row = min(row[j].bit_length() - 1, 3)
                in_column[j] += 1
                in_row += 1
                current[j + 1] = 1
        above = current


def _age(n: int) -> int:
    return n if n < 16 else min(11 + n.bit_length(), 31)


def _class(count: int, n: int) -> int:
    """Return one of 16 classes of how many of `n` places were occupied."""
    if n < 16:
        return min(count, 15)
    return _SHARE_CLASSES[(count << 8) // n] if count else 0


def _code_value(
    coder: _Encoder | _Decoder, model: _Model, value: int, bits: int, kinds: tuple[int, int]
) -> int:
    node = 1
    for depth in range(bits):
        contexts = (node, kinds[0] << bits | node, kinds[1] << bits | node)
        p, inputs = model.predict(contexts, depth)
        bit = coder.code(p, value >> (bits - 1 - depth) & 1)
        model.learn(contexts, depth, inputs, p, bit)
        node = node << 1 | bit
    return node - (1 << bits)
