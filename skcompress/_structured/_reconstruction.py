"""New weights for the layers that have lost inputs, from what the rows say."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from .._nets import (
    copy_net,
    key_of,
    layer_name,
    module_root,
    n_rows,
    net_state_digest,
    predict_raw,
    seeded,
    some_rows,
    take_rows,
    training_threads,
)
from .._store import Record
from ..base import TrainingData
from ..nn.graph import Kept
from ..nn.reconstruction import LeastSquares, can_reconstruct, n_inputs, samples

# Raise it when the same net and rows would lead to other weights.
_RULES = 1
# Samples for each layer: this many, or so many times as many as it has inputs.
_SAMPLES, _PER_INPUT = 16384, 8
# Rows that they are of: more for layers that make one sample of a row, fewer for convolutions.
_MIN_ROWS, _MAX_ROWS = 512, 4096
_CHUNK, _HELD_OUT = 128, 5  # rows at once; every fifth chunk chooses the penalty

Errors = dict[str, tuple[float, float]]


def reconstruct(
    dense: NeuralNet, pruned: NeuralNet, kept: Kept, data: TrainingData
) -> tuple[NeuralNet, Errors]:
    """Let the layers of a pruned net come near to what they were in the dense one.

    Layer by layer, in the order of the calls, so that each sees what those before it hand on
    now. If the outputs of the net do not come nearer, it is left as it was.

    Parameters
    ----------
    dense : skorch.NeuralNet
        Before the removal; not changed.
    pruned : skorch.NeuralNet
        After it, a net of our own.
    kept : dict of str to list
        What is left of each tensor, see `Graph.kept`.
    data : TrainingData
        Only the inputs are looked at. Taken from the store where it was computed before.

    Returns
    -------
    net : skorch.NeuralNet
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

    store, key = data._fold.store, None
    if store.location is not None:
        facts = (kept, data._key(), training_threads(), _RULES)
        key = key_of(lambda: net_state_digest(dense), *facts)
    record = compute() if key is None else store.fetch(key, "reconstruction", compute)[0]
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
    return pruned, {layer_name(name): (pair[0], pair[1]) for name, pair in errors.items()}


def _solve(dense: NeuralNet, pruned: NeuralNet, kept: Kept, X: Any) -> tuple[int, Errors]:
    """Change the weights of `pruned`; return how many layers may change, and which have."""
    dense = copy_net(dense)  # a forward may change the module even when it only predicts
    rows = take_rows(X, some_rows(X, _MIN_ROWS))
    target = predict_raw(dense, rows)
    before = _distance(target, predict_raw(pruned, rows))
    old: dict[str, dict[str, Tensor]] = {}
    errors: Errors = {}
    places = _places(pruned, kept, rows)
    for name, per_row in places.items():
        layer = module_root(pruned)["module"].get_submodule(name)
        state = {key: value.detach().clone() for key, value in layer.state_dict().items()}
        first, last = _refit(dense, pruned, name, kept[f"{name}.weight"][0], per_row, X)
        if last < first:
            errors[name], old[name] = (first, last), state
    if not _distance(target, predict_raw(pruned, rows)) < before:
        for name, state in old.items():
            module_root(pruned)["module"].get_submodule(name).load_state_dict(state)
        errors = {}
    return len(places), errors


def _places(net: NeuralNet, kept: Kept, rows: Any) -> dict[str, int]:
    """Return the layers to change, in the order of their calls, and their samples of a row."""
    module = module_root(net)["module"]
    owners = [id(p) for layer in module.modules() for p in layer._parameters.values()]
    names = [
        name
        for name, layer in module.named_modules()
        if any(axis is not None for axis in kept.get(f"{name}.weight", [])[1:])
        and can_reconstruct(layer)
        and all(owners.count(id(p)) == 1 for p in layer.parameters())
    ]
    seen: dict[str, int] = {}
    n = min(2, n_rows(rows))

    def note(name: str) -> Callable[[Any, Any], None]:
        def count(_: Any, output: Any) -> None:
            features = output.shape[-1] if _is_linear(module, name) else output.shape[1]
            seen[name] = seen.get(name, 0) + max(1, output.numel() // max(1, features) // n)

        return count

    with _watched(net, {name: note(name) for name in names}):
        predict_raw(net, take_rows(rows, slice(0, n)))
    return seen


def _refit(
    dense: NeuralNet, pruned: NeuralNet, name: str, outputs: Any, per_row: int, X: Any
) -> tuple[float, float]:
    """Change the weights of one layer, if that is for the better; return both errors."""
    layer = module_root(pruned)["module"].get_submodule(name)
    sums = LeastSquares(layer)
    wanted = max(_SAMPLES, _PER_INPUT * n_inputs(layer))
    n = min(n_rows(X), _MAX_ROWS, max(_MIN_ROWS, math.ceil(wanted / per_row)))
    for number, chunk in enumerate(_chunks(X, n)):
        inputs, targets = _seen(pruned, name, chunk, 0), _seen(dense, name, chunk, 1)
        most = math.ceil(wanted * n_rows(chunk) / n / max(1, len(inputs)))
        for now, then in zip(inputs, targets, strict=False):
            if now is None or then is None:
                return 1.0, 1.0
            try:
                x, y = samples(layer, now, then, most, seed=number)
            except ValueError:  # the net has done something else with these rows than before
                return 1.0, 1.0
            y = y if outputs is None else y[:, outputs]
            sums.add(x, y, held_out=number % _HELD_OUT == _HELD_OUT - 1)
    return sums.solve_()


def _chunks(X: Any, n: int) -> Iterator[Any]:
    """Yield n of the rows in chunks, each of which is from all over the data."""
    rows = some_rows(X, n)
    n_chunks = max(_HELD_OUT, math.ceil(n / _CHUNK))
    for i in range(n_chunks):
        chunk = take_rows(X, slice(i * rows.step, rows.stop, rows.step * n_chunks))
        if n_rows(chunk):
            yield chunk


def _seen(net: NeuralNet, name: str, rows: Any, which: int) -> list[Tensor | None]:
    """Return what each call of a layer is given (0) or returns (1); None: it cannot be kept."""
    seen: list[Tensor | None] = []

    def note(*tensors: Any) -> None:
        tensor = tensors[which]
        # None: given in some other way. Wrapped: one row of a vmap.
        gone = tensor is None or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        seen.append(None if gone else tensor.detach())

    with _watched(net, {name: note}):
        predict_raw(net, rows)
    return seen


@contextmanager
def _watched(net: NeuralNet, notes: dict[str, Callable[[Any, Any], None]]) -> Iterator[None]:
    """Tell functions what some layers are given, and what they return."""
    module = module_root(net)["module"]

    def hook(note: Callable[[Any, Any], None]) -> Callable[..., None]:
        def run(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            note(args[0] if args else kwargs.get("input"), output)

        return run

    handles = [
        module.get_submodule(name).register_forward_hook(hook(note), with_kwargs=True)
        for name, note in notes.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_linear(module: nn.Module, name: str) -> bool:
    return isinstance(module.get_submodule(name), nn.Linear)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(np.abs(a.astype(np.complex128) - b)).sum())
