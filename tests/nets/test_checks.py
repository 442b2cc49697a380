"""What is refused as a net, and that the refusal says what to do."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.utils import prune

from skcompress import MagnitudePruner
from skcompress._nets import check_net, check_unfitted_net, copy_net
from tests.sample_nets import MLP, make_classifier


def test_a_fitted_net_is_returned_as_it_is(fitted_classifier):
    assert check_net(fitted_classifier, "Step") is fitted_classifier


@pytest.mark.parametrize(
    "value",
    [np.zeros((3, 4)), [[1.0, 2.0]], nn.Linear(2, 2), LogisticRegression(), None, "net"],
    ids=lambda value: type(value).__name__,
)
def test_other_things_than_nets(value):
    with pytest.raises(TypeError, match="Step transforms a fitted skorch net, but got"):
        check_net(value, "Step")


def test_an_array_is_shown_by_its_shape():
    with pytest.raises(TypeError, match=r"ndarray of shape \(3, 4\).*pass them as `compressor`"):
        MagnitudePruner(0.5).fit_transform(np.zeros((3, 4)))


def test_an_unfitted_net(classifier):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        check_net(classifier, "Step")


def _prune_mask(net):
    prune.l1_unstructured(net.module_.hidden, "weight", amount=0.5)


def _nan(net):
    with torch.no_grad():
        net.module_.hidden.weight[0, 0] = float("nan")


def _sparse(net):
    hidden = net.module_.hidden
    hidden.weight = nn.Parameter(hidden.weight.detach().to_sparse())


def _sparse_rows(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls them beta
        net.module_.register_buffer("adjacency", torch.eye(4).to_sparse_csr())


def _compiled(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        net.module_.hidden = torch.jit.script(net.module_.hidden)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_sparse, r"'weight' in 'module.hidden' is stored as torch.sparse_coo.*to_dense"),
        (_sparse_rows, r"'adjacency' in 'module' is stored as torch.sparse_csr"),
        (_compiled, "'module.hidden', which TorchScript has compiled"),
        (_prune_mask, r"masked by torch.nn.utils.prune.*prune\.remove"),
        (_nan, "'hidden.weight' contains NaN or infinity"),
    ],
)
def test_nets_in_a_state_that_cannot_be_compressed(fitted_classifier, spoil, message):
    net = copy_net(fitted_classifier)
    spoil(net)
    with pytest.raises(ValueError, match=message):
        check_net(net, "Step")


def test_a_net_trimmed_for_prediction_can_be_pruned(fitted_classifier, digits):
    net = copy_net(fitted_classifier)
    net.trim_for_prediction()
    pruned = MagnitudePruner(0.5).fit_transform(net)
    assert pruned.predict(digits[0]).shape == (360,)


def test_a_class_is_not_an_instance():
    with pytest.raises(TypeError, match=r"Got the class .* write NeuralNetClassifier\(module"):
        check_unfitted_net(type(make_classifier()), "CompressedClassifier")


def test_a_module_instance_would_leak():
    with pytest.raises(ValueError, match=r"module \*instance\* MLP.*Pass the class"):
        check_unfitted_net(make_classifier(MLP()), "CompressedClassifier")


def test_a_module_instance_with_parameters_is_made_anew():
    check_unfitted_net(make_classifier(MLP(), module__n_hidden=3), "CompressedClassifier")


def test_a_compiled_net():
    with pytest.raises(ValueError, match="compile=False"):
        check_unfitted_net(make_classifier(compile=True), "CompressedClassifier")
