"""What a structured pruner has decided: small, printable, and good for every net of its kind."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from skorch import NeuralNet
from torch import nn

from ..._nets import layer_name, module_root, replace_modules, with_layer_name
from ...base import Plan
from ...base._trained_plan import TrainedPlan
from ...nn.graph import Graph, KeptIndices, Protected, pack_kept, unpack_kept
from ...nn.modules.copying import plain_copy
from ...nn.modules.sizes import sizes
from ...nn.reconstruction.constraints import Zeros
from ...nn.surgery.shrinking import shrink
from .._reconstruct import Aim, describe

_SHOWN = 10
_EXPECTED = {
    *("it is an output of the net", "it is in ignored_layers", "it reads an input of the net"),
    "it is looked up by number",
}


def group_names(graph: Graph) -> list[str]:
    """Name each group by the layer that makes its units; those of one layer are numbered."""
    seen: Counter[str] = Counter()
    names = []
    for group in graph.groups:
        name = layer_name(group.name)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def structure_of(module: nn.Module) -> str:
    """Digest of the layers of a module and of their sizes, stored as codes or not."""
    plain = plain_copy(module)
    layers = [
        (name, type(layer).__qualname__, sorted((n, tuple(s)) for n, s in sizes(layer).items()))
        for name, layer in plain.named_modules()
    ]
    return hashlib.sha256(repr(layers).encode()).hexdigest()[:16]


class StructurePlan(Plan):
    """Which units go, which stay and why.

    Parameters
    ----------
    module : torch.nn.Module
        What it was made for.
    graph : Graph
        Of the module.
    removed : sequence of int
        Numbers of the units that go.
    sensitivity : sequence of dict, default=()
        The trials that this was decided by, if it was.

    Attributes
    ----------
    units : dict of str to tuple of int
        For each layer how many units are kept, and how many there were.
    ratios : dict of str to float
        For each group of units that may go, by its first layer, which fraction does.
    removed : dict of str to list of int
        For each layer which of its units go.
    protected : list of str
        What had to stay, and why.
    n_inside, n_removed : int
        How many units the net has beside its outputs and what the user has ignored, and how
        many of them go.
    protected_inside : list of str
        Which of these had to stay, and why; the largest first.
    reconstruction : dict of str to (float, float)
        For each layer that got new weights, which share of the variance of its outputs
        was missed before and after.
    """

    def __init__(
        self,
        module: nn.Module,
        graph: Graph,
        removed: Sequence[int],
        sensitivity: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.structure = structure_of(module)
        self.sensitivity = [dict(row) for row in sensitivity]
        self.reconstruction: dict[str, tuple[float, float]] = {}
        self._kept = pack_kept(graph.kept(removed))
        self.units: dict[str, tuple[int, int]] = {}
        self.removed: dict[str, list[int]] = {}
        self.protected = [with_layer_name(str(part), part.name) for part in graph.protected]
        # Those inside the net, that somebody who asks for fewer units means.
        self.n_inside = graph.n_units + sum(part.n_units for part in _inside(graph))
        self.n_removed = len(set(removed))
        self.protected_inside = [
            with_layer_name(str(part), part.name)
            for part in sorted(_inside(graph), key=lambda part: -part.n_units)
        ]
        for part in graph.protected:
            self._count(part.name, part.n_units, part.n_units)
        gone = set(removed)
        self.ratios = {}
        for name, group in zip(group_names(graph), graph.groups, strict=True):
            self.ratios[name] = len(gone.intersection(group.units)) / group.n_units
            places = graph.axes[group.producers[0]]
            own = sorted({places.index(unit) for unit in group.units if unit in gone})
            self._count(group.name, group.n_units - len(own), group.n_units)
            if own:
                self.removed.setdefault(layer_name(group.name), []).extend(own)

    def kept(self) -> KeptIndices:
        """Return what stays of each tensor of the module, as `shrink` takes it."""
        return unpack_kept(self._kept)

    def apply(self, net: NeuralNet) -> NeuralNet:
        """Remove the units from a net of ours."""
        module = module_root(net)["module"]
        if structure_of(module) != self.structure:
            raise ValueError(
                "StructuredPruner was fitted on a net with other layers, or with layers of other "
                "sizes. Fit it on this net, or on one of the same structure."
            )
        return replace_modules(net, {"module": shrink(module, self.kept())})

    def aims(self, net: NeuralNet) -> dict[str, Aim]:
        """Return the layers of a pruned net that have lost inputs, to be solved for."""
        aims, kept = {}, self.kept()
        for name, layer in module_root(net).named_modules():
            axes = kept.get(f"{name}.weight".removeprefix("module."), [])
            if any(axis is not None for axis in axes[1:]):
                zeros = layer.weight.detach().cpu().flatten(1) == 0
                aims[name] = Aim(Zeros(zeros), outputs=axes[0], from_dense=False)
        return aims

    def _count(self, name: str, kept: int, dense: int) -> None:
        before = self.units.get(layer_name(name), (0, 0))
        self.units[layer_name(name)] = (before[0] + kept, before[1] + dense)

    def _summary(self) -> str:
        n_kept = sum(kept for kept, _ in self.units.values())
        n = sum(dense for _, dense in self.units.values())
        return f"{n - n_kept} of {n} units go"

    def _lines(self) -> list[str]:
        lines = [
            f"{name}: {len(own)} of {self.units[name][1]} units go: {_listed(own)}"
            for name, own in self.removed.items()
        ]
        return [*lines, *describe(self.reconstruction), *self.protected]


class GradualPlan(TrainedPlan):
    """The plan of removals after which weights were trained or solved for: good for one net only.

    Attributes
    ----------
    steps : list of StructurePlan
        What went in each step.
    """

    def __init__(self, incoming: str, net: NeuralNet, steps: list[StructurePlan]) -> None:
        super().__init__("StructuredPruner", incoming, net)
        self.steps = steps

    @property
    def units(self) -> dict[str, tuple[int, int]]:
        """For each layer how many units are kept, and how many there were."""
        first, last = self.steps[0].units, self.steps[-1].units
        return {name: (last[name][0], dense) for name, (_, dense) in first.items() if name in last}

    @property
    def ratios(self) -> dict[str, float]:
        """For each group of units that could go, by its first layer, which fraction went."""
        kept = {
            name: math.prod(1 - step.ratios.get(name, 0.0) for step in self.steps)
            for name in self.steps[0].ratios
        }
        return {name: 1 - fraction for name, fraction in kept.items()}

    @property
    def sensitivity(self) -> list[dict[str, Any]]:
        """The trials before the first step."""
        return self.steps[0].sensitivity

    @property
    def reconstruction(self) -> dict[str, tuple[float, float]]:
        """The layers that got new weights in the last step."""
        return self.steps[-1].reconstruction

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "steps": self.steps}

    def _lines(self) -> list[str]:
        return [line for step in self.steps for line in repr(step).split("\n")]


def _inside(graph: Graph) -> list[Protected]:
    """Return the units that stay, but for those that nobody would expect to go."""
    return [part for part in graph.protected if part.reason not in _EXPECTED]


def _listed(indices: Sequence[int]) -> str:
    shown = ", ".join(map(str, indices[:_SHOWN]))
    return shown + (", ..." if len(indices) > _SHOWN else "")
