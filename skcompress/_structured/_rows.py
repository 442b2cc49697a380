"""What a structured pruner takes from the rows: gradients and activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from .._nets import copy_net, first_rows, module_root, predict_raw, replace_modules, seeded
from ..base import TrainingData
from ..nn.graph import Graph, plain_copy

# More rows change the order of units little, and cost time in every candidate of a sweep.
_MAX_ROWS = 1024


def gradient_products(net: NeuralNet, data: TrainingData) -> dict[str, Tensor]:
    """Return gradient of the loss times weight, for each parameter of the module."""
    net = copy_net(net)
    net = replace_modules(net, {"module": plain_copy(module_root(net)["module"])})
    module = module_root(net)["module"]
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    X = first_rows(data.X, _MAX_ROWS)
    dataset = net.get_dataset(X, data.y[:_MAX_ROWS])
    with seeded(0, net.device), torch.enable_grad():
        for batch in net.get_iterator(dataset, training=False):
            Xi, yi = batch
            loss = net.get_loss(net.infer(Xi), yi, X=Xi, training=False)
            loss.backward()
    return {
        name: (p.detach() * (torch.zeros_like(p) if p.grad is None else p.grad)).cpu()
        for name, p in module.named_parameters()
    }


def unit_activations(net: NeuralNet, data: TrainingData, graph: Graph) -> list[Tensor]:
    """Return, for each group, the mean magnitude of what each unit hands to its readers.

    Measured where a Linear or convolution layer reads it; units that none of these reads stay.
    """
    net = copy_net(net)
    module = module_root(net)["module"]
    sums: dict[str, list[Tensor]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            layer.register_forward_pre_hook(_measure(sums.setdefault(name, [])))
    predict_raw(net, first_rows(data.X, _MAX_ROWS))  # the net is a copy: its hooks go with it
    means = {name: torch.stack(parts).mean(0) for name, parts in sums.items() if parts}
    return [_activations_of(graph, n, means) for n in range(len(graph.groups))]


def _measure(into: list[Tensor]) -> Any:
    def measure(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].detach().float().abs().cpu()
        if isinstance(layer, nn.modules.conv._ConvNd):
            x = x.movedim(-1 - len(layer.kernel_size), -1)
        into.append(x.flatten(0, -2).mean(0) if x.dim() > 1 else x)

    return measure


def _activations_of(graph: Graph, number: int, means: Mapping[str, Tensor]) -> Tensor:
    group = graph.groups[number]
    found: dict[int, list[Tensor]] = {}
    for name, axis in group.consumers:
        layer, _, attr = name.rpartition(".")
        places = graph.axes[name, axis]
        if attr == "weight" and layer in means and len(means[layer]) == len(places):
            for unit, mean in zip(places, means[layer], strict=True):
                found.setdefault(unit, []).append(mean)
    stays = torch.tensor(torch.inf)
    return torch.stack([torch.stack(found[u]).mean() if u in found else stays for u in group.units])
