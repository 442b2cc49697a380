"""What rules of choice and displays read from the `cv_results_` of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_COMPRESSOR = "compressor"
# Relative to the scores: means of equal folds differ by a few units in the last place only.
_ROUNDING = 1e-12


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


def metric_names(cv_results: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics, in order."""
    start = "split0_test_"
    return [key.removeprefix(start) for key in cv_results if str(key).startswith(start)]


def dense_candidates(cv_results: Mapping[str, Any], n_candidates: int) -> np.ndarray:
    """Tell which candidates are the net without compression.

    Those whose parameters set every compressor they name to None: a parameter
    called ``compressor`` or ``<...>__compressor``, or that attribute of an
    estimator which the parameters swap in as a whole.
    """
    params = cv_results.get("params")
    if params is None or len(params) != n_candidates:
        return np.zeros(n_candidates, dtype=bool)
    return np.array([_is_dense(setting) for setting in params], dtype=bool)


def _is_dense(params: Mapping[str, Any]) -> bool:
    swapped_in = {
        f"{name}__{_COMPRESSOR}": getattr(value, _COMPRESSOR)
        for name, value in params.items()
        if hasattr(value, _COMPRESSOR)
    }
    named = {n: value for n, value in params.items() if n.rpartition("__")[2] == _COMPRESSOR}
    compressors = {**swapped_in, **named}
    return bool(compressors) and all(value is None for value in compressors.values())
