"""Inputs of a net's module, names of its layers, and parameters that other parts share."""

from __future__ import annotations

import re
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from .._torch import tree_map_only
from .copying import copy_net
from .predicting import predict_raw
from .rows import n_rows, some_rows, take_rows
from .state import module_root

# Batch sizes of the recorded predictions.
_BATCHES = (1, 2, 16)
# The end of a parameter's name; the rest is the name of the layer.
_WEIGHT = re.compile(r"\.(weight|in_proj_weight|q_proj_weight|weight_ih(_l\d+)?)$")


def layer_name(parameter: str) -> str:
    """Return the layer, below the net, whose units a parameter makes."""
    return "module." + _WEIGHT.sub("", parameter)


def with_layer_name(line: str, parameter: str) -> str:
    """Return a line that begins with the name of a parameter, with that of its layer instead."""
    return layer_name(parameter) + line.removeprefix(parameter)


def check_unshared(net: NeuralNet, caller: str) -> None:
    """Refuse nets of which another part shares the module's parameters, and would keep the old."""
    parts: dict[str, Any] = {**module_root(net), "criterion": getattr(net, "criterion_", None)}
    module_parameters = {id(p) for p in parts.pop("module").parameters()}
    for name, part in parts.items():
        if isinstance(part, nn.Module) and any(
            id(p) in module_parameters for p in part.parameters()
        ):
            raise ValueError(
                f"{caller} cannot change a net whose {name!r} shares parameters with its "
                "module: it would go on using those of before. Give it parameters of its own."
            )


def module_inputs(
    net: NeuralNet, X: Any, caller: str
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return the arguments of the net's module for batches of several sizes, on the CPU."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def record(module: nn.Module, args: Any, kwargs: Any) -> None:
        with torch.inference_mode(False):
            calls.append(tree_map_only(Tensor, lambda t: t.detach().cpu().clone(), (args, kwargs)))

    net = copy_net(net)  # a forward may change the module even when it only predicts
    module_root(net)["module"].register_forward_pre_hook(record, with_kwargs=True)
    for n in sorted({min(n, n_rows(X)) for n in _BATCHES}):
        try:
            predict_raw(net, take_rows(X, some_rows(X, n)))
        except Exception as error:
            raise ValueError(
                f"{caller} watches the net predict batches of several sizes, and it failed "
                f"on one of {n} rows with {type(error).__name__}: {error}"
            ) from error
    return calls
