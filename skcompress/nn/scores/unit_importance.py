"""How much each unit of a net matters, told by its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..graph import AxisKey, Graph, Group

__all__ = [
    "UnitGroup",
    "layer_adaptive_scores",
    "unit_groups",
    "unit_sums",
    "weight_scores",
]


@dataclass(frozen=True)
class UnitGroup:
    """Units that compete with each other, with the weights that make each of them.

    Attributes
    ----------
    name : str
        The parameter that makes the units; the first one, where layers are coupled.
    weights : tuple of torch.Tensor
        For each unit its producing weights, as one vector. Without biases.
    scales : torch.Tensor of shape (n_units,)
        Mean magnitude of the scales of norm layers right behind a unit; 1 without one.
    has_scales : bool
        Whether there is a norm layer.
    readers : tuple of torch.Tensor
        For each unit the weights that read it, as one vector.

    Examples
    --------
    >>> group = UnitGroup("0.weight", (torch.tensor([3.0, -1.0]),), torch.ones(1))
    >>> group.n_units
    1
    """

    name: str
    weights: tuple[Tensor, ...]
    scales: Tensor
    has_scales: bool = False
    readers: tuple[Tensor, ...] = ()

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return len(self.weights)


def unit_groups(module: nn.Module, graph: Graph) -> list[UnitGroup]:
    """Collect the weights that make and read each unit.

    Parameters
    ----------
    module : torch.nn.Module
        Plain, see `skcompress.nn.modules.copying.plain_copy`.
    graph : Graph
        Of the module.

    Examples
    --------
    >>> from skcompress.nn.graph import trace
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> [group] = unit_groups(net, trace(net, [((torch.zeros(1, 4),), {})]))
    >>> group.name, group.n_units, group.weights[0].shape
    ('0.weight', 3, torch.Size([4]))
    """
    tensors = {
        name: p.detach().abs() if p.is_complex() else p.detach()
        for name, p in [*module.named_parameters(), *module.named_buffers()]
    }
    return [_unit_group(group, graph, tensors) for group in graph.groups]


def _unit_group(group: Group, graph: Graph, tensors: Mapping[str, Tensor]) -> UnitGroup:
    rows = _by_unit(group.producers, graph, tensors)
    scales = _by_unit(group.scales, graph, tensors)
    means = [scales[u].abs().mean() if u in scales else torch.tensor(1.0) for u in group.units]
    weights = tuple(rows[unit] for unit in group.units)
    columns = _by_unit(group.consumers, graph, tensors)
    readers = tuple(columns.get(unit, torch.zeros(0)) for unit in group.units)
    return UnitGroup(group.name, weights, torch.stack(means), bool(group.scales), readers)


def _by_unit(
    keys: Sequence[AxisKey], graph: Graph, tensors: Mapping[str, Tensor]
) -> dict[int, Tensor]:
    """Gather, for each unit, its slices of some tensors."""
    parts: dict[int, list[Tensor]] = {}
    for name, axis in keys:
        if name in tensors:
            slices = tensors[name].movedim(axis, 0).flatten(1) if tensors[name].dim() > 1 else None
            for index, unit in enumerate(graph.axes[name, axis]):
                part = tensors[name][index : index + 1] if slices is None else slices[index]
                parts.setdefault(unit, []).append(part.float())
    return {unit: torch.cat(own) for unit, own in parts.items()}


def unit_sums(graph: Graph, values: Mapping[str, Tensor]) -> list[Tensor]:
    """Sum, for each group and unit, values given for the weights that make the units.

    Examples
    --------
    >>> from skcompress.nn.graph import trace
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> graph = trace(net, [((torch.zeros(1, 4),), {})])
    >>> unit_sums(graph, {"0.weight": torch.ones(3, 4)})
    [tensor([4., 4., 4.])]
    """
    sums = torch.zeros(1 + max(map(max, graph.axes.values()), default=0))
    for name, axis in dict.fromkeys(key for group in graph.groups for key in group.producers):
        if name in values:
            own = values[name].float().movedim(axis, 0).reshape(values[name].shape[axis], -1)
            sums.index_add_(0, torch.tensor(graph.axes[name, axis]), own.sum(1))
    return [sums[list(group.units)] for group in graph.groups]


def layer_adaptive_scores(scores: Tensor) -> Tensor:
    r"""Make the scores of one group comparable with those of others, without changing their order.

    .. math:: \frac{s_u^2}{\sum_{v: s_v \ge s_u} s_v^2},

    the share of a unit in what would be left of its group if all units with smaller scores were
    removed before it: 1 for the best. Weights of a layer are the smaller the more inputs it has, so
    plain scores would empty whole layers. With these no group is emptied before the others are.

    References
    ----------
    Lee et al. (2021), "Layer-Adaptive Sparsity for the Magnitude-Based Pruning", for weights.

    Examples
    --------
    >>> layer_adaptive_scores(torch.tensor([1.0, 3.0, 2.0, torch.inf]))
    tensor([0.0714, 1.0000, 0.3077,    inf])
    """
    order = scores.argsort(stable=True)
    squares = scores[order].double().square()
    finite = squares.isfinite()
    left = torch.where(finite, squares, 0.0).flip(0).cumsum(0).flip(0)
    shares = torch.where(finite, squares / left.clamp_min(torch.finfo(left.dtype).tiny), torch.inf)
    return torch.empty_like(scores).index_copy_(0, order, shares.to(scores))


def weight_scores(groups: Sequence[UnitGroup], importance: str) -> list[Tensor]:
    r"""Score units by their weights.

    ``"l1"`` is :math:`s \, \mathrm{mean}|w|` and ``"l2"`` is
    :math:`s \sqrt{\mathrm{mean}\,w^2}` over the producing weights :math:`w` of a unit, where
    :math:`s` is the scale of a norm layer behind it: means, so that layers of all sizes compare,
    and a threshold is a number in units of a weight. ``"group_l2"`` is the same over :math:`s w`
    and the weights that read the unit. ``"bn_scale"`` is :math:`s` alone; units without a norm
    layer stay.

    Examples
    --------
    >>> group = UnitGroup(
    ...     "a", (torch.tensor([3.0, -1.0]), torch.zeros(2)), torch.tensor([1.0, 2.0])
    ... )
    >>> weight_scores([group], "l1")
    [tensor([2., 0.])]
    """
    if importance == "group_l2":
        return [torch.stack([_size(part) for part in _all_weights(group)]) for group in groups]
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "l1": lambda w: w.abs().mean(),
        "l2": _size,
    }
    if importance == "bn_scale":
        return [
            group.scales if group.has_scales else torch.full_like(group.scales, torch.inf)
            for group in groups
        ]
    score = kinds[importance]
    scores = [torch.stack([score(w) for w in group.weights]) for group in groups]
    return [one * group.scales for one, group in zip(scores, groups, strict=True)]


def _size(weights: Tensor) -> Tensor:
    return weights.square().mean().sqrt()


def _all_weights(group: UnitGroup) -> list[Tensor]:
    """Return for each unit the weights that make it, as its norm layer scales them, and read it."""
    own = zip(group.weights, group.scales, group.readers, strict=True)
    return [torch.cat([weights * scale, readers]) for weights, scale, readers in own]
