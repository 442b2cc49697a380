"""Scores of units made comparable."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from skcompress.nn.scores.unit_importance import layer_adaptive_scores

SCORES = st.lists(st.integers(0, 50).map(float), min_size=1, max_size=12).map(torch.tensor)


def by_the_formula(scores):
    squares = [float(s) ** 2 for s in scores]
    left = [sum(t for t in squares if t >= s) for s in squares]
    return torch.tensor([s / n if n else 0.0 for s, n in zip(squares, left, strict=True)])


@given(SCORES.filter(lambda s: len(s.unique()) == len(s)))
def test_the_share_is_that_of_the_formula(scores):
    torch.testing.assert_close(layer_adaptive_scores(scores), by_the_formula(scores))


@given(SCORES)
def test_the_order_stays_and_the_best_has_all(scores):
    shares = layer_adaptive_scores(scores)
    order = scores.argsort(stable=True)
    assert bool((shares[order].diff() >= 0).all())
    assert shares.max() == (scores.max() > 0)


@given(SCORES, st.integers(-20, 20))
def test_the_scale_is_no_matter(scores, power):
    scaled = layer_adaptive_scores(scores * 2.0**power)
    torch.testing.assert_close(scaled, layer_adaptive_scores(scores))


def test_what_stays_has_no_part_in_it():
    shares = layer_adaptive_scores(torch.tensor([torch.inf, 1.0, torch.inf, 2.0]))
    torch.testing.assert_close(shares, torch.tensor([torch.inf, 0.2, torch.inf, 1.0]))
