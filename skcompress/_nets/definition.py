"""What the definition of a net says, trained or not, and the net that is initialized from it."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet

from .copying import quiet
from .seeding import seeded


def initialize(net: NeuralNet) -> NeuralNet:
    """Make module, criterion and optimizer of a net, in place; weights are drawn at random."""
    with quiet(net):
        return net.initialize()


def make_untrained(definition: NeuralNet, params: dict[str, Any]) -> NeuralNet:
    """Return an initialized net of a definition with other values for some of its parameters.

    The definition and the global random states stay as they are.
    """
    net = clone(definition)
    with seeded(0, net.device):
        return initialize(net.set_params(**params))


def given_net(estimator: Any) -> Any:
    """Return the skorch net in the parameter of an estimator, however deep.

    An estimator of this package names that parameter in `_net_param`. Anything else, such as
    a wrong parameter, is returned as it is.
    """
    if isinstance(estimator, FrozenEstimator):
        return given_net(estimator.estimator)
    if hasattr(estimator, "_net_param"):
        return given_net(getattr(estimator, estimator._net_param, None))
    return estimator


def max_epochs_of(net: NeuralNet) -> int:
    """Return for how many epochs the net trains, if nothing ends the training before."""
    return net.max_epochs


def keeps_validation_rows(net: NeuralNet) -> bool:
    """Whether the net's `train_split` keeps rows from the training."""
    return bool(net.train_split)


def module_name(net: NeuralNet) -> str:
    """Return what messages call the module."""
    return str(getattr(net.module, "__name__", net.module))


def criterion_name(net: NeuralNet) -> str:
    """Return what messages call the criterion."""
    return repr(net.criterion)
