"""New weights for the layers that have lost inputs, from what the rows say."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from .._nets import (
    copy_net,
    layer_name,
    module_root,
    n_rows,
    predict_raw,
    seeded,
    some_rows,
    take_rows,
)
from .._store import Record
from ..base import TrainingData
from ..nn.graph import Kept
from ..nn.reconstruction import LeastSquares, Places, can_reconstruct, n_inputs, n_places

# Raise it when the same net and rows would lead to other weights.
_RULES = 1
# Samples for each layer: this many, or so many times as many as it has inputs.
_SAMPLES, _PER_INPUT = 16384, 8
# Rows that they are of: more for layers that make one sample of a row, fewer for convolutions.
_MIN_ROWS, _MAX_ROWS = 512, 4096
_CHUNK, _HELD_OUT = 128, 5  # rows at once; every fifth chunk chooses the penalty

# Outputs of the dense net that are kept in memory at once: 256 MB of float32.
_NUMBERS = 1 << 26

Errors = dict[str, tuple[float, float]]
Calls = list[tuple[Places, Tensor] | None]


def reconstruct_(dense: NeuralNet, pruned: NeuralNet, kept: Kept, data: TrainingData) -> Errors:
    """Let the layers of a pruned net come near to what they were in the dense one.

    Layer by layer, in the order of the calls, so that each sees what those before it hand on
    now. If the outputs of the net do not come nearer, it is left as it was.

    Parameters
    ----------
    dense : skorch.NeuralNet
        Before the removal; not changed.
    pruned : skorch.NeuralNet
        After it, a net of our own, which gets the weights.
    kept : dict of str to list
        What is left of each tensor, see `Graph.kept`.
    data : TrainingData
        Only the inputs are looked at. Taken from the store where it was computed before.

    Returns
    -------
    errors : dict of str to (float, float)
        For each layer which share of the variance of its outputs was missed on held-out
        rows before and after.
    """

    def compute() -> Record:
        with seeded(0, dense.device):
            n_tried, errors = _solve(dense, copy := copy_net(pruned), kept, data.X)
        layers = module_root(copy)["module"]
        arrays = {
            f"{name}.{attr}": p.detach().cpu().numpy().copy()
            for name in errors
            for attr, p in layers.get_submodule(name)._parameters.items()
            if p is not None
        }
        pairs = {name: list(pair) for name, pair in errors.items()}
        return Record(arrays, {"n_tried": n_tried, "errors": pairs})

    record = data._fetch("reconstruction", dense, compute, kept, _RULES)
    if kept and not record.meta["n_tried"]:
        warnings.warn(
            "reconstruct=True has changed nothing: all layers that have lost inputs are stored as "
            "codes, hold zeros, share a weight, are not trained, or are of other kinds than Linear "
            "and convolutions. Put the pruner before steps that make codes or zeros.",
            UserWarning,
            stacklevel=2,
        )
    layers = module_root(pruned)["module"]
    with torch.no_grad():
        for name, array in record.arrays.items():
            layers.get_parameter(name).copy_(torch.from_numpy(array.copy()))
    errors = record.meta["errors"]
    return {layer_name(name): (pair[0], pair[1]) for name, pair in errors.items()}


def _solve(dense: NeuralNet, pruned: NeuralNet, kept: Kept, X: Any) -> tuple[int, Errors]:
    """Change the weights of `pruned`; return how many layers may change, and which have."""
    dense = copy_net(dense)  # a forward may change the module even when it only predicts
    rows = take_rows(X, some_rows(X, _MIN_ROWS))
    target = predict_raw(dense, rows)
    before = _distance(target, predict_raw(pruned, rows))
    layers = _layers_to_change(pruned, kept, X)
    targets = _Targets(dense, X, layers)
    old: dict[str, dict[str, Tensor]] = {}
    errors: Errors = {}
    for own in layers:
        layer = module_root(pruned)["module"].get_submodule(own.name)
        state = {key: value.detach().clone() for key, value in layer.state_dict().items()}
        first, last = _refit(pruned, own, targets.of(own), X)
        if last < first:
            errors[own.name], old[own.name] = (first, last), state
    if not _distance(target, predict_raw(pruned, rows)) < before:
        for name, state in old.items():
            module_root(pruned)["module"].get_submodule(name).load_state_dict(state)
        errors = {}
    return len(layers), errors


@dataclass(frozen=True)
class _Layer:
    """A layer to change: its outputs that are left, and how many samples of how many rows.

    `share` is of all samples that these rows make, over all calls.
    """

    name: str
    outputs: Any
    n_rows: int
    share: float


def _layers_to_change(net: NeuralNet, kept: Kept, X: Any) -> list[_Layer]:
    """Return the layers that have lost inputs and may change, in the order of their calls."""
    module = module_root(net)["module"]
    owners = [id(p) for layer in module.modules() for p in layer._parameters.values()]
    names = [
        name
        for name, layer in module.named_modules()
        if any(axis is not None for axis in kept.get(f"{name}.weight", [])[1:])
        and can_reconstruct(layer)
        and all(owners.count(id(p)) == 1 for p in layer.parameters())
    ]
    rows = take_rows(X, slice(0, 2))
    samples: dict[str, int] = {}

    def count(name: str, layer: nn.Module, output: Any) -> None:
        samples[name] = samples.get(name, 0) + n_places(layer, output)

    with _watched(net, names, lambda name, layer, _, output: count(name, layer, output)):
        predict_raw(net, rows)
    found = []
    for name, n_samples in samples.items():
        per_row = max(1, n_samples // n_rows(rows))
        wanted = max(_SAMPLES, _PER_INPUT * n_inputs(module.get_submodule(name)))
        n = min(n_rows(X), _MAX_ROWS, max(_MIN_ROWS, math.ceil(wanted / per_row)))
        share = min(1.0, wanted / (per_row * n))
        found.append(_Layer(name, kept[f"{name}.weight"][0], n, share))
    return found


class _Targets:
    """What layers put out in the dense net: found for as many at once as memory allows."""

    def __init__(self, dense: NeuralNet, X: Any, layers: list[_Layer]) -> None:
        self._dense, self._X, self._waiting = dense, X, list(layers)
        self._found: dict[str, list[Calls]] = {}

    def of(self, layer: _Layer) -> list[Calls]:
        """Return for each chunk of rows the places and outputs of each call."""
        if layer.name not in self._found:
            self._find(layer.n_rows)
        return self._found.pop(layer.name)

    def _find(self, n: int) -> None:
        module = module_root(self._dense)["module"]
        chosen: dict[str, _Layer] = {}
        left = _NUMBERS
        for own in [one for one in self._waiting if one.n_rows == n]:
            layer: Any = module.get_submodule(own.name)
            left -= max(_SAMPLES, _PER_INPUT * n_inputs(layer)) * len(layer.weight)
            if chosen and left < 0:
                break
            chosen[own.name] = own
            self._waiting.remove(own)
            self._found[own.name] = []

        def note(name: str, layer: nn.Module, _: Any, output: Any) -> None:
            calls, own = self._found[name], chosen[name]
            if _is_wrapped(output):
                calls[-1].append(None)
                return
            places = Places.draw(layer, output, own.share, seed=len(calls))
            values = places.outputs(layer, output)
            values = values if own.outputs is None else values[:, own.outputs]
            calls[-1].append((places, values.detach().cpu()))

        with _watched(self._dense, list(chosen), note):
            for chunk in _chunks(self._X, n):
                for name in chosen:
                    self._found[name].append([])
                predict_raw(self._dense, chunk)


def _refit(net: NeuralNet, own: _Layer, targets: list[Calls], X: Any) -> tuple[float, float]:
    """Change the weights of one layer, if that is for the better; return both errors."""
    layer = module_root(net)["module"].get_submodule(own.name)
    sums = LeastSquares(layer)
    inputs: list[Any] = []
    for number, (chunk, calls) in enumerate(zip(_chunks(X, own.n_rows), targets, strict=True)):
        inputs.clear()
        with _watched(net, [own.name], lambda *seen: inputs.append(seen[2])):
            predict_raw(net, chunk)
        for x, target in zip(inputs, calls, strict=False):
            if x is None or target is None or _is_wrapped(x):
                return 1.0, 1.0
            places, y = target
            try:
                sums.add(places.inputs(layer, x), y, held_out=number % _HELD_OUT == _HELD_OUT - 1)
            except ValueError:  # the net has done something else with these rows than before
                return 1.0, 1.0
    return sums.solve_()


def _chunks(X: Any, n: int) -> Iterator[Any]:
    """Yield n of the rows in chunks, each of which is from all over the data."""
    rows = some_rows(X, n)
    n_chunks = max(_HELD_OUT, math.ceil(n / _CHUNK))
    for i in range(n_chunks):
        chunk = take_rows(X, slice(i * rows.step, rows.stop, rows.step * n_chunks))
        if n_rows(chunk):
            yield chunk


def _is_wrapped(tensor: Any) -> bool:
    """Whether it is one row of a vmap, which cannot be kept."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


@contextmanager
def _watched(net: NeuralNet, names: list[str], note: Callable[..., None]) -> Iterator[None]:
    """Call `note` with name, layer, input and output of each call of some layers."""
    module = module_root(net)["module"]

    def hook(name: str) -> Callable[..., None]:
        def run(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            note(name, layer, args[0] if args else kwargs.get("input"), output)

        return run

    handles = [
        module.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True)
        for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(np.abs(a.astype(np.complex128) - b)).sum())
