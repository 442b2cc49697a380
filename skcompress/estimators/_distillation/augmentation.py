"""New rows near the given ones, for a teacher to label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._nets import n_rows, take_rows

# Of a feature's standard deviation.
_NOISE = 0.1
# Probability that a feature comes from another row.
_SWAP = 0.1


@dataclass(frozen=True)
class AugmentedRows:
    """Augmented rows, and the numbers of the rows they were made of.

    `X` is ``share * source + (1 - share) * partner`` for mixup; otherwise
    `partner` is `source`.
    """

    X: Any
    source: np.ndarray
    partner: np.ndarray
    share: np.ndarray


def augment_rows(
    X: Any, augment: Any, n_augment: int, rng: np.random.Generator, caller: str
) -> AugmentedRows:
    """Return `n_augment` altered copies of every row, made from these rows alone.

    Parameters
    ----------
    X : array or dict of arrays
        The rows.
    augment : {"noise", "mixup", "swap"} or callable
        See the estimators.
    n_augment : int
        How many copies of each row.
    rng : numpy.random.Generator
        Drawn from.
    caller : str
        For messages.
    """
    source = np.tile(np.arange(n_rows(X)), n_augment)
    rows = take_rows(X, source)
    if augment == "mixup":
        return _mix(X, source, rng)
    if callable(augment):
        made = _check_augmented(_call_augment(augment, rows, rng, caller), rows, caller)
    else:
        change = _add_noise if augment == "noise" else _swap_features
        made = _map_arrays(rows, lambda array, own: change(array, own, rng), X)
    return AugmentedRows(made, source, source, np.ones(len(source), np.float32))


def check_augmentable(X: Any, augment: Any, caller: str) -> None:
    """Refuse augmentations without effect: noise or mixup of whole numbers only."""
    arrays = X.values() if isinstance(X, Mapping) else [X]
    if augment in ("noise", "mixup") and all(array.dtype.kind in "iu" for array in arrays):
        raise ValueError(
            f"The 'augment' parameter of {caller} is {augment!r}, but X holds only whole numbers, "
            "which it leaves alone. Use augment='swap' or a callable."
        )


def _map_arrays(rows: Any, change: Callable[[Any, Any], Any], X: Any) -> Any:
    if isinstance(rows, Mapping):
        return {name: change(array, X[name]) for name, array in rows.items()}
    return change(rows, X)


def _add_noise(rows: np.ndarray, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rows.dtype.kind in "iu":
        return rows
    noise = rng.standard_normal(rows.shape, dtype=np.float32)
    return (rows + _NOISE * own.std(axis=0) * noise).astype(np.float32)


def _swap_features(rows: np.ndarray, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    taken = rng.random(rows.shape, dtype=np.float32) < _SWAP
    donors = rng.integers(len(own), size=rows.shape)
    features = np.indices(rows.shape[1:], sparse=True)
    return np.where(taken, own[(donors, *features)], rows)


def _mix(X: Any, source: np.ndarray, rng: np.random.Generator) -> AugmentedRows:
    partner = rng.integers(n_rows(X), size=len(source))
    # The source has the larger share, so that whole numbers can be taken from it.
    share = rng.uniform(0.5, 1.0, size=len(source)).astype(np.float32)

    def mixed(rows: np.ndarray, own: np.ndarray) -> np.ndarray:
        if rows.dtype.kind in "iu":
            return rows
        part = share.reshape(-1, *[1] * (rows.ndim - 1))
        return (part * rows + (1 - part) * own[partner]).astype(np.float32)

    return AugmentedRows(_map_arrays(take_rows(X, source), mixed, X), source, partner, share)


def _call_augment(augment: Callable[..., Any], rows: Any, rng: Any, caller: str) -> Any:
    try:
        return augment(rows, rng)
    except Exception as error:
        error.add_note(f"Raised by the 'augment' function of {caller}, called as augment(X, rng).")
        raise


def _check_augmented(made: Any, rows: Any, caller: str) -> Any:
    """Return the rows of a user's function if they are like those it was given."""
    given, returned = ({"X": x} if not isinstance(x, Mapping) else x for x in (rows, made))
    same = set(given) == set(returned)
    arrays = {name: np.asarray(returned[name]) for name in given} if same else {}
    for name, array in arrays.items():
        same = same and array.shape == given[name].shape
    if not same or not all(map(_is_finite, arrays.values())):
        shapes = {name: np.shape(array) for name, array in given.items()}
        got = {name: np.shape(array) for name, array in returned.items()}
        raise ValueError(
            f"The 'augment' function of {caller} must return finite rows like those it is given, "
            f"of the shapes {shapes}. Got {got} instead."
        )
    cast = {
        name: np.ascontiguousarray(array, dtype=given[name].dtype) for name, array in arrays.items()
    }
    return cast if isinstance(rows, Mapping) else cast["X"]


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "biuf" and bool(np.isfinite(array).all())
