"""A net that was watched: which units it has, and what is left of it when some go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from skorch import NeuralNet
from torch import nn

from ..._file import NotPlainError, measure_object
from ..._nets import (
    N_RECORDED,
    check_unshared,
    copy_net,
    module_inputs,
    module_root,
    replace_modules,
    seeded,
)
from ...base import TrainingData
from ...nn.graph import Graph, Inputs, trace
from ...nn.modules.copying import copy_module
from ...nn.modules.counting import count_params
from ...nn.modules.macs import count_macs
from ...nn.modules.weights import resolve_ignored
from ...nn.surgery.proof import provable
from ...nn.surgery.shrinking import shrink


@dataclass
class Traced:
    """A net with what was found out about it; the module is a copy on the CPU."""

    net: NeuralNet
    data: TrainingData
    module: nn.Module
    calls: list[Inputs]
    graph: Graph

    def shrunk(self, chosen: Sequence[Sequence[int]]) -> nn.Module:
        """Return the module without a choice of units."""
        return shrink(self.module, self.graph.kept(self.units(chosen)))

    def units(self, chosen: Sequence[Sequence[int]]) -> list[int]:
        """Return the numbers of the units that are chosen by their place in each group."""
        groups = zip(self.graph.groups, chosen, strict=True)
        return [group.units[i] for group, own in groups for i in own]

    def count(self, kind: str, module: nn.Module) -> int:
        """Count parameters, multiply-accumulates of one row, or bytes of the net's file.

        The module is one of our own, on the CPU.
        """
        if kind == "target_params":
            return count_params(module)
        if kind == "target_nbytes":
            return self._nbytes(module)
        args, kwargs = self.calls[0]
        with seeded(0):
            return count_macs(module, lambda: module(*args, **kwargs), 1)

    def _nbytes(self, module: nn.Module) -> int:
        try:
            return measure_object(replace_modules(self._holder, {"module": module}))
        except NotPlainError as error:
            raise ValueError(
                f"StructuredPruner cannot count the bytes of this net, as no file holds it: "
                f"{error}. Give target_params instead of target_nbytes."
            ) from error

    @cached_property
    def _holder(self) -> NeuralNet:
        """Return a net to put modules into that are to be measured."""
        return copy_net(self.net)


def trace_net(net: NeuralNet, data: TrainingData, ignored_layers: Sequence[str]) -> Traced:
    """Watch a net predict some of the rows, and prove what can go."""
    module = copy_module(module_root(net)["module"]).cpu()
    check_unshared(net, "StructuredPruner")
    calls = module_inputs(net, data._training_X(net, N_RECORDED), "StructuredPruner")
    ignored = resolve_ignored(module_root(net), ignored_layers)
    names = {"" if n == "module" else n.removeprefix("module.") for n in ignored}
    with seeded(0):
        graph = provable(module, trace(module, calls, ignored=names), calls)
    return Traced(net, data, module, calls, graph)
