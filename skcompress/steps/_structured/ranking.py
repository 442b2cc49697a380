"""In which order units go: by their scores, or by what a scan says that each costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from ..._caching.store import Record
from ..._nets import copy_net, module_root, seeded
from ...nn.modules.copying import plain_copy
from ...nn.scores.sensitivity import marginal_losses, trial_counts
from ...nn.scores.unit_importance import unit_groups, weight_scores
from ...nn.scores.unit_selection import choose_below, choose_fraction, smallest_enough
from ...nn.surgery.shrinking import shrink
from .plan import group_names
from .rows import batches, mean_loss, scan_rows, taylor_scores, unit_activations
from .traced import Traced

# More rows change the allocation little, and each trial of each group predicts them.
_SCAN_ROWS = 512
# Raise it when the same net and rows would have other losses.
_RULES = 2


@dataclass(frozen=True)
class Ranking:
    """Units in the order in which they go.

    Attributes
    ----------
    scores : list of Tensor
        For each group one number for each unit; infinite: stays.
    scope : {"global", "layer"}
        Whether groups compete.
    places : list of list of int or None
        For each group which unit a number is for; None: the units in their order.
    sensitivity : list of dict
        The trials of a scan, if there was one.
    balanced : bool
        Whether groups compete by shares, see `layer_adaptive_scores`.
    """

    scores: list[Tensor]
    scope: str
    places: list[list[int]] | None = None
    sensitivity: tuple[dict[str, Any], ...] = ()
    balanced: bool = False

    def below(self, threshold: float | str, **rules: Any) -> list[list[int]]:
        """Choose the units with a smaller score."""
        return choose_below(self.scores, threshold, scope=self.scope, **rules)

    def fraction(self, fraction: float, **rules: Any) -> list[list[int]]:
        """Choose a fraction of the units."""
        rules = {"scope": self.scope, "balanced": self.balanced, **rules}
        chosen = choose_fraction(self.scores, fraction, **rules)
        if self.places is None:
            return chosen
        both = zip(chosen, self.places, strict=True)
        return [[places[i] for i in own] for own, places in both]


def choose_units(
    ranking: Ranking, traced: Traced, kind: str, target: Any, given: Any, rules: dict[str, Any]
) -> list[list[int]]:
    """Return for each group which of its units go.

    Parameters
    ----------
    ranking : Ranking
        Of the units of all groups.
    traced : Traced
        The net.
    kind, target : str, number or str
        Which target it is, and its value; counts as counts.
    given : number
        The target as the user has given it.
    rules : dict
        ``min_units`` and ``round_to``.
    """
    if kind == "pruning_ratio":
        return ranking.fraction(target, **rules)
    if kind == "threshold":
        return ranking.below(target, **rules)

    def size(fraction: float) -> int:
        return traced.count(kind, traced.shrunk(ranking.fraction(fraction, **rules)))

    fraction = smallest_enough(lambda f: size(f) <= target, traced.graph.n_units)
    if fraction is None:
        raise ValueError(
            f"StructuredPruner cannot reach {kind}={given!r}, which is {target} here: with "
            f"min_units={rules['min_units']!r} the smallest net it can make has {size(1.0)}. Raise "
            "the target or lower min_units."
        )
    return ranking.fraction(fraction, **rules)


def score_units(traced: Traced, importance: str | Callable[..., Any], seed: int) -> list[Tensor]:
    """Return for each group how much its units matter."""
    graph = traced.graph
    if importance == "taylor":
        return taylor_scores(traced.net, traced.data, graph)
    if importance == "activation":
        return unit_activations(traced.net, traced.data, graph)
    if importance == "random":
        draw = torch.Generator().manual_seed(seed)
        return [torch.rand(group.n_units, generator=draw) for group in graph.groups]
    groups = unit_groups(plain_copy(traced.module), graph)
    if isinstance(importance, str):
        return weight_scores(groups, importance)
    scores = [torch.as_tensor(importance(group)).float() for group in groups]
    for group, one in zip(groups, scores, strict=True):
        if one.shape != (group.n_units,) or bool(one.isnan().any()):
            raise ValueError(
                f"The callable given as 'importance' returned {one!r} for {group.name!r}, but "
                f"expected {group.n_units} numbers, one for each unit and none of them nan."
            )
    return scores


def rank_by_scan(
    traced: Traced, kind: str, scores: list[Tensor], min_units: int, seed: int
) -> Ranking:
    """Remove units of one group at a time, look at the loss, and rank the units of all groups.

    Parameters
    ----------
    traced : Traced
        The net.
    kind : str
        Of the target: what a unit saves is counted in it.
    scores : list of Tensor
        The order in each group is that of these.
    min_units : int
        How many units a group keeps.
    seed : int
        Draws the rows, if there are too many.
    """
    names, size = group_names(traced.graph), traced.count(kind, traced.module)
    orders = [one.argsort(stable=True).tolist() for one in scores]
    n_able = [int(one.isfinite().sum()) for one in scores]
    both = zip(orders, n_able, strict=True)
    counts = [trial_counts(len(order), max(min_units, len(order) - n)) for order, n in both]
    losses = _scan(traced, orders, counts, seed)
    costs, table = [], []
    for number, (order, tried, found) in enumerate(zip(orders, counts, losses, strict=True)):
        steps = torch.tensor(marginal_losses(tried, found, len(order)), dtype=torch.float64)
        steps = steps / _taken_up(traced, kind, size, number, order[: tried[-1]])
        steps[n_able[number] :] = torch.inf
        costs.append(steps)
        table += [
            {"layer": names[number], "ratio": n / len(order), "n_removed": n, "loss": loss}
            for n, loss in zip(tried, found, strict=True)
        ]
    return Ranking(costs, "global", orders, tuple(table))


def _scan(
    traced: Traced, orders: list[list[int]], counts: list[list[int]], seed: int
) -> list[list[float]]:
    """Return for each group the losses without the first so many units of its order.

    Taken from the store where the same trials were made before, for another target.
    """
    drawn = scan_rows(traced.net, traced.data, _SCAN_ROWS, seed)

    def compute() -> Record:
        net = copy_net(traced.net)
        module = module_root(net)["module"]
        with seeded(0, net.device):  # loaders draw, even in order
            rows = list(batches(net, traced.data, drawn))
        dense_loss = mean_loss(net, module, rows)
        if not math.isfinite(dense_loss):
            raise ValueError(
                f"Got scope='sensitivity', which compares losses, but the loss of the net is "
                f"{dense_loss!r} on the rows. Look at its criterion, or use another scope."
            )
        losses = [
            _trial(net, _without(traced, number, order[:count], module), rows)
            if count
            else dense_loss
            for number, order in enumerate(orders)
            for count in counts[number]
        ]
        return Record({"losses": np.array(losses)}, {})

    units = [group.units for group in traced.graph.groups]
    facts = (units, orders, counts, drawn, _RULES)
    record = traced.data._fetch("sensitivity", traced.net, compute, *facts)
    found = iter(record.arrays["losses"].tolist())
    return [[next(found) for _ in tried] for tried in counts]


def _trial(net: NeuralNet, module: nn.Module, rows: list[Any]) -> float:
    try:
        return mean_loss(net, module, rows)
    except (RuntimeError, ValueError, IndexError):
        # A width that the net does not work with, which no proof has come upon: not an option.
        return math.nan


def _without(traced: Traced, number: int, own: list[int], module: nn.Module) -> nn.Module:
    chosen: list[list[int]] = [[] for _ in traced.graph.groups]
    chosen[number] = own
    return shrink(module, traced.graph.kept(traced.units(chosen)))


def _taken_up(traced: Traced, kind: str, size: int, number: int, own: list[int]) -> float:
    """Return what one unit of a group takes up, alone: one, if units are what is counted."""
    if kind == "pruning_ratio" or not own:
        return 1.0
    without = traced.count(kind, _without(traced, number, own, traced.module))
    return max(size - without, 1) / len(own)
