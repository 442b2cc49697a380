"""What a structured pruner takes from the rows: inputs to trace, gradients, activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from .._nets import copy_net, module_root, predict_raw, replace_modules, seeded
from ..base import TrainingData
from ..nn.graph import Graph, Inputs, plain_copy
from ..nn.importance_units import unit_sums

# Batch sizes that a net is traced and proven with.
_BATCHES = (1, 2, 16)
# More rows change the order of units little, and cost time in every candidate of a sweep.
_MAX_ROWS = 1024
# Rows that a gradient is the mean of, at most.
_BATCH = 32


def some_rows(data: TrainingData, n: int) -> tuple[Any, Any]:
    """Return up to n rows from all over the data, which may be sorted by class."""
    every = slice(None, None, max(1, len(data) // n))
    if isinstance(data.X, Mapping):
        return {name: array[every][:n] for name, array in data.X.items()}, data.y[every][:n]
    return data.X[every][:n], data.y[every][:n]


def check_unshared(net: NeuralNet) -> None:
    """Refuse nets of which another part uses the module's parameters: it would go on doing so."""
    parts: dict[str, Any] = {**module_root(net), "criterion": getattr(net, "criterion_", None)}
    own = {id(p) for p in parts.pop("module").parameters()}
    for name, part in parts.items():
        if isinstance(part, nn.Module) and any(id(p) in own for p in part.parameters()):
            raise ValueError(
                f"StructuredPruner cannot prune a net whose {name!r} shares parameters with its "
                "module: it would go on using those of before. Give it parameters of its own."
            )


def inputs_of(net: NeuralNet, data: TrainingData) -> list[Inputs]:
    """Return what the net's module is called with for batches of several sizes, on the CPU."""
    calls: list[Inputs] = []
    net = copy_net(net)  # a forward may change the module even when it only predicts

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        with torch.inference_mode(False):
            calls.append(tree_map_only(Tensor, lambda t: t.detach().cpu().clone(), (args, kwargs)))

    module_root(net)["module"].register_forward_pre_hook(note, with_kwargs=True)
    for n in sorted({min(n, len(data)) for n in _BATCHES}):
        try:
            predict_raw(net, some_rows(data, n)[0])
        except Exception as error:
            raise ValueError(
                f"StructuredPruner watches the net predict batches of several sizes, and it failed "
                f"on one of {n} rows with {type(error).__name__}: {error}"
            ) from error
    return calls


def taylor_scores(net: NeuralNet, data: TrainingData, graph: Graph) -> list[Tensor]:
    r"""Return, for each group, by how much the loss would change without each unit, to first order.

    .. math:: \sqrt{\mathrm{mean}_b (\sum_w w \, \partial L_b / \partial w)^2}

    over small batches b: of a trained net the gradient over all rows is about zero, and what is
    left of it is noise. Units that no parameter makes stay.
    """
    net = copy_net(net)
    net = replace_modules(net, {"module": plain_copy(module_root(net)["module"])})
    net.batch_size = _BATCH if net.batch_size < 0 else min(net.batch_size, _BATCH)
    module = module_root(net)["module"]
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    dataset = net.get_dataset(*some_rows(data, _MAX_ROWS))
    squares: list[list[Tensor]] = []
    with seeded(0, net.device), torch.enable_grad():
        for Xi, yi in net.get_iterator(dataset, training=False):
            module.zero_grad()
            net.get_loss(net.infer(Xi), yi, X=Xi, training=False).backward()
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
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)
    }
    seen: dict[str, list[Tensor]] = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(_measure(seen.setdefault(name, [])))
    predict_raw(net, some_rows(data, _MAX_ROWS)[0])  # the net is a copy: its hooks go with it
    variances = {name: _variance(parts) for name, parts in seen.items() if parts}
    weights = {name: layer.weight.detach().cpu() for name, layer in layers.items()}
    return [_activations_of(graph, n, variances, weights) for n in range(len(graph.groups))]


def _measure(into: list[Tensor]) -> Any:
    def measure(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        if torch._C._functorch.is_functorch_wrapped_tensor(args[0]):
            return  # one row of a vmap, which cannot be kept
        x = args[0].detach().cpu()
        x = x.abs() if x.is_complex() else x
        if isinstance(layer, nn.modules.conv._ConvNd):
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
