"""The rule that tests: the smallest candidate shown to lose less than a margin."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from scipy.special import gammaincinv
from scipy.stats import t as student

from .._cv_results import Candidates, mean
from ._base import MIN_SPLITS, Rule, Verdicts, check_number, check_test_size
from ._losses import check_loss, doubt_of_scale


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
        accuracy. For a metric between 0 and 1 it is below 1: 1 % is 0.01.
    test_size : float
        The fraction of all rows that one split holds out: 1/K for K-fold, also if
        it is repeated; `test_size` of ShuffleSplit.
    n_rows : int, default=None
        How many different rows the splits hold out, ``len(y)`` for K-fold, also if it
        is repeated. With it a candidate also has to pass a test by these rows, for
        qualities that are a share of the rows, such as accuracy; give it for these.
        None: the test by the spread of the splits alone.
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
    training rows, and finds differences that are not there.

    The spread of a few splits says little where few rows differ. A candidate that
    truly loses 0.5 % of the rows loses none of 150 in 47 % of all cases: then all
    differences are 0, :math:`s_i = 0`, and any margin passes. With `n_rows`
    :math:`= n` the candidate must not have lost more rows than a loss of `margin`
    would have shown: with :math:`k = n \max(-\bar d_i, 0)` rows lost, and Q the
    regularized upper incomplete gamma function,

    .. math::

        \frac{\lambda}{n} < \mathtt{margin} \quad \text{where} \quad
        Q(k + 1, \lambda) = 1 - \mathtt{confidence}

    is the upper confidence limit of the number of lost rows (a Poisson count). No
    loss at all excludes losses from :math:`-\ln(1 - \mathtt{confidence}) / n` on,
    the rule of three [3]_: at 95 % about 3 / n, a point with 300 rows, half a point with
    600. A smaller margin than that lets only the reference pass, with a warning.
    Without `n_rows` a candidate that passes with :math:`s_i = 0` is a warning.

    Candidates are tested from the largest to the smallest, beginning below the
    reference, in the order of `cost` (on equal cost: of the grid), and the first
    that fails ends it. An order that is fixed before the scores are seen keeps the
    probability of *any* wrong choice below 1 - `confidence`, without a correction
    for the number of candidates [2]_. Its price: one poor candidate in the middle
    of the grid hides what is behind it, so a grid for this rule should have one
    path from large to small. Candidates larger than the reference are not tested:
    it is the better choice anyway.

    The reference is the dense candidate (``compressor`` None). Without one it is, with
    a warning, the best mean quality; the scores have then chosen it, and the claim is
    weaker than its number. The reference always passes. On equal cost the better mean
    quality is taken, then the first. Candidates with a score that is not finite
    are skipped and end nothing. Fewer than three splits show nothing: only the
    reference passes, with a warning. The rule never raises, which would lose the
    finished search.

    References
    ----------
    .. [1] Nadeau, Bengio (2003). Inference for the Generalization Error. Machine
       Learning 52, 239-281. doi:10.1023/A:1024068626366
    .. [2] Maurer, Hothorn, Lehmacher (1995). Multiple comparisons in drug clinical
       trials and preclinical assays: a-priori ordered hypotheses. Biometrie in der
       chemisch-pharmazeutischen Industrie 6, 3-18.
    .. [3] Hanley, Lippman-Hand (1983). If Nothing Goes Wrong, Is Everything All Right?
       JAMA 249, 1743-1745 (the rule of three).

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
    :class:`SmallestWithinDrop` would take it. On how many rows accuracy was counted
    matters, too: on 600 the second candidate has lost 0.2 of them, which excludes a
    loss of 0.01; on 300 it does not.

    >>> SmallestNonInferior("accuracy", margin=0.01, test_size=1 / 3, n_rows=600)(cv_results)
    1
    """

    _parameters = ("quality", "margin", "test_size", "n_rows", "confidence", "cost")
    margin: float
    n_rows: int | None
    confidence: float

    def __new__(
        cls,
        quality: str,
        margin: float,
        *,
        test_size: float,
        n_rows: int | None = None,
        confidence: float = 0.95,
        cost: str = "neg_nbytes",
    ) -> Any:
        """Check the parameters: a str is complete once it is made."""
        self = super().__new__(cls, quality, cost, check_test_size(test_size))
        self.margin = check_loss("margin", margin, quality, lowest="above 0")
        self.n_rows = None if n_rows is None else _check_n_rows(n_rows)
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
        notes = doubt_of_scale("margin", self.margin, candidates, reference)
        n_splits = candidates.quality.shape[1]
        if n_splits < MIN_SPLITS:
            few = "one split shows" if n_splits == 1 else "two splits show"
            reasons = [f"{few} nothing"] * n_candidates
            reasons[reference] = "the reference"
            notes.append(f"{few} nothing, so only the reference passes. Use 5 or 10 splits.")
            return Verdicts(kept, self._errors(candidates.differences(reference)), reasons, notes)
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
        equal = np.flatnonzero(kept & (se <= candidates.rounding(reference)))
        notes += self._doubts([int(i) for i in equal if i != reference])
        return Verdicts(kept, se, reasons, notes)

    def _test(
        self, candidates: Candidates, reference: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the corrected error, the lower bound of the difference, and who passes."""
        differences = candidates.differences(reference)
        difference, se = mean(differences), self._errors(differences)
        bound = difference - student.ppf(self.confidence, differences.shape[1] - 1) * se
        if self.n_rows is not None:
            bound = np.minimum(bound, -undetected_loss(difference, self.n_rows, self.confidence))
        return se, bound, bound + self.margin > candidates.rounding(reference)

    def _doubts(self, equal: list[int]) -> list[str]:
        """Return what to warn of: `equal` candidates have passed without any spread."""
        if self.n_rows is None:
            note = (
                f"the difference to the reference of candidates {equal} is the same on every "
                "split, so there is no variance to test it by. On few rows that is often chance: "
                "pass n_rows=len(y)."
            )
            return [note] if equal else []
        smallest = float(undetected_loss(0.0, self.n_rows, self.confidence))
        note = (
            f"{self.n_rows} rows cannot show a loss below {smallest:.3g} at "
            f"{100 * self.confidence:.4g} %, so only the reference passes with "
            f"margin={self.margin:.4g}. Use more rows or a larger margin."
        )
        return [note] if smallest >= self.margin else []


def undetected_loss(difference: Any, n_rows: int, confidence: float) -> Any:
    """Return the largest loss that `n_rows` do not exclude, as a share of the rows.

    Parameters
    ----------
    difference : float or ndarray
        Difference in quality; minus the share of the rows that were lost.
    n_rows : int
        The number of rows.
    confidence : float
        How sure the exclusion of larger losses is.

    Returns
    -------
    loss : float or ndarray
        The upper limit of a Poisson count divided by `n_rows`, -log(1 - confidence)
        / n_rows where nothing was lost.
    """
    n_lost = n_rows * np.maximum(np.negative(difference), 0)
    return gammaincinv(n_lost + 1, confidence) / n_rows


def _check_n_rows(n_rows: Any) -> int:
    expected = "the number of rows that the splits hold out, such as len(y)"
    if not isinstance(n_rows, Integral):
        raise TypeError(f"Got n_rows={n_rows!r}, but expected {expected}.")
    return int(check_number("n_rows", n_rows, lambda value: value >= 1, expected))


def _explain(confidence: float, bound: float, passes: bool) -> str:
    return f"at {100 * confidence:.4g} % {'' if passes else 'only '}above {bound:.3g}"
