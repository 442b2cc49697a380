"""What rules of choice and displays read from the `cv_results_` of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from . import steps

DENSE = "dense"  # the metric of `compression_scoring` that is 1 for the net without compression
_COMPRESSOR = "compressor"
# Relative to the scores: means of equal folds differ by a few units in the last place only.
_ROUNDING = 1e-12
# One K-fold of more parts is rare, repeated ones of as many splits are not.
_MANY_SPLITS = 10


@dataclass(frozen=True)
class Candidates:
    """Quality and cost of each candidate of a search.

    Parameters
    ----------
    quality : ndarray of shape (n_candidates, n_splits)
        Scores on the held-out rows, greater is better.
    cost : ndarray of shape (n_candidates, n_splits)
        Minus the score of the cost, so that smaller is better.
    dense : ndarray of bool, shape (n_candidates,)
        Which candidates are the net without compression.
    """

    quality: np.ndarray
    cost: np.ndarray
    dense: np.ndarray

    @property
    def has_quality(self) -> np.ndarray:
        """Which candidates have a finite quality on every split."""
        return np.isfinite(self.quality).all(axis=1)

    @property
    def is_complete(self) -> np.ndarray:
        """Which candidates have a finite quality and a finite cost on every split."""
        return self.has_quality & np.isfinite(self.cost).all(axis=1)

    def reference(self) -> int | None:
        """Return the candidate that others are compared with.

        The dense one with the best mean quality, else the best of all; the first
        one where several are equal. None where no candidate has a finite quality.
        """
        for among in (self.dense & self.has_quality, self.has_quality):
            if among.any():
                return int(np.argmax(np.where(among, mean(self.quality), -np.inf)))
        return None

    def differences(self, reference: int) -> np.ndarray:
        """Return quality minus the reference's, split by split."""
        with np.errstate(invalid="ignore", over="ignore"):
            return self.quality - self.quality[reference]

    def rounding(self, reference: int) -> np.ndarray:
        """Return how much of a mean difference may be rounding, for each candidate."""
        largest = np.abs(self.quality).max(axis=1)
        return _ROUNDING * np.maximum(largest, largest[reference])


def read_candidates(cv_results: Mapping[str, Any], quality: str, cost: str) -> Candidates | None:
    """Return what `cv_results` says about two of its metrics, None if it lacks one."""
    qualities, costs = split_scores(cv_results, quality), split_scores(cv_results, cost)
    if qualities is None or costs is None:
        return None
    return Candidates(qualities, -costs, dense_candidates(cv_results, len(qualities)))


def split_scores(cv_results: Mapping[str, Any], metric: str) -> np.ndarray | None:
    """Return the test scores of a metric, (n_candidates, n_splits); None if there are none."""
    columns: list[np.ndarray] = []
    while (key := f"split{len(columns)}_test_{metric}") in cv_results:
        columns.append(np.asarray(cv_results[key], dtype=float))
    return np.stack(columns, axis=1) if columns else None


def mean(scores: np.ndarray) -> np.ndarray:
    """Return the mean over splits; that of a candidate without a finite score is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        result: np.ndarray = scores.mean(axis=1)
    return result


def standard_error(scores: np.ndarray, test_size: float | None = None) -> np.ndarray:
    """Return the standard errors of means over splits that share their training rows.

    Parameters
    ----------
    scores : ndarray of shape (..., n_splits)
        One score for each split.
    test_size : float, default=None
        The fraction of all rows that one split holds out. None: 1 / n_splits.

    Returns
    -------
    error : ndarray of shape (...)
        The root of the variance times 1 / n_splits + n_test / n_train (Nadeau and
        Bengio, 2003); 1 / n_splits alone is for independent scores. nan for one split.
    """
    n_splits = scores.shape[-1]
    share = 1 / n_splits if test_size is None else test_size
    if n_splits < 2:
        return np.full(scores.shape[:-1], np.nan)
    if not 0 < share < 1:
        raise ValueError(
            f"Got test_size={test_size!r}, but expected the held-out fraction of all rows, between "
            "0 and 1: 1 / 5 for 5-fold."
        )
    with np.errstate(invalid="ignore", over="ignore"):
        deviation: np.ndarray = scores.std(axis=-1, ddof=1)
        return deviation * math.sqrt(1 / n_splits + share / (1 - share))


def doubt_of_splits(n_splits: int, test_size: float | None) -> str | None:
    """Return the warning about splits that hardly are the parts of one K-fold."""
    if test_size is not None or n_splits <= _MANY_SPLITS:
        return None
    return (
        f"test_size=None takes the {n_splits} splits for one {n_splits}-fold. If they repeat a "
        "K-fold or come from ShuffleSplit, the standard errors are too small: pass test_size=1 / K "
        "or that of ShuffleSplit."
    )


def metric_names(cv_results: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics, in order."""
    start = "split0_test_"
    return [key.removeprefix(start) for key in cv_results if str(key).startswith(start)]


def compressor_name(cv_results: Mapping[str, Any]) -> str:
    """Return what the compressor is called in the grid of a search: ``net__compressor``."""
    for setting in cv_results.get("params", ()):
        for name in setting:
            before, found, _ = f"__{name}__".partition(f"__{_COMPRESSOR}__")
            if found:
                return f"{before}__{_COMPRESSOR}".removeprefix("__")
    return _COMPRESSOR


def dense_candidates(cv_results: Mapping[str, Any], n_candidates: int) -> np.ndarray:
    """Tell which candidates are the net without compression.

    As the metric ``"dense"`` says, which knows the estimators. Where it is not among
    the results or a fit failed, those whose parameters switch off every compressor
    they name: a parameter called ``compressor`` or ``<...>__compressor``, or that
    attribute of an estimator which the parameters swap in as a whole.
    """
    params = cv_results.get("params")
    dense = np.zeros(n_candidates, dtype=bool)
    if params is not None and len(params) == n_candidates:
        dense = np.array([_is_dense(setting) for setting in params], dtype=bool)
    scores = split_scores(cv_results, DENSE)
    if scores is None:
        return dense
    return np.where(np.isfinite(scores).all(axis=1), (scores == 1).all(axis=1), dense)


def is_off(compressor: Any) -> bool:
    """Tell whether it is certain that a compressor leaves every net as it is."""
    if compressor is None or isinstance(compressor, str):
        return compressor in (None, "passthrough")
    if isinstance(compressor, Pipeline):
        return all(is_off(step) for _, step in compressor.steps)
    # Nothing else is certain: a class derived from these may do more, and with `reconstruct` or
    # several steps weights are trained.
    if type(compressor) not in (steps.MagnitudePruner, steps.StructuredPruner):
        return False
    given = compressor.get_params(deep=False)
    if type(compressor) is steps.MagnitudePruner:
        nothing = 0 in (given["sparsity"], given["threshold"])
    else:
        nothing = given["pruning_ratio"] == 0 and given["round_to"] is None
    return nothing and given["n_steps"] == 1 and not given["reconstruct"]


def _is_dense(params: Mapping[str, Any]) -> bool:
    swapped_in = {
        f"{name}__{_COMPRESSOR}": getattr(value, _COMPRESSOR)
        for name, value in params.items()
        if hasattr(value, _COMPRESSOR)
    }
    named = {n: value for n, value in params.items() if n.rpartition("__")[2] == _COMPRESSOR}
    compressors = {**swapped_in, **named}
    changed = any(name.startswith(f"{own}__") for name in params for own in compressors)
    return bool(compressors) and not changed and all(map(is_off, compressors.values()))
