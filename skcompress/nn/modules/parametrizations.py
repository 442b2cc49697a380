"""Weights that a layer computes at each use: by a parametrization or by a hook of torch.

A parametrized weight (weight norm, spectral norm, orthogonal, a maximal norm) is not a parameter of
its layer, so nothing can be removed from it, and torch refuses to pickle the layer. Here it is made
a plain parameter, and layers that keep theirs are brought into a form that pickles.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook
from torch.nn.utils.weight_norm import WeightNorm

from ..._torch import inject_new_class, inject_property

__all__ = [
    "dress_",
    "give_own_classes_",
    "make_plain_",
    "note_made_plain_",
    "parametrized_tensors",
    "tensors_made_plain",
    "undress_",
]

_LIST = "parametrizations"
_MADE_PLAIN = "parametrizations_removed"


def parametrized_tensors(layer: nn.Module) -> list[str]:
    """Return the names of the tensors that a layer computes by a parametrization or a hook.

    Examples
    --------
    >>> parametrized_tensors(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    ['weight']
    >>> parametrized_tensors(nn.Linear(3, 2))
    []
    """
    own = list(layer.parametrizations) if _LIST in layer._modules else []  # type: ignore[arg-type]
    return own + [hook.name for hook in _hooks(layer)]


def make_plain_(layer: nn.Module, attr: str) -> None:
    """Make a parametrized tensor of a layer a parameter with the value of evaluation mode.

    In place, but nothing is changed in other copies of the layer, with which torch lets it share
    its class: ``remove_parametrizations`` on one of them breaks the others.

    Parameters
    ----------
    layer : torch.nn.Module
        With other parametrized tensors, perhaps: these stay so.
    attr : str
        One of `parametrized_tensors`.

    Raises
    ------
    ValueError
        If the value differs from one use to the next.

    Examples
    --------
    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    >>> expected = layer.weight.detach()
    >>> make_plain_(layer, "weight")
    >>> layer, torch.equal(layer.weight, expected)
    (Linear(in_features=3, out_features=2, bias=True), True)
    """
    if attr in (hook.name for hook in _hooks(layer)):
        _remove_hook_(layer, attr)
    else:
        _remove_parametrization_(layer, attr)
    _update_list_(layer)
    note_made_plain_(layer, (*tensors_made_plain(layer), attr))


def tensors_made_plain(layer: nn.Module) -> tuple[str, ...]:
    """Return the tensors that `make_plain_` has made plain, which the definition parametrizes.

    Examples
    --------
    >>> tensors_made_plain(nn.Linear(3, 2))
    ()
    """
    return tuple(vars(layer).get(_MADE_PLAIN, ()))


def note_made_plain_(layer: nn.Module, attrs: tuple[str, ...]) -> None:
    """Note on a layer, or on what it has become, which tensors were made plain."""
    if attrs:
        vars(layer)[_MADE_PLAIN] = attrs


def undress_(module: nn.Module) -> nn.Module:
    """Give the parametrized layers of a module the classes that they had before: these pickle.

    They cannot compute until `dress_` makes them what they were. In place, and the module is
    returned. It does not read state that the older hook of weight norm has saved any more: what
    does that is a function inside a function, which does not pickle.
    """
    for layer in _parametrized_layers(module):
        layer.__class__ = type_before_parametrizations(layer)
        _drop_readers_of_old_state_(layer)
        _update_list_(layer)
    return module


def dress_(module: nn.Module) -> nn.Module:
    """Undo `undress_`, in place."""
    for layer in _parametrized_layers(module):
        _compute_again_(layer)
    return module


def give_own_classes_(module: nn.Module) -> None:
    """Let no parametrized layer of a module share its class with another one, as copies do."""
    for layer in _parametrized_layers(module):
        layer.__class__ = type_before_parametrizations(layer)
        _compute_again_(layer)


def _parametrized_layers(module: nn.Module) -> list[Any]:
    return [m for m in module.modules() if _LIST in m._modules and is_parametrized(m)]


def _compute_again_(layer: Any) -> None:
    inject_new_class(layer)
    for attr in layer.parametrizations:
        inject_property(layer, attr)
    _update_list_(layer)


def _update_list_(layer: nn.Module) -> None:
    """Let a recurrent layer read its weights again, of which it keeps a list."""
    if isinstance(layer, nn.RNNBase):
        with torch.no_grad():  # tensors with a graph could not be copied
            layer._init_flat_weights()


def _drop_readers_of_old_state_(layer: nn.Module) -> None:
    """Remove what translates an older form of the state of a parametrization, if anything does."""
    readers = layer._load_state_dict_pre_hooks
    for key, hook in list(readers.items()):
        function = getattr(hook, "hook", hook)
        of_weight_norm = getattr(function, "__module__", None) == parametrizations.__name__
        if of_weight_norm or isinstance(function, SpectralNormLoadStateDictPreHook):
            del readers[key]


def _hooks(layer: nn.Module) -> list[WeightNorm | SpectralNorm]:
    hooks = layer._forward_pre_hooks.values()
    return [hook for hook in hooks if isinstance(hook, WeightNorm | SpectralNorm)]


def _remove_hook_(layer: nn.Module, attr: str) -> None:
    trained = any(
        parameter.requires_grad
        for name, parameter in layer._parameters.items()
        if parameter is not None and name.rpartition("_")[0] == attr  # weight_g, weight_orig
    )
    for hook in _hooks(layer):
        if hook.name == attr:
            remove = remove_weight_norm if isinstance(hook, WeightNorm) else remove_spectral_norm
            remove(layer, attr)
    if not _hooks(layer):  # torch looks for this one in the wrong place, and leaves it
        _drop_readers_of_old_state_(layer)
    layer.get_parameter(attr).requires_grad_(trained)


def _remove_parametrization_(layer: Any, attr: str) -> None:
    own = layer.parametrizations[attr]
    value = _value(own, attr)
    originals = list(own.parameters(recurse=False))
    layer.__class__ = type_before_parametrizations(layer)
    del layer.parametrizations[attr]
    _drop_readers_of_old_state_(layer)
    if len(layer.parametrizations) == 0:
        del layer.parametrizations
    else:
        _compute_again_(layer)
    if originals:
        trained = any(parameter.requires_grad for parameter in originals)
        layer.register_parameter(attr, nn.Parameter(value, requires_grad=trained))
    else:
        layer.register_buffer(attr, value)


def _value(own: nn.Module, attr: str) -> Tensor:
    own.eval()
    with torch.inference_mode(False), torch.no_grad():
        value, again = own(), own()
        if value.shape != again.shape or not torch.equal(value.nan_to_num(), again.nan_to_num()):
            raise ValueError(f"{attr!r} has another value at each use, in evaluation mode too")
        return value.detach().clone(memory_format=torch.contiguous_format)
