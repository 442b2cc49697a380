"""The rules in real searches, and on whatever a sweep may bring."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skcompress import CompressedClassifier, MagnitudePruner, Quantizer
from skcompress.metrics import compression_scoring
from skcompress.model_selection import (
    BestWithinBudget,
    SmallestNonInferior,
    SmallestWithinDrop,
    SmallestWithinOneSE,
)
from tests.model_selection.test_rules import (
    BUDGET,
    DROP,
    NAN,
    NON_INFERIOR,
    ONE_SE,
    all_rules,
    quietly,
    sweep,
)
from tests.sample_nets import make_classifier

# Real searches ----------------------------------------------------------------------------------

GRID = [
    {"net__compressor": [None]},
    {"net__compressor__prune__sparsity": [0.5, 0.9], "net__compressor__quantize__bits": [8, 2]},
]


def model(memory=None):
    steps = [("prune", MagnitudePruner(0.5)), ("quantize", Quantizer())]
    net = CompressedClassifier(
        make_classifier(max_epochs=10), Pipeline(steps), memory=memory, random_state=0
    )
    return Pipeline([("scale", StandardScaler()), ("net", net)])


@pytest.fixture(scope="module")
def search(digits, tmp_path_factory):
    search = GridSearchCV(
        model(tmp_path_factory.mktemp("cache")),
        GRID,
        cv=3,
        n_jobs=2,
        scoring=compression_scoring("accuracy"),
        refit=ONE_SE,
        error_score="raise",
    )
    return search.fit(*digits)


def test_a_search_that_a_rule_has_decided(search, digits):
    results = search.cv_results_
    assert search.best_index_ == ONE_SE(results)
    assert ONE_SE.table(results)[0]["reason"] == "the reference"
    best = search.best_estimator_
    assert search.score(*digits) == best.score(*digits)
    assert best["net"].report_.sparsity == pytest.approx(
        results["mean_test_sparsity"][search.best_index_], abs=0.01
    )
    np.testing.assert_array_equal(search.predict(digits[0]), best.predict(digits[0]))


def test_the_numbers_behind_the_choice(search):
    accuracy = np.array([search.cv_results_[f"split{k}_test_accuracy"] for k in range(3)])
    difference = accuracy - accuracy[:, [0]]
    factor = np.sqrt(1 / 3 + 1 / 2)
    error = difference.std(axis=0, ddof=1) * factor
    error = np.minimum(error, accuracy[:, 0].std(ddof=1) * factor)
    fits = difference.mean(axis=0) >= -error - 1e-12
    nbytes = -search.cv_results_["mean_test_neg_nbytes"]
    assert nbytes[search.best_index_] == nbytes[fits].min()
    assert nbytes.max() == nbytes[0]


def test_a_search_with_a_rule_copies_and_pickles(search, digits):
    again = pickle.loads(pickle.dumps(search))
    assert again.refit == search.refit
    assert again.score(*digits) == search.score(*digits)
    fresh = clone(search)
    assert fresh.refit == ONE_SE
    assert type(fresh.refit) is SmallestWithinOneSE


@pytest.mark.parametrize(
    "rule",
    [
        SmallestWithinDrop("balanced_accuracy", 0.5),
        SmallestNonInferior("balanced_accuracy", 0.5, test_size=1 / 3, n_rows=360),
        BestWithinBudget("balanced_accuracy", 10**9),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_each_rule_in_a_randomized_search(rule, digits, tmp_path):
    search = RandomizedSearchCV(
        model(tmp_path),
        [{"net__compressor": [None]}, {"net__compressor__prune__sparsity": [0.1, 0.3]}],
        n_iter=3,
        cv=3,
        scoring=compression_scoring("balanced_accuracy"),
        refit=rule,
        random_state=0,
        error_score="raise",
    ).fit(*digits)
    assert search.best_index_ == rule(search.cv_results_)
    assert 0.5 < search.score(*digits) <= 1


def fails_when_sparse(estimator, X, y):
    if estimator["net"].report_.sparsity > 0.6:
        raise ValueError("a score that fails")
    return estimator.score(X, y)


def test_a_score_that_fails_does_not_lose_the_search(digits, tmp_path):
    search = GridSearchCV(
        model(tmp_path),
        [{"net__compressor": [None]}, {"net__compressor__prune__sparsity": [0.1, 0.9, 0.5]}],
        cv=3,
        scoring=compression_scoring({"accuracy": fails_when_sparse}),
        refit=SmallestWithinDrop("accuracy", 0.99),
    )
    with pytest.warns(UserWarning, match="Scoring failed|non-finite"):
        search.fit(*digits)
    assert search.best_index_ == 3


def test_a_search_with_one_metric_falls_back_to_it(digits, tmp_path):
    search = GridSearchCV(
        model(tmp_path), {"net__compressor__quantize__bits": [8, 2]}, cv=2, refit=ONE_SE
    )
    with pytest.warns(UserWarning, match=r"no 'accuracy' and no 'neg_nbytes'.*'score'"):
        search.fit(*digits)
    assert search.best_index_ == np.argmax(search.cv_results_["mean_test_score"])
    assert search.score(*digits) > 0.5


def small_search(memory, grid, **params):
    params = {"cv": 3, "scoring": compression_scoring("accuracy"), "refit": DROP, **params}
    return GridSearchCV(model(memory), grid, error_score="raise", **params)


def test_steps_that_are_all_off_are_the_dense_net(digits, tmp_path):
    names = [f"net__compressor__{step}" for step in ("prune", "quantize")]
    grid = [
        {names[0]: ["passthrough", MagnitudePruner(0.95)], names[1]: ["passthrough"]},
        {names[0]: ["passthrough"], names[1]: [Quantizer(8)]},
    ]
    search = small_search(tmp_path, grid).fit(*digits)  # a warning would be an error
    assert search.cv_results_["mean_test_dense"].tolist() == [1, 0, 0]
    assert DROP.table(search.cv_results_)[0]["reason"] == "the reference"


def test_a_step_that_is_off_beside_one_that_is_not_is_no_dense_net(digits, tmp_path):
    # The Quantizer acts, which the grid does not say.
    search = small_search(tmp_path, {"net__compressor__prune__sparsity": [0, 0.5]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(*digits)
    said = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert len(said) == 1
    assert 'add {"net__compressor": [None]} to the grid' in said[0]
    assert search.cv_results_["mean_test_dense"].tolist() == [0, 0]


def test_nested_cross_validation_with_a_rule(digits, tmp_path):
    grid = [{"net__compressor": [None]}, {"net__compressor__quantize__bits": [8, 2]}]
    search = small_search(tmp_path, grid, refit=ONE_SE)
    nested = cross_validate(
        search, *digits, cv=2, scoring=compression_scoring("accuracy"), return_estimator=True
    )
    for fitted, score, nbytes in zip(
        nested["estimator"], nested["test_accuracy"], nested["test_neg_nbytes"], strict=True
    ):
        assert fitted.best_index_ == ONE_SE(fitted.cv_results_)
        assert nbytes == -fitted.best_estimator_["net"].report_.nbytes
        assert 0.5 < score <= 1
    np.testing.assert_array_equal(cross_val_score(search, *digits, cv=2), nested["test_accuracy"])


# Whatever a sweep may bring ---------------------------------------------------------------------

SCORES = st.one_of(
    st.floats(-1, 1), st.sampled_from([0.0, 0.5, 0.9, NAN]), st.floats(allow_nan=True)
)


@st.composite
def sweeps(draw):
    n_candidates, n_splits = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    shape = (n_candidates, n_splits)
    quality = draw(arrays(float, shape, elements=SCORES))
    sizes = st.one_of(st.integers(1, 900).map(float), st.sampled_from([100.0, 200.0, NAN]))
    cost = draw(arrays(float, shape, elements=sizes))
    dense = draw(st.sets(st.integers(0, n_candidates - 1), max_size=2))
    return sweep(quality, cost, sorted(dense))


@all_rules
@given(results=sweeps())
def test_any_sweep_gets_a_choice(rule, results):
    chosen = quietly(rule, results)
    assert isinstance(chosen, int)
    rows = rule.table(results)
    assert [row["candidate"] for row in rows if row["chosen"]] == [chosen]
    complete = [i for i, row in enumerate(rows) if np.isfinite(row["mean"] + row["cost"])]
    if any(row["kept"] for row in rows):
        assert rows[chosen]["kept"]
        best = {row["cost"] for row in rows if row["kept"]}
        if rule is not BUDGET:
            assert rows[chosen]["cost"] == min(best)
    elif complete:
        assert rows[chosen]["cost"] == min(rows[i]["cost"] for i in complete)
    if chosen not in complete:
        assert not complete


@given(results=sweeps())
def test_what_is_kept_satisfies_the_rule(results):
    for row in ONE_SE.table(results):
        if row["kept"]:
            # Rounding is relative to what was subtracted, and the reference may be the larger one.
            scale = max(1, abs(row["mean"]), abs(row["difference"]))
            assert row["difference"] >= -row["se"] - 1e-9 * scale
    for row in DROP.table(results):
        if row["kept"]:
            assert row["difference"] >= -0.01 - 1e-9 * max(1, abs(row["mean"]))
    for row in NON_INFERIOR.table(results):
        if row["kept"]:
            assert row["difference"] > -0.01 - 1e-9 * max(1, abs(row["mean"]))
    budget = BUDGET.table(results)
    fitting = [row for row in budget if row["kept"]]
    assert all(row["cost"] <= 500 for row in fitting)
    for row in budget:
        if row["kept"] and row["chosen"]:
            assert row["mean"] == max(other["mean"] for other in fitting)


@all_rules
@given(results=sweeps(), seed=st.integers(0, 9))
def test_the_order_of_splits_does_not_matter(rule, results, seed):
    keys = [key for key in results if key.startswith("split")]
    n_splits = len(keys) // 2
    order = np.random.default_rng(seed).permutation(n_splits)
    other = dict(results)
    for k, shuffled in enumerate(order):
        for metric in ("accuracy", "neg_nbytes"):
            other[f"split{k}_test_{metric}"] = results[f"split{shuffled}_test_{metric}"]
    one, two = rule.table(results), rule.table(other)
    np.testing.assert_allclose(
        [row["cost"] for row in one], [row["cost"] for row in two], equal_nan=True
    )
