"""Which indices of each tensor a removal of units leaves, and the same in little space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["KeptIndices", "PackedIndices", "pack_kept", "unpack_kept"]


KeptIndices = dict[str, list[list[int] | None]]
"""For each parameter and buffer, the kept indices of each axis; None: all."""


PackedIndices = dict[str, list[tuple[int, bytes] | None]]
"""The same with one bit for each index, so that a pickled plan is small."""


def pack_kept(kept: KeptIndices) -> PackedIndices:
    r"""Return kept indices in a form that takes little space.

    Examples
    --------
    >>> packed = pack_kept({"a.weight": [None, [0, 2]]})
    >>> packed, unpack_kept(packed)
    ({'a.weight': [None, (3, b'\xa0')]}, {'a.weight': [None, [0, 2]]})
    """
    return {name: [None if k is None else _to_bits(k) for k in axes] for name, axes in kept.items()}


def unpack_kept(packed: PackedIndices) -> KeptIndices:
    """Return what `pack_kept` was given."""
    return {
        name: [None if bits is None else _from_bits(bits) for bits in axes]
        for name, axes in packed.items()
    }


def _to_bits(kept: Sequence[int]) -> tuple[int, bytes]:
    """One bit for each index up to the last one that is kept."""
    mask = np.zeros(max(kept) + 1, dtype=bool)
    mask[list(kept)] = True
    return len(mask), np.packbits(mask).tobytes()


def _from_bits(bits: tuple[int, bytes]) -> list[int]:
    mask = np.unpackbits(np.frombuffer(bits[1], dtype=np.uint8), count=bits[0])
    return [int(i) for i in np.flatnonzero(mask)]
