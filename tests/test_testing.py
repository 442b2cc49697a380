"""check_compressor finds each way in which a step can break the contract."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier

from skcompress import CompressedClassifier, FineTuner, MagnitudePruner, TrainingData
from skcompress._nets import module_root
from skcompress.base import BaseCompressor, Plan
from skcompress.testing import check_compressor
from tests.sample_nets import Convolution, make_classifier


class RandomPlan(Plan):
    """Which weights become zero."""

    def __init__(self, masks):
        self.masks = masks


class RandomPruner(BaseCompressor):
    """Sets half of the weights to zero, drawn from one of the global generators or `rng`."""

    def __init__(self, source="torch"):
        self.source = source

    def draw(self, shape, rng):
        if self.source == "numpy":
            return torch.from_numpy(np.random.rand(*shape))  # noqa: NPY002
        if self.source == "rng":
            return torch.from_numpy(rng.random(tuple(shape)))
        return torch.rand(shape)

    def _plan(self, net, data, rng):
        return RandomPlan({w.name: self.draw(w.shape, rng) < 0.5 for w in self._weights(net)})

    def _apply(self, net, plan):
        for weight in self._weights(net):
            weight.zero_(plan.masks[weight.name])
        return net


@pytest.mark.parametrize("source", ["torch", "numpy", "rng"])
@pytest.mark.usefixtures("global_rng_untouched")
def test_a_step_that_draws_from_any_generator_is_reproducible(source):
    check_compressor(RandomPruner(source))


def test_another_seed_gives_other_numbers(digits):
    def masks(seed):
        clf = CompressedClassifier(make_classifier(), RandomPruner(), random_state=seed)
        return clf.fit(*digits).compressor_.plan_.masks["module.hidden.weight"]

    assert torch.equal(masks(0), masks(0))
    assert not torch.equal(masks(0), masks(1))


class Unseeded(RandomPruner):
    def draw(self, shape, rng):
        return torch.from_numpy(np.random.default_rng().random(tuple(shape)))


class Reseeding(RandomPruner):
    def _plan(self, net, data, rng):
        torch.set_rng_state(torch.Generator().manual_seed(3).get_state())
        return super()._plan(net, data, rng)

    def fit_transform(self, net, y=None):
        np.random.seed(3)  # noqa: NPY002
        return super().fit_transform(net, y)


class InPlace(RandomPruner):
    def _plan(self, net, data, rng):
        plan = super()._plan(net, data, rng)
        self._apply(net, plan)
        return plan


class Shared(RandomPruner):
    def _fit(self, net, data):
        super()._fit(net, data)
        return net


class Revives(RandomPruner):
    def _apply(self, net, plan):
        with torch.no_grad():
            for weight in self._weights(net):
                weight.values().add_(0.5)
        return net


class Forgetful(RandomPruner):
    def transform(self, net):
        super().transform(net)
        return MagnitudePruner(0.1).fit_transform(net)


class Large(RandomPruner):
    def _plan(self, net, data, rng):
        self.copy_ = {name: p.clone() for name, p in module_root(net).named_parameters()}
        return super()._plan(net, data, rng)


class Wordy(RandomPruner):
    def _plan(self, net, data, rng):
        return {w.name: "mask " * 600 for w in self._weights(net)}

    def _apply(self, net, plan):
        return net


class Frozen(RandomPruner):
    def _apply(self, net, plan):
        net = super()._apply(net, plan)
        net.optimizer_.param_groups.clear()
        return net


class Infinite(RandomPruner):
    def _apply(self, net, plan):
        with torch.no_grad():
            module_root(net)["module"].out.bias.fill_(torch.inf)
        return net


class Unreported(RandomPruner):
    @property
    def report_(self):
        return {"n_params": 1}


class Converting(RandomPruner):
    def __init__(self, source="torch"):
        self.source = str(source) + ""
        self.source = "".join(list(source))


class Greedy(RandomPruner):
    def fit(self, net, y=None):
        return self


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Unseeded(), "one seed gives one result': two fits with the same seed gave other weights"),
        (Reseeding(), "global random state of numpy"),
        (InPlace(), "fit or transform changed the weights of the given net"),
        (Shared(), "fit_transform returned the net that it was given"),
        (Revives(), "of a net with 1184 weights that are not zero it made 2368"),
        (Forgetful(), "transform of the net that was fitted is not the result"),
        (Large(), "and the weights take"),
        (Wordy(), "derive it from skcompress.base.Plan"),
        (Frozen(), "was its optimizer rebuilt"),
        (Unreported(), "report_ lacks n_nonzero"),
        (Converting("rng"), "__init__ was given source='rng' and keeps 'rng'"),
        (Greedy(), "fit of an array raised no TypeError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseCompressor) else "",
)
def test_a_broken_step_is_found(step, message):
    with pytest.raises(AssertionError) as error:
        check_compressor(step)
    assert str(error.value).startswith(f"{type(step).__name__} fails the check '")
    assert message in str(error.value)


def test_a_result_of_another_class_or_with_infinity_is_refused():
    with pytest.raises(AssertionError, match="a NeuralNetClassifier became a Own"):
        check_compressor(ToOwn())
    with pytest.raises(AssertionError, match="NaN or infinity"):
        check_compressor(Infinite())


class Own(NeuralNetClassifier):
    """A net of another class."""


class ToOwn(RandomPruner):
    def _apply(self, net, plan):
        net.__class__ = Own
        return net


def test_a_net_of_the_users_own(digits):
    X, y = digits[0].reshape(-1, 1, 8, 8), digits[1]
    net = make_classifier(Convolution).fit(X, y)
    check_compressor(FineTuner(1), net, TrainingData(X, y, dense_net=net))
    with pytest.raises(AssertionError, match="'one seed gives one result'"):
        check_compressor(Unseeded(), net, TrainingData(X, y, dense_net=net))


def test_net_and_data_come_together(fitted_classifier):
    with pytest.raises(ValueError, match="needs both of net and data"):
        check_compressor(MagnitudePruner(0.5), fitted_classifier)


def test_the_step_is_not_changed():
    step = FineTuner(1)
    params = clone(step).get_params()
    check_compressor(step)
    assert step.get_params() == params
    assert not hasattr(step, "plan_")
