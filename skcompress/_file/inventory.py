"""What there is in a net: its layers, the tensors of its state, the weights stored as codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from skorch import NeuralNet
from torch import Tensor, nn

from .._nets import module_root
from .._nets.copying import fit_parameters
from ..nn.codes.coded_layers import PackedWeight, packed_weights
from ..nn.surgery.shrinking import uncut_shapes
from .plain import NotPlainError

_SETTINGS = ("predict_nonlinearity", "threshold")

Names = tuple[str, ...]
T = TypeVar("T")


def parts(net: NeuralNet) -> list[tuple[str, nn.Module]]:
    parts = [(name, getattr(net, name + "_")) for name in net._modules + net._criteria]
    return [(name, part) for name, part in parts if isinstance(part, nn.Module)]


def root(net: NeuralNet) -> nn.Module:
    return nn.ModuleDict(dict(parts(net)))


def _places(net: NeuralNet) -> Iterator[tuple[str, PackedWeight]]:
    for name, layer in root(net).named_modules(remove_duplicate=False):
        for attr, packed in packed_weights(layer).items():
            yield f"{name}.{attr}", packed


def _by_names(names: Mapping[int, list[str]], objects: Mapping[int, T]) -> dict[Names, T]:
    """Sort by name: a net made anew has the same order, whatever is stored as codes."""
    own = {tuple(sorted(names[key])): found for key, found in objects.items()}
    return dict(sorted(own.items(), key=lambda item: item[0]))


def coded(net: NeuralNet) -> dict[Names, PackedWeight]:
    """Weights stored as codes, by all names that each has."""
    names: dict[int, list[str]] = {}
    objects = {}
    for name, packed in _places(net):
        names.setdefault(id(packed), []).append(name)
        objects[id(packed)] = packed
    return _by_names(names, objects)


def tensors(net: NeuralNet) -> dict[Names, Tensor]:
    """All other tensors of the state, by all names that each has.

    And buffers outside of it that units were removed from: which entries are left of what the
    definition makes is known nowhere else.
    """
    inside = tuple(f"{name}_codes." for name, _ in _places(net))
    names: dict[int, list[str]] = {}
    objects = {}
    for part_name, part in parts(net):
        for key, value in part.state_dict(keep_vars=True).items():
            name = f"{part_name}.{key}"
            if inside and name.startswith(inside):
                continue
            if not isinstance(value, Tensor):
                raise NotPlainError(f"its state {name!r} is a {type(value).__name__}, not a tensor")
            names.setdefault(id(value), []).append(name)
            objects[id(value)] = value
    for name, buffer in cut_buffers(net).items():
        names.setdefault(id(buffer), []).append(name)
        objects[id(buffer)] = buffer
    return _by_names(names, objects)


def cut_buffers(net: NeuralNet) -> dict[str, Tensor]:
    """Buffers that are not in the state, but smaller than the definition makes them."""
    cut = dense_shapes(net)
    return {
        f"{path}.{attr}": layer.get_buffer(attr)
        for path, layer in root(net).named_modules()
        for attr in sorted(layer._non_persistent_buffers_set)
        if f"{path}.{attr}" in cut
    }


def dense_shapes(net: NeuralNet) -> dict[str, list[int]]:
    """Shapes that tensors had before units were removed."""
    return uncut_shapes(module_root(net))


def layers(net: NeuralNet) -> dict[str, str]:
    """Class of every layer by name, with its settings where it is one of torch's."""
    layers = {}
    for name, layer, own in _layers(net):
        text = own.__qualname__
        # Dropout does nothing to predictions, and callbacks like to change it.
        if own.__module__.startswith("torch.nn.") and "Dropout" not in text:
            text = f"{text}({layer.extra_repr()})"
        layers[name] = text
    return layers


def classes(net: NeuralNet) -> dict[str, str]:
    """Class of every layer by name, before units were removed."""
    return {name: getattr(own, "_uncut_class", own).__qualname__ for name, _, own in _layers(net)}


def _layers(net: NeuralNet) -> Iterator[tuple[str, nn.Module, type]]:
    """Name, layer and class, whether weights of it are stored as codes or not."""
    for part_name, part in parts(net):
        for name, layer in part.named_modules():
            if not isinstance(layer, PackedWeight):
                own = getattr(type(layer), "_coded_base", type(layer))
                yield ".".join(filter(None, (part_name, name))), layer, own


def settings(net: NeuralNet) -> dict[str, Any]:
    """What decides, beside the module, how outputs become predictions; only what is unusual."""
    settings = {}
    for name in _SETTINGS:
        value = getattr(net, name, None)
        if value is not None and value not in ("auto", 0.5):
            known = isinstance(value, str | bool | int | float)
            settings[name] = (
                value if known else getattr(value, "__qualname__", type(value).__name__)
            )
    return settings


def changed_params(net: NeuralNet, definition: NeuralNet) -> dict[str, Any]:
    before, parts = fit_parameters(definition), (*net._modules, *net._criteria)
    return {
        name: value
        for name, value in fit_parameters(net).items()
        if name.partition("__")[0] in parts
        and "__" in name
        and type(value) in (str, int, float, bool)
        and (name not in before or before[name] != value)
    }


def is_trained(stored: Tensor | PackedWeight) -> bool:
    if isinstance(stored, PackedWeight):  # fixed-point codes have nothing that could be frozen
        return all(parameter.requires_grad for parameter in stored.parameters())
    return not isinstance(stored, nn.Parameter) or stored.requires_grad
