"""Curves of losses, and what a unit costs by them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skcompress.nn.scores.sensitivity import lower_hull, marginal_losses, trial_counts


@given(st.integers(1, 200), st.integers(1, 210))
def test_trials_are_few_different_and_leave_enough(n, min_units):
    counts = trial_counts(n, min_units)
    most = max(n - min_units, 0)
    assert counts[0] == 0
    assert counts[-1] == most
    assert counts == sorted(set(counts))
    assert len(counts) <= 7


curves = st.lists(st.floats(-3, 3), min_size=2, max_size=7)


@given(curves)
def test_the_hull_is_below_and_convex_and_touches(losses):
    points = list(enumerate(losses))
    hull = lower_hull(points)
    assert (hull[0], hull[-1]) == (points[0], points[-1])
    assert set(hull) <= set(points)
    on_hull = np.interp(range(len(losses)), *np.array(hull).T)
    assert (on_hull <= np.array(losses) + 1e-9).all()
    slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in itertools.pairwise(hull)]
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(slopes))


@given(st.lists(curves, min_size=2, max_size=3), st.data())
def test_the_smallest_steps_are_the_best_allocation(losses, data):
    """Against all allocations there are, of the same number of units over the groups."""
    steps = [marginal_losses(range(len(one)), one, len(one) - 1) for one in losses]
    hulls = [np.r_[0, np.cumsum(own)] for own in steps]
    n = data.draw(st.integers(0, sum(len(own) for own in steps)))
    greedy = sum(sorted(itertools.chain(*steps))[:n])
    best = min(
        sum(hull[k] for hull, k in zip(hulls, ks, strict=True))
        for ks in itertools.product(*(range(len(hull)) for hull in hulls))
        if sum(ks) == n
    )
    assert greedy == pytest.approx(best, abs=1e-6)


def test_steps_between_and_beyond_trials():
    assert marginal_losses([0, 2, 4], [1.0, 1.2, 2.0], 6) == pytest.approx(
        [0.1, 0.1, 0.4, 0.4, 0.4, 0.4]
    )
    assert marginal_losses([0], [1.0], 2) == [0.0, 0.0]
    assert len(marginal_losses([0, 2, 4], [1.0, 1.2, 2.0], 3)) == 3


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_no_loss_comes_last(broken):
    steps = marginal_losses([0, 1, 2], [0.5, 0.7, broken], 2)
    assert steps[0] == pytest.approx(0.2)
    assert 1e3 < steps[1] < math.inf
