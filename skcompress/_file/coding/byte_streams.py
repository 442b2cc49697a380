"""Streams of bytes: what is still to be written, and what is read without being believed.

A stream that is not one raises ValueError, and nothing is allocated that is larger than the array
which the caller expects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Coding", "Reader", "framed", "smallest", "tagged", "write_number", "written"]


class Coding(NamedTuple):
    """A stream that may still have to be written.

    Attributes
    ----------
    size : int
        Its length in bytes.
    write : callable
        Returns it.
    """

    size: int
    write: Callable[[], bytes]


class Reader:
    """Reads bytes from front to back and refuses to go beyond the end.

    Parameters
    ----------
    data : bytes
        What to read.

    Examples
    --------
    >>> reader = Reader(write_number(300) + b"abc")
    >>> reader.number(), bytes(reader.take(2)), bytes(reader.rest())
    (300, b'ab', b'c')
    """

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes there are still."""
        return len(self._data) - self._at

    def take(self, n: int) -> memoryview:
        """Return the next `n` bytes."""
        if n > self.left:
            raise ValueError("it is cut off")
        self._at += n
        return self._data[self._at - n : self._at]

    def rest(self) -> memoryview:
        """Return all bytes that are left."""
        return self.take(self.left)

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def number(self) -> int:
        """Return the next number that `write_number` wrote."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number in it has no end")

    def stream(self) -> bytes:
        """Return the next stream that `framed` framed."""
        return bytes(self.take(self.number()))

    def finish(self) -> None:
        """Refuse what is left."""
        if self.left:
            raise ValueError("there are bytes after its end")


def write_number(value: int) -> bytes:
    """Return a whole number >= 0 as 7 bits a byte, the lowest first; the last byte is < 128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def framed(coding: Coding) -> Coding:
    """Put its length before a stream."""
    head = write_number(coding.size)
    return Coding(len(head) + coding.size, lambda: head + coding.write())


def smallest(codings: Sequence[Coding]) -> Coding:
    """Return the shortest; among equals the first."""
    return min(codings, key=lambda coding: coding.size)


def written(data: bytes) -> Coding:
    """Return a stream that nothing has to be done for."""
    return Coding(len(data), lambda: data)


def tagged(tag: int, *parts: Coding) -> Coding:
    """Put a byte that says what they are before streams."""
    size = 1 + sum(part.size for part in parts)
    return Coding(size, lambda: bytes([tag]) + b"".join(part.write() for part in parts))
