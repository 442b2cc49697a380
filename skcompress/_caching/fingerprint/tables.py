"""pandas and scipy: frames, sparse matrices, distributions. Neither is loaded for it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .graph import Content, Part, token

# The arrays that make up a sparse matrix, by its format; the others are taken by way of "csr".
_SPARSE_ARRAYS = {
    "csr": ("data", "indices", "indptr"),
    "csc": ("data", "indices", "indptr"),
    "bsr": ("data", "indices", "indptr"),
    "coo": ("data", "coords"),
    "dia": ("data", "offsets"),
}
_POSITIONS = frozenset({"indices", "indptr", "coords", "offsets"})


def _column(values: Any) -> list[bytes | Part | Content]:
    """Return the content of the values of a series or index."""
    dtype = values.dtype
    if isinstance(dtype, np.dtype):
        return [Part("", values.to_numpy())]
    head = token("extension", str(dtype))
    if hasattr(dtype, "categories"):
        category = values.array if hasattr(values, "array") else values
        return [
            head,
            token("ordered", int(bool(dtype.ordered))),
            Part(".categories", dtype.categories),
            # The width of the codes depends on how the column was made.
            Part(".codes", np.asarray(category.codes, dtype=np.int64)),
        ]
    # Missing values are written in one way, whatever stands for them in this type.
    missing = np.asarray(values.isna())
    plain = np.asarray(values.to_numpy(dtype=object)).copy()
    plain[missing] = None
    return [head, Part("", plain), Part("", missing)]


def _index(index: Any) -> Content:
    if index.nlevels > 1:
        levels = [_index(index.get_level_values(i)) for i in range(index.nlevels)]
        return Content(b"multi index", levels)
    return Content(b"index", [Part(".name", index.name), *_column(index)])


def _frame(frame: Any) -> Content:
    parts: list[bytes | Part | Content] = [_index(frame.columns), _index(frame.index)]
    for position in range(frame.shape[1]):
        column = frame.iloc[:, position]
        parts.append(Content(token("column", position), _column(column)))
    return Content(token("frame", *frame.shape), parts)


def _series(series: Any) -> Content:
    return Content(b"series", [Part(".name", series.name), _index(series.index), *_column(series)])


def _sparse(matrix: Any) -> Content:
    kind = Part(".__class__", type(matrix))
    names = _SPARSE_ARRAYS.get(matrix.format)
    if names is None:
        matrix, names = matrix.tocsr(), _SPARSE_ARRAYS["csr"]
    parts = []
    for name in names:
        array = np.asarray(getattr(matrix, name))
        # How wide the positions are stored depends on how the matrix was made.
        parts.append(Part(f".{name}", array.astype(np.int64) if name in _POSITIONS else array))
    label = token("sparse", matrix.format, *matrix.shape)
    return Content(label, [kind, *parts])


def _distribution(value: Any) -> Content:
    # It also refers to a generator that is shared, until a copy of it has one of its own.
    kind = Part(".dist.__class__", type(value.dist))
    parameters = [Part(".args", value.args), Part(".kwds", value.kwds)]
    return Content(token("distribution", value.dist.name), [kind, *parameters])


def expand_table(value: Any) -> Content | None:
    """Return the content of what pandas and scipy define, None for the rest."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and hasattr(pandas, "Series"):
        if isinstance(value, pandas.DataFrame):
            return _frame(value)
        if isinstance(value, pandas.Series):
            return _series(value)
        if isinstance(value, pandas.Index):
            return _index(value)
    sparse = sys.modules.get("scipy.sparse")
    if sparse is not None and hasattr(sparse, "issparse") and sparse.issparse(value):
        return _sparse(value)
    stats = sys.modules.get("scipy.stats")
    if stats is not None and isinstance(value, stats.distributions.rv_frozen):
        return _distribution(value)
    return None
