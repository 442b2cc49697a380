"""Each rule against tables worked out by hand, and against what a sweep may bring."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from skcompress import FineTuner, MagnitudePruner, Quantizer, StructuredPruner
from skcompress.model_selection import (
    BestWithinBudget,
    SmallestNonInferior,
    SmallestWithinDrop,
    SmallestWithinOneSE,
)

NAN = np.nan
ONE_SE = SmallestWithinOneSE("accuracy")
DROP = SmallestWithinDrop("accuracy", 0.01)
NON_INFERIOR = SmallestNonInferior("accuracy", 0.01, test_size=0.2, n_rows=10_000)
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
    # J = 3 parts of one K-fold: SE = s * sqrt(1/3 + 1/2) = .912871 s.
    # Dense scores (.90, .92, .94): mean .92, s = .02, SE = .01826.
    # 1: differences (0, -.01, -.02), mean -.01,  s = .01,   SE = .00913: loses more, out.
    # 2: differences (0, -.01, +.01), mean 0,     s = .01,   SE = .00913: in.
    # 3: differences (0, -.01, -.008), mean -.006, s = .00529, SE = .00483: out.
    # 4: differences (+.01, -.01, -.003), mean -.001, s = .01015, SE = .00926: in.
    results = sweep(
        [
            [0.90, 0.92, 0.94],
            [0.90, 0.91, 0.92],
            [0.90, 0.91, 0.95],
            [0.90, 0.91, 0.932],
            [0.91, 0.91, 0.937],
        ],
        [4000, 100, 900, 200, 800],
    )
    assert kept(ONE_SE, results) == [0, 2, 4]
    assert ONE_SE(results) == 4
    rows = ONE_SE.table(results)
    np.testing.assert_allclose([r["difference"] for r in rows], [0, -0.01, 0, -0.006, -0.001])
    np.testing.assert_allclose(
        [r["se"] for r in rows], [0, 0.0091287, 0.0091287, 0.0048305, 0.0092647], atol=1e-6
    )
    assert [r["cost"] for r in rows] == [4000, 100, 900, 200, 800]
    assert [r["chosen"] for r in rows] == [False, False, False, False, True]
    assert rows[1]["reason"] == "lost 0.01, allowed 0.009129"


def test_exactly_one_standard_error_is_within():
    # Differences (-.02, -.01, 0): mean -.01, s = .01, SE = .01 * sqrt(1/3 + .4/.6) = .01.
    results = sweep([[0.9, 0.5, 0.7], [0.88, 0.49, 0.7]], [2, 1])
    rule = SmallestWithinOneSE("accuracy", test_size=0.4)
    assert rule.table(results)[1]["se"] == pytest.approx(0.01)
    assert rule(results) == 1
    assert SmallestWithinOneSE("accuracy", test_size=0.39)(results) == 0


def test_a_candidate_is_not_kept_for_being_unstable():
    # 1 collapses on one split: differences (0, 0, -.6), mean -.2, which is its own standard error.
    # That of the dense net is .00913.
    results = sweep([[0.95, 0.96, 0.97], [0.95, 0.96, 0.37]], [4000, 10])
    rows = ONE_SE.table(results)
    assert rows[1]["difference"] == pytest.approx(-0.2)
    assert rows[1]["se"] == pytest.approx(0.01 * np.sqrt(1 / 3 + 1 / 2))
    assert ONE_SE(results) == 0


def test_folds_that_differ_do_not_hide_a_loss():
    # A tenth between the splits (SE .0913), and each loses .02 everywhere: SE of that is 0.
    results = sweep([[0.7, 0.8, 0.9], [0.68, 0.78, 0.88]], [4000, 10])
    assert ONE_SE(results) == 0


# A drop -----------------------------------------------------------------------------------------


def test_drop():
    # Means .95, .94, .9398, .96; a mean of .94 is .01 below, which is allowed in spite of rounding:
    # .95 - .94 is .010000000000000009.
    results = sweep(
        [[0.95, 0.95, 0.95], [0.93, 0.95, 0.94], [0.9398] * 3, [0.96] * 3], [400, 200, 100, 300]
    )
    assert kept(DROP, results) == [0, 1, 3]
    assert DROP(results) == 1
    assert SmallestWithinDrop("accuracy", 0.0102)(results) == 2
    assert SmallestWithinDrop("accuracy", 0)(results) == 3
    # Differences (-.02, 0, -.01): s = .01, SE = .01 * sqrt(1/3 + 1/2).
    assert DROP.table(results)[1]["se"] == pytest.approx(0.0091287, abs=1e-7)


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
    plain = SmallestNonInferior("accuracy", 0.0101, test_size=1e-9, n_rows=10_000)
    assert plain(results) == 4
    assert SmallestNonInferior("accuracy", 0.0101, test_size=0.2)(results) == 2
    # t(4, .5) = 0: the means alone.
    rule = SmallestNonInferior("accuracy", 0.0041, test_size=0.2, confidence=0.5, n_rows=10_000)
    assert rule(results) == 4


def test_non_inferior_skips_what_is_larger_than_the_reference_or_not_finite():
    dense = np.array([0.90, 0.92, 0.94])
    results = sweep(
        [dense, dense - 0.5, [0.9, NAN, 0.9], dense - 0.001, dense - 0.002], [500, 900, 400, 300, 2]
    )
    assert kept(NON_INFERIOR, results) == [0, 3, 4]
    assert NON_INFERIOR(results) == 4
    reasons = [row["reason"] for row in NON_INFERIOR.table(results)]
    assert reasons[1:3] == ["larger than the reference", "a score is not finite"]


def test_non_inferior_without_variance_is_a_warning():
    # All differences the same: it passes if that is above -margin, which -.01 is not.
    rule = SmallestNonInferior("accuracy", 0.01, test_size=0.2)
    for loss in (0.0, 0.0099):
        results = sweep([[0.5, 0.75, 0.5], np.array([0.5, 0.75, 0.5]) - loss], [2, 1])
        with pytest.warns(UserWarning, match=r"candidates \[1\] is the same.*pass n_rows=len\(y\)"):
            assert rule(results) == 1
    results = sweep([[0.5, 0.75, 0.5], [0.49, 0.74, 0.49]], [2, 1])
    assert rule(results) == 0


def test_non_inferior_by_the_number_of_rows():
    # Nothing lost in n rows excludes losses from -ln(.05) / n = 2.9957 / n on: 299 rows for .01.
    none = sweep([[0.5, 0.75, 0.5], [0.5, 0.75, 0.5]], [2, 1])
    few, enough = (
        SmallestNonInferior("accuracy", 0.01, test_size=0.2, n_rows=n) for n in (299, 300)
    )
    with pytest.warns(
        UserWarning, match=r"299 rows cannot show a loss below 0.01.* at 95 %, so only"
    ):
        assert few(none) == 0
    assert enough(none) == 1
    assert enough.table(none)[1]["reason"] == "at 95 % above -0.00999"
    # At 99 %: 4.605 / n.
    sure = [
        SmallestNonInferior("accuracy", 0.01, test_size=0.2, n_rows=n, confidence=0.99)
        for n in (460, 461)
    ]
    assert [quietly(rule, none) for rule in sure] == [0, 1]
    # Two rows lost of each of three parts of 200: at most 11.84 of 600 (Poisson, 95 %), .0197.
    six = sweep([[0.5, 0.75, 0.5], [0.49, 0.74, 0.49]], [2, 1])
    for margin, expected in [(0.0197, 0), (0.0198, 1)]:
        rule = SmallestNonInferior("accuracy", margin, test_size=1 / 3, n_rows=600)
        assert rule(six) == expected
    # A candidate that is better has lost nothing.
    better = sweep([[0.5, 0.75, 0.5], [0.6, 0.85, 0.6]], [2, 1])
    assert enough(better) == 1


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
    scores = [[0.5, 0.6, 0.55], [0.8, 0.9, 0.85], [0.8, 0.9, 0.85], [0.7, 0.95, 0.825]]
    results = sweep(scores, [400, 300, 200, 100], None)
    rows = rule.table(results)
    np.testing.assert_allclose([row["difference"] for row in rows], [-0.3, 0, 0, -0.025])
    # 3: differences to 1 of (-.1, +.05, -.025), mean -.025, SE .068; that of 1 is .046.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert rule(results) == (3 if rule is ONE_SE else 2)
    if rule is BUDGET:  # it compares with nothing
        assert not caught
    else:
        (warning,) = caught
        message = str(warning.message)
        assert "no candidate is known to be the dense net" in message
        assert "measured against the best candidate, 1, which may itself have lost" in message
        assert 'add {"net__compressor": [None]} to the grid' in message


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"compressor__sparsity": 0.5}, "compressor"),
        ({"lr": 1, "a__model__compressor__prune__sparsity": 0.5}, "a__model__compressor"),
        ({"decompressor__x": 1, "net__compressor": "p"}, "net__compressor"),
        ({"lr": 1}, "compressor"),
    ],
)
def test_the_warning_says_how_to_add_the_dense_candidate(params, name):
    results = sweep([EQUAL, EQUAL], [2, 1])
    results["params"] = [params] * 2
    with pytest.warns(UserWarning, match=rf'add {{"{name}": \[None\]}} to the grid'):
        DROP(results)


@all_rules
def test_the_dense_candidate_is_the_reference_also_if_others_are_better(rule):
    results = sweep([EQUAL, np.array(EQUAL) + 0.03, np.array(EQUAL) - 0.005], [400, 300, 350])
    rows = rule.table(results)
    np.testing.assert_allclose([row["difference"] for row in rows], [0, 0.03, -0.005])
    assert rule(results) == 1


N_DENSE = 10


def test_which_candidates_are_dense():
    class Estimator:
        def __init__(self, compressor):
            self.compressor = compressor

    settings = [
        {"compressor": None},
        {"net__compressor": None, "net__lr": 0.1},
        {"model__regressor__compressor": None},
        {"net": Estimator(None)},
        {"net": Estimator(Pipeline([("a", "passthrough"), ("b", None)]))},
        {"net__compressor": Pipeline([("a", MagnitudePruner(0)), ("b", "passthrough")])},
        {"net__compressor": Pipeline([("a", Pipeline([("b", "passthrough")]))])},
        {"net__compressor": MagnitudePruner(0.0)},
        {"net__compressor": MagnitudePruner(threshold=0)},
        {"net__compressor": StructuredPruner(0)},
        # The last dense one; what follows is compressed, or may be.
        {"net": Estimator("pruner")},
        {"net__compressor": MagnitudePruner(0.0, reconstruct=True)},
        {"net__compressor": MagnitudePruner(0.0, n_steps=2, fine_tuner=FineTuner(1))},
        {"net__compressor": StructuredPruner(0, round_to=8)},
        {"net__compressor": StructuredPruner(target_macs=0.5)},
        {"net__compressor": type("More", (MagnitudePruner,), {})(0.0)},
        {"net__compressor": Pipeline([("a", MagnitudePruner(0)), ("b", Quantizer())])},
        {"net__compressor": Pipeline([("a", "passthrough")]), "net__compressor__a": Quantizer()},
        {"net__compressor__prune": "passthrough", "net__compressor__quantize": None},
        {"net__compressor__prune__sparsity": 0},
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
        assert zero == ([i] if i < N_DENSE else [len(settings) - 1]), params


def test_the_metric_knows_better_than_the_parameters():
    # The names alone do not say whether other steps act; the metric "dense" has seen the model.
    results = sweep([EQUAL, EQUAL, np.array(EQUAL) - 0.001], [300, 200, 100], None)
    results["params"] = [
        {"a__compressor": None},
        {"compressor__prune": Quantizer()},
        {"compressor__prune": "passthrough"},
    ]
    for k in range(3):
        results[f"split{k}_test_dense"] = np.array([0.0, 0.0, 1.0])
    assert [row["reason"] for row in DROP.table(results)].index("the reference") == 2
    assert DROP(results) == 2
    # On one split the fit has failed: it is not known there.
    results["split1_test_dense"] = np.array([NAN, 0.0, NAN])
    assert [row["reason"] for row in DROP.table(results)].index("the reference") == 0


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
    scores = [[1e308, -1e308, 1e308], [-1e308, 1e308, -1e308], [1e308, 1e308, 1e308]]
    results = sweep(scores, [400, 300, 200])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rule(results) in (0, 1, 2)
        assert len(rule.table(results)) == 3


@all_rules
def test_a_dense_candidate_that_failed_is_no_reference(rule):
    results = sweep([[NAN, 0.99, 0.99], EQUAL, EQUAL], [400, 300, 200])
    if rule is BUDGET:
        assert rule(results) == 2
    else:
        message = "the dense net has no finite 'accuracy' on every split.*best candidate, 1,"
        with pytest.warns(UserWarning, match=message):
            assert rule(results) == 2
    assert rule.table(results)[1]["difference"] == 0


@all_rules
def test_a_dense_candidate_without_a_size_is_a_reference(rule):
    scores = [[0.95, 0.95, 0.95], [0.1, 0.2, 0.15], [0.5, 0.6, 0.55]]
    results = sweep(scores, [[NAN] * 3, [300] * 3, [200] * 3])
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
    results = sweep([[0.5, 0.5, 0.6], [0.7, 0.7, 0.6], [0.6, NAN, 0.6]], np.full(3, NAN))
    with pytest.warns(UserWarning, match=r"no candidate has a finite 'neg_nbytes'.*best mean"):
        assert rule(results) == 1


def messages(rule, results):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chosen = rule(results)
    return chosen, " | ".join(str(warning.message) for warning in caught)


def test_one_split():
    results = sweep([[0.95], [0.95], [0.94]], [400, 200, 100])
    chosen, said = messages(ONE_SE, results)
    assert chosen == 1
    assert "one split shows nothing about chance" in said
    assert "taken as 0: only candidates as good" in said
    chosen, said = messages(NON_INFERIOR, results)
    assert chosen == 0
    assert "one split shows nothing, so only the reference passes" in said
    chosen, said = messages(DROP, results)
    assert chosen == 2
    assert "one split shows nothing about chance, so the choice may be luck" in said
    assert np.isnan(DROP.table(results)[2]["se"])
    assert BUDGET(results) == 1


def test_two_splits():
    # Without a loss on either split, or with one on one of them.
    results = sweep([[0.95, 0.9], [0.95, 0.9], [0.945, 0.91]], [400, 200, 100])
    for rule, expected in [(ONE_SE, 2), (DROP, 2), (NON_INFERIOR, 0)]:
        chosen, said = messages(rule, results)
        assert chosen == expected
        assert "two splits show nothing" in said
        assert "Use 5 or 10 splits" in said
    rows = NON_INFERIOR.table(results)
    assert [row["reason"] for row in rows] == ["the reference", *["two splits show nothing"] * 2]
    assert BUDGET(results) == 2


# Percent in place of a share --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda loss: SmallestWithinDrop("my_score", loss), "max_drop"),
        (lambda loss: SmallestNonInferior("my_score", loss, test_size=0.2), "margin"),
    ],
)
@pytest.mark.parametrize("loss", [1, 5])
def test_percent_of_a_share_is_a_warning_where_the_scale_is_seen(make, name, loss):
    scores = np.array([[0.7, 0.8, 0.9], [0.1, 0.3, 0.2]])

    def said(scores):
        results = sweep(scores, [2, 1])
        for k in range(3):
            results[f"split{k}_test_my_score"] = results[f"split{k}_test_accuracy"]
        return messages(make(loss), results)[1]

    assert f"{name}={loss} allows to lose more than the 0.8" in said(scores)
    assert "1 % is 0.01" in said(scores)
    # Points of a hundred, a negative error: these are numbers like any other.
    assert "1 %" not in said(100 * scores)
    assert "1 %" not in said(-scores)


# Splits that repeat -----------------------------------------------------------------------------


def repeated(n_repeats, seed=0):
    """Return a sweep of 5 folds of 1,000 rows, cut again and again.

    Of the two candidates one turns 15 right rows into wrong ones and 14 wrong ones into
    right ones, the other loses 100.
    """
    rng = np.random.default_rng(seed)
    right = np.arange(1000) < 930
    small, smaller = right.copy(), right.copy()
    small[915:944] ^= True
    smaller[:100] = False
    folds = [fold for _ in range(n_repeats) for fold in np.split(rng.permutation(1000), 5)]
    scores = [[net[fold].mean() for fold in folds] for net in (right, small, smaller)]
    return sweep(scores, [300, 200, 100])


@pytest.mark.parametrize("seed", range(5))
def test_repetitions_do_not_change_the_rule(seed):
    once, often = repeated(1, seed), repeated(10, seed)
    rule = SmallestWithinOneSE("accuracy", test_size=1 / 5)
    assert rule(once) == rule(often) == 1
    errors = [row["se"] for row in rule.table(once)[1:]]
    repeated_errors = [row["se"] for row in rule.table(often)[1:]]
    ratio = np.array(repeated_errors) / errors
    assert ((ratio > 0.4) & (ratio < 1.6)).all()


def test_how_much_the_correction_is():
    once, often = (rule_se(repeated(n), 1 / 5) for n in (1, 10))
    plain = [rule_se(repeated(n), 1e-12) for n in (1, 10)]
    np.testing.assert_allclose(once / plain[0], 1.5)
    np.testing.assert_allclose(often / plain[1], 3.674, rtol=1e-3)
    # One K-fold needs no test_size.
    np.testing.assert_allclose(rule_se(repeated(1), None), once)


def rule_se(results, test_size):
    rows = SmallestWithinDrop("accuracy", 0.1, test_size=test_size).table(results)
    return np.array([row["se"] for row in rows[1:]])


def test_many_splits_ask_for_the_test_size():
    results = repeated(10)
    with pytest.warns(UserWarning, match=r"takes the 50 splits for one 50-fold.*test_size=1 / K"):
        ONE_SE(results)
    SmallestWithinOneSE("accuracy", test_size=0.02)(results)
    ONE_SE(repeated(2))


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
    rule = SmallestNonInferior("accuracy", 0.1, test_size=0.2, n_rows=100, cost="sparsity")
    assert rule(results) == 1
