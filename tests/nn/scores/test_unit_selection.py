"""Choices among units by their scores."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from skcompress.nn.scores.unit_selection import choose_fraction
from tests.nn.scores.test_unit_importance import SCORES

RULES = {"scope": "global", "min_units": 1, "round_to": None, "balanced": True}


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
