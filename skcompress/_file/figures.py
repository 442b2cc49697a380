"""What a file says of its net in numbers, in few bytes: the report, and the outputs for a row."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..nn.modules.counting import share_of_zeros
from .coding.byte_streams import Reader, write_number

# Of the report: what is about the net and not about the fit or the file.
COUNTS = ("n_params", "n_nonzero", "macs", "dense_n_params", "dense_n_nonzero", "dense_macs")
SHARES = ("sparsity", "dense_sparsity")
_NONZERO = ("n_nonzero", "dense_n_nonzero")
# The size of the dense net's file has a fixed width, so that no size depends on it.
_SIZE = 5
_MOST = 256**_SIZE - 1
_PROBED = 4  # outputs that are kept, with the precision of bfloat16
_FLOATS = struct.Struct("<2d")


def write_figures(
    report: Mapping[str, Any], dense_nbytes: int | None, probe: list[float] | None
) -> bytes:
    """Write the report of an estimator, the size of the dense net's file, and a few outputs."""
    counts = [report[name] for name in COUNTS]
    parts = [write_number(0 if count is None else 1 + count) for count in counts]
    n_weights = _n_weights(report)
    parts.append(write_number(0 if n_weights is None else 1 + n_weights))
    if n_weights is None:
        parts.append(_FLOATS.pack(*(report[name] for name in SHARES)))
    size = dense_nbytes if dense_nbytes is not None and dense_nbytes <= _MOST else 0
    parts.append(size.to_bytes(_SIZE, "little"))
    floats = np.array([] if probe is None else probe[:_PROBED], "<f4")
    if np.isfinite(floats).all():
        parts.append(floats.view("<u2")[1::2].tobytes())
    return b"".join(parts)


def read_figures(stream: bytes) -> tuple[dict[str, Any], int | None, list[float] | None]:
    """Return what `write_figures` was given."""
    reader = Reader(stream)
    report: dict[str, Any] = {}
    for name in COUNTS:
        count = reader.number()
        report[name] = count - 1 if count else None
    if n_weights := reader.number():
        shares = [share_of_zeros(report[name] or 0, n_weights - 1) for name in _NONZERO]
    else:
        shares = list(_FLOATS.unpack(reader.take(_FLOATS.size)))
    report |= dict(zip(SHARES, shares, strict=True))
    dense_nbytes = int.from_bytes(reader.take(_SIZE), "little")
    halves = np.frombuffer(reader.rest(), "<u2")
    probe = (halves.astype("<u4") << 16).view("<f4")
    return report, dense_nbytes or None, probe.astype(float).tolist() or None


def _n_weights(report: Mapping[str, Any]) -> int | None:
    """Return the number of weights that both shares of zeros are of, if there is one."""
    n_nonzero, left = report["n_nonzero"], 1 - report["sparsity"]
    found = round(n_nonzero / left) if left > 0 else 0
    told = [share_of_zeros(report[name], found) for name in _NONZERO]
    return found if told == [report[name] for name in SHARES] else None
