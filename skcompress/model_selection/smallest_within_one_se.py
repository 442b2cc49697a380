"""The smallest candidate within one standard error of the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._cv_results import Candidates, doubt_of_splits
from ._base import Rule, Verdicts, doubt_of_few, within


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
    test_size : float, default=None
        The fraction of all rows that one split holds out: 1/K for K-fold, also if it
        is repeated; `test_size` of ShuffleSplit. None: 1 / n_splits, which is right
        for one K-fold only. Repeated splits have to give it.

    See Also
    --------
    SmallestWithinDrop : With a loss that you name.
    SmallestNonInferior : With a loss that you name, and evidence.

    Notes
    -----
    With :math:`q_{ik}` the quality of candidate :math:`i` on split :math:`k` of
    :math:`J`, :math:`r` the reference (the dense candidate, with ``compressor``
    None; without one, with a warning, the best mean quality) and the paired
    differences :math:`d_{ik} = q_{ik} - q_{rk}`, a candidate is kept if

    .. math::

        \bar d_i \ge -\min(\mathrm{SE}(d_i), \mathrm{SE}(q_r)), \qquad
        \mathrm{SE}(x)^2 = \left(\frac{1}{J} + \frac{n_\text{test}}{n_\text{train}}\right)
        \frac{1}{J - 1} \sum_k (x_k - \bar x)^2, \qquad
        \frac{n_\text{test}}{n_\text{train}} =
        \frac{\mathtt{test\_size}}{1 - \mathtt{test\_size}}.

    :math:`\bar d_i \ge -\mathrm{SE}(q_r)` is the rule of Breiman et al. [1]_. It
    ignores that all candidates saw the same splits. The paired error does not,
    and is much smaller where the splits differ more than the candidates; on its
    own it would reward a candidate that collapses on some splits, whose error is
    large. The smaller of both has neither fault.

    :math:`1/J` alone would be the standard error of independent scores. Splits share
    training rows, so it is too small, and repetitions would make it as small as one
    likes: 1.5 times too small for 5 folds, 3.7 times for 10 repetitions of them, by
    the correction of Nadeau and Bengio [2]_. It is an approximation: K-fold has no
    unbiased estimate of its variance [3]_.

    **How much to believe.** The rule takes the smallest of many candidates that look
    good enough, and some look so by luck. Its candidate therefore truly loses more
    than its mean difference shows. Measured with five folds and :math:`1/J` alone: a
    drop of 0.5 points shown and 1.9 true with 200 rows, 0.12 and 0.45 with 1,000,
    0.04 and 0.14 with 5,000. The corrected error allows a larger drop; in simulations
    the true loss grew by a third, and the gap stayed. Nested cross-validation,
    ``cross_val_score(search, X, y)``, scores the rule on rows that it has not chosen
    by, and is free of this bias.

    The reference is always kept. On equal cost the better mean quality is taken,
    then the first. Candidates with a score that is not finite are skipped. With
    one split there is no standard error: it counts as 0. Fewer than three splits are
    a warning.

    The rule never raises, which would lose the finished search: where it cannot
    work, for lack of a metric or of finite scores, it warns and takes the next
    best thing. scikit-learn sets no `best_score_` for a rule.

    References
    ----------
    .. [1] Breiman, Friedman, Olshen, Stone (1984). Classification and Regression
       Trees, section 3.4.3.
    .. [2] Nadeau, Bengio (2003). Inference for the Generalization Error. Machine
       Learning 52, 239-281. doi:10.1023/A:1024068626366
    .. [3] Bengio, Grandvalet (2004). No Unbiased Estimator of the Variance of K-Fold
       Cross-Validation. JMLR 5, 1089-1105.

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
    -0.0033 ± 0.0105  within one standard error
    -0.0533 ± 0.0053  lost 0.05333, allowed 0.00527

    In a search, ``refit=SmallestWithinOneSE("accuracy")`` goes with
    ``scoring=compression_scoring("accuracy")``. The honest figure for what it chooses is
    that of nested cross-validation; the rule is a part of the search, so it chooses anew
    in every outer fold:

    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
    >>> from skorch import NeuralNetClassifier
    >>> from skcompress import CompressedClassifier, MagnitudePruner
    >>> from skcompress.metrics import compression_scoring
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     torch.nn.Linear,
    ...     module__in_features=4,
    ...     module__out_features=3,
    ...     criterion=torch.nn.CrossEntropyLoss,
    ...     lr=0.1,
    ...     train_split=None,
    ...     verbose=0,
    ... )
    >>> search = GridSearchCV(
    ...     CompressedClassifier(net, MagnitudePruner(), random_state=0),
    ...     [{"compressor": [None]}, {"compressor__sparsity": [0.25, 0.5]}],
    ...     cv=StratifiedKFold(5, shuffle=True, random_state=0),
    ...     scoring=compression_scoring("accuracy"),
    ...     refit=SmallestWithinOneSE("accuracy"),
    ... )
    >>> scores = cross_val_score(search, X, y, cv=StratifiedKFold(3))
    >>> bool(scores.mean() > 0.6)
    True
    """

    _parameters = ("quality", "cost", "test_size")

    def __new__(
        cls, quality: str, cost: str = "neg_nbytes", *, test_size: float | None = None
    ) -> Any:
        """Check the parameters: a str is complete once it is made."""
        return super().__new__(cls, quality, cost, test_size)

    def _judge(self, candidates: Candidates, reference: int) -> Verdicts:
        n_splits = candidates.quality.shape[1]
        notes = doubt_of_few(candidates)
        if n_splits < 2:
            se = np.zeros(len(candidates.quality))
            notes.append(
                "the standard error of one split is unknown and was taken as 0: only candidates "
                "as good as the reference are kept."
            )
        else:
            se_reference = self._errors(candidates.quality[reference])
            se = np.minimum(self._errors(candidates.differences(reference)), se_reference)
            doubt = doubt_of_splits(n_splits, self.test_size)
            notes += [] if doubt is None else [doubt]
        kept, reasons = within(candidates, reference, se, "within one standard error")
        return Verdicts(kept, se, reasons, notes)
