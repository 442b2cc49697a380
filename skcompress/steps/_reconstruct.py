"""New weights for layers, so that a net comes near to what it was: from what the rows say."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from .._caching.store import Record
from .._nets import copy_net, module_root, n_rows, predict_raw, seeded, some_rows, take_rows
from .._torch import is_functorch_wrapped_tensor
from ..base import TrainingData
from ..base._trained_plan import TrainedPlan
from ..nn.codes.grids import Grid
from ..nn.reconstruction.constraints import Constraint
from ..nn.reconstruction.layer_samples import LayerSamples, can_reconstruct, n_inputs, n_samples_of
from ..nn.reconstruction.least_squares import LayerFit, LeastSquares

# Raise it when the same net and rows would lead to other weights.
_RULES = 3
# Samples for each layer: this many, or so many times as many as it has inputs.
_SAMPLES, _PER_INPUT = 16384, 8
# Rows that they are of: more for layers that make one sample of a row, fewer for convolutions.
_MIN_ROWS, _MAX_ROWS = 512, 4096
_CHUNK, _HELD_OUT = 128, 5  # rows at once; every fifth chunk chooses the penalty
# Behind the name of a layer, what its grid is called in a record.
_SCALE, _POINT = "#scale", "#zero_point"
# Outputs of the dense net that are kept in memory at once: 256 MB of float32.
_NUMBERS = 1 << 26

Errors = dict[str, tuple[float, float]]
Calls = list[tuple[LayerSamples, Tensor] | None]


@dataclass(frozen=True)
class Aim:
    """What the weights of a layer have to be like, and where they begin.

    Attributes
    ----------
    constraint : Constraint
        Their form.
    outputs : list of int or None
        Which of the outputs that the layer had in the dense net it still has; None: all.
    from_dense : bool
        Whether they begin as they are in the dense net.
    """

    constraint: Constraint
    outputs: list[int] | None = None
    from_dense: bool = True


class Reconstruction(NamedTuple):
    """What has become of the layers that got new weights, by their names below the net.

    Attributes
    ----------
    errors : dict of str to (float, float)
        Which share of the variance of a layer's outputs was missed on held-out rows before
        and after.
    grids : dict of str to (Tensor, Tensor or None)
        Scales and zero points, where weights are on a grid.
    """

    errors: Errors
    grids: dict[str, tuple[Tensor, Tensor | None]]

    def grid(self, name: str, grid: Grid) -> Grid:
        """Return the grid that the weights of a layer are on now, if it was this one."""
        if name not in self.grids:
            return grid
        scale, zero_point = self.grids[name]
        return replace(grid, scale=scale, zero_point=zero_point)


class SolvedPlan(TrainedPlan):
    """The plan of a step that has solved for weights: good for one net only.

    Attributes
    ----------
    plan : object
        What the step has decided.
    reconstruction : dict of str to (float, float)
        See :class:`Reconstruction`.
    """

    def __init__(
        self, step: str, incoming: str, net: NeuralNet, plan: Any, reconstruction: Errors
    ) -> None:
        super().__init__(step, incoming, net)
        self.plan = plan
        self.reconstruction = reconstruction

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "plan": self.plan, "reconstruction": self.reconstruction}

    def _lines(self) -> list[str]:
        return [*repr(self.plan).split("\n"), *describe(self.reconstruction)]


def describe(errors: Errors) -> list[str]:
    """Return a line for each layer that got new weights."""
    return [
        f"{name}: new weights; {before:.3g} of the variance missed before, {after:.3g} now"
        for name, (before, after) in errors.items()
    ]


def reconstruct_(
    dense: NeuralNet, changed: NeuralNet, aims: Mapping[str, Aim], data: TrainingData, *facts: Any
) -> Reconstruction:
    """Let the layers of a changed net come near to what they were in the dense one.

    Layer by layer, in the order of the calls, so that each sees what those before it hand on
    now. If the outputs of the net do not come nearer, it is left as it was.

    Parameters
    ----------
    dense : skorch.NeuralNet
        Before the change; not changed.
    changed : skorch.NeuralNet
        After it, a net of our own, which gets the weights. Its weights are floats.
    aims : mapping of str to Aim
        The layers that may change, by their names below the net. Left out are those that
        share a weight, are not trained, or are of other kinds than can be solved for.
    data : TrainingData
        Only the inputs are looked at, of rows that have trained the net. Taken from the store
        where it was computed before.
    *facts : object
        What the aims depend on, besides the dense net.
    """
    rows = data._training_rows(dense, _MAX_ROWS)

    def compute() -> Record:
        with seeded(0, dense.device):
            net = copy_net(changed)
            n_tried, fits = _solve(dense, changed, net, aims, take_rows(data.X, rows))
        return _to_record(net, n_tried, fits)

    record = data._fetch("reconstruction", dense, compute, *facts, rows, _RULES)
    if aims and not record.meta["n_tried"]:
        warnings.warn(
            "reconstruct=True has changed nothing: all layers in question are stored as codes, "
            "share a weight, are not trained, or are of other kinds than Linear and convolutions. "
            "Put the step before those that make codes.",
            UserWarning,
            stacklevel=2,
        )
    root = module_root(changed)
    arrays = {name: torch.from_numpy(array.copy()) for name, array in record.arrays.items()}
    grids = {
        name: (arrays.pop(name + _SCALE), arrays.pop(name + _POINT, None))
        for name in record.meta["errors"]
        if name + _SCALE in arrays
    }
    with torch.no_grad():
        for name, tensor in arrays.items():
            root.get_parameter(name).copy_(tensor)
    pairs = {name: (pair[0], pair[1]) for name, pair in record.meta["errors"].items()}
    return Reconstruction(pairs, grids)


def _to_record(net: NeuralNet, n_tried: int, fits: Mapping[str, LayerFit]) -> Record:
    root = module_root(net)
    arrays = {}
    for name, fit in fits.items():
        for attr, parameter in root.get_submodule(name)._parameters.items():
            if parameter is not None:
                arrays[f"{name}.{attr}"] = parameter.detach().cpu().numpy().copy()
        if fit.grid is not None:
            arrays[name + _SCALE] = fit.grid.scale.numpy()
            if fit.grid.zero_point is not None:
                arrays[name + _POINT] = fit.grid.zero_point.numpy()
    errors = {name: [fit.before, fit.after] for name, fit in fits.items()}
    return Record(arrays, {"n_tried": n_tried, "errors": errors})


def _solve(
    dense: NeuralNet, changed: NeuralNet, net: NeuralNet, aims: Mapping[str, Aim], X: Any
) -> tuple[int, dict[str, LayerFit]]:
    """Change the weights of `net`; return how many layers may change, and what came of which.

    Of none, if the outputs of the net come no nearer than those of `changed`.
    """
    dense = copy_net(dense)  # a forward may change the module even when it only predicts
    rows = take_rows(X, some_rows(X, _MIN_ROWS))
    target = predict_raw(dense, rows)
    before = _distance(target, predict_raw(changed, rows))
    layers = _layers_to_change(net, aims, X)
    for own in layers:
        if own.aim.from_dense:
            state = module_root(dense).get_submodule(own.name).state_dict()
            module_root(net).get_submodule(own.name).load_state_dict(state)
    targets = _Targets(dense, X, layers)
    fits = {own.name: _refit(net, own, targets.of(own), X) for own in layers}
    if not _distance(target, predict_raw(net, rows)) < before:
        return len(layers), {}
    return len(layers), {name: fit for name, fit in fits.items() if fit.is_better}


@dataclass(frozen=True)
class _Layer:
    """A layer to change, and how many samples of how many rows.

    `share` is of all samples that these rows make, over all calls.
    """

    name: str
    aim: Aim
    n_rows: int
    share: float


def _layers_to_change(net: NeuralNet, aims: Mapping[str, Aim], X: Any) -> list[_Layer]:
    """Return the layers that may change, in the order of their calls."""
    root = module_root(net)
    owners = [id(p) for layer in root.modules() for p in layer._parameters.values()]
    names = [
        name
        for name, layer in root.named_modules()
        if name in aims
        and can_reconstruct(layer)
        and all(owners.count(id(p)) == 1 for p in layer.parameters())
    ]
    rows = take_rows(X, slice(0, 2))
    samples: dict[str, int] = {}

    def count(name: str, layer: nn.Module, output: Any) -> None:
        samples[name] = samples.get(name, 0) + n_samples_of(layer, output)

    with _watched(net, names, lambda name, layer, _, output: count(name, layer, output)):
        predict_raw(net, rows)
    found = []
    for name, n_samples in samples.items():
        per_row = max(1, n_samples // n_rows(rows))
        wanted = max(_SAMPLES, _PER_INPUT * n_inputs(root.get_submodule(name)))
        n = min(n_rows(X), _MAX_ROWS, max(_MIN_ROWS, math.ceil(wanted / per_row)))
        found.append(_Layer(name, aims[name], n, min(1.0, wanted / (per_row * n))))
    return found


class _Targets:
    """Outputs of layers in the dense net, at the samples that are solved for.

    Layers are asked for in the order of their calls, each once. The dense net does not change, so
    one pass over the rows can record the outputs of several layers. It records those of as many
    of the waiting layers as fit into memory (`_NUMBERS`), but only of layers that need the same
    number of rows: with another number the chunks would be other rows. What was handed out is
    dropped.
    """

    def __init__(self, dense: NeuralNet, X: Any, layers: list[_Layer]) -> None:
        self._dense, self._X, self._waiting = dense, X, list(layers)
        self._found: dict[str, list[Calls]] = {}

    def of(self, layer: _Layer) -> list[Calls]:
        """Return, for each chunk of rows and each call of the layer, samples and their outputs."""
        if layer.name not in self._found:
            self._find(layer.n_rows)
        return self._found.pop(layer.name)

    def _find(self, n: int) -> None:
        """Record the next layers that need n rows: the first of them, and what fits beside it."""
        root = module_root(self._dense)
        chosen: dict[str, _Layer] = {}
        left = _NUMBERS
        for own in [one for one in self._waiting if one.n_rows == n]:
            layer: Any = root.get_submodule(own.name)
            left -= max(_SAMPLES, _PER_INPUT * n_inputs(layer)) * len(layer.weight)
            if chosen and left < 0:
                break
            chosen[own.name] = own
            self._waiting.remove(own)
            self._found[own.name] = []

        def note(name: str, layer: nn.Module, _: Any, output: Any) -> None:
            # One list for each chunk so far; its last one takes the calls of this forward pass.
            calls, own = self._found[name], chosen[name]
            if _is_wrapped(output):
                calls[-1].append(None)
                return
            # Calls of one chunk draw with one seed: equal shapes give equal samples.
            samples = LayerSamples.draw(layer, output, own.share, seed=len(calls))
            values = samples.outputs(layer, output)
            values = values if own.aim.outputs is None else values[:, own.aim.outputs]
            calls[-1].append((samples, values.detach().cpu()))

        with _watched(self._dense, list(chosen), note):
            for chunk in _chunks(self._X, n):
                for name in chosen:
                    self._found[name].append([])
                predict_raw(self._dense, chunk)


def _refit(net: NeuralNet, own: _Layer, targets: list[Calls], X: Any) -> LayerFit:
    """Give one layer new weights, if that is for the better."""
    sums = LeastSquares(module_root(net).get_submodule(own.name), own.aim.constraint)
    return sums.solve_() if _collect(sums, net, own, targets, X) else sums.leave_()


def _collect(sums: LeastSquares, net: NeuralNet, own: _Layer, targets: list[Calls], X: Any) -> bool:
    """Add the samples of a layer to its sums; return whether all of them were found.

    Outputs are those of the dense net, inputs those that the layer has in the changed net by now:
    the layers before it have their new weights already. The two belong together by chunk, call
    and sample. Where a call cannot be matched (it is inside a vmap, or has another shape), none of
    the sums can be used, as they would be of a part of the calls only.

    Every `_HELD_OUT`-th chunk is held out to choose the penalty. A chunk has rows from all over the
    data, so both parts do.
    """
    for number, (chunk, calls) in enumerate(zip(_chunks(X, own.n_rows), targets, strict=True)):
        inputs = _inputs(net, own.name, chunk, len(calls))
        # Not strict: the changed net may call the layer less often than the dense one did.
        for x, target in zip(inputs, calls, strict=False):
            if x is None or target is None or _is_wrapped(x):
                return False
            samples, y = target
            try:
                own_x = samples.inputs(sums.layer, x)
            except ValueError:  # other positions than in the dense net
                return False
            sums.add(own_x, y, held_out=number % _HELD_OUT == _HELD_OUT - 1)
    return True


class _Enough(BaseException):
    """Ends a forward pass. Not an Exception, which a net might catch as an error of its own."""


def _inputs(net: NeuralNet, name: str, X: Any, n_calls: int) -> list[Any]:
    """Return the inputs of a layer in its first calls; the net is not run any further."""
    inputs: list[Any] = []

    def note(_: str, __: nn.Module, x: Any, ___: Any) -> None:
        inputs.append(x)
        if len(inputs) == n_calls:
            raise _Enough

    with _watched(net, [name], note), suppress(_Enough):
        predict_raw(net, X)
    return inputs


def _chunks(X: Any, n: int) -> Iterator[Any]:
    """Yield n of the rows in chunks, each of which is from all over the data."""
    rows = some_rows(X, n)
    n_chunks = max(_HELD_OUT, math.ceil(n / _CHUNK))
    for i in range(n_chunks):
        if len(own := rows[i::n_chunks]):
            yield take_rows(X, own)


def _is_wrapped(tensor: Any) -> bool:
    """Whether a tensor is one row inside a vmap, which is not valid outside of it."""
    return is_functorch_wrapped_tensor(tensor)


@contextmanager
def _watched(net: NeuralNet, names: list[str], note: Callable[..., None]) -> Iterator[None]:
    """Call `note` with name, layer, input and output of each call of some layers."""
    root = module_root(net)

    def hook(name: str) -> Callable[..., None]:
        def run(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            note(name, layer, args[0] if args else kwargs.get("input"), output)

        return run

    handles = [
        root.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True)
        for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(np.abs(a.astype(np.complex128) - b)).sum())
