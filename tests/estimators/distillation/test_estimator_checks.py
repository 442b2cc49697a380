"""scikit-learn's own checks, with no expected failure but the one that mini-batches cannot meet."""

import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import Ridge
from torch import nn

from skcompress import (
    CompressedClassifier,
    CompressedRegressor,
    DistilledClassifier,
    DistilledRegressor,
    MagnitudePruner,
)
from tests.estimators.compression.test_estimator_checks import (
    CLASSIFIER,
    EXCUSED,
    QUICK,
    REGRESSOR,
    WEIGHTED,
    WeightedClassifier,
    WeightedRegressor,
    checks,
    run,
)
from tests.sample_nets import MLP, make_classifier, make_regressor

FOREST = RandomForestClassifier(8, max_depth=3)
NEW = {"augment": "mixup", "n_augment": 1}

ESTIMATORS = [
    DistilledClassifier(make_classifier(**QUICK), FOREST, **NEW, **CLASSIFIER),
    DistilledRegressor(make_regressor(**QUICK), RandomForestRegressor(8), **NEW, **REGRESSOR),
]
COMPOSED = [
    CompressedClassifier(
        DistilledClassifier(make_classifier(**QUICK), FOREST), MagnitudePruner(0.3), **CLASSIFIER
    ),
    CompressedRegressor(
        DistilledRegressor(make_regressor(**QUICK), Ridge()), MagnitudePruner(0.3), **REGRESSOR
    ),
]
WEIGHTED_ESTIMATORS = [
    DistilledClassifier(
        WeightedClassifier(MLP, criterion=nn.CrossEntropyLoss, **WEIGHTED),
        FOREST,
        **CLASSIFIER,
    ),
    DistilledRegressor(WeightedRegressor(MLP, **WEIGHTED), Ridge(), **REGRESSOR),
]

# Data that is so easy that any teacher's targets are one-hot, or so odd that a net beats a forest.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The teacher gives its training rows", "ignore:The teacher is worse"
)


@pytest.mark.parametrize(("estimator", "check"), checks(ESTIMATORS))
def test_estimator(estimator, check):
    run(estimator, check)


@pytest.mark.parametrize(("estimator", "check"), checks(COMPOSED))
def test_estimator_of_a_distilling_estimator(estimator, check):
    run(estimator, check)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [c for c in checks(WEIGHTED_ESTIMATORS) if c.values[1].func.__name__ not in EXCUSED],
)
def test_estimator_of_a_net_that_takes_weights(estimator, check):
    run(estimator, check)


def test_nothing_is_excused_for_nets_without_weights():
    names = {check.values[1].func.__name__ for check in checks([*ESTIMATORS, *COMPOSED])}
    assert not names & EXCUSED
    assert len(names) > 50
