"""The straight way gives what skorch gives, and is left where a user has changed the way."""

from functools import partial

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.dataset import Dataset
from torch import nn
from torch.utils.data import DataLoader

from skcompress._nets import Predictor, predict_raw
from tests.sample_nets import MLP, TwoInputs, make_classifier


class Doubled(Dataset):
    def transform(self, X, y):
        return super().transform(2 * X, y)


def collate_halved(batch):
    X, y = torch.utils.data.default_collate(batch)
    return X / 2, y


class OwnLoader(DataLoader):
    def __iter__(self):
        for X, y in super().__iter__():
            yield 4 * X, y


class OwnInfer(NeuralNetClassifier):
    def infer(self, x, **fit_params):
        return super().infer(x + 1, **fit_params)


class OwnEvaluation(NeuralNetClassifier):
    def evaluation_step(self, batch, training=False):
        return super().evaluation_step(batch, training) * 3


class OwnForward(NeuralNetClassifier):
    def forward_iter(self, X, training=False, device="cpu"):
        for output in super().forward_iter(X, training=training, device=device):
            yield output * 2


class OwnDataset(NeuralNetClassifier):
    def get_dataset(self, X, y=None):
        return super().get_dataset(X + 1, y)


class OwnIterator(NeuralNetClassifier):
    def get_iterator(self, dataset, training=False):
        return super().get_iterator(Doubled(dataset.X, dataset.y), training)


CHANGED = {
    "dataset": (NeuralNetClassifier, {"dataset": Doubled}),
    "collate": (NeuralNetClassifier, {"iterator_valid__collate_fn": collate_halved}),
    "loader": (NeuralNetClassifier, {"iterator_valid": OwnLoader}),
    "infer": (OwnInfer, {}),
    "evaluation_step": (OwnEvaluation, {}),
    "forward_iter": (OwnForward, {}),
    "get_dataset": (OwnDataset, {}),
    "get_iterator": (OwnIterator, {}),
}
PARAMS = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}


def initialized(net):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return net.initialize()


@pytest.mark.parametrize("n_rows", [1, 63, 64, 1000])
@pytest.mark.parametrize("n_classes", [2, 10, 32, 33])
def test_softmax_over_columns_is_the_same(n_rows, n_classes):
    net = initialized(NeuralNetClassifier(MLP, module__n_in=7, module__n_out=n_classes, **PARAMS))
    X = np.random.default_rng(0).normal(size=(n_rows, 7)).astype("float32") * 30
    probabilities = Predictor(net).probabilities(X)
    np.testing.assert_allclose(probabilities, net.predict_proba(X), rtol=1e-6, atol=1e-7)
    assert probabilities.flags.c_contiguous


def test_softmax_over_another_axis_is_left_alone():
    net = initialized(
        NeuralNetClassifier(
            MLP, module__n_in=7, predict_nonlinearity=partial(torch.softmax, dim=0), **PARAMS
        )
    )
    X = np.ones((100, 7), dtype="float32")
    np.testing.assert_allclose(Predictor(net).probabilities(X).sum(), 10, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 100, 128, 1000, -1])
def test_the_fast_path_gives_what_skorch_gives(digits, batch_size):
    net = initialized(make_classifier(batch_size=batch_size))
    X = digits[0]
    assert Predictor(net).is_straight
    np.testing.assert_allclose(
        Predictor(net).probabilities(X), net.predict_proba(X), rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(predict_raw(net, X), net.forward(X).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_user_has_changed_is_used(digits, name):
    cls, params = CHANGED[name]
    net = initialized(cls(MLP, **PARAMS, **params))
    plain = initialized(NeuralNetClassifier(MLP, **PARAMS))
    X = digits[0]
    assert not Predictor(net).is_straight
    np.testing.assert_allclose(
        Predictor(net).probabilities(X), net.predict_proba(X), rtol=1e-6, atol=1e-7
    )
    assert not np.allclose(Predictor(net).probabilities(X), Predictor(plain).probabilities(X))


def test_a_method_set_on_the_instance_is_used(digits):
    net = initialized(make_classifier())
    net.infer = lambda x, **kw: torch.zeros(len(x), 10)
    assert not Predictor(net).is_straight
    np.testing.assert_allclose(Predictor(net).probabilities(digits[0]), 0.1, rtol=1e-6)


class OwnProba(NeuralNetClassifier):
    def predict_proba(self, X):
        return np.full((len(X), 10), 0.1)


def test_an_own_predict_proba_is_used(digits):
    net = initialized(OwnProba(MLP, **PARAMS))
    np.testing.assert_array_equal(Predictor(net).probabilities(digits[0]), 0.1)


def negated(output):
    return -output


@pytest.mark.parametrize("nonlinearity", [None, "auto", negated])
def test_the_nonlinearity_is_applied(digits, nonlinearity):
    net = initialized(make_classifier(predict_nonlinearity=nonlinearity))
    X = digits[0]
    np.testing.assert_allclose(
        Predictor(net).probabilities(X), net.predict_proba(X), rtol=0, atol=1e-6
    )


def test_one_output_for_two_classes(digits):
    net = NeuralNetBinaryClassifier(MLP, module__n_out=1, verbose=0)
    net = initialized(net)
    X = digits[0]
    assert Predictor(net).is_straight
    np.testing.assert_allclose(
        Predictor(net).probabilities(X), net.predict_proba(X), rtol=0, atol=1e-6
    )


def test_dict_inputs(digits):
    net = initialized(make_classifier(TwoInputs))
    X = {"image": digits[0], "ids": np.arange(360) % 5}
    assert Predictor(net).is_straight
    np.testing.assert_allclose(
        Predictor(net).probabilities(X), net.predict_proba(X), rtol=0, atol=1e-6
    )


class Noisy(MLP):
    """Dropout: shows whether the module is in evaluation mode."""

    def forward(self, X):
        return nn.functional.dropout(super().forward(X), 0.5, self.training)


def test_evaluation_mode(digits):
    net = initialized(make_classifier(Noisy))
    net.module_.train()
    np.testing.assert_array_equal(predict_raw(net, digits[0]), predict_raw(net, digits[0]))


class DeepNoise(MLP):
    def __init__(self):
        super().__init__()
        self.register_module("absent", None)
        self.after = nn.Sequential(nn.Sequential(nn.Identity(), nn.Dropout(0.5)))

    def forward(self, X):
        return self.after(super().forward(X))


def test_one_layer_alone_in_training_mode_is_put_back(digits):
    net = initialized(make_classifier(DeepNoise))
    predictor, net.module_.after[0] = Predictor(net), nn.Sequential(nn.Dropout(0.5))
    net.module_.eval()
    quiet = predictor.raw(digits[0])
    net.module_.after[0][0].train()
    np.testing.assert_array_equal(predictor.raw(digits[0]), quiet)
    assert not net.module_.after[0][0].training


class Positions(MLP):
    """Keeps the codes of its inputs' positions, which it makes when it is first called."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(64))
        self.codes = None

    def forward(self, X):
        if self.codes is None:
            self.codes = torch.linspace(0, 1, X.shape[1])
        return super().forward(X + self.weight * self.codes)


def test_a_net_that_keeps_what_it_computes_can_be_trained_later(digits):
    net = initialized(make_classifier(Positions))
    X, y = digits
    Predictor(net).probabilities(X[:1])
    assert not net.module_.codes.is_inference()
    before = net.module_.weight.detach().clone()
    net.partial_fit(X[:64], y[:64])
    assert not torch.equal(net.module_.weight, before)


class Slope(MLP):
    """Puts out a derivative; with `follow`, one that autograd still follows."""

    def __init__(self, follow=False):
        super().__init__()
        self.follow = follow

    def forward(self, X):
        with torch.enable_grad():
            X = X.detach().clone().requires_grad_()
            total = super().forward(X).square().sum()
            (slope,) = torch.autograd.grad(total, X, create_graph=self.follow)
        return slope[:, :10]


@pytest.mark.parametrize("follow", [False, True])
def test_a_module_that_asks_for_gradients_gets_them(digits, follow):
    net = initialized(make_classifier(Slope, module__follow=follow))
    X = digits[0]
    assert Predictor(net).is_straight
    expected = net.forward(X).detach().numpy()
    np.testing.assert_allclose(predict_raw(net, X), expected, rtol=1e-5, atol=1e-6)


def test_gradients_are_off_inside_and_as_before_outside(digits):
    seen = []
    net = initialized(make_classifier())
    net.module_.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            predict_raw(net, digits[0])
            assert torch.is_grad_enabled() == enabled
    assert seen
    assert not any(seen)


def test_a_row_does_not_depend_on_its_batch_mates(fitted_classifier, digits):
    X = digits[0]
    together = predict_raw(fitted_classifier, X)
    alone = np.concatenate([predict_raw(fitted_classifier, row[None]) for row in X])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)


def test_a_change_after_the_fact_is_noticed(digits):
    net = initialized(make_classifier())
    X = digits[0]
    for change in (
        {"predict_nonlinearity": None},
        {"iterator_valid__collate_fn": collate_halved},
        {"dataset": Doubled},
        {"iterator_valid": OwnLoader},
    ):
        predictor = Predictor(net)
        predictor.probabilities(X)
        vars(net).update(change)
        np.testing.assert_array_equal(predictor.probabilities(X), net.predict_proba(X))
    predictor = Predictor(net)
    net.infer = lambda x, **kw: torch.zeros(len(x), 10)
    np.testing.assert_array_equal(predictor.raw(X), 0)


@pytest.mark.parametrize("n_rows", [1, 63, 64, 65, 511, 512, 513, 1025])
def test_batches_cover_all_rows(n_rows):
    net = initialized(make_classifier(batch_size=64))
    X = np.random.default_rng(0).normal(size=(n_rows, 64)).astype(np.float32)
    np.testing.assert_allclose(predict_raw(net, X), net.forward(X).numpy(), rtol=0, atol=1e-5)
