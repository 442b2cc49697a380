"""The smallest candidate that loses at most so much on average."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._cv_results import Candidates
from ._base import Rule, Verdicts, doubt_of_few, within
from ._losses import check_loss, doubt_of_scale


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
        accuracy. For a metric between 0 and 1 it is below 1: 1 % is 0.01.
    cost : str, default="neg_nbytes"
        Name of the metric of size, greater is smaller.
    test_size : float, default=None
        The fraction of all rows that one split holds out, for the standard errors of
        :meth:`table`: 1/K for K-fold, also if it is repeated; `test_size` of
        ShuffleSplit. None: 1 / n_splits, which is right for one K-fold only.

    See Also
    --------
    SmallestWithinOneSE : Without a number, by what the splits can tell.
    SmallestNonInferior : With evidence that the loss is smaller than a margin.

    Notes
    -----
    A candidate is kept if :math:`\bar d_i \ge -\mathtt{max\_drop}`, where
    :math:`\bar d_i` is the mean over splits of its quality minus the reference's:
    the dense candidate's (``compressor`` None), without one, with a warning, the best
    mean quality. A difference of rounding only (1e-12 of the quality) is none.

    The smallest candidate that passes has often passed by luck, so its true loss is
    larger than the mean shows. With ``max_drop=0.01`` and five folds we measured a
    drop of 0.2 points shown and 1.6 true with 200 rows, 0.5 and 0.8 with 1,000. Nested
    cross-validation shows the loss without this bias: see
    :class:`SmallestWithinOneSE`.

    The reference is always kept. On equal cost the better mean quality is taken,
    then the first. Candidates with a score that is not finite are skipped. Fewer than
    three splits are a warning. The rule never raises, which would lose the finished
    search: where it cannot work, it warns and takes the next best thing.

    Examples
    --------
    >>> import numpy as np
    >>> from skcompress.model_selection import SmallestWithinDrop
    >>> cv_results = {
    ...     "params": [{"compressor": None}, {"compressor__bits": 8}, {"compressor__bits": 2}],
    ...     "split0_test_accuracy": np.array([0.95, 0.96, 0.90]),
    ...     "split1_test_accuracy": np.array([0.93, 0.92, 0.87]),
    ...     "split2_test_accuracy": np.array([0.97, 0.96, 0.92]),
    ...     "split0_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ...     "split1_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ...     "split2_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ... }
    >>> SmallestWithinDrop("accuracy", 0.01)(cv_results)
    1
    >>> SmallestWithinDrop("accuracy", 0.06)(cv_results)
    2
    """

    _parameters = ("quality", "max_drop", "cost", "test_size")
    max_drop: float

    def __new__(
        cls,
        quality: str,
        max_drop: float,
        cost: str = "neg_nbytes",
        *,
        test_size: float | None = None,
    ) -> Any:
        """Check the parameters: a str is complete once it is made."""
        self = super().__new__(cls, quality, cost, test_size)
        self.max_drop = check_loss("max_drop", max_drop, quality, lowest="at least 0")
        return self

    def _judge(self, candidates: Candidates, reference: int) -> Verdicts:
        allowed = np.full(len(candidates.quality), self.max_drop)
        kept, reasons = within(candidates, reference, allowed, "within the drop")
        se = self._errors(candidates.differences(reference))
        notes = doubt_of_few(candidates)
        notes += doubt_of_scale("max_drop", self.max_drop, candidates, reference)
        return Verdicts(kept, se, reasons, notes)
