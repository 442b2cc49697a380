"""Weights that are not those of torch's layers: found once for each net, or named as left out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from skorch import NeuralNet
from torch import nn

from .._nets import copy_net, module_root, predict_raw, seeded, some_rows, take_rows
from ..nn.discovery import find_uses, is_examined, own_parameters
from ..nn.modules.uses import Use, note_uses_, uses_of
from ..nn.modules.weights import attributes_by_type, find_weights

Uses = dict[str, dict[str, Use | None]]

# One shows how parameters are used; others may take branches that it does not.
_ROWS = 16
_WARN_FROM = 0.05
_UNKNOWN = "not examined"


def examined(net: NeuralNet, X: Any) -> NeuralNet:
    """Return a net that says which of its parameters are weights: itself, or else a copy.

    Parameters
    ----------
    net : skorch.NeuralNet
        A fitted net. It is not changed.
    X : data or None
        Rows to run it on; None: it is returned as it is.
    """
    return net if X is None or not _is_pending(net) else examine_(copy_net(net), X)


def examine_(net: NeuralNet, X: Any) -> NeuralNet:
    """Find out which parameters of a net of ours are weights, unless that is known."""
    if _is_pending(net):
        copied = copy_net(net)
        rows = take_rows(X, some_rows(X, _ROWS))
        with seeded(0, net.device):
            found = find_uses(module_root(copied), lambda: predict_raw(copied, rows))
        note_(net, found)
    return net


def note_(net: NeuralNet, found: Uses) -> None:
    """Note on a net of ours, or on another of the same structure, what `noted` has returned."""
    for name, layer in module_root(net).named_modules():
        if name in found:
            note_uses_(layer, found[name])


def noted(net: NeuralNet) -> Uses:
    """Return how the parameters of users' modules are used, by the modules' names."""
    modules = module_root(net).named_modules()
    return {name: dict(uses) for name, m in modules if (uses := uses_of(m)) is not None}


def _is_pending(net: NeuralNet) -> bool:
    return not all(is_examined(own.layer) for own in own_parameters(module_root(net)))


class LeftOut(NamedTuple):
    """A parameter that is a weight, or may be one, and that a step leaves as it is."""

    name: str
    shape: tuple[int, ...]
    share: float
    why: str

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"{self.name}  {size}  left alone, {self.share:.1%} of the weights: {self.why}"


def left_out(net: NeuralNet, reasons: Mapping[str, str]) -> list[LeftOut]:
    """List the weights outside of torch's layers that a step cannot handle.

    Parameters
    ----------
    net : skorch.NeuralNet
        As the step was given it.
    reasons : mapping of str to str
        Why, by name, of those that are known to be weights.
    """
    root = module_root(net)
    unknown = _unknown(root)
    if not reasons and not unknown:
        return []
    weights = {weight.name: weight for weight in find_weights(root)}
    n_unknown = sum(shape.numel() for shape, _ in unknown.values())
    total = max(n_unknown + sum(weight.numel for weight in weights.values()), 1)
    found = {
        name: (weights[name].shape, why)
        for name, why in reasons.items()
        if weights[name].attr not in attributes_by_type(weights[name].layer)
    }
    return [
        LeftOut(name, tuple(shape), shape.numel() / total, why)
        for name, (shape, why) in {**found, **unknown}.items()
    ]


def _unknown(root: nn.Module) -> dict[str, tuple[Any, str]]:
    """Parameters of which it is not known whether they are weights, each once, and why not."""
    candidates = own_parameters(root)
    weights = {id(w.layer._parameters.get(w.attr)) for w in find_weights(root) if candidates}
    found: dict[int, tuple[str, tuple[Any, str]]] = {}
    for own in candidates:
        uses = uses_of(own.layer)
        if id(own.parameter) in weights or (uses is not None and own.attr in uses):
            continue
        why = f"{_UNKNOWN} without rows" if uses is None else "not used on the rows at hand"
        found.setdefault(id(own.parameter), (own.name, (own.parameter.shape, why)))
    return dict(found.values())


def warn_left_out(step: str, left: list[LeftOut]) -> None:
    """Warn if a step leaves more than a few of the weights alone.

    Of what was not examined, vectors do not count: nearly all of them are biases and scales.
    """
    left = [own for own in left if len(own.shape) > 1 or not own.why.startswith(_UNKNOWN)]
    share = sum(own.share for own in left)
    if share < _WARN_FROM:
        return
    largest = sorted(left, key=lambda own: -own.share)[:3]
    names = ", ".join(f"{own.name!r} ({own.why})" for own in largest)
    names += f" and {len(left) - 3} more" if len(left) > 3 else ""
    hint = ""
    if any(own.why.startswith(_UNKNOWN) for own in left):
        hint = " Call fit(net, TrainingData(X, y)): rows show which of them are weights."
    warnings.warn(
        f"{step} leaves {share:.0%} of the numbers that are or may be weights as they are: "
        f"{names}.{hint}",
        UserWarning,
        stacklevel=5,
    )
