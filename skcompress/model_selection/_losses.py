"""How much may be lost: a number in units of the quality, which is not always percent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer_names

from .._cv_results import Candidates
from ._base import check_number

_HINT = "1 % is 0.01"
# Scorers of scikit-learn between 0 and 1, which have names such as f1_macro and roc_auc_ovr, too.
_SHARES = (
    *("accuracy", "balanced_accuracy", "top_k_accuracy", "average_precision"),
    *("f1", "jaccard", "precision", "recall", "roc_auc"),
)


def check_loss(name: str, value: Any, quality: str, *, lowest: str) -> float:
    """Refuse a loss that is no number, negative, or percent of a share.

    Parameters
    ----------
    name : str
        What the parameter is called.
    value : object
        What was given.
    quality : str
        The metric that it is a loss of.
    lowest : str
        Whether the loss may be zero: "at least 0" or "above 0".
    """
    smallest = 0.0 if lowest == "at least 0" else math.nextafter(0.0, 1.0)
    expected = f"a number {lowest}, in units of the quality: 0.01 is a point of accuracy"
    loss = check_number(name, value, lambda given: smallest <= given < math.inf, expected)
    if loss >= 1 and _is_share(quality):
        raise ValueError(
            f"Got {name}={value!r}, but {quality!r} lies between 0 and 1, so that no loss would be "
            f"too large. Expected a share below 1: {_HINT}."
        )
    return loss


def doubt_of_scale(name: str, loss: float, candidates: Candidates, reference: int) -> list[str]:
    """Return a warning where the scores look like shares and the loss like percent.

    Of a metric that is not scikit-learn's only the scores show the scale, and R^2 has
    no lower limit. Errors (``neg_mean_squared_error``) are negative: there 5 is a
    number like any other.
    """
    score = float(np.mean(candidates.quality[reference]))
    if loss < 1 or not 0 < score <= 1:
        return []
    return [
        f"{name}={loss:.4g} allows to lose more than the {score:.3g} that the reference has. If it "
        f"was meant as percent: {_HINT}."
    ]


def _is_share(quality: str) -> bool:
    named = any(quality == share or quality.startswith(f"{share}_") for share in _SHARES)
    return named and quality in get_scorer_names()
