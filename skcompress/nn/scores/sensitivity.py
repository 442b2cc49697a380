"""How much the loss of a net grows as units of one group go, read off a few trials.

The trials are points of a curve for each group. What is made of them is one number for each unit:
what its removal costs, so that units of all groups can be ranked together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["lower_hull", "marginal_losses", "trial_counts"]

# Of a group's units, in the trials. All but the ones that have to stay is another trial.
RATIOS = (0.125, 0.25, 0.5, 0.75, 0.875)
# What takes the place of a loss that is not a number: worse than all others, and still a number.
_BEYOND = 1e6


def trial_counts(n_units: int, min_units: int) -> list[int]:
    """Return how many units of a group are removed in each trial, 0 first.

    Parameters
    ----------
    n_units : int
        How many there are that may go.
    min_units : int
        How many stay in any case.

    Examples
    --------
    >>> trial_counts(16, 1), trial_counts(3, 1), trial_counts(1, 1)
    ([0, 2, 4, 8, 12, 14, 15], [0, 1, 2], [0])
    """
    most = max(n_units - min_units, 0)
    counts = {min(max(round(ratio * n_units), 1), most) for ratio in RATIOS}
    return sorted({0, most} | counts)


def lower_hull(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the corners of the lower convex hull of points in order of their first number.

    Examples
    --------
    >>> lower_hull([(0, 0.0), (1, 0.5), (2, 0.2), (4, 2.0)])
    [(0, 0.0), (2, 0.2), (4, 2.0)]
    """
    hull: list[tuple[int, float]] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2:]
            if (y1 - y0) * (x - x1) < (y - y1) * (x1 - x0):
                break
            hull.pop()
        hull.append((x, y))
    return hull


def marginal_losses(counts: Sequence[int], losses: Sequence[float], n_units: int) -> list[float]:
    r"""Return by how much the loss grows with the first unit that goes, the second, and so on.

    The curve through the trials is replaced by its lower convex hull :math:`h`, so that the steps
    :math:`h(k) - h(k - 1)` never become smaller. Taking always the unit with the smallest step
    then minimizes the sum :math:`\sum_g h_g(k_g)` over the groups :math:`g` for the number of units
    :math:`\sum_g k_g` reached: what a Lagrange multiplier would find.

    Parameters
    ----------
    counts : sequence of int
        How many units had gone in each trial, 0 first, ascending.
    losses : sequence of float
        Of each trial. What is not finite counts as very large.
    n_units : int
        How many numbers to return; beyond the last trial the last step goes on.

    Examples
    --------
    >>> marginal_losses([0, 2, 3], [1.0, 1.5, 3.0], 4)
    [0.25, 0.25, 1.5, 1.5]
    """
    base = losses[0] if math.isfinite(losses[0]) else 0.0
    finite = [loss for loss in losses if math.isfinite(loss)]
    worst = _BEYOND * (1.0 + max(map(abs, finite), default=0.0))
    grown = [(loss if math.isfinite(loss) else worst) - base for loss in losses]
    grown[0] = 0.0
    steps: list[float] = []
    for (x0, y0), (x1, y1) in pairwise(lower_hull(list(zip(counts, grown, strict=True)))):
        steps += [(y1 - y0) / (x1 - x0)] * (x1 - x0)
    steps = steps or [0.0]
    return (steps + [steps[-1]] * max(n_units - len(steps), 0))[:n_units]
