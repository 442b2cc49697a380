"""Nets with parametrized weights, and the same nets with plain ones."""

from __future__ import annotations

from skorch import NeuralNet

from ..nn.modules.parametrizations import make_plain_, parametrized_tensors, tensors_made_plain
from .copying import copy_net, replace_modules
from .seeding import seeded
from .state import layers, modules


def with_plain_weights(net: NeuralNet, caller: str) -> NeuralNet:
    """Return the net if all its weights are plain, else a copy in which they are.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialized. It is not changed.
    caller : str
        For the message.

    Returns
    -------
    net : skorch.NeuralNet
        It predicts the same in evaluation mode.

    Raises
    ------
    ValueError
        If a weight has no value that would stay.
    """
    found = [
        (name, attr)
        for name, layer in layers(modules(net)).items()
        for attr in parametrized_tensors(layer)
    ]
    if not found:
        return net
    net = copy_net(net)
    by_name = layers(modules(net))
    with seeded(0, net.device):
        for name, attr in found:
            try:
                make_plain_(by_name[name], attr)
            except Exception as error:  # whatever the user's parametrization may raise
                raise ValueError(
                    f"{caller} works on plain weights, but the parametrization of {attr!r} in "
                    f"{name!r} cannot be made permanent: {error}. Remove it from the module, or "
                    "leave the net uncompressed (compressor=None)."
                ) from error
    return replace_modules(net, {})  # whose optimizer has the original parameters


def removed_parametrizations(net: NeuralNet) -> list[str]:
    """Return the names of the weights that `with_plain_weights` has made plain."""
    return [
        f"{name}.{attr}"
        for name, layer in layers(modules(net)).items()
        for attr in tensors_made_plain(layer)
    ]
