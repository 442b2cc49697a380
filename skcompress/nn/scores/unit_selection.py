"""Which units are removed, given their scores: by rank, by a threshold, or to reach a target."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .unit_importance import layer_adaptive_scores

__all__ = ["choose_below", "choose_fraction", "parse_threshold", "smallest_enough"]


Scores = Sequence[Tensor]
"""For each group the scores of its units; infinite: stays."""


def parse_threshold(threshold: float | str) -> tuple[float, str | None]:
    """Read a threshold as scikit-learn's ``SelectFromModel`` does: a factor and a statistic.

    Examples
    --------
    >>> parse_threshold(0.1), parse_threshold("median"), parse_threshold("0.5*mean")
    ((0.1, None), (1.0, 'median'), (0.5, 'mean'))
    """
    if not isinstance(threshold, str):
        return float(threshold), None
    found = re.fullmatch(r"\s*(?:([0-9.eE+-]+)\s*\*)?\s*(mean|median)\s*", threshold)
    try:
        if found is not None:
            return float(found[1] or 1.0), found[2]
    except ValueError:
        pass
    raise ValueError(
        f"Got threshold={threshold!r}, but expected a number, 'mean', 'median', or a factor and "
        "one of them, such as '0.5*mean'."
    )


def choose_below(
    scores: Scores, threshold: float | str, *, scope: str, min_units: int, round_to: int | None
) -> list[list[int]]:
    """Choose the units, by position in their group, whose score is below a threshold.

    Examples
    --------
    >>> choose_below(
    ...     [torch.tensor([0.1, 3.0, 2.0])], 2.0, scope="global", min_units=1, round_to=None
    ... )
    [[0]]
    """
    factor, of = parse_threshold(threshold)
    finite = [one[one.isfinite()] for one in scores]
    pool = torch.cat(finite) if finite else torch.zeros(0)
    chosen = []
    for one, own in zip(scores, finite, strict=True):
        base = own if scope == "layer" else pool
        limit = factor if of is None else factor * _statistic(base, of)
        order = one.argsort(stable=True)
        n_below = int((one < limit).sum())
        chosen.append(_allowed(order.tolist(), n_below, min_units, round_to))
    return chosen


def _statistic(values: Tensor, of: str) -> float:
    if values.numel() == 0:
        return 0.0
    return float(values.mean() if of == "mean" else values.double().quantile(0.5))


def choose_fraction(
    scores: Scores,
    fraction: float,
    *,
    scope: str,
    min_units: int,
    round_to: int | None,
    balanced: bool = False,
) -> list[list[int]]:
    """Choose a fraction of all units, or of each group: those with the smallest scores.

    A larger fraction chooses the same units and others. Groups keep at least ``min_units``; units
    of other groups are chosen instead. They keep a multiple of ``round_to`` units, rounded up. If
    ``balanced``, groups compare by `layer_adaptive_scores`.

    Examples
    --------
    >>> scores = [torch.tensor([0.1, 3.0]), torch.tensor([0.2, 0.3])]
    >>> choose_fraction(scores, 0.5, scope="global", min_units=1, round_to=None)
    [[0], [0]]
    """
    orders = [one.argsort(stable=True).tolist() for one in scores]
    wanted = [round(fraction * len(one)) for one in scores]
    if scope == "global":
        ranks = [layer_adaptive_scores(one) for one in scores] if balanced else scores
        wanted = _over_all(ranks, orders, round(fraction * sum(map(len, orders))), min_units)
    finite = [int(one.isfinite().sum()) for one in scores]
    return [
        _allowed(order, min(n, most), min_units, round_to)
        for order, n, most in zip(orders, wanted, finite, strict=True)
    ]


def _over_all(scores: Scores, orders: list[list[int]], k: int, min_units: int) -> list[int]:
    """Return how many units of each group are among the k smallest, where no group may lose all."""
    able = [order[: max(len(order) - min_units, 0)] for order in orders]
    pool = [
        (float(one[i]), number)
        for number, (one, own) in enumerate(zip(scores, able, strict=True))
        for i in own
    ]
    pool.sort()
    counts = [0] * len(orders)
    for score, number in pool[:k]:
        counts[number] += score < float("inf")
    return counts


def _allowed(order: list[int], n: int, min_units: int, round_to: int | None) -> list[int]:
    """Return the first n units of an order, or fewer, so that an allowed number is kept."""
    keep = max(len(order) - n, min(min_units, len(order)), 1)
    if round_to is not None:
        keep = min(-(-keep // round_to) * round_to, len(order))
    return order[: len(order) - keep]


def smallest_enough(is_enough: Callable[[float], bool], n: int) -> float | None:
    """Find the smallest of the fractions 0, 1/n, ..., 1 that is enough; None if 1 is not.

    If a fraction is enough, all larger ones have to be.

    Examples
    --------
    >>> smallest_enough(lambda fraction: fraction >= 0.3, 10)
    0.3
    """
    # First none at all: the removal of a single unit may add more to a file than it saves.
    if is_enough(0.0):
        return 0.0
    if not is_enough(1.0):
        return None
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle / n):
            high = middle
        else:
            low = middle
    return high / n
