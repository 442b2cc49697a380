"""What the rules promise and what they cost, where the truth is known: simulated rows."""

import warnings

import numpy as np
import pytest

from skcompress.model_selection import SmallestNonInferior, SmallestWithinDrop, SmallestWithinOneSE
from tests.model_selection.test_rules import sweep

DENSE_ACCURACY = 0.9


def simulated(rng, n_rows, losses, churn=0.0, n_splits=5):
    """Return a sweep of the dense net and of candidates that lose `losses` of the rows.

    `churn` is the share of the rows that a candidate changes beyond its loss, half to the
    better and half to the worse.
    """
    right = rng.random(n_rows) < DENSE_ACCURACY
    rights = [right]
    for loss in losses:
        worse = rng.random(n_rows) < (loss + churn / 2) / DENSE_ACCURACY
        better = rng.random(n_rows) < churn / 2 / (1 - DENSE_ACCURACY)
        rights.append(np.where(right, ~worse, better))
    folds = np.array_split(np.arange(n_rows), n_splits)
    scores = [[right[fold].mean() for fold in folds] for right in rights]
    return sweep(scores, np.arange(len(rights), 0, -1))


def type_one_error(n, margin, churn, n_runs, seed=0, **params):
    """Return how often a candidate passes that loses just the margin."""
    rng = np.random.default_rng(seed)
    rule = SmallestNonInferior("accuracy", margin, test_size=1 / 5, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.mean([rule(simulated(rng, n, [margin], churn)) for _ in range(n_runs)])


def test_few_rows_without_a_loss_show_nothing():
    without = type_one_error(150, 0.005, 0.0, 400)
    assert 0.4 < without < 0.55  # that none of 150 rows is lost has probability .995^150 = .47
    assert type_one_error(150, 0.005, 0.0, 400, n_rows=150) == 0


@pytest.mark.parametrize(("n_rows", "margin", "churn"), [(840, 0.005, 0.0), (300, 0.02, 0.03)])
def test_a_candidate_that_loses_the_margin_seldom_passes(n_rows, margin, churn):
    error = type_one_error(n_rows, margin, churn, 400, n_rows=n_rows)
    assert error < 0.05 + 2 * 0.011


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [150, 600, 840, 5000])
@pytest.mark.parametrize("margin", [0.005, 0.01, 0.02])
@pytest.mark.parametrize("churn", [0.0, 0.005, 0.03])
def test_type_one_error(n_rows, margin, churn):
    error = type_one_error(n_rows, margin, churn, 4000, seed=1, n_rows=n_rows)
    assert error < 0.05 + 3 * 0.0034


LOSSES = np.array([0, 0.001, 0.002, 0.004, 0.006, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08])


def shown_and_true(rule, n_rows, n_runs, seed=0):
    """Return the mean drop, in points, that the chosen candidate shows and truly has."""
    rng = np.random.default_rng(seed)
    shown, true = [], []
    for _ in range(n_runs):
        results = simulated(rng, n_rows, LOSSES, churn=0.02)
        chosen = rule(results)
        shown.append(-rule.table(results)[chosen]["difference"])
        true.append(0.0 if chosen == 0 else LOSSES[chosen - 1])
    return 100 * np.mean(shown), 100 * np.mean(true)


@pytest.mark.parametrize(
    "rule", [SmallestWithinOneSE("accuracy"), SmallestWithinDrop("accuracy", 0.01)]
)
def test_what_is_chosen_loses_more_than_it_shows(rule):
    shown, true = shown_and_true(rule, 200, 150)
    assert true > shown + 0.5
    shown, true = shown_and_true(rule, 5000, 100)
    assert true < shown + 0.4


def test_the_corrected_error_allows_more_and_the_gap_stays():
    plain = shown_and_true(SmallestWithinOneSE("accuracy", test_size=1e-12), 200, 300)
    corrected = shown_and_true(SmallestWithinOneSE("accuracy"), 200, 300)
    assert corrected[1] > plain[1]
    assert abs((corrected[1] - corrected[0]) - (plain[1] - plain[0])) < 0.4


def test_what_is_shown_to_lose_little_does():
    shown, true = shown_and_true(
        SmallestNonInferior("accuracy", 0.01, test_size=1 / 5, n_rows=5000), 5000, 100
    )
    assert true < 0.5
    assert abs(true - shown) < 0.2
