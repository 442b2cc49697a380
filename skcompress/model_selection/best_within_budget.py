"""The best candidate whose cost stays within a budget."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._cv_results import Candidates
from ._base import Rule, Verdicts, check_number


class BestWithinBudget(Rule):
    """Choose the candidate of the best mean quality among those that are small enough.

    The rule for a given flash or download size.

    Parameters
    ----------
    quality : str
        Name of the metric to be as good as possible, a key of the search's
        `scoring`. Greater is better.
    max_nbytes : int or float
        How many bytes the file may have.
    test_size : float, default=None
        The fraction of all rows that one split holds out, for the standard errors of
        :meth:`table`: 1/K for K-fold, also if it is repeated; `test_size` of
        ShuffleSplit. None: 1 / n_splits, which is right for one K-fold only.

    See Also
    --------
    SmallestWithinOneSE : Where the size is not given but asked for.

    Notes
    -----
    A candidate is kept if ``-neg_nbytes <= max_nbytes`` on *every* split, so that
    a mean does not hide a split whose file is too large. The net that the search
    fits again on all rows may still need a few bytes more or less: look at its
    ``report_.nbytes``, and leave some room.

    On equal quality the smaller is taken, then the first. Candidates with a score
    that is not finite are skipped. Where no candidate is small enough the rule
    warns and takes the smallest. It never raises, which would lose the finished
    search.

    Examples
    --------
    >>> import numpy as np
    >>> from skcompress.model_selection import BestWithinBudget
    >>> cv_results = {
    ...     "params": [{"compressor": None}, {"compressor__bits": 8}, {"compressor__bits": 2}],
    ...     "split0_test_accuracy": np.array([0.95, 0.96, 0.90]),
    ...     "split1_test_accuracy": np.array([0.93, 0.92, 0.87]),
    ...     "split0_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ...     "split1_test_neg_nbytes": np.array([-4000, -1120, -400]),
    ... }
    >>> BestWithinBudget("accuracy", max_nbytes=2_000)(cv_results)
    1
    >>> BestWithinBudget("accuracy", max_nbytes=1_110)(cv_results)
    2
    """

    _parameters = ("quality", "max_nbytes", "test_size")
    _compares = False
    max_nbytes: float

    def __new__(cls, quality: str, max_nbytes: float, *, test_size: float | None = None) -> Any:
        """Check the parameters: a str is complete once it is made."""
        self = super().__new__(cls, quality, "neg_nbytes", test_size)
        check_number(
            "max_nbytes",
            max_nbytes,
            lambda value: 0 < value < math.inf,
            "a positive number of bytes: 20_000 is 20 kB",
        )
        self.max_nbytes = max_nbytes
        return self

    def _judge(self, candidates: Candidates, reference: int) -> Verdicts:
        largest = candidates.cost.max(axis=1)
        kept = largest <= self.max_nbytes
        reasons = [
            "within the budget" if fits else f"up to {nbytes:.0f} bytes, allowed {self.max_nbytes}"
            for fits, nbytes in zip(kept, largest, strict=True)
        ]
        return Verdicts(kept, self._errors(candidates.differences(reference)), reasons)

    def _rank(self, cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
        return np.lexsort((cost, -quality))
