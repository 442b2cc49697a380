"""Which units matter least: scores, and the choice of units by rank, threshold or target."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..graph import AxisKey, Graph, Group

__all__ = [
    "UnitGroup",
    "choose_below",
    "choose_fraction",
    "parse_threshold",
    "share_of_what_is_left",
    "smallest_enough",
    "unit_groups",
    "unit_sums",
    "weight_scores",
]

Scores = Sequence[Tensor]
"""For each group the scores of its units; infinite: stays."""


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
        Mean magnitude of the scales of norm layers right behind a unit; 1 where there is none.
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
    """Collect what makes each unit.

    Parameters
    ----------
    module : torch.nn.Module
        Plain, see `skcompress.nn.graph.plain_copy`.
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


def share_of_what_is_left(scores: Tensor) -> Tensor:
    r"""Make the scores of one group comparable with those of others, the order as it was.

    .. math:: \frac{s_u^2}{\sum_{v: s_v \ge s_u} s_v^2},

    the share of a unit in what would be left of its group if all lesser ones went before it:
    1 for the best. Weights of a layer are the smaller the more inputs it has, so plain scores
    empty whole layers; with these no group ends before all others are as poor.

    References
    ----------
    Lee et al. (2021), "Layer-Adaptive Sparsity for the Magnitude-Based Pruning", for weights.

    Examples
    --------
    >>> share_of_what_is_left(torch.tensor([1.0, 3.0, 2.0, torch.inf]))
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


def parse_threshold(threshold: float | str) -> tuple[float, str | None]:
    """Read a threshold like scikit-learn's ``SelectFromModel``: a factor and what it is of.

    Examples
    --------
    >>> parse_threshold(0.1), parse_threshold("median"), parse_threshold("0.5*mean")
    ((0.1, None), (1.0, 'median'), (0.5, 'mean'))
    """
    if not isinstance(threshold, str):
        return float(threshold), None
    found = re.fullmatch(r"\s*(?:([0-9.eE+-]+)\s*\*)?\s*(mean|median)\s*", threshold)
    try:
        if found is not None:
            return float(found[1] or 1.0), found[2]
    except ValueError:
        pass
    raise ValueError(
        f"Got threshold={threshold!r}, but expected a number, 'mean', 'median', or a factor and "
        "one of them, such as '0.5*mean'."
    )


def choose_below(
    scores: Scores, threshold: float | str, *, scope: str, min_units: int, round_to: int | None
) -> list[list[int]]:
    """Choose the units, by position in their group, whose score is below a threshold.

    Examples
    --------
    >>> choose_below(
    ...     [torch.tensor([0.1, 3.0, 2.0])], 2.0, scope="global", min_units=1, round_to=None
    ... )
    [[0]]
    """
    factor, of = parse_threshold(threshold)
    finite = [one[one.isfinite()] for one in scores]
    pool = torch.cat(finite) if finite else torch.zeros(0)
    chosen = []
    for one, own in zip(scores, finite, strict=True):
        base = own if scope == "layer" else pool
        limit = factor if of is None else factor * _statistic(base, of)
        order = one.argsort(stable=True)
        n_below = int((one < limit).sum())
        chosen.append(_allowed(order.tolist(), n_below, min_units, round_to))
    return chosen


def _statistic(values: Tensor, of: str) -> float:
    if values.numel() == 0:
        return 0.0
    return float(values.mean() if of == "mean" else values.double().quantile(0.5))


def choose_fraction(
    scores: Scores,
    fraction: float,
    *,
    scope: str,
    min_units: int,
    round_to: int | None,
    balanced: bool = False,
) -> list[list[int]]:
    """Choose a fraction of all units, or of each group: those with the smallest scores.

    A larger fraction chooses the same units and others. Groups keep at least ``min_units``: in
    place of these go others. They keep a multiple of ``round_to`` units, rounded up. If
    ``balanced``, groups compare by `share_of_what_is_left`.

    Examples
    --------
    >>> scores = [torch.tensor([0.1, 3.0]), torch.tensor([0.2, 0.3])]
    >>> choose_fraction(scores, 0.5, scope="global", min_units=1, round_to=None)
    [[0], [0]]
    """
    orders = [one.argsort(stable=True).tolist() for one in scores]
    wanted = [round(fraction * len(one)) for one in scores]
    if scope == "global":
        ranks = [share_of_what_is_left(one) for one in scores] if balanced else scores
        wanted = _over_all(ranks, orders, round(fraction * sum(map(len, orders))), min_units)
    finite = [int(one.isfinite().sum()) for one in scores]
    return [
        _allowed(order, min(n, most), min_units, round_to)
        for order, n, most in zip(orders, wanted, finite, strict=True)
    ]


def _over_all(scores: Scores, orders: list[list[int]], k: int, min_units: int) -> list[int]:
    """How many units of each group are among the k that go, where no group may lose all."""
    able = [order[: max(len(order) - min_units, 0)] for order in orders]
    pool = [
        (float(one[i]), number)
        for number, (one, own) in enumerate(zip(scores, able, strict=True))
        for i in own
    ]
    pool.sort()
    counts = [0] * len(orders)
    for score, number in pool[:k]:
        counts[number] += score < float("inf")
    return counts


def _allowed(order: list[int], n: int, min_units: int, round_to: int | None) -> list[int]:
    """Return the first n of an order, or fewer, so that what is kept is enough and round."""
    keep = max(len(order) - n, min(min_units, len(order)), 1)
    if round_to is not None:
        keep = min(-(-keep // round_to) * round_to, len(order))
    return order[: len(order) - keep]


def smallest_enough(is_enough: Callable[[float], bool], n: int) -> float | None:
    """Find the smallest of the fractions 0, 1/n, ..., 1 that is enough; None if 1 is not.

    What is enough for a fraction has to be for all larger ones.

    Examples
    --------
    >>> smallest_enough(lambda fraction: fraction >= 0.3, 10)
    0.3
    """
    # First without any: to remove one unit may add more to a file than it takes away.
    if is_enough(0.0):
        return 0.0
    if not is_enough(1.0):
        return None
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle / n):
            high = middle
        else:
            low = middle
    return high / n
