"""What a structured pruner takes from the rows: gradients and activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from ..._nets import (
    batch_loss,
    batches_of,
    copy_net,
    limit_batch_size,
    module_root,
    pack_sample_weight,
    predict_raw,
    replace_modules,
    seeded,
    take_rows,
    validation_loss,
)
from ..._torch import ConvNd, is_functorch_wrapped_tensor
from ...base import TrainingData
from ...nn.graph import Graph
from ...nn.modules.copying import plain_copy
from ...nn.scores.unit_importance import unit_sums

# More rows change the order of units little, and cost time in every candidate of a sweep.
_MAX_ROWS = 1024
# Rows that a gradient is the mean of, at most.
_BATCH = 32


def batches(net: NeuralNet, data: TrainingData, rows: np.ndarray) -> Iterator[Any]:
    """Yield some rows with their targets, and weights where there are any, as a net takes them."""
    X = take_rows(data.X, rows)
    if data.sample_weight is not None:
        X = pack_sample_weight(net, X, np.asarray(data.sample_weight)[rows])
    return batches_of(net, X, data.y[rows])


def scan_rows(net: NeuralNet, data: TrainingData, n: int, seed: int) -> np.ndarray:
    """Return up to n of the rows that have trained a net."""
    rows = data._training_rows(net)
    if len(rows) <= n:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, n, replace=False))


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
            total += validation_loss(net, batch) * n
            n_rows += n
    return total / max(n_rows, 1)


def taylor_scores(net: NeuralNet, data: TrainingData, graph: Graph) -> list[Tensor]:
    r"""Return, for each group, by how much the loss would change without each unit, to first order.

    .. math:: \sqrt{\mathrm{mean}_b (\sum_w w \, \partial L_b / \partial w)^2}

    over small batches b: of a trained net the gradient over all rows is about zero, and what is
    left of it is noise. Units that no parameter makes stay.
    """
    net = copy_net(net)
    net = replace_modules(net, {"module": plain_copy(module_root(net)["module"])})
    limit_batch_size(net, _BATCH)
    module = module_root(net)["module"]
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    squares: list[list[Tensor]] = []
    with seeded(0, net.device), torch.enable_grad():
        for Xi, yi in batches(net, data, data._training_rows(net, _MAX_ROWS)):
            module.zero_grad()
            batch_loss(net, Xi, yi).backward()
            products = {
                name: (p.detach() * p.grad.to_dense().conj()).real.cpu()
                for name, p in module.named_parameters()
                if p.grad is not None
            }
            squares.append([sums.square() for sums in unit_sums(graph, products)])
    trained = {name for name, _ in module.named_parameters()}
    return [
        torch.stack(own).mean(0).sqrt()
        if any(name in trained for name, _ in group.producers)
        else torch.full((group.n_units,), torch.inf)
        for group, own in zip(graph.groups, zip(*squares, strict=True), strict=True)
    ]


def unit_activations(net: NeuralNet, data: TrainingData, graph: Graph) -> list[Tensor]:
    r"""Return, for each group, how much what each unit hands to its readers varies with the rows.

    .. math:: \sqrt{\mathrm{mean}_r \, \mathrm{var}(x_r) \, \mathrm{mean}(w_r^2)}

    over the Linear and convolution layers r that read it as x with the weights w; units that none
    of these reads stay. What does not vary could be said by a bias, however large it is.
    """
    net = copy_net(net)
    module = module_root(net)["module"]
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | ConvNd)
    }
    seen: dict[str, list[Tensor]] = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(_measure(seen.setdefault(name, [])))
    # The net is a copy: its hooks go with it.
    predict_raw(net, data._training_X(net, _MAX_ROWS))
    variances = {name: _variance(parts) for name, parts in seen.items() if parts}
    weights = {name: layer.weight.detach().cpu() for name, layer in layers.items()}
    return [_activations_of(graph, n, variances, weights) for n in range(len(graph.groups))]


def _measure(into: list[Tensor]) -> Any:
    def measure(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        if is_functorch_wrapped_tensor(args[0]):
            return  # one row of a vmap, which cannot be kept
        x = args[0].detach().cpu()
        x = x.abs() if x.is_complex() else x
        if isinstance(layer, ConvNd):
            x = x.movedim(-1 - len(layer.kernel_size), -1)
        x = (x.flatten(0, -2) if x.dim() > 1 else x[None]).double()
        into.append(torch.stack([torch.full_like(x[0], len(x)), x.sum(0), x.square().sum(0)]))

    return measure


def _variance(parts: list[Tensor]) -> Tensor:
    """Variance from the number, sum and sum of squares of each batch."""
    n, total, squares = torch.stack(parts).sum(0)
    return (squares / n - (total / n).square()).clamp_min(0.0).float()


def _activations_of(
    graph: Graph, number: int, variances: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> Tensor:
    group = graph.groups[number]
    found: dict[int, list[Tensor]] = {}
    for name, axis in group.consumers:
        layer, _, attr = name.rpartition(".")
        places = graph.axes[name, axis]
        if attr == "weight" and layer in variances and len(variances[layer]) == len(places):
            read = weights[layer].movedim(axis, 0).flatten(1).abs().float().square().mean(1)
            for unit, value in zip(places, variances[layer] * read, strict=True):
                found.setdefault(unit, []).append(value)
    stays = torch.tensor(torch.inf)
    scores = [torch.stack(found[u]).mean().sqrt() if u in found else stays for u in group.units]
    return torch.stack(scores)
