"""Scores of units made comparable, and choices among them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from skcompress.nn.scores.unit_importance import choose_fraction, share_of_what_is_left

SCORES = st.lists(st.integers(0, 50).map(float), min_size=1, max_size=12).map(torch.tensor)
RULES = {"scope": "global", "min_units": 1, "round_to": None, "balanced": True}


def by_the_formula(scores):
    squares = [float(s) ** 2 for s in scores]
    left = [sum(t for t in squares if t >= s) for s in squares]
    return torch.tensor([s / n if n else 0.0 for s, n in zip(squares, left, strict=True)])


@given(SCORES.filter(lambda s: len(s.unique()) == len(s)))
def test_the_share_is_that_of_the_formula(scores):
    torch.testing.assert_close(share_of_what_is_left(scores), by_the_formula(scores))


@given(SCORES)
def test_the_order_stays_and_the_best_has_all(scores):
    shares = share_of_what_is_left(scores)
    order = scores.argsort(stable=True)
    assert bool((shares[order].diff() >= 0).all())
    assert shares.max() == (scores.max() > 0)


@given(SCORES, st.integers(-20, 20))
def test_the_scale_is_no_matter(scores, power):
    scaled = share_of_what_is_left(scores * 2.0**power)
    torch.testing.assert_close(scaled, share_of_what_is_left(scores))


def test_what_stays_has_no_part_in_it():
    shares = share_of_what_is_left(torch.tensor([torch.inf, 1.0, torch.inf, 2.0]))
    torch.testing.assert_close(shares, torch.tensor([torch.inf, 0.2, torch.inf, 1.0]))


@given(st.lists(SCORES, min_size=1, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_fraction_chooses_more(scores, one, other):
    few, many = (choose_fraction(scores, f, **RULES) for f in sorted((one, other)))
    assert all(own == more[: len(own)] for own, more in zip(few, many, strict=True))


def test_a_group_with_small_scores_is_not_emptied():
    torch.manual_seed(0)
    scores = [torch.rand(40) + 1, (torch.rand(40) + 1) / 100]
    plain, balanced = (
        [len(own) for own in choose_fraction(scores, 0.5, **{**RULES, "balanced": b})]
        for b in (False, True)
    )
    assert plain == [1, 39]
    assert min(balanced) > 15
