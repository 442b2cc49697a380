"""Choose a candidate of a finished sweep by a rule that can be defended.

Each rule goes to ``refit=`` of scikit-learn's search classes, together with
:func:`skcompress.metrics.compression_scoring` as ``scoring=``:

- :class:`SmallestWithinOneSE`: the smallest that is as good, as far as the folds can tell;
- :class:`SmallestWithinDrop`: the smallest that loses at most so much on average;
- :class:`SmallestNonInferior`: the smallest that is *shown* to lose less than a margin;
- :class:`BestWithinBudget`: the best that fits into so many bytes.

What a candidate loses is measured against the *reference*: the dense net where it
is a candidate (its parameters set ``compressor`` to None, or all of its steps are
off), else, with a warning, the candidate with the best mean quality. Differences to it
are *paired*: taken split by split, so that what makes a split hard for every net
cancels. Their standard errors are corrected for the rows that splits share.
"""

from .best_within_budget import BestWithinBudget
from .smallest_non_inferior import SmallestNonInferior
from .smallest_within_drop import SmallestWithinDrop
from .smallest_within_one_se import SmallestWithinOneSE

__all__ = [
    "BestWithinBudget",
    "SmallestNonInferior",
    "SmallestWithinDrop",
    "SmallestWithinOneSE",
]
