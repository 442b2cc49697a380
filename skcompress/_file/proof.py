"""Before a file is written: that it loads, and that what is loaded computes what was saved."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from skorch import NeuralNet
from torch import Tensor, nn

from .._nets import NotPlainError, copy_net, layers, parts, state_of
from .inputs import Inputs
from .objects import candidates, decode, described, nets_in
from .probe import first_that_runs, pipeline_inputs, run, try_pipeline

_OF_TORCH = frozenset(vars(nn.Module()))
# Torch leaves them at 0 if the weights of a lazy layer were loaded before it ran.
_MAYBE_ZERO = ("in_features", "in_channels", "num_features")
_WAY_OUT = (
    "Keep numbers that training changes as buffers (self.register_buffer), and make parameters and "
    "buffers in `__init__`"
)


def prove(obj: Any, data: bytes) -> list[str]:
    """Load a file of an object from memory and compare.

    Parameters
    ----------
    obj : object
        Fitted. It is the definition, too: of its parameters everything is made
        anew, as `load` does.
    data : bytes
        Of its file.

    Returns
    -------
    doubts : list of str
        What cannot be told, or is not in the file and made no difference.

    Raises
    ------
    NotPlainError
        If the file does not load, or what is loaded computes something else.
    """
    try:
        loaded = decode(data, obj, probed=False)
    except Exception as error:
        raise NotPlainError(f"load could not read its file: {error}. {_WAY_OUT}") from error
    pairs = zip(nets_in(obj).items(), nets_in(loaded).values(), strict=True)
    doubts = [
        f"{where}{doubt}"
        for (where, (net, owner)), (again, _) in pairs
        for doubt in _doubts(net, again, list(candidates(owner)))
    ]
    _check_steps(obj, loaded)
    return doubts


def _check_steps(obj: Any, loaded: Any) -> None:
    """Compare what a Pipeline puts out, and what its steps other than nets have learned."""
    if not isinstance(obj, Pipeline):
        return
    for inputs in pipeline_inputs(obj)[:1]:
        one, again = try_pipeline(obj, inputs), try_pipeline(obj, inputs)
        is_fixed = one is not None and np.array_equal(one, again)  # type: ignore[arg-type]
        if is_fixed and not np.array_equal(one, try_pipeline(loaded, inputs)):  # type: ignore[arg-type]
            raise NotPlainError("what load would make of its file predicts something else")
    for (name, step), (_, other) in zip(obj.steps, loaded.steps, strict=True):
        if not nets_in(step) and described(step) != described(other):
            raise NotPlainError(f"what load would make of its file has another step {name!r}")


def _doubts(net: NeuralNet, again: NeuralNet, possible: list[Inputs]) -> Iterator[str]:
    state, other = state_of(net), state_of(again)
    changed = [name for name in state if name not in other or not _same(state[name], other[name])]
    if changed:
        raise NotPlainError(f"what load would make of its file has another {changed[0]!r}")
    inputs, output = first_that_runs(net, possible)
    if inputs is None or output is None:
        kept = unlike(parts(net), parts(again))
        if kept:
            raise NotPlainError(
                f"its file would lack what a module keeps{_named(kept)}. {_WAY_OUT}"
            )
        yield (
            "there are no made-up rows for which its net computes one and the same thing, so load "
            "will not notice if the code of `forward` has changed"
        )
        return
    again_copy = copy_net(again)  # since a forward may change its module
    same = np.array_equal(output, run(again_copy, inputs))  # type: ignore[arg-type]
    kept = unlike(parts(net), parts(again))
    if kept:  # unless the forward makes it anew
        net_copy = copy_net(net)
        run(net_copy, inputs)
        kept = unlike(parts(net_copy), parts(again_copy))
    if not same:
        raise NotPlainError(
            f"what load would make of its file predicts something else{_named(kept)}. {_WAY_OUT}"
        )
    if kept:
        yield (
            f"its file lacks what a module keeps{_named(kept)}. It makes no difference for "
            f"made-up rows. {_WAY_OUT}"
        )


def unlike(one: Mapping[str, nn.Module], other: Mapping[str, nn.Module]) -> dict[str, list[str]]:
    """Return the attributes outside of the state that two nets do not share, by layer.

    Parameters
    ----------
    one, other : mapping of str to Module
        Parts of two nets.
    """
    others = layers(other)
    found = {}
    for name, layer in layers(one).items():
        own, its = _kept(layer), _kept(others[name]) if name in others else {}
        names = [
            key
            for key in own
            if not (key in _MAYBE_ZERO and own[key] == 0)
            and (key not in its or not _same(own[key], its[key]))
        ]
        if names:
            found[f"{name} ({type(layer).__name__})"] = names
    return found


def _named(kept: Mapping[str, list[str]]) -> str:
    said = [f"{', '.join(map(repr, names))} in {layer}" for layer, names in kept.items()]
    return f": {'; '.join(said):.300}" if said else ""


def _kept(layer: nn.Module) -> dict[str, Any]:
    """Return the values that a layer keeps past its state."""
    own = {key: value for key, value in vars(layer).items() if key not in _OF_TORCH}
    outside = {
        key: buffer
        for key, buffer in layer.named_buffers(recurse=False)
        if key not in layer.state_dict()
    }
    return {key: value for key, value in {**own, **outside}.items() if _is_value(value)}


def _is_value(value: Any) -> bool:
    kinds = (Tensor, np.ndarray, np.generic, int, float, str, bytes, type(None))
    if isinstance(value, dict):
        return all(map(_is_value, value.values()))
    if isinstance(value, list | tuple | set | frozenset | deque):
        return all(map(_is_value, value))
    return isinstance(value, kinds)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        one, other = one.detach().cpu(), other.detach().cpu()
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return False
        return torch.equal(one, other) or bool(
            ((one == other) | (one.isnan() & other.isnan())).all()
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))
