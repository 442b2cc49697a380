"""Layers whose weights are packed integer codes, decoded when they are used.

`code_layer` makes, of any layer, one that is an instance of the same class and runs the same
``forward``. Only where the weight comes from differs: not from a Parameter but from a
`PackedWeight`, which is a sub-module of the layer and so part of its ``state_dict``, its pickle
and its moves between devices.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from .packed_weight import PackedWeight, channel_axis, pack_weight

__all__ = [
    "PackedWeight",
    "channel_axis",
    "clear_decoded",
    "code_layer",
    "code_layer_",
    "decode_layer",
    "is_coded",
    "pack_weight",
    "packed_weights",
]

_SUFFIX = "_codes"


def code_layer(layer: nn.Module, packed: Mapping[str, PackedWeight]) -> nn.Module:
    """Return a copy of a layer that reads some of its weights from codes.

    Its class is a subclass of the layer's own and its ``forward`` is untouched. All that is not
    replaced (biases, buffers, hooks, sub-modules, other attributes) is copied. It computes what
    the layer would with the decoded weights in place of its own, to the last bit if these ask for
    gradients neither or both (torch chooses among equivalent kernels by that).

    Parameters
    ----------
    layer : torch.nn.Module
        Not modified. May be coded already; then codes are added or exchanged.
    packed : mapping of str to PackedWeight
        Which attributes to replace: ``"weight"``, ``"weight_ih_l0"``, … Two layers that are to
        share a weight are given the same object; where their output channels lie along
        different axes, the axis of the one it was made for holds.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> coded = code_layer(layer, {"weight": pack_weight(layer, "weight", bits=4)})
    >>> coded
    CodedLinear(
      in_features=3, out_features=2, bias=True
      (weight_codes): PackedWeight(2x3, bits=4, uniform, per_channel)
    )
    >>> isinstance(coded, nn.Linear), list(coded.state_dict())
    (True, ['bias', 'weight_codes.gain', 'weight_codes.packed'])
    """
    _check_replaceable(layer, packed)
    current = packed_weights(layer)
    replaced = [current.get(attr, layer._parameters.get(attr)) for attr in packed]
    return code_layer_(_copy_without(layer, replaced), packed)


def code_layer_(layer: nn.Module, packed: Mapping[str, PackedWeight]) -> nn.Module:
    """Do what `code_layer` does to the layer itself, which becomes an instance of another class.

    Whatever refers to the layer goes on doing so: layers used twice, and layers that a user's
    module keeps in a plain list besides, need no care. The given object is returned.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> _ = code_layer_(layer, {"weight": pack_weight(layer, "weight", bits=4)})
    >>> is_coded(layer)
    True
    """
    _check_replaceable(layer, packed)
    base = type(layer)._coded_base if isinstance(layer, _Coded) else type(layer)
    attrs = tuple(dict.fromkeys([*packed_weights(layer), *packed]))
    layer.__class__ = coded_class(base, attrs)
    for attr, codes in packed.items():
        layer._parameters.pop(attr, None)
        layer._modules[attr + _SUFFIX] = codes.train(layer.training)
    if isinstance(layer, nn.RNNBase):
        layer.__dict__.pop("_flat_weights", None)
        layer._flat_weight_refs = []
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        layer.sparse = False  # the gradient that is left, of the scales, is dense
    return layer


def decode_layer(layer: nn.Module) -> nn.Module:
    """Return a copy of a coded layer that is plain again: the inverse of `code_layer`.

    Its weights are parameters that hold the decoded values. For whatever has to look into a
    layer, such as a tool that knows the layers of torch by their types.

    Examples
    --------
    >>> layer = nn.Linear(3, 2)
    >>> coded = code_layer(layer, {"weight": pack_weight(layer, "weight", bits=4)})
    >>> decode_layer(coded)
    Linear(in_features=3, out_features=2, bias=True)
    """
    current = packed_weights(layer)
    plain = _copy_without(layer, current.values())
    if isinstance(layer, _Coded):
        plain.__class__ = layer._coded_base
    for attr, codes in current.items():
        del plain._modules[attr + _SUFFIX]
        with torch.inference_mode(False), torch.no_grad():
            values = codes.decoded().clone()
        trained = all(scale.requires_grad for scale in codes.parameters())
        plain._parameters[attr] = nn.Parameter(values, requires_grad=trained)
    if isinstance(plain, nn.RNNBase):
        plain._init_flat_weights()
    return plain


def clear_decoded(module: nn.Module) -> None:
    """Drop the floats that coded weights below a module keep in memory; they come back on use.

    Needed only where they would be in the way, or after a write past torch's eyes
    (``weight_codes.packed.data``).
    """
    for part in module.modules():
        if isinstance(part, PackedWeight):
            part._forget()


def is_coded(layer: nn.Module) -> bool:
    """Tell whether `code_layer` made this layer.

    Examples
    --------
    >>> is_coded(nn.Linear(2, 1))
    False
    """
    return isinstance(layer, _Coded)


def packed_weights(layer: nn.Module) -> dict[str, PackedWeight]:
    """Return the weights of a layer that are stored as codes; none if it is not coded.

    Examples
    --------
    >>> packed_weights(nn.Linear(2, 1))
    {}
    """
    if not isinstance(layer, _Coded):
        return {}
    return {attr: cast(PackedWeight, layer._modules[attr + _SUFFIX]) for attr in layer._coded_attrs}


def _copy_without(layer: nn.Module, parts: Iterable[object]) -> nn.Module:
    """Copy a layer, but for parts that are about to be replaced anyway."""
    with torch.inference_mode(False):  # or the copy could not be trained
        return copy.deepcopy(layer, {id(part): part for part in parts})


class _Coded:
    """Placed before a layer class by `coded_class`."""

    _coded_base: type
    _coded_attrs: tuple[str, ...]

    def __reduce_ex__(self, protocol: Any) -> tuple:
        # The class has no name that it could be imported by: it is made again from its base.
        return _new_coded, (self._coded_base, self._coded_attrs), self.__getstate__()


class _CodedRNN(_Coded):
    """Recurrent layers keep a second list of their weights; here it is made on demand."""

    _flat_weights_names: list[str]

    @property
    def _flat_weights(self) -> list[Tensor | None]:
        if "_flat_weight_refs" not in self.__dict__:  # while being unpickled: nobody computes yet
            return []
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, value: Any) -> None:
        """Ignore: torch assigns what it has read before."""

    def _init_flat_weights(self) -> None:
        self._flat_weight_refs: list[Any] = []

    def _weights_have_changed(self) -> bool:
        return False

    def flatten_parameters(self) -> None:
        """Do nothing: decoded weights are not parameters that could lie side by side."""


@functools.cache
def coded_class(base: type, attrs: tuple[str, ...]) -> Any:
    mixin = _CodedRNN if issubclass(base, nn.RNNBase) else _Coded
    content: dict[str, Any] = {attr: _decoding_property(attr) for attr in attrs}
    content.update(_coded_base=base, _coded_attrs=attrs, __module__=base.__module__)
    # new_class and not type: a base may have a metaclass
    return types.new_class(
        f"Coded{base.__name__}", (mixin, base), exec_body=lambda body: body.update(content)
    )


def _decoding_property(attr: str) -> property:
    return property(lambda layer: layer._modules[attr + _SUFFIX].decoded())


def _new_coded(base: type, attrs: tuple[str, ...]) -> nn.Module:
    cls = coded_class(base, attrs)
    return cls.__new__(cls)  # state follows


def _check_replaceable(layer: nn.Module, packed: Mapping[str, PackedWeight]) -> None:
    current = packed_weights(layer)
    for attr, codes in packed.items():
        present = current.get(attr, layer._parameters.get(attr))
        if present is None:
            names = [name for name, p in layer._parameters.items() if p is not None]
            raise ValueError(
                f"Got packed codes for {attr!r}, but {type(layer).__name__} has no parameter of "
                f"that name, only {names!r}. Parametrized weights must be made plain first."
            )
        if present.shape != codes.shape:
            raise ValueError(
                f"Got packed codes of shape {tuple(codes.shape)} for {attr!r}, but the weight has "
                f"shape {tuple(present.shape)}."
            )
