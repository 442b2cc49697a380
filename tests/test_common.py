"""What every public step and every public estimator keeps, found by discovery.

A step or estimator is under test as soon as its name is public. A step that cannot be made without
parameters, or has branches, gets an entry in EXAMPLES.
"""

import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline

import skcompress
from skcompress import (
    DeadUnitRemover,
    FineTuner,
    LowRankFactorizer,
    MagnitudePruner,
    Quantizer,
    StructuredPruner,
    TrainingData,
)
from skcompress.testing import check_compressor
from tests.conventions.docs_tools import attribute_problems
from tests.sample_nets import make_classifier, make_regressor

STEPS = {name: getattr(skcompress.steps, name) for name in skcompress.steps.__all__}
ESTIMATORS = {name: getattr(skcompress.estimators, name) for name in skcompress.estimators.__all__}

# The ways to use each step that has branches; all others are tested with their defaults.
EXAMPLES = {
    "LowRankFactorizer": [LowRankFactorizer(4), LowRankFactorizer(energy=0.6)],
    "MagnitudePruner": [
        MagnitudePruner(0.6),
        MagnitudePruner(threshold=0.05),
        MagnitudePruner(0.8, n_steps=2, fine_tuner=FineTuner(1), scope="layer"),
    ],
    "Quantizer": [
        Quantizer(),
        Quantizer(4, symmetric=False, granularity="per_tensor"),
        Quantizer(5, scheme="fixed_point"),
    ],
    "StructuredPruner": [
        StructuredPruner(0.5),
        StructuredPruner(threshold="0.9*mean", scope="layer"),
        StructuredPruner(target_macs=0.6, importance="taylor", scope="sensitivity"),
        StructuredPruner(0.5, n_steps=2, fine_tuner=FineTuner(1)),
    ],
    "DeadUnitRemover": [DeadUnitRemover(), DeadUnitRemover(fold_batch_norm=False)],
    "FineTuner": [FineTuner(1), FineTuner(1, alpha=0.5), FineTuner(1, lr=0.001)],
}


def examples_of(name, cls):
    """Return the ways to use a step."""
    if name in EXAMPLES:
        return EXAMPLES[name]
    needed = [p.name for p in inspect.signature(cls).parameters.values() if p.default is p.empty]
    if needed:
        raise LookupError(
            f"The public step {name} needs {', '.join(needed)}: add an entry for it to EXAMPLES in "
            "tests/test_common.py, with at least one way to use it."
        )
    return [cls()]


USES = [
    pytest.param(step, id=" ".join(repr(step).split()))
    for name, cls in STEPS.items()
    for step in examples_of(name, cls)
]


@pytest.fixture(scope="module")
def data(digits, fitted_classifier):
    return TrainingData(*digits, dense_net=fitted_classifier)


def fit_transform(step, net, data):
    step = clone(step)
    if "random_state" in step.get_params():
        step.set_params(random_state=0)
    if getattr(step, "n_steps", 1) > 1:
        step.set_params(fine_tuner__random_state=0)
    return step, step.fit_transform(net, data)


def test_public_classes_are_found():
    assert {"MagnitudePruner", "Quantizer"} <= set(STEPS)
    assert set(STEPS) | set(ESTIMATORS) <= set(skcompress.__all__)
    assert set(EXAMPLES) <= set(STEPS)


def test_a_step_without_examples_is_named():
    class Cutter:
        def __init__(self, where, how="fast"):
            """Store the parameters."""

    with pytest.raises(LookupError, match="The public step Cutter needs where: add an entry"):
        examples_of("Cutter", Cutter)


@pytest.mark.parametrize("step", USES)
class TestSteps:
    def test_it_keeps_the_contract(self, step):
        check_compressor(step)

    def test_history_and_optimizer_of_the_given_net_are_unchanged(
        self, step, fitted_classifier, data
    ):
        def state():
            optimizer = repr(fitted_classifier.optimizer_.state_dict())
            return optimizer, list(map(dict, fitted_classifier.history_))

        before = state()
        fitted, _ = fit_transform(step, fitted_classifier, data)
        fitted.transform(fitted_classifier)
        assert state() == before

    def test_its_report(self, step, fitted_classifier, data):
        fitted, _ = fit_transform(step, fitted_classifier, data)
        assert fitted.report_.dense_macs == 2368
        assert fitted.report_.macs <= 2368
        if not step._needs_data:
            assert clone(step).fit(fitted_classifier).report_.macs is None

    def test_its_documented_attributes_exist(self, step, fitted_classifier, data):
        fitted, _ = fit_transform(step, fitted_classifier, data)
        assert attribute_problems(fitted) == []

    def test_training_goes_on_from_the_result(self, step, fitted_classifier, data):
        _, net = fit_transform(step, fitted_classifier, data)
        loss = net.history_[-1, "train_loss"]
        net.partial_fit(data.X, data.y)
        assert net.history_[-1, "train_loss"] <= loss + 0.1

    def test_a_pickled_step_is_small_and_printable(self, step, fitted_classifier, data):
        fitted, _ = fit_transform(step, fitted_classifier, data)
        assert len(pickle.dumps(fitted)) < 4000
        assert len(repr(fitted.plan_)) < 2000
        pickle.loads(pickle.dumps(fitted)).get_params()

    @pytest.mark.parametrize("other", USES)
    def test_any_order_works_or_is_refused(self, step, other, fitted_classifier, data, digits):
        _, first = fit_transform(step, fitted_classifier, data)
        if step._makes_codes and not other._takes_codes:
            names = f"first {type(other).__name__}, then {type(step).__name__}"
            with pytest.raises(ValueError, match=names):
                fit_transform(other, first, data)
            clf = skcompress.CompressedClassifier(
                make_classifier(NeverTrained), Pipeline([("one", step), ("two", other)])
            )
            with pytest.raises(ValueError, match=names):
                clf.fit(*digits)
            return
        second, net = fit_transform(other, first, data)
        assert np.isfinite(net.predict_proba(data.X)).all()
        # What is zero stays zero, whatever comes behind.
        assert n_nonzero(net) <= n_nonzero(first)
        assert second.report_.sparsity >= 0

    def test_inside_an_estimator(self, step, digits):
        clf = skcompress.CompressedClassifier(make_classifier(), step, random_state=0)
        clf.fit(*digits)
        assert clf.report_.sparsity == pytest.approx(clf.compressor_.report_.sparsity)
        assert attribute_problems(clf.compressor_) == []


class NeverTrained(torch.nn.Linear):
    """A module that must not be trained."""

    def __init__(self):
        super().__init__(64, 10)

    def forward(self, X):
        assert not self.training, "a net was trained for steps that were refused"
        return super().forward(X)


def n_nonzero(net):
    """Return how many of a net's weights are not zero."""
    from skcompress._nets import module_root
    from skcompress.nn.modules.counting import count_nonzero

    return count_nonzero(module_root(net))


# What an estimator takes besides its net.
OTHERS = {
    "CompressedClassifier": {"compressor": Pipeline([("prune", MagnitudePruner(0.5))])},
    "CompressedRegressor": {"compressor": Pipeline([("prune", MagnitudePruner(0.5))])},
    "DistilledClassifier": {"teacher": GaussianNB(var_smoothing=0.1), "keep_teacher": True},
    "DistilledRegressor": {"teacher": Ridge(), "keep_teacher": True},
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_documented_attributes_of_an_estimator(name, digits, diabetes):
    import pandas as pd

    is_classifier = name.endswith("Classifier")
    net = make_classifier() if is_classifier else make_regressor(module__n_in=10)
    X, y = digits if is_classifier else (diabetes[0], diabetes[1].ravel())
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    fitted = ESTIMATORS[name](net, **OTHERS[name], random_state=0).fit(frame, y)
    assert attribute_problems(fitted) == []
