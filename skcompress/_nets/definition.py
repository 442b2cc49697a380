"""What the definition of a net says, trained or not, and the net that is initialized from it."""

from __future__ import annotations

from skorch import NeuralNet

from .copying import quiet

__all__ = ["criterion_name", "initialize", "max_epochs_of", "module_name"]


def initialize(net: NeuralNet) -> NeuralNet:
    """Make module, criterion and optimizer of a net, in place; weights are drawn at random."""
    with quiet(net):
        return net.initialize()


def max_epochs_of(net: NeuralNet) -> int:
    """Return for how many epochs the net trains, if nothing ends the training before."""
    return net.max_epochs


def module_name(net: NeuralNet) -> str:
    """Return what messages call the module."""
    return str(getattr(net.module, "__name__", net.module))


def criterion_name(net: NeuralNet) -> str:
    """Return what messages call the criterion."""
    return repr(net.criterion)
