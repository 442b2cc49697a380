"""What steps have done to layers besides changing their sizes, recorded and done again.

A definition makes a net as it was before compression: with parametrized weights that have been made
plain since, with norm layers that have been folded, without biases that layers were given for it,
and with layers that have become two. The file names these layers, and which parameters of a user's
own modules are weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from skorch import NeuralNet
from torch import nn

from .._nets import part_root, seeded
from ..nn.modules.folding import FoldedNorm, add_bias_, can_fold, has_new_bias, remove_norm_
from ..nn.modules.low_rank import LowRank, blank_factors_, can_factorize, full_rank
from ..nn.modules.parametrizations import make_plain_, parametrized_tensors, tensors_made_plain
from ..nn.modules.uses import Use, note_uses_, uses_of
from .memory_limit import limited_memory

Change = list[Any]


def changes(layers: Mapping[str, nn.Module]) -> list[Change]:
    """Return what was changed: kind, name of the layer, details; parents before children."""
    found: list[Change] = []
    for name, layer in layers.items():
        found += [["parametrization", name, attr] for attr in tensors_made_plain(layer)]
        if isinstance(layer, FoldedNorm):
            found.append(["norm", name])
        elif isinstance(layer, LowRank):
            found.append(["low_rank", name, layer.uncut_rank])
        elif has_new_bias(layer):
            found.append(["bias", name])
        if (uses := uses_of(layer)) is not None:
            found.append(["uses", name, {attr: use and list(use) for attr, use in uses.items()}])
    return found


def replay(net: NeuralNet, recorded: Any, n_bytes: int) -> None:
    """Do to a fresh net what `changes` has recorded; in place, and past its optimizer.

    Parameters
    ----------
    net : skorch.NeuralNet
        As its definition makes it.
    recorded : object
        As it was read.
    n_bytes : int
        Size of what the file may fill, see `limited_memory`.

    Raises
    ------
    ValueError
        If it is not such a record, or not for a net of this structure.
    """
    if not recorded:
        return
    container = part_root(net)
    with limited_memory(n_bytes), seeded(0, net.device):
        for kind, name, *rest in recorded:
            layer = dict(container.named_modules()).get(name)
            if kind not in _KINDS or layer is None or not _KINDS[kind](layer, *rest):
                raise ValueError(f"it changes the layer {name!r:.80} by {kind!r:.80}, {rest!r:.80}")


def _parametrization(layer: nn.Module, attr: Any) -> bool:
    if attr not in parametrized_tensors(layer):
        return False
    make_plain_(layer, attr)
    return True


def _norm(layer: nn.Module) -> bool:
    if not can_fold(layer, "norm"):
        return False
    remove_norm_(layer)
    return True


def _bias(layer: Any) -> bool:
    if not can_fold(layer, "layer") or layer.bias is not None:
        return False
    add_bias_(layer)
    return True


def _low_rank(layer: nn.Module, rank: Any) -> bool:
    if not can_factorize(layer) or type(rank) is not int or not 1 <= rank <= full_rank(layer):
        return False
    blank_factors_(layer, rank)
    return True


def _uses(layer: nn.Module, uses: Any) -> bool:
    if type(uses) is not dict:
        return False
    parameters = [layer._parameters.get(attr) for attr in uses]
    if not all(map(_is_use, uses.values(), parameters)):
        return False
    note_uses_(layer, {attr: use and Use(*use) for attr, use in uses.items()})
    return True


def _is_use(use: Any, parameter: nn.Parameter | None) -> bool:
    if parameter is None or use is None:
        return parameter is not None
    if type(use) is not list or [type(part) for part in use[1:]] != [int, bool]:
        return False
    axis, leading, _ = use
    if axis is None:
        return leading == 0
    return type(axis) is int and 0 <= leading <= axis < parameter.dim()


_KINDS: Mapping[str, Callable[..., bool]] = {
    "parametrization": _parametrization,
    "norm": _norm,
    "bias": _bias,
    "low_rank": _low_rank,
    "uses": _uses,
}
