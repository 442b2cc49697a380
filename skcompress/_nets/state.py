"""What a net is made of: the one list that copies, kept results and files go by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.history import History
from torch import Tensor, nn

from ..nn.codes.coded_layers import PackedWeight, packed_weights
from ..nn.modules.sizes import uncut_sizes

Names = tuple[str, ...]
Stored = Tensor | PackedWeight

_LABELS = "classes_inferred_"
# Parameters that do not decide what training yields.
_NEUTRAL = ("verbose", "history", "initialized_", "virtual_params_")
_NOT_PARTS = {*NeuralNet.prefixes_, "optimizer"}


class NotPlainError(TypeError):
    """A value is of a kind that is neither kept nor saved; says where and what it is."""


def part_names(net: NeuralNet) -> list[str]:
    """Return the names of modules and criteria; the attributes have an underscore behind them."""
    return [*net._modules, *net._criteria]


def modules(net: NeuralNet) -> dict[str, nn.Module]:
    """Return the net's modules by name."""
    return _torch_modules(net, net._modules)


def parts(net: NeuralNet) -> dict[str, nn.Module]:
    """Return modules and criteria by name; a criterion that is a plain function has no state."""
    return _torch_modules(net, part_names(net))


def module_root(net: NeuralNet) -> nn.ModuleDict:
    """Return a container with the net's live modules, so that all of them have one root.

    A container is needed because the module of a net may itself be a layer
    (``NeuralNetClassifier(nn.Linear, ...)``), which is then replaced as a whole.
    """
    return nn.ModuleDict({name: getattr(net, name + "_") for name in net._modules})


def part_root(net: NeuralNet) -> nn.ModuleDict:
    """Return a container with the net's live modules and criteria."""
    return nn.ModuleDict(parts(net))


def layers(of: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return every layer of some parts by its dotted name; a layer with several names once.

    Codes of a weight are not a layer: they belong to the layer that has the weight.
    """
    return {
        ".".join(filter(None, (part_name, name))): layer
        for part_name, part in of.items()
        for name, layer in part.named_modules()
        if not isinstance(layer, PackedWeight)
    }


def state_of(net: NeuralNet) -> dict[str, Tensor]:
    """Return the live tensors of the state of all parts by dotted name.

    Raises
    ------
    NotPlainError
        If the state holds something else.
    """
    found = {}
    for part_name, part in parts(net).items():
        for key, value in part.state_dict(keep_vars=True).items():
            name = f"{part_name}.{key}"
            if not isinstance(value, Tensor):
                raise NotPlainError(f"its state {name!r} is a {type(value).__name__}, not a tensor")
            found[name] = value
    return found


def stored(net: NeuralNet, uncut: Iterable[str]) -> dict[Names, Stored]:
    """Return weights stored as codes and all other tensors by all names that each has, sorted.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialized.
    uncut : iterable of str
        Names of tensors that units were removed from. Buffers among them that are
        outside of the state are returned, too: which of their entries are left is
        known nowhere else.
    """
    root = part_root(net)
    codes = {
        f"{name}.{attr}": packed
        for name, layer in root.named_modules(remove_duplicate=False)
        for attr, packed in packed_weights(layer).items()
    }
    own_state = [packed.state_dict(keep_vars=True) for packed in codes.values()]
    inside = {id(tensor) for state in own_state for tensor in state.values()}
    buffers = dict(root.named_buffers())
    by_name: dict[str, Stored] = {name: buffers[name] for name in uncut if name in buffers}
    by_name |= {name: own for name, own in state_of(net).items() if id(own) not in inside}
    by_name |= codes
    names: dict[int, list[str]] = {}
    # By name: a net made anew has the same order, whatever is stored as codes.
    for name in sorted(by_name):
        names.setdefault(id(by_name[name]), []).append(name)
    return {tuple(own): by_name[own[0]] for own in names.values()}


def uncut_shapes(of: Mapping[str, nn.Module]) -> dict[str, list[int]]:
    """Return the shapes before units were removed of the tensors of layers that became smaller."""
    return {
        f"{name}.{attr}": list(shape)
        for name, layer in of.items()
        for attr, shape in uncut_sizes(layer).items()
    }


def is_trained(own: Stored) -> bool:
    """Tell whether training changes a tensor or the scales of codes, if it can at all."""
    if isinstance(own, PackedWeight):  # fixed-point codes have nothing that could be frozen
        return all(parameter.requires_grad for parameter in own.parameters())
    return not isinstance(own, nn.Parameter) or own.requires_grad


def set_trained_(own: Stored, trained: bool) -> None:
    """Freeze a tensor or the scales of codes, or let them train."""
    parameters = own.parameters() if isinstance(own, PackedWeight) else [own]
    for parameter in parameters:
        if isinstance(parameter, nn.Parameter) and parameter.is_floating_point():
            parameter.requires_grad_(trained)


def load_tensors_(net: NeuralNet, values: Mapping[str, Tensor]) -> None:
    """Load a value for each tensor of the state of all parts."""
    for part_name, part in parts(net).items():
        prefix = part_name + "."
        own = {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
        part.load_state_dict(own, strict=True)


def inferred_labels(net: NeuralNet) -> np.ndarray | None:
    """Return the labels that a classifier has seen; None if it has none of its own."""
    return getattr(net, _LABELS, None)


def mark_fitted_(net: NeuralNet, labels: Any, history: Iterable[Mapping[str, Any]] = ()) -> None:
    """Make a net with loaded tensors one that has been fitted."""
    if labels is not None:
        setattr(net, _LABELS, labels)
    net.history_ = History([dict(row) for row in history])
    net._set_training(False)


def fit_parameters(net: NeuralNet) -> dict[str, Any]:
    """Return the constructor parameters that decide what training yields.

    `verbose` only decides what is printed; callbacks are part of the list as
    they may change the learning rate, the weights or the end of the training.
    """
    return {
        name: value for name, value in net.get_params(deep=False).items() if name not in _NEUTRAL
    }


def changed_parameters(net: NeuralNet, definition: NeuralNet) -> dict[str, Any]:
    """Return plain parameters that the definition does not have so, as callbacks may set them."""
    before = fit_parameters(definition)
    return {
        name: value
        for name, value in fit_parameters(net).items()
        if "__" in name and _is_plain(value) and (name not in before or before[name] != value)
    }


def is_part_parameter(net: NeuralNet, name: str) -> bool:
    """Tell whether a parameter is one of a module or criterion, as ``module__n_in`` is."""
    prefix, dunder, _ = name.partition("__")
    return bool(dunder) and hasattr(net, prefix) and prefix not in _NOT_PARTS


def _torch_modules(net: NeuralNet, names: Iterable[str]) -> dict[str, nn.Module]:
    found = {name: getattr(net, name + "_") for name in names}
    return {name: part for name, part in found.items() if isinstance(part, nn.Module)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None)
