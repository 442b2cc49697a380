"""Small integers to dense bytes and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["pack", "unpack", "unpack_tensor"]

Bytes = npt.NDArray[np.uint8]
_WORD = np.dtype("<u8")  # least significant byte first on every machine


def pack(codes: Bytes, bits: int) -> Bytes:
    r"""Pack integers below ``2**bits`` into a bit stream without gaps.

    Bit :math:`j` of code :math:`i` is bit :math:`(i b + j) \bmod 8` of byte
    :math:`\lfloor (i b + j) / 8 \rfloor`, least significant bit first, where :math:`b` is
    ``bits``. The last byte is filled up with zeros.

    Parameters
    ----------
    codes : ndarray of uint8
        Any shape; read in C order.
    bits : int
        From 2 to 8.

    Examples
    --------
    >>> pack(np.array([1, 2, 3], dtype=np.uint8), bits=4)
    array([33,  3], dtype=uint8)
    """
    _check_bits(bits)
    flat = np.ascontiguousarray(codes).reshape(-1)
    if flat.dtype != np.uint8:
        raise ValueError(f"Got codes of dtype {flat.dtype}, but expected uint8.")
    if bits == 8:
        return flat.copy()
    if flat.size and flat.max() >> bits:
        raise ValueError(
            f"Got the code {flat.max()}, but with bits={bits!r} codes are < {2**bits}."
        )
    # Eight codes fill exactly ``bits`` bytes, and fit into one 64-bit word.
    columns = np.zeros((-(-flat.size // 8), 8), dtype=np.uint8)
    columns.reshape(-1)[: flat.size] = flat
    words = np.zeros(len(columns), dtype=_WORD)
    for i in range(8):
        words |= columns[:, i].astype(_WORD) << np.uint64(i * bits)
    stream = words.view(np.uint8).reshape(-1, 8)[:, :bits]
    return stream.reshape(-1)[: (flat.size * bits + 7) // 8].copy()


def unpack(packed: Bytes, bits: int, n: int) -> Bytes:
    """Read ``n`` integers from what `pack` returned.

    Examples
    --------
    >>> unpack(np.array([33, 3], dtype=np.uint8), bits=4, n=3)
    array([1, 2, 3], dtype=uint8)
    """
    _check_bits(bits)
    expected = (n * bits + 7) // 8
    if packed.shape != (expected,) or packed.dtype != np.uint8:
        raise ValueError(
            f"Got packed codes of shape {packed.shape} and dtype {packed.dtype}, but n={n!r} codes "
            f"of bits={bits!r} take ({expected},) bytes of uint8."
        )
    if bits == 8:
        return packed.copy()
    stream = np.zeros((-(-n // 8), bits), dtype=np.uint8)
    stream.reshape(-1)[:expected] = packed
    columns = np.zeros((len(stream), 8), dtype=np.uint8)
    columns[:, :bits] = stream
    words = columns.view(_WORD).reshape(-1)
    mask = np.uint64(2**bits - 1)
    codes = np.empty((len(stream), 8), dtype=np.uint8)
    for i in range(8):
        codes[:, i] = (words >> np.uint64(i * bits)) & mask
    return codes.reshape(-1)[:n].copy()


def unpack_tensor(packed: Tensor, bits: int, n: int) -> Tensor:
    """Read ``n`` integers from a tensor, by operations that torch can record and export.

    Examples
    --------
    >>> unpack_tensor(torch.tensor([33, 3], dtype=torch.uint8), bits=4, n=3)
    tensor([1, 2, 3], dtype=torch.uint8)
    """
    _check_bits(bits)
    if bits == 8:
        return packed.clone()
    n_rows = -(-n // 8)  # eight codes fill exactly ``bits`` bytes
    stream = nn.functional.pad(packed, (0, n_rows * bits - packed.shape[0])).reshape(n_rows, bits)
    columns = []
    for i in range(8):
        byte, shift = divmod(i * bits, 8)
        word = stream[:, byte].to(torch.int32)
        if shift + bits > 8:
            word = word | (stream[:, byte + 1].to(torch.int32) << 8)
        columns.append((word >> shift) & (2**bits - 1))
    return torch.stack(columns, 1).reshape(-1)[:n].to(torch.uint8)


def _check_bits(bits: int) -> None:
    if not 2 <= bits <= 8:
        raise ValueError(f"Got bits={bits!r}, but expected an integer from 2 to 8.")
