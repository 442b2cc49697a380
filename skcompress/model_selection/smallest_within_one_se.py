"""The smallest candidate within one standard error of the reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._cv_results import Candidates
from ._base import Rule, Verdicts, deviation, is_single, within


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
        """Check the parameters: a str is complete once it is made."""
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
        kept, reasons = within(candidates, reference, se, "within one standard error")
        return Verdicts(kept, se, reasons, notes)
