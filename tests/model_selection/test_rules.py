"""Each rule against tables worked out by hand, and against what a sweep may bring."""

import warnings

import numpy as np
import pandas as pd
import pytest

from skcompress.model_selection import (
    BestWithinBudget,
    SmallestNonInferior,
    SmallestWithinDrop,
    SmallestWithinOneSE,
)

NAN = np.nan
ONE_SE = SmallestWithinOneSE("accuracy")
DROP = SmallestWithinDrop("accuracy", 0.01)
NON_INFERIOR = SmallestNonInferior("accuracy", 0.01, test_size=0.2)
BUDGET = BestWithinBudget("accuracy", 500)
RULES = [ONE_SE, DROP, NON_INFERIOR, BUDGET]
all_rules = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


def sweep(quality, cost, dense=0, **more):
    """Return `cv_results_` of candidates with these scores per split; a cost may be one number."""
    quality = np.atleast_2d(np.asarray(quality, dtype=float))
    cost = np.asarray(cost, dtype=float)
    cost = np.broadcast_to(cost[:, None] if cost.ndim == 1 else cost, quality.shape)
    dense = () if dense is None else np.atleast_1d(dense)
    results = {
        "params": [
            {"net__compressor": None} if i in dense else {"net__compressor__prune__sparsity": 0.5}
            for i in range(len(quality))
        ]
    }
    for k in range(quality.shape[1]):
        results[f"split{k}_test_accuracy"] = quality[:, k]
        results[f"split{k}_test_neg_nbytes"] = -cost[:, k]
    return {**results, **more}


def kept(rule, results):
    return [row["candidate"] for row in rule.table(results) if row["kept"]]


def quietly(rule, results):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rule(results)


# One standard error -----------------------------------------------------------------------------


def test_one_standard_error():
    # Dense scores (.90, .92, .94): mean .92, s = .02, SE = .02 / sqrt(3) = .01155.
    # 1: differences (0, -.01, -.02), mean -.01,  s = .01,   SE = .00577: loses more, out.
    # 2: differences (0, -.01, +.01), mean 0,     s = .01,   SE = .00577: in.
    # 3: differences (0, -.01, -.002), mean -.004, s = .00529, SE = .00306: out.
    # 4: differences (+.01, -.01, -.003), mean -.001, s = .01015, SE = .00586: in.
    results = sweep(
        [
            [0.90, 0.92, 0.94],
            [0.90, 0.91, 0.92],
            [0.90, 0.91, 0.95],
            [0.90, 0.91, 0.938],
            [0.91, 0.91, 0.937],
        ],
        [4000, 100, 900, 200, 800],
    )
    assert kept(ONE_SE, results) == [0, 2, 4]
    assert ONE_SE(results) == 4
    rows = ONE_SE.table(results)
    np.testing.assert_allclose([r["difference"] for r in rows], [0, -0.01, 0, -0.004, -0.001])
    np.testing.assert_allclose(
        [r["se"] for r in rows], [0, 0.0057735, 0.0057735, 0.0030551, 0.0058595], atol=1e-6
    )
    assert [r["cost"] for r in rows] == [4000, 100, 900, 200, 800]
    assert [r["chosen"] for r in rows] == [False, False, False, False, True]
    assert rows[1]["reason"] == "lost 0.01, allowed 0.005774"


def test_exactly_one_standard_error_is_within():
    # Differences (-.02, 0): mean -.01, s = .01414, SE = .01.
    results = sweep([[0.9, 0.5], [0.88, 0.5]], [2, 1])
    assert ONE_SE.table(results)[1]["se"] == pytest.approx(0.01)
    assert ONE_SE(results) == 1


def test_a_candidate_is_not_kept_for_being_unstable():
    # 1 collapses on one split: differences (0, 0, -.6), mean -.2, which is its own standard error.
    # That of the dense net is .00577.
    results = sweep([[0.95, 0.96, 0.97], [0.95, 0.96, 0.37]], [4000, 10])
    rows = ONE_SE.table(results)
    assert rows[1]["difference"] == pytest.approx(-0.2)
    assert rows[1]["se"] == pytest.approx(0.01 / np.sqrt(3))
    assert ONE_SE(results) == 0


def test_folds_that_differ_do_not_hide_a_loss():
    # A tenth between the splits (SE .0577), and each loses .02 everywhere: SE of that is 0.
    results = sweep([[0.7, 0.8, 0.9], [0.68, 0.78, 0.88]], [4000, 10])
    assert ONE_SE(results) == 0


# A drop -----------------------------------------------------------------------------------------


def test_drop():
    # Means .95, .94, .9398, .96; a mean of .94 is .01 below, which is allowed in spite of rounding:
    # .95 - .94 is .010000000000000009.
    results = sweep(
        [[0.95, 0.95], [0.93, 0.95], [0.9398, 0.9398], [0.96, 0.96]], [400, 200, 100, 300]
    )
    assert kept(DROP, results) == [0, 1, 3]
    assert DROP(results) == 1
    assert SmallestWithinDrop("accuracy", 0.0102)(results) == 2
    assert SmallestWithinDrop("accuracy", 0)(results) == 3
    # Differences (-.02, 0): s = .01414, SE = .01.
    assert DROP.table(results)[1]["se"] == pytest.approx(0.01)


# Non-inferiority --------------------------------------------------------------------------------


def test_non_inferior():
    # J = 5, test_size .2: 1/5 + .25 = .45; t(4, .95) = 2.131847.
    # 1: differences (-.001, -.003, 0, -.002, +.001), mean -.001,
    #    s^2 = (0 + 4 + 1 + 1 + 4)e-6 / 4 = 2.5e-6, se = sqrt(.45 * 2.5e-6) = .00106066,
    #    bound -.001 - 2.131847 * .00106066 = -.00326116: passes.
    # 2: twice that: mean -.002, bound -.00652232: passes.
    # 3: four times: mean -.004, bound -.01304: fails.
    # 4: smaller than 3, without any loss: not tested.
    steps = np.array([-0.001, -0.003, 0.0, -0.002, 0.001])
    dense = np.array([0.9, 0.91, 0.93, 0.92, 0.94])
    results = sweep(
        [dense, dense + steps, dense + 2 * steps, dense + 4 * steps, dense], [500, 400, 300, 200, 1]
    )
    assert kept(NON_INFERIOR, results) == [0, 1, 2]
    assert NON_INFERIOR(results) == 2
    rows = NON_INFERIOR.table(results)
    assert rows[1]["se"] == pytest.approx(0.00106066, abs=1e-8)
    assert [row["reason"] for row in rows] == [
        "the reference",
        "at 95 % above -0.00326",
        "at 95 % above -0.00652",
        "at 95 % only above -0.013",
        "not tested: the larger candidate 3 failed",
    ]
    # Just inside and outside of the margin.
    assert SmallestNonInferior("accuracy", 0.00652, test_size=0.2)(results) == 1
    assert SmallestNonInferior("accuracy", 0.00653, test_size=0.2)(results) == 2
    # The plain t-test, .2 in place of .45, puts the bound of 3 at -.01003.
    assert SmallestNonInferior("accuracy", 0.0101, test_size=1e-9)(results) == 4
    assert SmallestNonInferior("accuracy", 0.0101, test_size=0.2)(results) == 2
    # t(4, .5) = 0: the means alone.
    assert SmallestNonInferior("accuracy", 0.0041, test_size=0.2, confidence=0.5)(results) == 4


def test_non_inferior_skips_what_is_larger_than_the_reference_or_not_finite():
    dense = np.array([0.90, 0.92, 0.94])
    results = sweep(
        [dense, dense - 0.5, [0.9, NAN, 0.9], dense - 0.001, dense - 0.002], [500, 900, 400, 300, 2]
    )
    assert kept(NON_INFERIOR, results) == [0, 3, 4]
    assert NON_INFERIOR(results) == 4
    reasons = [row["reason"] for row in NON_INFERIOR.table(results)]
    assert reasons[1:3] == ["larger than the reference", "a score is not finite"]


def test_non_inferior_without_variance():
    # All differences the same: it passes if that is above -margin, which -.01 is not.
    for loss, expected in [(0.0, 1), (0.0099, 1), (0.01, 0)]:
        results = sweep([[0.5, 0.75, 0.5], np.array([0.5, 0.75, 0.5]) - loss], [2, 1])
        assert NON_INFERIOR(results) == expected


def test_non_inferior_on_equal_costs_goes_by_the_grid():
    dense = np.array([0.90, 0.92, 0.94])
    # 1 passes and 2 fails, at the same cost; what is behind is not tested.
    results = sweep([dense, dense, dense - 0.5, dense], [500, 300, 300, 200])
    assert NON_INFERIOR(results) == 1
    results = sweep([dense, dense - 0.5, dense, dense], [500, 300, 300, 200])
    assert NON_INFERIOR(results) == 0


# A budget ---------------------------------------------------------------------------------------


def test_budget():
    results = sweep(
        [[0.95, 0.95], [0.93, 0.95], [0.90, 0.92], [0.94, 0.96]],
        [[4000, 4000], [500, 499], [100, 100], [499, 501]],
    )
    # 3 needs 500 bytes on average, but 501 on one split.
    assert kept(BUDGET, results) == [1, 2]
    assert BUDGET(results) == 1
    assert BestWithinBudget("accuracy", 501)(results) == 3
    assert BestWithinBudget("accuracy", 499)(results) == 2


def test_budget_that_nothing_fits():
    results = sweep([[0.95, 0.95], [0.93, 0.95], [NAN, NAN]], [400, 200, 100])
    with pytest.warns(UserWarning, match=r"no candidate satisfies.*smallest one, candidate 1"):
        assert BestWithinBudget("accuracy", 150)(results) == 1


# What all share ---------------------------------------------------------------------------------

EQUAL = [0.9, 0.92, 0.94]


@all_rules
def test_ties(rule):
    # The same quality: the smaller one. The same cost, too: the first.
    assert rule(sweep([EQUAL, EQUAL, EQUAL], [400, 200, 300])) == 1
    assert rule(sweep([EQUAL, EQUAL, EQUAL], [400, 200, 200])) == 1
    # The same cost: the better one.
    better = np.array(EQUAL) + 0.001
    assert rule(sweep([EQUAL, EQUAL, better], [400, 200, 200])) == 2


@all_rules
def test_without_a_dense_candidate_the_best_is_the_reference(rule):
    results = sweep([[0.5, 0.6], [0.8, 0.9], [0.8, 0.9], [0.7, 0.95]], [400, 300, 200, 100], None)
    rows = rule.table(results)
    np.testing.assert_allclose([row["difference"] for row in rows], [-0.3, 0, 0, -0.025])
    # 3: differences to 1 of (-.1, +.05), mean -.025, SE .075; that of 1 is .05.
    assert rule(results) == (3 if rule is ONE_SE else 2)


@all_rules
def test_the_dense_candidate_is_the_reference_also_if_others_are_better(rule):
    results = sweep([EQUAL, np.array(EQUAL) + 0.03, np.array(EQUAL) - 0.005], [400, 300, 350])
    rows = rule.table(results)
    np.testing.assert_allclose([row["difference"] for row in rows], [0, 0.03, -0.005])
    assert rule(results) == 1


def test_which_candidates_are_dense():
    class Estimator:
        def __init__(self, compressor):
            self.compressor = compressor

    settings = [
        {"compressor": None},
        {"net__compressor": None, "net__lr": 0.1},
        {"model__regressor__compressor": None},
        {"net": Estimator(None)},
        {"net": Estimator("pruner")},
        {"net": Estimator(None), "net__compressor": "pruner"},
        {"a__compressor": None, "b__compressor": "pruner"},
        {"net__compressor__prune__sparsity": None},
        {"net__lr": 0.1},
        {},
    ]
    scores = np.linspace(0.5, 0.9, len(settings))[:, None] + np.zeros(2)
    for i, params in enumerate(settings):
        results = sweep(scores, np.arange(len(settings)), None)
        results["params"] = [{"lr": 1}] * len(settings)
        results["params"][i] = params
        zero = [row["candidate"] for row in DROP.table(results) if row["difference"] == 0]
        assert zero == ([i] if i < 4 else [len(settings) - 1])


def test_of_several_dense_candidates_the_best_is_the_reference():
    results = sweep(
        [EQUAL, np.array(EQUAL) + 0.02, np.array(EQUAL) + 0.01], [3, 2, 1], dense=[0, 1]
    )
    assert DROP.table(results)[2]["difference"] == pytest.approx(-0.01)


@all_rules
def test_rows_that_are_not_finite_are_skipped(rule):
    good = [0.9, 0.92, 0.94]
    results = sweep(
        [good, [NAN, 0.99, 0.99], good, [0.99, 0.99, np.inf], good],
        [[9, 9, 9], [1, 1, 1], [5, 5, 5], [2, 2, 2], [1, NAN, 1]],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rule(results) == 2
    rows = rule.table(results)
    assert [row["kept"] for row in rows] == [True, False, True, False, False]
    assert {rows[i]["reason"] for i in (1, 3, 4)} == {"a score is not finite"}


@all_rules
def test_scores_at_the_end_of_floats(rule):
    results = sweep([[1e308, -1e308], [-1e308, 1e308], [1e308, 1e308]], [400, 300, 200])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rule(results) in (0, 1, 2)
        assert len(rule.table(results)) == 3


@all_rules
def test_a_dense_candidate_that_failed_is_no_reference(rule):
    results = sweep([[NAN, 0.99], [0.9, 0.92], [0.9, 0.92]], [400, 300, 200])
    assert rule(results) == 2
    assert rule.table(results)[1]["difference"] == 0


@all_rules
def test_a_dense_candidate_without_a_size_is_a_reference(rule):
    results = sweep([[0.95, 0.95], [0.1, 0.2], [0.5, 0.6]], [[NAN, NAN], [300, 300], [200, 200]])
    assert rule.table(results)[2]["difference"] == pytest.approx(-0.4)
    if rule is BUDGET:
        assert rule(results) == 2
    else:
        with pytest.warns(UserWarning, match="no candidate satisfies"):
            assert rule(results) == 2


@all_rules
def test_nothing_is_finite(rule):
    results = sweep(np.full((3, 2), NAN), [3, 2, 1])
    with pytest.warns(UserWarning, match=r"no candidate has a finite 'accuracy'.*candidate 0"):
        assert rule(results) == 0
    assert len(rule.table(results)) == 3
    results = sweep([[0.5, 0.5], [0.7, 0.7], [0.6, NAN]], np.full(3, NAN))
    with pytest.warns(UserWarning, match=r"no candidate has a finite 'neg_nbytes'.*best mean"):
        assert rule(results) == 1


def test_one_split():
    results = sweep([[0.95], [0.95], [0.94]], [400, 200, 100])
    with pytest.warns(UserWarning, match=r"one split.*taken as 0"):
        assert ONE_SE(results) == 1
    with pytest.warns(UserWarning, match=r"one split.*nothing can be shown.*Kept the reference"):
        assert NON_INFERIOR(results) == 0
    assert DROP(results) == 2
    assert np.isnan(DROP.table(results)[2]["se"])
    assert BUDGET(results) == 1


@all_rules
def test_one_candidate(rule):
    assert quietly(rule, sweep([[0.5, 0.6]], [400])) == 0
    assert quietly(rule, sweep([[0.5, 0.6]], [4000], None)) == 0


@all_rules
def test_a_missing_metric_warns_and_does_not_raise(rule):
    results = sweep([[0.5, 0.5], [0.7, 0.7], [0.6, 0.6]], [3, 2, 1])
    without = {key: value for key, value in results.items() if "nbytes" not in key}
    message = r"no 'neg_nbytes'; their metrics are \['accuracy'\].*scoring=compression_scoring"
    with pytest.warns(UserWarning, match=message):
        assert rule(without) == 1
    assert rule.table(without)[1]["chosen"]
    # A search with one metric calls it "score".
    single = {key.replace("accuracy", "score"): value for key, value in without.items()}
    with pytest.warns(UserWarning, match=r"no 'accuracy' and no 'neg_nbytes'.*mean 'score'"):
        assert rule(single) == 1
    for nothing in ({"params": [{}, {}]}, {}):
        with pytest.warns(UserWarning, match="Took candidate 0"):
            assert rule(nothing) == 0


@all_rules
def test_a_data_frame_and_its_table(rule):
    results = sweep([EQUAL, EQUAL, [0.1, 0.2, 0.3]], [400, 200, 100])
    frame = pd.DataFrame(results)
    assert rule(frame) == rule(results) == 1
    table = pd.DataFrame(rule.table(frame))
    assert list(table) == [
        *("candidate", "mean", "difference", "se", "cost", "kept", "chosen", "reason")
    ]
    np.testing.assert_allclose(table["mean"], [0.92, 0.92, 0.2])


def test_other_costs():
    results = sweep([EQUAL, EQUAL, EQUAL], [3, 2, 1])
    for k in range(3):
        results[f"split{k}_test_sparsity"] = np.array([0.0, 0.9, 0.5])
    assert SmallestWithinOneSE("accuracy", "sparsity")(results) == 1
    assert SmallestWithinDrop("accuracy", 0.1, cost="sparsity")(results) == 1
    rule = SmallestNonInferior("accuracy", 0.1, test_size=0.2, cost="sparsity")
    assert rule(results) == 1
