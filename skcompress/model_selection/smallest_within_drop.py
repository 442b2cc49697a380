"""The smallest candidate that loses at most so much on average."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._cv_results import Candidates
from ._base import Rule, Verdicts, check_number, deviation, within


class SmallestWithinDrop(Rule):
    r"""Choose the smallest candidate that loses at most so much quality on average.

    The rule for "I can give up half a point". It compares means and does not ask
    how sure they are: with few splits or rows a candidate may pass by luck, and
    of many candidates the smallest that passes is likely to have had some.
    :class:`SmallestNonInferior` asks for evidence.

    Parameters
    ----------
    quality : str
        Name of the metric that must stay good, a key of the search's `scoring`.
        Greater is better.
    max_drop : float
        How much of it may be lost, in its own units: 0.005 is half a point of
        accuracy.
    cost : str, default="neg_nbytes"
        Name of the metric of size, greater is smaller.

    See Also
    --------
    SmallestWithinOneSE : Without a number, by what the splits can tell.
    SmallestNonInferior : With evidence that the loss is smaller than a margin.

    Notes
    -----
    A candidate is kept if :math:`\bar d_i \ge -\mathtt{max\_drop}`, where
    :math:`\bar d_i` is the mean over splits of its quality minus the reference's:
    the dense candidate's (``compressor`` None), without one the best mean quality.
    A difference of rounding only (1e-12 of the quality) is none.

    The reference is always kept. On equal cost the better mean quality is taken,
    then the first. Candidates with a score that is not finite are skipped. The
    rule never raises, which would lose the finished search: where it cannot work,
    it warns and takes the next best thing.

    Examples
    --------
    >>> import numpy as np
    >>> from skcompress.model_selection import SmallestWithinDrop
    >>> cv_results = {
    ...     "params": [{"compressor": None}, {"compressor__bits": 8}, {"compressor__bits": 2}],
    ...     "split0_test_accuracy": np.array([0.95, 0.96, 0.90]),
    ...     "split1_test_accuracy": np.array([0.93, 0.92, 0.87]),
    ...     "split0_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ...     "split1_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ... }
    >>> SmallestWithinDrop("accuracy", 0.01)(cv_results)
    1
    >>> SmallestWithinDrop("accuracy", 0.06)(cv_results)
    2
    """

    _parameters = ("quality", "max_drop", "cost")
    max_drop: float

    def __new__(cls, quality: str, max_drop: float, cost: str = "neg_nbytes") -> Any:
        """Check the parameters: a str is complete once it is made."""
        self = super().__new__(cls, quality, cost)
        self.max_drop = check_number(
            "max_drop",
            max_drop,
            lambda value: 0 <= value < math.inf,
            "a number of at least 0, in units of the quality: 0.01 is a point of accuracy",
        )
        return self

    def _judge(self, candidates: Candidates, reference: int) -> Verdicts:
        differences = candidates.differences(reference)
        n_splits = differences.shape[1]
        unknown = np.full(len(differences), np.nan)
        se = unknown if n_splits < 2 else deviation(differences) / math.sqrt(n_splits)
        allowed = np.full(len(differences), self.max_drop)
        kept, reasons = within(candidates, reference, allowed, "within the drop")
        return Verdicts(kept, se, reasons)
