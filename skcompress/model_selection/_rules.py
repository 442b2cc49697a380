"""The rules that compare means: within a standard error, a drop, a budget."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._cv_results import Candidates, mean
from ._base import Rule, Verdicts, check_number, deviation, is_single


class SmallestWithinOneSE(Rule):
    r"""Choose the smallest candidate that is within one standard error of the reference.

    The rule for "smaller, and as good as far as the folds can tell". It needs no
    number from you. Where you know what loss is acceptable say so instead, with
    :class:`SmallestWithinDrop`, or with :class:`SmallestNonInferior` to be sure.

    Parameters
    ----------
    quality : str
        Name of the metric that must stay good, a key of the search's `scoring`.
        Greater is better.
    cost : str, default="neg_nbytes"
        Name of the metric of size, greater is smaller.

    See Also
    --------
    SmallestWithinDrop : With a loss that you name.
    SmallestNonInferior : With a loss that you name, and evidence.

    Notes
    -----
    With :math:`q_{ik}` the quality of candidate :math:`i` on split :math:`k` of
    :math:`J`, :math:`r` the reference (the dense candidate, with ``compressor``
    None; without one, the best mean quality) and the paired differences
    :math:`d_{ik} = q_{ik} - q_{rk}`, a candidate is kept if

    .. math::

        \bar d_i \ge -\min(\mathrm{SE}(d_i), \mathrm{SE}(q_r)), \qquad
        \mathrm{SE}(x) = \sqrt{\frac{1}{J (J - 1)} \sum_k (x_k - \bar x)^2}.

    :math:`\bar d_i \ge -\mathrm{SE}(q_r)` is the rule of Breiman et al. [1]_. It
    ignores that all candidates saw the same splits. The paired error does not,
    and is much smaller where the splits differ more than the candidates; on its
    own it would reward a candidate that collapses on some splits, whose error is
    large. The smaller of both has neither fault.

    The reference is always kept. On equal cost the better mean quality is taken,
    then the first. Candidates with a score that is not finite are skipped. With
    one split there is no standard error: it counts as 0, with a warning.

    The rule never raises, which would lose the finished search: where it cannot
    work, for lack of a metric or of finite scores, it warns and takes the next
    best thing. scikit-learn sets no `best_score_` for a rule.

    References
    ----------
    .. [1] Breiman, Friedman, Olshen, Stone (1984). Classification and Regression
       Trees, section 3.4.3.

    Examples
    --------
    Three folds, the dense net of 4,000 bytes and two smaller ones:

    >>> import numpy as np
    >>> from skcompress.model_selection import SmallestWithinOneSE
    >>> cv_results = {
    ...     "params": [{"compressor": None}, {"compressor__bits": 8}, {"compressor__bits": 2}],
    ...     "split0_test_accuracy": np.array([0.95, 0.96, 0.90]),
    ...     "split1_test_accuracy": np.array([0.93, 0.92, 0.87]),
    ...     "split2_test_accuracy": np.array([0.97, 0.96, 0.92]),
    ...     "split0_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ...     "split1_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ...     "split2_test_neg_nbytes": np.array([-4000, -1100, -400]),
    ... }
    >>> rule = SmallestWithinOneSE("accuracy")
    >>> rule(cv_results)
    1
    >>> for row in rule.table(cv_results):
    ...     print(f"{row['difference']:+.4f} ± {row['se']:.4f}  {row['reason']}")
    +0.0000 ± 0.0000  the reference
    -0.0033 ± 0.0067  within one standard error
    -0.0533 ± 0.0033  lost 0.05333, allowed 0.003333

    In a search, ``refit=SmallestWithinOneSE("accuracy")`` goes with
    ``scoring=compression_scoring("accuracy")``.
    """

    def __new__(cls, quality: str, cost: str = "neg_nbytes") -> Any:
        return super().__new__(cls, quality, cost)

    def _judge(self, candidates: Candidates, reference: int) -> Verdicts:
        differences = candidates.differences(reference)
        if is_single(candidates):
            se = np.zeros(len(differences))
            notes = [
                "there is one split, so the standard error is unknown and was taken as 0: only "
                "candidates as good as the reference are kept. Use several splits."
            ]
        else:
            n_splits = differences.shape[1]
            se_reference = deviation(candidates.quality[reference]) / math.sqrt(n_splits)
            se = np.minimum(deviation(differences) / math.sqrt(n_splits), se_reference)
            notes = []
        kept, reasons = _within(candidates, reference, se, "within one standard error")
        return Verdicts(kept, se, reasons, notes)


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
        kept, reasons = _within(candidates, reference, allowed, "within the drop")
        return Verdicts(kept, se, reasons)


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

    _parameters = ("quality", "max_nbytes")
    max_nbytes: float

    def __new__(cls, quality: str, max_nbytes: float) -> Any:
        self = super().__new__(cls, quality, "neg_nbytes")
        check_number(
            "max_nbytes",
            max_nbytes,
            lambda value: 0 < value < math.inf,
            "a positive number of bytes: 20_000 is 20 kB",
        )
        self.max_nbytes = max_nbytes
        return self

    def _judge(self, candidates: Candidates, reference: int) -> Verdicts:
        differences = candidates.differences(reference)
        n_splits = differences.shape[1]
        unknown = np.full(len(differences), np.nan)
        se = unknown if n_splits < 2 else deviation(differences) / math.sqrt(n_splits)
        largest = candidates.cost.max(axis=1)
        kept = largest <= self.max_nbytes
        reasons = [
            "within the budget" if fits else f"up to {nbytes:.0f} bytes, allowed {self.max_nbytes}"
            for fits, nbytes in zip(kept, largest, strict=True)
        ]
        return Verdicts(kept, se, reasons)

    def _rank(self, cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
        return np.lexsort((cost, -quality))


def _within(
    candidates: Candidates, reference: int, allowed: np.ndarray, praise: str
) -> tuple[np.ndarray, list[str]]:
    """Return which candidates lose at most what each is allowed to, and why not."""
    differences = mean(candidates.differences(reference))
    kept = differences >= -allowed - candidates.rounding(reference)
    reasons = [
        praise if good else f"lost {-difference:.4g}, allowed {limit:.4g}"
        for good, difference, limit in zip(kept, differences, allowed, strict=True)
    ]
    reasons[reference] = "the reference"
    return kept, reasons
