"""Why a module cannot process a row of X, and what to write instead."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback, InputShapeSetter
from torch import Tensor, nn

from .definition import module_name
from .predicting import predict_raw
from .rows import first_row
from .state import layers, modules

# What such a module may raise, whoever wrote it.
ROW_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError)

_MAY_RESIZE = ("fit", "partial_fit", "fit_loop", "on_train_begin", "check_data")
_WIDTH_AXIS = {"in_channels": 1, "num_features": 1, "in_features": -1, "input_size": -1}
_WIDTHS = (
    "Set its widths on the net, or let them follow the data with "
    "shape_params={'module__<name>': 'n_features'}; dtype=None keeps whole numbers."
)


def output_for_row(net: NeuralNet, X: Any) -> np.ndarray:
    """Return the output of a net for the first row; ValueError with the way out if it fails."""
    try:
        output = predict_raw(net, first_row(X))
    except ROW_ERRORS as error:
        raise ValueError(_explanation(net, X, f"{type(error).__name__}: {error!s:.200}")) from error
    if len(output) != 1:
        raise ValueError(_explanation(net, X, f"it puts out {len(output)} rows"))
    return output


def has_final_sizes(net: NeuralNet) -> bool:
    """Whether nothing sets the sizes of an initialized net when its training begins."""
    own = any(
        getattr(type(net), name).__module__.partition(".")[0] != "skorch" for name in _MAY_RESIZE
    )
    return not own and not any(_may_resize(callback) for _, callback in net.callbacks_)


def _may_resize(callback: Callback) -> bool:
    is_own = type(callback).__module__.partition(".")[0] != "skorch"
    return is_own or isinstance(callback, InputShapeSetter)


def _explanation(net: NeuralNet, X: Any, reason: str) -> str:
    row = first_row(X)
    inputs = row if isinstance(row, dict) else {"X": row}
    given = ", ".join(f"{k} of shape {a.shape}, {a.dtype}" for k, a in inputs.items())
    called = _called_layers(net, row)
    # A convolution takes a row without the axis of its channels for several, and a later layer
    # fails.
    culprit = next((c for c in called if _lacks_axis(c[1], c[2])), called[-1] if called else None)
    hint = (culprit and _hint(*culprit, inputs)) or f"It must take any number of rows. {_WIDTHS}"
    return f"The module {module_name(net)} cannot process one row, {given} ({reason}). {hint}"


def _called_layers(net: NeuralNet, row: Any) -> list[tuple[str, nn.Module, Tensor]]:
    """Return the layers that are called for a row, the one that fails last, with their inputs."""
    called: list[tuple[str, nn.Module, Tensor]] = []
    names = {id(layer): name for name, layer in layers(modules(net)).items()}

    def note(layer: nn.Module, args: Any, kwargs: Any) -> None:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        if tensors and not list(layer.children()):
            called.append((names.get(id(layer), ""), layer, tensors[0]))

    with ExitStack() as stack, suppress(*ROW_ERRORS):
        for root in modules(net).values():
            for layer in root.modules():
                stack.enter_context(layer.register_forward_pre_hook(note, with_kwargs=True))
        predict_raw(net, row)
    return called


def _lacks_axis(layer: nn.Module, given: Tensor) -> bool:
    kernel: Any = getattr(layer, "kernel_size", None)
    return isinstance(kernel, tuple) and given.ndim < len(kernel) + 2


def _hint(name: str, layer: nn.Module, given: Tensor, inputs: dict[str, Any]) -> str | None:
    what = f"Its layer {name!r} ({type(layer).__name__})"
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        if given.is_floating_point():
            return f"{what} takes token ids: give whole numbers as X, and dtype=None to keep them."
        in_range = given.numel() and 0 <= given.min() <= given.max() < layer.num_embeddings
        return None if in_range else f"{what} takes token ids from 0 to {layer.num_embeddings - 1}."
    if not given.is_floating_point():
        return f"{what} takes floats: dtype='float32' makes them of whole numbers."
    key = next((key for key in _WIDTH_AXIS if isinstance(getattr(layer, key, None), int)), None)
    if key is None:
        return None
    width, axis = getattr(layer, key), _WIDTH_AXIS[key]
    as_given = any(tuple(given.shape[1:]) == array.shape[1:] for array in inputs.values())
    return _hint_on_axes(f"{what} takes {key}={width}", width, axis, given, layer, as_given)


def _hint_on_axes(
    what: str, width: int, axis: int, given: Tensor, layer: nn.Module, as_given: bool
) -> str | None:
    """Return how X would have its axes in torch's order, or which widths fit."""
    shape = tuple(given.shape)
    kernel: Any = getattr(layer, "kernel_size", None)
    n_axes = len(kernel) + 2 if isinstance(kernel, tuple) else len(shape)
    if len(shape) == n_axes and shape[axis] == width:
        return None  # another operation fails, behind this layer
    if not as_given:
        return f"{what}, and got {shape}. {_WIDTHS}"
    if len(shape) == n_axes - 1 and width == 1:
        return f"{what} at axis 1, so X lacks an axis: give X[:, None]."
    if len(shape) < n_axes:
        sizes = ", ".join(["len(X)", str(width), "..."])
        return f"{what} at axis 1 of {n_axes}: give X.reshape({sizes})."
    places = [i for i in range(1, len(shape)) if shape[i] == width]
    if len(shape) == n_axes and places:
        return (
            f"{what} at axis {axis}, where X has {shape[axis]}: torch wants channels first in "
            f"images and features last in series. Give np.moveaxis(X, {places[-1]}, {axis})."
        )
    return f"{what}, and got {shape}. {_WIDTHS}"
