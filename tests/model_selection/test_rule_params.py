"""A rule is a string and a parameter: it copies, compares, prints, and refuses bad values."""

import copy
import pickle

import pytest
from sklearn.base import clone

from skcompress.model_selection import (
    BestWithinBudget,
    SmallestNonInferior,
    SmallestWithinDrop,
    SmallestWithinOneSE,
)
from tests.model_selection.test_rules import (
    BUDGET,
    EQUAL,
    NAN,
    NON_INFERIOR,
    ONE_SE,
    RULES,
    all_rules,
    sweep,
)


@all_rules
def test_a_rule_is_the_name_of_its_metric(rule):
    assert rule == "accuracy"
    assert hash(rule) == hash("accuracy")
    assert {"accuracy": 1}[rule] == 1
    assert f"mean_test_{rule}" == "mean_test_accuracy"
    assert rule != "recall"
    assert rule != 1


@all_rules
@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda rule: clone(rule, safe=False),
        lambda rule: eval(repr(rule)),  # noqa: S307
        *[
            lambda rule, protocol=protocol: pickle.loads(pickle.dumps(rule, protocol))
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
        ],
    ],
)
def test_copies_are_equal(rule, copied):
    again = copied(rule)
    assert type(again) is type(rule)
    assert again == rule
    assert (again != rule) is False
    assert vars(again) == vars(rule)
    results = sweep([EQUAL, EQUAL, [0.1, 0.2, 0.3]], [400, 200, 100])
    assert again(results) == rule(results)


def test_rules_differ_in_their_parameters():
    rules = [
        *RULES,
        SmallestWithinOneSE("recall"),
        SmallestWithinOneSE("accuracy", cost="neg_macs"),
        SmallestWithinDrop("accuracy", 0.02),
        SmallestNonInferior("accuracy", 0.01, test_size=0.1),
        SmallestNonInferior("accuracy", 0.01, test_size=0.2, confidence=0.9),
        SmallestNonInferior("accuracy", 0.01, test_size=0.2, n_rows=100),
        BestWithinBudget("accuracy", 501),
        *(SmallestWithinOneSE("accuracy", test_size=size) for size in (0.2, 0.3)),
        SmallestWithinDrop("accuracy", 0.01, test_size=0.2),
    ]
    for i, one in enumerate(rules):
        for j, other in enumerate(rules):
            assert (one == other) == (i == j)
            assert (one != other) == (i != j)


def test_repr():
    assert repr(ONE_SE) == (
        "SmallestWithinOneSE(quality='accuracy', cost='neg_nbytes', test_size=None)"
    )
    assert repr(NON_INFERIOR) == (
        "SmallestNonInferior(quality='accuracy', margin=0.01, test_size=0.2, n_rows=10000, "
        "confidence=0.95, cost='neg_nbytes')"
    )
    assert repr(BUDGET) == ("BestWithinBudget(quality='accuracy', max_nbytes=500, test_size=None)")


def non_inferior(margin=0.01, **params):
    return SmallestNonInferior("accuracy", margin, test_size=0.2, **params)


def test_a_loss_of_one_may_be_meant_where_the_metric_has_another_scale():
    for quality in ("r2", "neg_mean_squared_error", "my_score", "f1_of_mine", "recall_in_percent"):
        assert SmallestWithinDrop(quality, 1).max_drop == 1
        assert SmallestNonInferior(quality, 5, test_size=0.2).margin == 5
    assert SmallestWithinDrop("accuracy", 0.999).max_drop == 0.999


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SmallestWithinOneSE(None), TypeError, "quality=None, but expected the name"),
        (lambda: SmallestWithinOneSE(""), ValueError, "quality='', but expected the name"),
        (lambda: SmallestWithinOneSE("r2", cost=3), TypeError, "cost=3, but expected the name"),
        (lambda: SmallestWithinDrop("r2", -0.1), ValueError, "max_drop=-0.1, but expected"),
        (lambda: SmallestWithinDrop("r2", NAN), ValueError, "max_drop=nan, but expected"),
        (lambda: SmallestWithinDrop("r2", "1 %"), TypeError, "max_drop='1 %', but expected"),
        (lambda: SmallestWithinDrop("r2", True), TypeError, "max_drop=True, but expected"),
        (lambda: SmallestNonInferior("r2", 0, test_size=0.2), ValueError, "margin=0, but expected"),
        (lambda: SmallestNonInferior("r2", 0.1, test_size=5), ValueError, "test_size=5.*1 / 5"),
        (
            lambda: SmallestNonInferior("r2", 0.1, test_size=0.2, confidence=95),
            ValueError,
            "confidence=95.*0.95 for 95 %",
        ),
        (lambda: SmallestNonInferior("r2", 0.1, test_size=None), TypeError, "test_size=None, but"),
        (lambda: non_inferior(n_rows=0), ValueError, r"n_rows=0, but expected .*len\(y\)"),
        (lambda: non_inferior(n_rows=1e3), TypeError, "n_rows=1000.0, but expected"),
        (lambda: non_inferior(n_rows=True), TypeError, "n_rows=True, but expected"),
        (lambda: SmallestWithinOneSE("r2", test_size=1), ValueError, "test_size=1, .*1 / 5"),
        (lambda: SmallestWithinDrop("r2", 0.1, test_size="5"), TypeError, "test_size='5', but"),
        (lambda: BestWithinBudget("r2", 9, test_size=20), ValueError, "test_size=20, but"),
        (lambda: SmallestWithinDrop("accuracy", 1), ValueError, "max_drop=1, .*1 % is 0.01"),
        (lambda: SmallestWithinDrop("roc_auc_ovr", 2.5), ValueError, "max_drop=2.5, .*1 % is 0.01"),
        (lambda: non_inferior(margin=1), ValueError, "margin=1, but 'accuracy' lies .*1 % is 0.01"),
        (lambda: non_inferior(margin=5), ValueError, "margin=5, .*1 % is 0.01"),
        (lambda: BestWithinBudget("r2", 0), ValueError, "max_nbytes=0, but expected"),
        (lambda: BestWithinBudget("r2", "20 kB"), TypeError, "max_nbytes='20 kB', but expected"),
    ],
)
def test_bad_parameters_are_refused_at_once(make, error, message):
    with pytest.raises(error, match=message):
        make()
