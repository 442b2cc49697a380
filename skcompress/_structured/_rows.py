"""What a structured pruner takes from the rows: gradients and activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from .._nets import (
    copy_net,
    first_rows,
    module_root,
    pack_sample_weight,
    predict_raw,
    replace_modules,
    seeded,
    split_rows,
)
from ..base import TrainingData
from ..nn.graph import Graph, plain_copy

# More rows change the order of units little, and cost time in every candidate of a sweep.
_MAX_ROWS = 1024


def batches(net: NeuralNet, data: TrainingData, rows: slice | np.ndarray) -> Iterator[Any]:
    """Yield some rows with their targets, and weights where there are any, as a net takes them."""
    is_dict = isinstance(data.X, Mapping)
    X = {name: array[rows] for name, array in data.X.items()} if is_dict else data.X[rows]
    if data.sample_weight is not None:
        X = pack_sample_weight(net, X, np.asarray(data.sample_weight)[rows])
    return iter(net.get_iterator(net.get_dataset(X, data.y[rows]), training=False))


def scan_rows(net: NeuralNet, data: TrainingData, n: int, seed: Callable[[], int]) -> np.ndarray:
    """Return up to n of the rows: of those that `train_split` keeps from training, if it does.

    The seed is asked for only where there are more.
    """
    rows = np.arange(len(data))
    split_seed = data._fold.split_seed
    if split_seed is not None and net.train_split:
        with suppress(ValueError):  # a split of the user's own, of which nobody knows the rows
            held = split_rows(net, data.X, data.y, split_seed)[1]
            rows = held if len(held) else rows
    if len(rows) <= n:
        return rows
    return np.sort(np.random.default_rng(seed()).choice(rows, n, replace=False))


def mean_loss(net: NeuralNet, module: nn.Module, rows: list[Any]) -> float:
    """Return a net's loss on batches of rows, with another module in it.

    Parameters
    ----------
    net : skorch.NeuralNet
        One of our own: the module is put in its place.
    module : torch.nn.Module
        On the device of the net.
    rows : list
        Of what `batches` yields.
    """
    replace_modules(net, {"module": module})
    total, n_rows = 0.0, 0
    with seeded(0, net.device):
        for batch in rows:
            n = len(batch[1])
            total += float(net.validation_step(batch)["loss"]) * n
            n_rows += n
    return total / max(n_rows, 1)


def gradient_products(net: NeuralNet, data: TrainingData) -> dict[str, Tensor]:
    """Return gradient of the loss times weight, for each parameter of the module."""
    net = copy_net(net)
    net = replace_modules(net, {"module": plain_copy(module_root(net)["module"])})
    module = module_root(net)["module"]
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with seeded(0, net.device), torch.enable_grad():
        for batch in batches(net, data, slice(_MAX_ROWS)):
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
