"""Which units of a net are dead, and a net without them that computes the same.

A unit is dead if nothing reads it (its outgoing weights are zero, or lead to dead units only), or
if it is a constant, which moves into the biases of the layers that read it. Constants are found by
`skcompress.nn.surgery.constants` and units by the tracer; each removal is proven.

Dead units are found from the outputs back, as a garbage collector finds objects: a unit is alive
if an alive unit, or something outside of all groups, needs it. So units that feed only each other
are found, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..graph import AxisKey, Graph, Inputs, PackedIndices, pack_kept, trace, unpack_kept
from ..modules.copying import copy_module, plain_copy
from ..modules.folding import can_fold, fold_constants_
from .constants import WeightInputs, weight_inputs
from .proof import find_failing, prove, prove_same
from .shrinking import shrink

__all__ = ["Removal", "find_dead", "remove", "remove_dead"]

ConstantInputs = dict[str, dict[int, float]]
"""For each layer the inputs that are constants, by their numbers, and their values."""


@dataclass(frozen=True)
class Removal:
    """One round of removals.

    Attributes
    ----------
    constants : dict of str to dict of int to float
        For each reader the inputs that move into its bias, and their values.
    kept : dict of str to list
        The indices of each tensor that stay, packed by `skcompress.nn.graph.pack_kept`.
    units : dict of str to int
        For each parameter that makes units, how many of them are removed.
    """

    constants: ConstantInputs
    kept: PackedIndices
    units: dict[str, int]


def remove_dead(
    module: nn.Module, calls: Sequence[Inputs]
) -> tuple[nn.Module, list[Removal], list[str]]:
    """Remove dead units, round by round, until a round finds none.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    calls : sequence of (args, kwargs)
        Real inputs.

    Returns
    -------
    module : torch.nn.Module
        Without them.
    removals : list of Removal
        The rounds, for `remove`.
    stay : list of str
        Units that stay, and why; each line begins with the name of a parameter.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> _ = nn.init.zeros_(net[0].weight[1:].detach())
    >>> remove_dead(net, [((torch.randn(5, 4),), {})])[0][0]
    Linear(in_features=4, out_features=1, bias=True)
    """
    removals: list[Removal] = []
    while True:
        removal, stay = _round(module, calls)
        if removal is None:
            return module, removals, stay
        removals.append(removal)
        module = remove(module, removal)


def remove(module: nn.Module, removal: Removal) -> nn.Module:
    """Return a copy of a module without some units, whose constants move into biases."""
    return shrink(_folded(module, removal.constants), unpack_kept(removal.kept))


def _folded(module: nn.Module, constants: ConstantInputs) -> nn.Module:
    copied = copy_module(module)
    for name, values in constants.items():
        fold_constants_(copied.get_submodule(name), values)
    return copied


def _round(module: nn.Module, calls: Sequence[Inputs]) -> tuple[Removal | None, list[str]]:
    """Find and prove one round of removals.

    A group whose removal is not proven is protected. As that makes its units alive, and with them
    all that they read, dead units are searched again, until everything left is proven.
    """
    graph = trace(module, calls)
    found = weight_inputs(module, calls) if graph.groups else {}
    while True:
        dead, why = find_dead(module, graph, found)

        def check(numbers: list[int], graph: Graph = graph, dead: Collection[int] = dead) -> None:
            units = [u for n in numbers for u in graph.groups[n].units if u in dead]
            removal = _removal(module, graph, found, units)
            # The first proof shows that the outputs stay the same, the second that the cut is
            # right for any weights: it also tries random ones, with which no unit is dead.
            prove_same(module, lambda m: remove(m, removal), calls)
            prove(_folded(module, removal.constants), graph, units, calls)

        numbers = [n for n, g in enumerate(graph.groups) if not dead.isdisjoint(g.units)]
        failed = find_failing(numbers, check)
        if not failed:
            break
        reasons = {n: f"without the dead ones the net fails ({e})" for n, e in failed.items()}
        graph = graph.protecting(reasons)
    stay = [*map(str, graph.protected), *why]
    return (_removal(module, graph, found, sorted(dead)) if dead else None), stay


def _removal(
    module: nn.Module, graph: Graph, found: Mapping[AxisKey, WeightInputs], units: Sequence[int]
) -> Removal:
    """Describe the removal of some dead units.

    A column that reads a removed unit is one of three: it reads a constant that folds, it reads
    zeros, or no alive unit needs its product. Only the first kind adds to a bias.
    """
    constants: ConstantInputs = {}
    for key, columns in graph.columns(units):
        inputs = found.get(key)
        if inputs is None or _no_fold(module, key, inputs) is not None:
            continue
        values = {c: float(inputs.low[c] + inputs.high[c]) / 2 for c in columns}
        constant = inputs.is_constant()
        values = {c: v for c, v in values.items() if v != 0 and constant[c]}
        if values:
            constants[key[0].rpartition(".")[0]] = values
    made: Counter[str] = Counter()
    for group in graph.groups:
        if own := len(set(units).intersection(group.units)):
            made[group.name] += own
    return Removal(constants, pack_kept(graph.kept(units)), dict(made))


def find_dead(
    module: nn.Module, graph: Graph, found: Mapping[AxisKey, WeightInputs]
) -> tuple[set[int], list[str]]:
    """Find the units that can be removed without a change of the outputs.

    Parameters
    ----------
    module : torch.nn.Module
        Not modified.
    graph : Graph
        Of the module.
    found : mapping of AxisKey to WeightInputs
        The inputs of its weights.

    Returns
    -------
    dead : set of int
        Numbers of units. One unit of every group is left.
    why : list of str
        Constant units that stay, and why.
    """
    plain = plain_copy(module)
    weights = dict(plain.named_parameters())
    consumers = [
        _Consumer(module, graph, key, weights[key[0]].detach(), found.get(key))
        for key in dict.fromkeys(k for group in graph.groups for k in group.consumers)
        if key[0] in weights and weights[key[0]].dim() > 1
    ]
    # Which units an unknown reader needs is not known either: all that it reads count as alive.
    known = {c.key for c in consumers}
    left = {
        unit
        for group in graph.groups
        if not known.issuperset(group.consumers)
        for unit in group.units
    }
    # One unit of a group that is dead as a whole is left, as layers without any do not run. It is
    # alive from then on, and so is all that it reads, which may leave other groups fewer dead.
    while True:
        alive = _alive(consumers, left)
        whole = [g for g in graph.groups if alive.isdisjoint(g.units)]
        if not whole:
            break
        left |= {group.units[0] for group in whole}
    dead = {unit for group in graph.groups for unit in group.units} - alive
    return dead, _reasons(graph, consumers, alive)


class _Consumer:
    """A weight that reads units.

    Attributes
    ----------
    units : Tensor of shape (n_columns,)
        The unit that each column reads; 0: none that may be removed.
    rows : Tensor of shape (n_rows,)
        The unit that each row makes; 0: one that stays, such as an output of the net.
    uses : Tensor of shape (n_rows, n_columns)
        Where the weight is not zero.
    absorbed : Tensor of shape (n_columns,)
        Columns whose input is a constant that the bias can take over: these need no unit.
    stuck : Tensor of shape (n_columns,)
        Columns whose input is a constant that no bias can take over, `why`.
    """

    def __init__(
        self,
        module: nn.Module,
        graph: Graph,
        key: AxisKey,
        weight: Tensor,
        inputs: WeightInputs | None,
    ) -> None:
        name, axis = key
        self.key = key
        self.units = torch.tensor(graph.axes[key])
        matrix = (weight != 0).movedim(axis, -1)
        # Kernels are reduced to whether any of their numbers is not zero. Where columns do not lie
        # along one of the first two axes, no layer is known that makes units with the other: all
        # counts as one row that is always needed.
        if axis > 1:
            matrix = matrix.reshape(1, -1, matrix.shape[-1]).any(1)
            rows: Sequence[int] = (0,)
        else:
            matrix = matrix.reshape(len(matrix), -1, matrix.shape[-1]).any(1)
            rows = graph.axes.get((name, 1 - axis), (0,) * len(matrix))
        self.uses, self.rows = matrix.cpu(), torch.tensor(rows)
        n = len(self.units)
        self.absorbed = torch.zeros(n, dtype=torch.bool)
        self.stuck, self.why = torch.zeros(n, dtype=torch.bool), ""
        if inputs is not None and len(inputs.low) == n:
            # Zeros need no bias.
            why = _no_fold(module, key, inputs)
            self.absorbed = inputs.is_zero() if why else inputs.is_constant()
            self.stuck = ~inputs.varies & ~self.absorbed & self.uses.any(0)
            self.why = why or "its constant is not the same everywhere"

    def used(self, alive: set[int]) -> set[int]:
        """Return the units that a row needs which makes an alive unit, or none at all."""
        active = torch.isin(self.rows, torch.tensor([0, *alive]))
        used = self.uses[active].any(0) & ~self.absorbed
        return set(self.units[used].tolist()) - {0}


def _alive(consumers: Sequence[_Consumer], left: Collection[int]) -> set[int]:
    """Return the units that are alive if some are: the least fixed point of `_Consumer.used`."""
    alive = set(left)
    while True:
        more = set().union(*(c.used(alive) for c in consumers)) - alive
        if not more:
            return alive
        alive |= more


def _no_fold(module: nn.Module, key: AxisKey, inputs: WeightInputs) -> str | None:
    """Return why a constant input of a weight cannot move into a bias; None if it can.

    It can if the layer is one that `fold_constants_` knows, reads its units by columns, adds the
    same constant at each position, and has parameters of its own: the bias of a shared weight
    would change in all of its uses.
    """
    name, axis = key
    path, _, attr = name.rpartition(".")
    layer = module.get_submodule(path)
    if attr != "weight" or not can_fold(layer, "layer"):
        return f"{name} is not the weight of a Linear or convolution layer"
    if axis != (0 if getattr(layer, "transposed", False) else 1):
        return f"{name} is read the other way round"
    if not inputs.even:
        return f"{path} reads a border of zeros beside its constant, which is not zero"
    # A layer with two names has each parameter under two names, and is still one layer.
    uses = Counter(id(m) for _, m in module.named_modules(remove_duplicate=False))
    shared = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    if any(shared[id(p)] > uses[id(layer)] for p in layer.parameters()):
        return f"{path} shares parameters with another layer"
    return None


def _reasons(graph: Graph, consumers: Sequence[_Consumer], alive: Collection[int]) -> list[str]:
    why: dict[int, str] = {}
    for consumer in consumers:
        for unit in consumer.units[consumer.stuck].tolist():
            if unit in alive:
                why.setdefault(unit, consumer.why)
    lines = []
    for group in graph.groups:
        counts = Counter(why[unit] for unit in group.units if unit in why)
        lines += [f"{group.name}: {n} constant units stay: {text}" for text, n in counts.items()]
    return lines
