"""What every public step and every public estimator keeps, found by discovery.

A new step or estimator is under test as soon as its name is public; one that needs
parameters to be fitted gets them in EXAMPLES.
"""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
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
from skcompress.base import BaseCompressor
from tests.conventions.docs_tools import attribute_problems
from tests.sample_nets import make_classifier, make_regressor

PUBLIC = {name: getattr(skcompress, name) for name in skcompress.__all__}
STEPS = {
    name: cls
    for name, cls in PUBLIC.items()
    if inspect.isclass(cls) and issubclass(cls, BaseCompressor)
}
ESTIMATORS = {
    name: cls
    for name, cls in PUBLIC.items()
    if inspect.isclass(cls) and hasattr(cls, "predict") and hasattr(cls, "fit")
}

# At least one way to use each step; several where a step has branches.
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
USES = [
    pytest.param(step, id=" ".join(repr(step).split())) for name in STEPS for step in EXAMPLES[name]
]


def trains(step):
    return step._needs_data


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


def state_of(net):
    return {
        "module": {k: v.clone() for k, v in net.module_.state_dict().items()},
        "optimizer": copy.deepcopy(net.optimizer_.state_dict()),
        "history": copy.deepcopy(list(net.history_)),
        "params": {k: repr(v) for k, v in net.get_params(deep=False).items()},
        "training": [m.training for m in net.module_.modules()],
        "hooks": [len(m._forward_hooks) for m in net.module_.modules()],
    }


def test_every_step_and_estimator_is_found():
    assert set(STEPS) == set(EXAMPLES)
    assert {name.removesuffix("Classifier").removesuffix("Regressor") for name in ESTIMATORS} == {
        "Compressed",
        "Distilled",
    }


@pytest.mark.parametrize("step", USES)
class TestSteps:
    def test_it_returns_another_net_of_the_same_class(self, step, fitted_classifier, data):
        _, net = fit_transform(step, fitted_classifier, data)
        assert type(net) is type(fitted_classifier)
        assert net is not fitted_classifier
        assert np.isfinite(net.predict_proba(data.X)).all()
        ours = {t.data_ptr() for t in net.module_.state_dict().values()}
        theirs = {t.data_ptr() for t in fitted_classifier.module_.state_dict().values()}
        assert not ours & theirs

    def test_the_given_net_is_bit_for_bit_unchanged(self, step, fitted_classifier, data):
        before = state_of(fitted_classifier)
        fitted, _ = fit_transform(step, fitted_classifier, data)
        fitted.transform(fitted_classifier)
        after = state_of(fitted_classifier)
        for name, value in before["module"].items():
            assert torch.equal(value, after["module"][name])
        assert repr(before["optimizer"]) == repr(after["optimizer"])
        for part in ("history", "params", "training", "hooks"):
            assert before[part] == after[part]

    @pytest.mark.usefixtures("global_rng_untouched")
    def test_the_same_net_and_seed_give_the_same_result(self, step, fitted_classifier, data):
        nets = [fit_transform(step, fitted_classifier, data)[1] for _ in range(2)]
        for one, two in zip(*(net.module_.state_dict().values() for net in nets), strict=True):
            assert torch.equal(one, two)

    def test_fit_then_transform_is_fit_transform(self, step, fitted_classifier, data):
        fitted, net = fit_transform(step, fitted_classifier, data)
        again = fitted.transform(fitted_classifier)
        np.testing.assert_array_equal(again.predict_proba(data.X), net.predict_proba(data.X))

    def test_its_report(self, step, fitted_classifier, data):
        fitted, _ = fit_transform(step, fitted_classifier, data)
        for name in ("n_params", "n_nonzero", "sparsity", "macs"):
            assert name in fitted.report_
            assert f"dense_{name}" in fitted.report_
        assert fitted.report_.dense_macs == 2368
        assert (fitted.report_.macs < 2368) == isinstance(
            step, StructuredPruner | LowRankFactorizer
        )
        assert 0 <= fitted.report_.sparsity < 1
        if not trains(step):
            assert clone(step).fit(fitted_classifier).report_.macs is None

    def test_its_documented_attributes_exist(self, step, fitted_classifier, data):
        fitted, _ = fit_transform(step, fitted_classifier, data)
        assert attribute_problems(fitted) == []

    def test_the_result_trains_pickles_and_copies(self, step, fitted_classifier, data):
        _, net = fit_transform(step, fitted_classifier, data)
        expected = net.predict_proba(data.X)
        for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
            np.testing.assert_array_equal(other.predict_proba(data.X), expected)
        loss = net.history_[-1, "train_loss"]
        net.partial_fit(data.X, data.y)
        assert net.history_[-1, "train_loss"] <= loss + 0.1
        assert not np.array_equal(net.predict_proba(data.X), expected)

    def test_a_pickled_step_is_small_and_printable(self, step, fitted_classifier, data):
        fitted, _ = fit_transform(step, fitted_classifier, data)
        assert len(pickle.dumps(fitted)) < 4000
        assert len(repr(fitted.plan_)) < 2000
        pickle.loads(pickle.dumps(fitted)).get_params()

    def test_arrays_and_unfitted_nets_are_refused(self, step, data):
        with pytest.raises(TypeError, match="fitted skorch net"):
            clone(step).fit(data.X, data)
        with pytest.raises(NotFittedError):
            clone(step).fit(make_classifier(), data)

    def test_before_fit(self, step, fitted_classifier):
        with pytest.raises(NotFittedError):
            clone(step).transform(fitted_classifier)

    def test_a_regressor(self, step, fitted_regressor, diabetes):
        data = TrainingData(*diabetes, dense_net=fitted_regressor)
        _, net = fit_transform(step, fitted_regressor, data)
        assert np.isfinite(net.predict(data.X)).all()

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

    def test_parameters_are_stored_as_given(self, step):
        cls = type(step)
        for name, value in step.get_params(deep=False).items():
            assert getattr(cls(**{name: value}), name) is value


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
