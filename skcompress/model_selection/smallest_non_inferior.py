"""The rule that tests: the smallest candidate shown to lose less than a margin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import t as student

from .._cv_results import Candidates, mean
from ._base import Rule, Verdicts, check_number, deviation, is_single


class SmallestNonInferior(Rule):
    r"""Choose the smallest candidate that is shown to lose less than a margin.

    The rule for a claim that has to stand: "not worse than the dense net by more
    than a point, at 95 %". The other rules keep a candidate unless it looks bad;
    this one keeps it only on evidence, so with few rows or wild splits it stays
    with the reference. Fix the margin before you see the results.

    Parameters
    ----------
    quality : str
        Name of the metric that must stay good, a key of the search's `scoring`.
        Greater is better.
    margin : float
        The loss that would matter, in units of the quality: 0.01 is a point of
        accuracy.
    test_size : float
        The fraction of all rows that one split holds out: 1/K for K-fold, also if
        it is repeated; `test_size` of ShuffleSplit.
    confidence : float, default=0.95
        How sure to be, from 0.5 up to below 1.
    cost : str, default="neg_nbytes"
        Name of the metric of size, greater is smaller.

    See Also
    --------
    SmallestWithinDrop : The same margin for the mean alone, without evidence.

    Notes
    -----
    With the paired differences :math:`d_{ik} = q_{ik} - q_{rk}` in quality to the
    reference on split :math:`k` of :math:`J`, their mean :math:`\bar d_i` and
    variance :math:`s_i^2` (with :math:`J - 1` below), a candidate passes if

    .. math::

        \frac{\bar d_i + \mathtt{margin}}
        {\sqrt{\left(\frac{1}{J} + \frac{n_\text{test}}{n_\text{train}}\right) s_i^2}}
        > t_{J - 1,\, \mathtt{confidence}}, \qquad
        \frac{n_\text{test}}{n_\text{train}} =
        \frac{\mathtt{test\_size}}{1 - \mathtt{test\_size}},

    the corrected resampled t-test of Nadeau and Bengio [1]_, one-sided, against
    the null hypothesis that the candidate loses the margin or more. The plain
    t-test, :math:`1/J` alone, takes the splits for independent, though they share
    training rows, and finds differences that are not there. A candidate whose
    differences are all the same (:math:`s_i = 0`) passes if
    :math:`\bar d_i > -\mathtt{margin}`.

    Candidates are tested from the largest to the smallest, beginning below the
    reference, in the order of `cost` (on equal cost: of the grid), and the first
    that fails ends it. An order that is fixed before the scores are seen keeps the
    probability of *any* wrong choice below 1 - `confidence`, without a correction
    for the number of candidates [2]_. Its price: one poor candidate in the middle
    of the grid hides what is behind it, so a grid for this rule should have one
    path from large to small. Candidates larger than the reference are not tested:
    it is the better choice anyway.

    The reference is the dense candidate (``compressor`` None). Without one it is
    the best mean quality; the scores have then chosen it, and the claim is weaker
    than its number. The reference always passes. On equal cost the better mean
    quality is taken, then the first. Candidates with a score that is not finite
    are skipped and end nothing. With one split there is no variance: nothing can
    be shown, and the rule takes the reference with a warning. It never raises,
    which would lose the finished search.

    References
    ----------
    .. [1] Nadeau, Bengio (2003). Inference for the Generalization Error. Machine
       Learning 52, 239-281. doi:10.1023/A:1024068626366
    .. [2] Maurer, Hothorn, Lehmacher (1995). Multiple comparisons in drug clinical
       trials and preclinical assays: a-priori ordered hypotheses. Biometrie in der
       chemisch-pharmazeutischen Industrie 6, 3-18.

    Examples
    --------
    >>> import numpy as np
    >>> from skcompress.model_selection import SmallestNonInferior
    >>> cv_results = {
    ...     "params": [{"compressor": None}, {"compressor__bits": 8}, {"compressor__bits": 2}],
    ...     "split0_test_accuracy": np.array([0.950, 0.951, 0.945]),
    ...     "split1_test_accuracy": np.array([0.930, 0.929, 0.921]),
    ...     "split2_test_accuracy": np.array([0.970, 0.969, 0.966]),
    ...     "split0_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ...     "split1_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ...     "split2_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ... }
    >>> rule = SmallestNonInferior("accuracy", margin=0.01, test_size=1 / 3)
    >>> rule(cv_results)
    1
    >>> for row in rule.table(cv_results):
    ...     print(f"{row['difference']:+.4f}  {row['reason']}")
    +0.0000  the reference
    -0.0003  at 95 % above -0.00341
    -0.0060  at 95 % only above -0.0131

    The last one loses less than 0.01 on average, but three folds do not show it:
    :class:`SmallestWithinDrop` would take it.
    """

    _parameters = ("quality", "margin", "test_size", "confidence", "cost")
    margin: float
    test_size: float
    confidence: float

    def __new__(
        cls,
        quality: str,
        margin: float,
        *,
        test_size: float,
        confidence: float = 0.95,
        cost: str = "neg_nbytes",
    ) -> Any:
        """Check the parameters: a str is complete once it is made."""
        self = super().__new__(cls, quality, cost)
        self.margin = check_number(
            "margin",
            margin,
            lambda value: 0 < value < math.inf,
            "a positive number, in units of the quality: 0.01 is a point of accuracy",
        )
        self.test_size = check_number(
            "test_size",
            test_size,
            lambda value: 0 < value < 1,
            "the held-out fraction of all rows, between 0 and 1: 1 / 5 for 5-fold",
        )
        self.confidence = check_number(
            "confidence",
            confidence,
            lambda value: 0.5 <= value < 1,
            "a number from 0.5 up to below 1: 0.95 for 95 %",
        )
        return self

    def _judge(self, candidates: Candidates, reference: int) -> Verdicts:
        n_candidates = len(candidates.quality)
        kept = np.zeros(n_candidates, dtype=bool)
        kept[reference] = True
        if is_single(candidates):
            reasons = ["one split shows nothing"] * n_candidates
            reasons[reference] = "the reference"
            note = "there is one split, of which no variance is known, so nothing can be shown. "
            note += "Kept the reference. Use several splits."
            return Verdicts(kept, np.full(n_candidates, np.nan), reasons, [note])
        se, bound, passes = self._test(candidates, reference)
        cost = mean(candidates.cost)
        limit = cost[reference] if np.isfinite(cost[reference]) else np.inf
        reasons = ["larger than the reference"] * n_candidates
        reasons[reference] = "the reference"
        failed = None
        for i in np.argsort(-cost, kind="stable"):
            if i == reference or not candidates.is_complete[i] or cost[i] > limit:
                continue
            if failed is not None:
                reasons[i] = f"not tested: the larger candidate {failed} failed"
                continue
            kept[i] = passes[i]
            reasons[i] = _explain(self.confidence, bound[i], passes[i])
            failed = None if passes[i] else i
        return Verdicts(kept, se, reasons)

    def _test(
        self, candidates: Candidates, reference: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the corrected error, the lower bound of the difference, and who passes."""
        differences = candidates.differences(reference)
        n_splits = differences.shape[1]
        correction = 1 / n_splits + self.test_size / (1 - self.test_size)
        se = deviation(differences) * math.sqrt(correction)
        bound = mean(differences) - student.ppf(self.confidence, n_splits - 1) * se
        return se, bound, bound + self.margin > candidates.rounding(reference)


def _explain(confidence: float, bound: float, passes: bool) -> str:
    return f"at {100 * confidence:.4g} % {'' if passes else 'only '}above {bound:.3g}"
