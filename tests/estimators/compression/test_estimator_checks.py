"""scikit-learn's own checks, with no expected failure but the one that mini-batches cannot meet."""

import pytest
import torch
from sklearn.utils.estimator_checks import estimator_checks_generator
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from skcompress import CompressedClassifier, CompressedRegressor, MagnitudePruner, SampleWeightMixin
from tests.sample_nets import MLP, make_classifier, make_regressor


class WeightedClassifier(SampleWeightMixin, NeuralNetClassifier):
    pass


class WeightedRegressor(SampleWeightMixin, NeuralNetRegressor):
    pass


CLASSIFIER = {"shape_params": {"module__n_in": "n_features", "module__n_out": "n_classes"}}
REGRESSOR = {"shape_params": {"module__n_in": "n_features", "module__n_out": "n_outputs"}}
QUICK = {"max_epochs": 40, "lr": 0.02, "batch_size": 32}
WEIGHTED = {
    "optimizer": torch.optim.Adam,
    "train_split": None,
    "verbose": 0,
    "iterator_train__shuffle": True,
    **QUICK,
}

ESTIMATORS = [
    CompressedClassifier(make_classifier(**QUICK), MagnitudePruner(0.3), **CLASSIFIER),
    CompressedRegressor(make_regressor(**QUICK), MagnitudePruner(0.3), **REGRESSOR),
]
WEIGHTED_ESTIMATORS = [
    CompressedClassifier(
        WeightedClassifier(MLP, criterion=nn.CrossEntropyLoss, **WEIGHTED), **CLASSIFIER
    ),
    CompressedRegressor(WeightedRegressor(MLP, **WEIGHTED), **REGRESSOR),
]


# A repeated row falls into other mini-batches than a row of weight two.
EXCUSED = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
}


def checks(estimators):
    """Return a parameter for each check of each estimator, with a name that can be read."""
    return [
        pytest.param(estimator, check, id=f"{type(estimator).__name__}-{name_of(check)}")
        for estimator in estimators
        for estimator, check in estimator_checks_generator(estimator)
    ]


def name_of(check):
    """Return a check's name with the arguments it is run with."""
    arguments = ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in check.keywords.items())
    return check.func.__name__ + (f"({arguments})" if arguments else "")


@pytest.mark.parametrize(("estimator", "check"), checks(ESTIMATORS))
def test_estimator(estimator, check):
    run(estimator, check)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [c for c in checks(WEIGHTED_ESTIMATORS) if c.values[1].func.__name__ not in EXCUSED],
)
def test_estimator_of_a_net_that_takes_weights(estimator, check):
    run(estimator, check)


def run(estimator, check):
    if check.func.__name__ == "check_array_api_input":
        return  # for estimators that say they take arrays of other libraries
    check(estimator)


def test_nothing_is_excused_for_nets_without_weights():
    names = {check.values[1].func.__name__ for check in checks(ESTIMATORS)}
    assert not names & EXCUSED
    assert len(names) > 50
